//! Promise 11: malformed or oversize credentials cost no hash and no store call.

use keyward::verifier::VerifierStats;
use test_support::fixture::Choices;

use super::EVERY;
use super::site::Site;
use crate::client::Ask;

const INPUTS: usize = 300;

#[tokio::test]
async fn malformed_credentials_cost_nothing() {
    for served in EVERY {
        let site = Site::open(served).await;
        let before = site.keyward.verifier().stats();
        let mut choices = Choices::new(11);
        for _ in 0..INPUTS {
            let ask = malformed(&mut choices, &site);
            let reply = site.try_ask(&ask).await.unwrap();
            assert!([400, 401].contains(&reply.status), "{served:?} {ask:?}");
        }
        let after = site.keyward.verifier().stats();
        assert_eq!(costs(after), costs(before), "{served:?}");
        let unreadable = after.malformed - before.malformed;
        assert_eq!(unreadable, INPUTS as u64, "all of them came so far");
        assert_eq!(site.acts(), 0);

        // The counters do count.
        assert_eq!(site.status("GET /echo", &site.key).await, 200);
        let good = site.keyward.verifier().stats();
        assert_eq!(good.store_reads, before.store_reads + 1);
        assert_eq!(good.fast_hashes, before.fast_hashes + 1);
    }
}

/// The counters of work that a request can cause.
pub(super) fn costs(counted: VerifierStats) -> [u64; 4] {
    [
        counted.tag_hashes,
        counted.store_reads,
        counted.fast_hashes,
        counted.slow_hashes,
    ]
}

/// In any of the forms, to any of the guards.
fn malformed(choices: &mut Choices, site: &Site) -> Ask {
    let (id, secret) = site.key.pair();
    let text = damaged(choices, site.key.text());
    let lines = [
        "GET /echo",
        "GET /projects/p-1",
        "POST /editions/e-1-7",
        "GET /promised/e-1-7",
    ];
    let ask = Ask::of(lines[choices.below(lines.len())]);
    match choices.below(5) {
        0 => ask.header("authorization", [b"Bearer ", &*text].concat()),
        1 => ask.header("authorization", [b"Basic ", &*text].concat()),
        2 => ask.header("x-api-key", text),
        3 => ask
            .header("x-key-id", halved(choices, &id))
            .header("x-key-secret", secret),
        _ => ask
            .header("x-key-id", id)
            .header("x-key-secret", halved(choices, secret)),
    }
}

/// A text that is no key's: cut, far too long, of any bytes, or with a character changed, which its checksum finds.
fn damaged(choices: &mut Choices, text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    match choices.below(4) {
        0 => bytes.truncate(choices.below(text.len())),
        1 => bytes.resize(text.len() + 200 + choices.below(8_000), b'a'),
        2 => {
            let length = 1 + choices.below(200);
            bytes = (0..length).map(|_| visible(choices)).collect();
        }
        _ => {
            let at = choices.below(bytes.len());
            let old = bytes[at];
            while bytes[at] == old {
                bytes[at] = visible(choices);
            }
        }
    }
    bytes
}

/// A value that is neither an id nor a secret.
fn halved(choices: &mut Choices, value: &str) -> Vec<u8> {
    let mut bytes = value.as_bytes().to_vec();
    match choices.below(3) {
        0 => bytes.truncate(choices.below(value.len())),
        1 => bytes.extend(std::iter::repeat_n(b'0', 1 + choices.below(5_000))),
        _ => {
            let at = choices.below(bytes.len());
            bytes[at] = b"_+/=.~"[choices.below(6)];
        }
    }
    bytes
}

/// A byte that headers may hold anywhere.
fn visible(choices: &mut Choices) -> u8 {
    let byte = u8::try_from(0x21 + choices.below(0xde)).unwrap();
    if byte == 0x7f { b'!' } else { byte }
}
