//! Promise 13: no truncated, extended, re-cased or bit-flipped key is accepted, in any wire form.
//!
//! Planted bugs that the sweep catches, each as a front that softens what was sent before the real verifier
//! sees it: one that cuts what stands past the end of a key, one that folds case, one that drops the eighth bit
//! of each byte, and one that completes a key whose last character is missing.

use std::collections::HashMap;

use keyward::key::{ApiKey, PresentedKey};
use keyward::verifier::{Attempt, Requirement};
use test_support::size;

use crate::common::{Fixture, new_key, now};

#[tokio::test]
async fn no_mutated_key_is_accepted() {
    let count = size("KEYWARD_KEYS", 500) as usize;
    let (fixture, keys) = fixture_with_keys(count).await;
    std::thread::scope(|scope| {
        for half in keys.chunks(count.div_ceil(2)) {
            let fixture = &fixture;
            scope.spawn(move || {
                for key in half {
                    assert_eq!(sweep(key, |presented| accepts(fixture, presented)), None);
                }
            });
        }
    });
}

#[tokio::test]
async fn the_sweep_catches_planted_bugs() {
    let (fixture, keys) = fixture_with_keys(3).await;
    let by_folded: HashMap<String, &str> = keys
        .iter()
        .map(|key| (key.expose().to_lowercase(), key.expose()))
        .collect();
    let cuts = |text: &[u8]| text.get(..81).unwrap_or(text).to_vec();
    let folds = |text: &[u8]| {
        let folded = String::from_utf8_lossy(text).to_lowercase();
        let known = by_folded
            .get(&folded)
            .map(|known| known.as_bytes().to_vec());
        known.unwrap_or_else(|| text.to_vec())
    };
    let drops_bits = |text: &[u8]| text.iter().map(|byte| byte & 0x7f).collect();
    let completes = |text: &[u8]| {
        let known = keys
            .iter()
            .find(|key| key.expose().as_bytes()[..80] == *text);
        known.map_or_else(|| text.to_vec(), |key| key.expose().as_bytes().to_vec())
    };
    let planted: [(&str, Soften<'_>); 4] = [
        ("extended", &cuts),
        ("re-cased", &folds),
        ("bit-flipped", &drops_bits),
        ("truncated", &completes),
    ];
    for (expected, soften) in planted {
        let caught = sweep(&keys[0], |presented| match presented {
            Wire::Text(text) => accepts(&fixture, Wire::Text(&soften(text))),
            pair @ Wire::Pair(..) => accepts(&fixture, pair),
        });
        assert_eq!(caught, Some(expected));
    }
}

type Soften<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
type Accepts<'a> = &'a dyn Fn(&[u8]) -> bool;

#[derive(Clone, Copy)]
enum Wire<'a> {
    Text(&'a [u8]),
    Pair(&'a [u8], &'a [u8]),
}

async fn fixture_with_keys(count: usize) -> (Fixture, Vec<ApiKey>) {
    let fixture = Fixture::new().await;
    let mut keys = Vec::with_capacity(count);
    for _ in 0..count {
        let (key, _) = fixture.issue(new_key()).await.into_parts();
        assert!(accepts(&fixture, Wire::Text(key.expose().as_bytes())));
        keys.push(key);
    }
    (fixture, keys)
}

fn accepts(fixture: &Fixture, wire: Wire<'_>) -> bool {
    let any = Requirement::any_key();
    let presented = match wire {
        Wire::Text(text) => PresentedKey::text(text),
        Wire::Pair(id, secret) => PresentedKey::pair(id, secret),
    };
    now(fixture
        .keyward
        .verifier()
        .verify(&Attempt::new(presented, &any)))
    .is_ok()
}

/// Tries every mutation of the key; the kind of the first that is accepted.
fn sweep(key: &ApiKey, accepts: impl Fn(Wire<'_>) -> bool) -> Option<&'static str> {
    let text = key.expose().as_bytes();
    let id = key.id().to_string();
    let (id, secret) = (id.as_bytes(), key.expose_secret().as_bytes());
    let forms: [(&[u8], Accepts<'_>); 3] = [
        (text, &|text| accepts(Wire::Text(text))),
        (id, &|id| accepts(Wire::Pair(id, secret))),
        (secret, &|secret| accepts(Wire::Pair(id, secret))),
    ];
    forms
        .into_iter()
        .find_map(|(value, accepts)| mutations(value, accepts))
}

fn mutations(value: &[u8], accepts: Accepts<'_>) -> Option<&'static str> {
    if (0..value.len()).any(|end| accepts(&value[..end]) || accepts(&value[end + 1..])) {
        return Some("truncated");
    }
    let mut longer = value.to_vec();
    for byte in [b'0', b'a', b' ', b'\n', 0, b'_', b'='] {
        longer.push(byte);
        if accepts(&longer) {
            return Some("extended");
        }
        longer.rotate_right(1);
        if accepts(&longer) {
            return Some("extended");
        }
        longer.rotate_left(1);
        longer.pop();
    }
    let mut changed = value.to_vec();
    for at in 0..value.len() {
        if value[at].is_ascii_alphabetic() {
            changed[at] ^= 0x20;
            if accepts(&changed) {
                return Some("re-cased");
            }
            changed[at] ^= 0x20;
        }
    }
    for whole in [value.to_ascii_uppercase(), value.to_ascii_lowercase()] {
        if whole != value && accepts(&whole) {
            return Some("re-cased");
        }
    }
    for at in 0..value.len() {
        for bit in 0..8 {
            changed[at] ^= 1 << bit;
            if accepts(&changed) {
                return Some("bit-flipped");
            }
            changed[at] ^= 1 << bit;
        }
    }
    None
}
