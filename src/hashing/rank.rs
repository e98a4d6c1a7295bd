//! The ranking of digests.
//!
//! Keyward rehashes only a digest that ranks *lower* than today's choice, never one that merely *differs*. Otherwise
//! two nodes with different settings would rewrite each other's digests forever, and a setting made weaker by mistake
//! would weaken the stored digests.

use super::digest::Scheme;

/// Returns the scheme to rehash to; `None` if the stored scheme does not rank lower than `choice` under the current
/// pepper.
///
/// Three properties rank, and rehashing never lowers any of them: the algorithm (SHA-256, HMAC-SHA-256, Argon2id), the
/// pepper's version (no pepper is the lowest), and Argon2id's memory times passes.
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
        (Scheme::Hmac { pepper: stored }, Scheme::Argon2id { params, pepper }) => {
            Scheme::Argon2id {
                params,
                pepper: pepper.max(Some(stored)),
            }
        }
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

    /// Returns all schemes with a few peppers and costs, comparable or not.
    fn world() -> Vec<Scheme> {
        let peppers = [None, Some(1), Some(2)];
        let mut world = vec![Scheme::Sha256];
        world.extend([1, 2].map(|pepper| Scheme::Hmac { pepper }));
        world.extend(peppers.map(|pepper| argon2id(19_456, 2, pepper)));
        world.extend(peppers.map(|pepper| argon2id(65_536, 3, pepper)));
        world
    }

    /// Returns the ranking properties: algorithm, pepper, cost.
    fn ranks(scheme: Scheme) -> [u64; 3] {
        let pepper = u64::from(scheme.pepper().unwrap_or(0));
        match scheme {
            Scheme::Sha256 => [0, pepper, 0],
            Scheme::Hmac { .. } => [1, pepper, 0],
            Scheme::Argon2id { params, .. } => [2, pepper, params.cost()],
        }
    }

    #[test]
    fn ranks_never_fall_and_reach_the_choice() {
        for stored in world() {
            for choice in world() {
                let improved = improvement(stored, choice, choice.pepper()).unwrap_or(stored);
                let (before, chosen, after) = (ranks(stored), ranks(choice), ranks(improved));
                for axis in 0..3 {
                    assert!(
                        after[axis] >= before[axis],
                        "{stored:?} -> {choice:?}: {improved:?}"
                    );
                }
                // Every scheme that can have a pepper reaches the current one.
                assert!(after[0] >= chosen[0] && after[1] >= chosen[1]);
                assert!(after[2] >= chosen[2]);
                if (0..3).all(|axis| before[axis] >= chosen[axis]) {
                    assert_eq!(improved, stored, "what does not rank lower is left alone");
                }
            }
        }
    }

    #[test]
    fn a_new_pepper_keeps_stronger_params() {
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
        // For any two choices, a digest that both nodes rehash in turn stops changing.
        for start in world() {
            for a in world() {
                for b in world() {
                    let mut now = start;
                    let mut steps = 0;
                    loop {
                        let before = now;
                        for choice in [a, b] {
                            now = improvement(now, choice, choice.pepper()).unwrap_or(now);
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
