//! Promise 11: malformed or oversize credentials cost no hash and no store call.

use keyward::key::PresentedKey;
use keyward::verifier::{Attempt, DenialClass, Requirement, VerifierStats};

use crate::common::{Choices, Fixture, new_key, now};

const INPUTS: u64 = 1_000_000;

#[tokio::test]
async fn malformed_credentials_cost_nothing() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue(new_key()).await;
    let (text, secret) = (issued.api_key().expose(), issued.api_key().expose_secret());
    let id = issued.api_key().id().to_string();
    let verifier = fixture.keyward.verifier();
    let any = Requirement::any_key();
    let before = verifier.stats();

    let mut choices = Choices::new(11);
    let mut buffer = Vec::new();
    for _ in 0..INPUTS {
        let malformed = match choices.below(3) {
            0 => {
                damage(&mut choices, text.as_bytes(), &mut buffer);
                PresentedKey::text(&buffer)
            }
            1 => {
                damage_pair_value(&mut choices, id.as_bytes(), &mut buffer);
                PresentedKey::pair(&buffer, secret)
            }
            _ => {
                damage_pair_value(&mut choices, secret.as_bytes(), &mut buffer);
                PresentedKey::pair(&id, &buffer)
            }
        };
        let denial = now(verifier.verify(&Attempt::new(malformed, &any))).unwrap_err();
        assert_eq!(denial.class(), DenialClass::Unauthenticated);
        assert!(denial.key().is_none() && denial.claimed_key().is_none());
    }
    let mut expected: VerifierStats = before;
    expected.malformed += INPUTS;
    assert_eq!(verifier.stats(), expected);

    // The counters do count: the same key undamaged costs a read and a hash.
    assert!(fixture.verify(PresentedKey::text(text)).await.is_ok());
    let after = verifier.stats();
    assert_eq!(after.store_reads, expected.store_reads + 1);
    assert_eq!(after.fast_hashes, expected.fast_hashes + 1);
    assert_eq!(after.tag_hashes, expected.tag_hashes + 1);
}

/// A text that is no key text: random bytes, an oversize one, or a key with one to four bytes changed, which
/// the checksum finds (it finds every burst of up to 32 bits).
fn damage(choices: &mut Choices, text: &[u8], buffer: &mut Vec<u8>) {
    buffer.clear();
    match choices.below(5) {
        0 => fill(choices, 300, buffer),
        1 => {
            buffer.extend(text);
            let more = 257 - text.len() + choices.below(4_000);
            buffer.resize(text.len() + more, b'a');
        }
        2 => buffer.extend(&text[..choices.below(text.len())]),
        3 => {
            buffer.extend(text);
            fill(choices, 64, buffer);
            buffer.push(b'0');
        }
        _ => {
            buffer.extend(text);
            let at = choices.below(text.len() - 3);
            let change = (choices.next() | 1).to_be_bytes();
            for (byte, change) in buffer[at..at + 4].iter_mut().zip(&change[4..]) {
                *byte ^= change;
            }
        }
    }
}

/// A value that is neither a hyphenated id nor a secret of 43 digits.
fn damage_pair_value(choices: &mut Choices, value: &[u8], buffer: &mut Vec<u8>) {
    buffer.clear();
    match choices.below(4) {
        0 => buffer.extend(&value[..choices.below(value.len())]),
        1 => {
            buffer.extend(value);
            fill(choices, 500, buffer);
            buffer.push(b'0');
        }
        2 => {
            buffer.extend(value);
            let at = choices.below(value.len());
            buffer[at] = b"_ \n\0\x80+/="[choices.below(8)];
        }
        _ => {
            buffer.extend(value);
            buffer.insert(choices.below(value.len()), b'-');
        }
    }
}

fn fill(choices: &mut Choices, up_to: usize, buffer: &mut Vec<u8>) {
    for _ in 0..choices.below(up_to) {
        buffer.push(choices.next().to_be_bytes()[0]);
    }
}
