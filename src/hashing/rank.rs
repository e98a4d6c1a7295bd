//! Which digest is better than which.
//!
//! A digest is made anew only when it ranks *lower* than what would be made today, never because it
//! *differs*: else two nodes with different settings would rewrite each other's digests for ever, and a
//! setting made weaker by mistake would weaken what is stored.

use super::scheme::Scheme;

/// What to turn the stored scheme into, if it ranks lower than `choice` under the pepper now in use.
///
/// From low to high: SHA-256, HMAC-SHA-256, Argon2id; within one of them, by pepper version (none is lowest)
/// and, for Argon2id, by memory times passes, each of which only ever rises.
pub(super) fn improvement(
    stored: Scheme,
    choice: Scheme,
    current_pepper: Option<u32>,
) -> Option<Scheme> {
    let better = match (stored, choice) {
        (Scheme::Sha256, choice) => choice,
        (Scheme::Hmac { .. }, Scheme::Sha256) => stored,
        (Scheme::Hmac { pepper: stored }, Scheme::Hmac { pepper }) => Scheme::Hmac {
            pepper: stored.max(pepper),
        },
        (Scheme::Hmac { .. }, Scheme::Argon2id { .. }) => choice,
        (Scheme::Argon2id { params, pepper }, choice) => Scheme::Argon2id {
            params: match choice {
                Scheme::Argon2id { params: chosen, .. } if chosen.cost() > params.cost() => chosen,
                _ => params,
            },
            pepper: pepper.max(current_pepper),
        },
    };
    (better != stored).then_some(better)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hashing::Argon2Params;

    fn argon2id(memory_kib: u32, passes: u32, pepper: Option<u32>) -> Scheme {
        Scheme::Argon2id {
            params: Argon2Params::new(memory_kib, passes, 1).unwrap(),
            pepper,
        }
    }

    fn ladder() -> Vec<Scheme> {
        vec![
            Scheme::Sha256,
            Scheme::Hmac { pepper: 1 },
            Scheme::Hmac { pepper: 2 },
            argon2id(19_456, 2, None),
            argon2id(19_456, 2, Some(2)),
            argon2id(65_536, 3, Some(2)),
        ]
    }

    #[test]
    fn only_a_lower_rank_is_improved() {
        for (low, stored) in ladder().into_iter().enumerate() {
            for (high, choice) in ladder().into_iter().enumerate() {
                let pepper = match choice {
                    Scheme::Hmac { pepper } => Some(pepper),
                    Scheme::Argon2id { pepper, .. } => pepper,
                    Scheme::Sha256 => None,
                };
                let improved = improvement(stored, choice, pepper);
                if low < high {
                    assert_eq!(improved, Some(choice), "{stored:?} -> {choice:?}");
                } else if !(matches!(stored, Scheme::Argon2id { pepper: None, .. })) {
                    assert_eq!(improved, None, "{stored:?} -> {choice:?}");
                }
            }
        }
    }

    #[test]
    fn a_stronger_digest_keeps_its_strength_when_its_pepper_changes() {
        assert_eq!(
            improvement(
                argon2id(65_536, 3, Some(1)),
                argon2id(19_456, 2, Some(2)),
                Some(2)
            ),
            Some(argon2id(65_536, 3, Some(2)))
        );
        assert_eq!(
            improvement(
                argon2id(19_456, 2, None),
                Scheme::Hmac { pepper: 1 },
                Some(1)
            ),
            Some(argon2id(19_456, 2, Some(1)))
        );
    }

    #[test]
    fn improving_ends() {
        // Whatever two nodes believe, a digest that each of them improves in turn comes to rest.
        for start in ladder() {
            for a in ladder() {
                for b in ladder() {
                    let mut now = start;
                    let mut steps = 0;
                    loop {
                        let before = now;
                        for choice in [a, b] {
                            let pepper = match choice {
                                Scheme::Hmac { pepper } => Some(pepper),
                                Scheme::Argon2id { pepper, .. } => pepper,
                                Scheme::Sha256 => None,
                            };
                            now = improvement(now, choice, pepper).unwrap_or(now);
                        }
                        if now == before {
                            break;
                        }
                        steps += 1;
                        assert!(steps < 6, "{start:?} {a:?} {b:?}");
                    }
                }
            }
        }
    }
}
