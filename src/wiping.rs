//! A test tool that checks whether secrets are wiped: it searches the process's memory for a secret before and after
//! its owner is dropped.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

/// XOR mask of the search pattern, so that a search does not find its own pattern.
const MASK: u8 = 0x55;

/// Number of copies to make and drop: the allocator overwrites at most a few of those that are not wiped.
const COPIES: usize = 32;

/// Held during a search: another search at the same time has parts of the memory in its buffer, with their secrets.
static SEARCHING: Mutex<()> = Mutex::new(());

/// Checks that the values which `make` builds from a secret of letters and digits wipe it when dropped.
///
/// # Panics
/// If the values do not hold the secret, or if the secret is still in memory after they were dropped.
pub(crate) fn leaves_no_trace<T>(make: impl Fn(&str) -> T) {
    // It guards no data that a panic could leave inconsistent.
    let _searching = SEARCHING.lock().unwrap_or_else(PoisonError::into_inner);
    static DRAWN: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let drawn = DRAWN.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let process = std::process::id();
    let secret = format!("{:0>21}wipe{process:0>12}me{drawn:0>4}", "");
    // Allocators write into the first bytes of freed memory.
    let tail: Vec<u8> = secret.bytes().skip(16).map(|byte| byte ^ MASK).collect();
    let before = places(&tail);
    let made: Vec<T> = (0..COPIES).map(|_| make(&secret)).collect();
    let held: Vec<_> = places(&tail).difference(&before).copied().collect();
    assert!(held.len() >= COPIES, "they do not hold the secret");
    drop(made);
    let after = places(&tail);
    let left = held.iter().filter(|place| after.contains(place)).count();
    assert_eq!(left, 0, "of {} copies", held.len());
}

/// Returns the addresses of these bytes in writable memory.
fn places(masked: &[u8]) -> HashSet<u64> {
    const STEP: u64 = 1 << 16;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let memory = File::open("/proc/self/mem").unwrap();
    let mut found = HashSet::new();
    // Skip this thread's stack: no owner can wipe the copies that calls leave there.
    let stack = u64::try_from((&raw const found).addr()).unwrap();
    let stack = stack.saturating_sub(1 << 18)..stack + (1 << 16);
    let mut bytes = vec![0; usize::try_from(STEP).unwrap() + masked.len()];
    // Skip the buffer: while its own part of the memory is read into it, it holds copies of what was read before.
    let buffer = u64::try_from(bytes.as_ptr().addr()).unwrap();
    let length = u64::try_from(bytes.len()).unwrap();
    let buffer = buffer.saturating_sub(length - STEP)..buffer + length;
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (Some(range), Some("rw-p")) = (fields.next(), fields.next()) else {
            continue;
        };
        let (start, end) = range.split_once('-').unwrap();
        let end = u64::from_str_radix(end, 16).unwrap();
        let mut at = u64::from_str_radix(start, 16).unwrap();
        while at < end {
            bytes.fill(0);
            // Memory that was freed meanwhile cannot be read.
            let read = memory.read_at(&mut bytes, at).unwrap_or(0);
            let read = bytes.get(..read).unwrap();
            let (first, rest) = masked.split_first().unwrap();
            for (offset, byte) in read.iter().enumerate() {
                if byte ^ MASK != *first {
                    continue;
                }
                let there = read.iter().skip(offset + 1).zip(rest);
                if offset + masked.len() <= read.len()
                    && there
                        .into_iter()
                        .all(|(byte, masked)| byte ^ MASK == *masked)
                {
                    let place = at + u64::try_from(offset).unwrap();
                    if !stack.contains(&place) && !buffer.contains(&place) {
                        found.insert(place);
                    }
                }
            }
            at += STEP;
        }
    }
    bytes.fill(0);
    found
}

#[cfg(test)]
mod tests {
    use super::leaves_no_trace;
    use crate::hashing::Pepper;
    use crate::import::ImportedKey;
    use crate::key::{KeyFormat, KeyId, Secret};

    #[test]
    #[should_panic(expected = "copies")]
    fn unwiped_secrets_are_found() {
        leaves_no_trace(str::to_owned);
    }

    #[test]
    fn secrets_are_wiped() {
        leaves_no_trace(|secret| Secret::new(secret).unwrap());
        leaves_no_trace(|secret| Secret::new(secret).unwrap().clone());
    }

    #[test]
    fn keys_are_wiped() {
        leaves_no_trace(|secret| {
            let format = KeyFormat::new("acme").unwrap().environment("test").unwrap();
            let environment = format.environments().next().unwrap().clone();
            let secret = Secret::new(secret).unwrap();
            let key = format.compose(&environment, KeyId::from_u128(7), &secret);
            key.unwrap()
        });
    }

    #[test]
    fn peppers_are_wiped() {
        leaves_no_trace(|secret| Pepper::new(1, secret).unwrap());
        leaves_no_trace(|secret| {
            let pepper = Pepper::new(1, secret).unwrap();
            (pepper.clone(), pepper)
        });
    }

    #[test]
    fn keys_to_import_are_wiped() {
        leaves_no_trace(|secret| ImportedKey::text("old", secret));
        leaves_no_trace(|secret| ImportedKey::pair(KeyId::from_u128(7), secret));
    }
}
