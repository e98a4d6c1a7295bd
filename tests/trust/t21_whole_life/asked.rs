//! What is asked of the manager, drawn at random, and what should come of it.

use std::time::Duration;

use keyward::import::ImportedKey;
use keyward::key::{KeyId, KeyRecord, RevokeReason, TenantId};
use keyward::manager::{Actor, KeyManager, KeyUpdate, ManageError, NewKey, Overlap, Rotation};
use keyward::time::OffsetDateTime;

use super::{Bug, Held};
use crate::common::{Choices, Fixture, now};
use crate::t21_powers::{Powers, STEP, start};

/// As long as the format's own secrets, and vouched for, so that it is hashed fast.
const SECRET: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg";

#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    Issue(Powers),
    Import(Powers, Imported),
    /// The fields named take the values of these powers.
    Update(KeyId, Fields, Powers),
    Rotate(KeyId, How, Until),
    Suspend(KeyId),
    Resume(KeyId),
    Revoke(KeyId),
}

/// Which of access, resources, networks, quotas, concurrency and expiry.
pub(super) type Fields = [bool; 6];

/// The axes of [`Powers::mixed_with`] that these are.
const FIELD_AXES: [usize; 6] = [0, 1, 2, 4, 6, 3];

#[derive(Debug, Clone, Copy)]
pub(super) enum Imported {
    /// Of the two-value form.
    Pair(KeyId),
    /// The text of a legacy format with this number inside.
    Text(u64),
}

/// An overlap, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    None,
    Until(u64),
    For(u64),
    UntilRevoked,
}

/// What is asked for the successor's end, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    AsBefore,
    Never,
    At(u64),
    In(u64),
}

/// What lies at the ceiling, or differs from it on one axis, or is anything.
pub(super) fn near(choices: &mut Choices, ceiling: &Powers) -> Powers {
    let drawn = Powers::draw(choices);
    let mut powers = match choices.below(5) {
        0 => drawn,
        1 | 2 => *ceiling,
        _ => ceiling.mixed_with(&drawn, choices.below(7)),
    };
    let end = powers.expires_after;
    powers.starts_after = choices.chance(4).then(|| steps(choices, 4));
    powers.starts_after = powers
        .starts_after
        .filter(|start| end.is_none_or(|end| *start < end));
    powers
}

fn steps(choices: &mut Choices, fewer_than: usize) -> u64 {
    STEP * u64::try_from(choices.below(fewer_than)).unwrap()
}

impl Asked {
    pub(super) const KINDS: [&str; 7] = [
        "issue", "import", "update", "rotate", "suspend", "resume", "revoke",
    ];

    pub(super) fn draw(
        choices: &mut Choices,
        ceiling: &Powers,
        keys: &[Held],
        second: u64,
    ) -> Self {
        let any = keys[choices.below(keys.len())].id;
        match choices.below(24) {
            0..=2 => Self::Issue(near(choices, ceiling)),
            3..=5 => {
                // From a few numbers only, so that some are imported again.
                let number = choices.next() % 24;
                let imported = match choices.below(8) {
                    0 => Imported::Pair(any),
                    1..=4 => Imported::Pair(KeyId::from_u128(choices.next().into())),
                    _ => Imported::Text(number),
                };
                Self::Import(near(choices, ceiling), imported)
            }
            6..=11 => {
                let to = match choices.below(4) {
                    0 => *ceiling,
                    // All restrictions are lifted.
                    1 => Powers::unlimited(),
                    _ => near(choices, ceiling),
                };
                Self::Update(any, [(); 6].map(|()| choices.chance(3)), to)
            }
            12..=17 => {
                let how = match choices.below(4) {
                    0 => How::None,
                    1 => How::Until(steps(choices, 9)),
                    2 => How::For(STEP + steps(choices, 5)),
                    _ => How::UntilRevoked,
                };
                let until = match choices.below(6) {
                    0 => Until::Never,
                    1 => Until::At(second + steps(choices, 6)),
                    2 => Until::In(STEP + steps(choices, 5)),
                    _ => Until::AsBefore,
                };
                Self::Rotate(any, how, until)
            }
            18 | 19 => Self::Suspend(any),
            20..=22 => {
                let can_be = |held: &&Held| held.is_suspended && !held.has_ended(second);
                let suspended: Vec<_> = keys.iter().filter(can_be).collect();
                match suspended.len() {
                    0 => Self::Resume(any),
                    number => Self::Resume(suspended[choices.below(number)].id),
                }
            }
            _ => Self::Revoke(any),
        }
    }

    pub(super) fn kind(&self) -> usize {
        match self {
            Self::Issue(_) => 0,
            Self::Import(..) => 1,
            Self::Update(..) => 2,
            Self::Rotate(..) => 3,
            Self::Suspend(_) => 4,
            Self::Resume(_) => 5,
            Self::Revoke(_) => 6,
        }
    }

    /// The key that it is asked of.
    pub(super) fn key(&self) -> Option<KeyId> {
        match self {
            Self::Issue(_) | Self::Import(..) => None,
            Self::Update(id, ..)
            | Self::Rotate(id, ..)
            | Self::Suspend(id)
            | Self::Resume(id)
            | Self::Revoke(id) => Some(*id),
        }
    }

    /// Whether the ceiling does not bind it.
    pub(super) fn is_free(&self) -> bool {
        matches!(self, Self::Suspend(_) | Self::Revoke(_))
    }

    /// What the key that is given power is to be able to do.
    pub(super) fn intended(&self, was: Option<&Held>, second: u64) -> Option<Powers> {
        let own_end = was.and_then(|was| was.own_end);
        let was = was.map(|was| was.powers);
        match self {
            Self::Issue(powers) | Self::Import(powers, _) => Some(powers.as_key()),
            Self::Update(_, fields, to) => was.map(|was| updated(was, *fields, to)),
            Self::Rotate(_, _, until) => was.map(|was| Powers {
                expires_after: match until {
                    Until::AsBefore => own_end,
                    Until::Never => None,
                    Until::At(at) => Some(*at),
                    Until::In(long) => Some(second + long),
                },
                ..was
            }),
            Self::Suspend(_) | Self::Resume(_) | Self::Revoke(_) => was,
        }
    }

    /// What the key should be that it was asked of, and what the new one with this id, once it is done.
    pub(super) fn expected(
        &self,
        was: Option<&Held>,
        new: Option<KeyId>,
        second: u64,
    ) -> (Option<Held>, Option<Held>) {
        let intended = self.intended(was, second).unwrap_or_default();
        let new = new.map(|id| Held::fresh(id, intended));
        let left = was.map(|was| {
            let mut left = *was;
            match self {
                Self::Issue(_) | Self::Import(..) => {}
                Self::Update(_, [.., expiry], _) => {
                    left.powers = intended;
                    // An update that changes nothing is none.
                    if *expiry && left.powers != was.powers {
                        left.own_end = intended.expires_after;
                    }
                }
                Self::Suspend(_) => left.is_suspended = true,
                Self::Resume(_) => left.is_suspended = false,
                Self::Revoke(_) => left.is_revoked = true,
                Self::Rotate(_, how, _) => {
                    left.successor = new.map(|new| new.id);
                    left.is_revoked = *how == How::None;
                    let overlap = match how {
                        How::None => Some(second),
                        How::Until(at) => Some(*at),
                        How::For(long) => Some(second + long),
                        How::UntilRevoked => None,
                    };
                    let ends = [was.powers.expires_after, overlap].into_iter().flatten();
                    left.powers.expires_after = ends.min();
                    left.overlap_end = overlap.and(left.powers.expires_after);
                    // It is revoked in the same commit, which is one more change.
                    left.revision += u64::from(left.is_revoked);
                }
            }
            // An update that changes nothing is none.
            left.revision += u64::from(left != *was);
            left
        });
        (left, new)
    }
}

pub(super) fn updated(mut powers: Powers, fields: Fields, to: &Powers) -> Powers {
    for (axis, is_named) in FIELD_AXES.into_iter().zip(fields) {
        if is_named {
            powers = powers.mixed_with(to, axis);
        }
    }
    powers
}

fn update(fields: Fields, to: &Powers, start: OffsetDateTime) -> KeyUpdate {
    let [access, resources, networks, quotas, concurrency, expiry] = fields;
    // What gives no power may come with it or not.
    let mut update = KeyUpdate::new().title("drawn");
    if access {
        update = update.access(to.access());
    }
    if resources {
        update = update.resources(to.resource_rule());
    }
    if networks {
        update = update.networks(to.network_rule());
    }
    if quotas {
        update = update.quotas(to.quota_rules());
    }
    if concurrency {
        update = update.concurrency(to.concurrency);
    }
    if expiry {
        update = match to.expires_after {
            Some(seconds) => update.expires_at(start + Duration::from_secs(seconds)),
            None => update.never_expires(),
        };
    }
    update
}

/// The manager, as one tenant's actors ask it.
pub(super) struct Library<'a> {
    pub(super) fixture: &'a Fixture,
    pub(super) tenant: TenantId,
    pub(super) start: OffsetDateTime,
    /// One without a ceiling.
    pub(super) root: Actor,
    /// What is wrong with it, and a fixture to try things in.
    pub(super) bug: Option<(Bug, &'a Fixture)>,
}

impl<'a> Library<'a> {
    pub(super) fn new(fixture: &'a Fixture, tenant: TenantId, start: OffsetDateTime) -> Self {
        Self {
            fixture,
            tenant,
            start,
            root: Actor::system("root"),
            bug: None,
        }
    }

    /// Seconds since the start.
    pub(super) fn second(&self) -> u64 {
        u64::try_from((start(self.fixture) - self.start).whole_seconds()).unwrap()
    }

    pub(super) fn manager(&self) -> &KeyManager {
        self.fixture.keyward.manager()
    }

    pub(super) fn new_key(&self, powers: &Powers) -> NewKey {
        powers.new_key(self.tenant.clone(), self.start)
    }

    /// Asks, and answers with the record of the key that was given power; with none after a revocation.
    pub(super) fn ask(
        &self,
        actor: &Actor,
        asked: &Asked,
    ) -> Result<Option<KeyRecord>, ManageError> {
        let (manager, tenant) = (self.manager(), &self.tenant);
        let record = match *asked {
            Asked::Issue(powers) => {
                let issued = now(manager.issue(actor, self.new_key(&powers)))?;
                issued.into_parts().1
            }
            Asked::Import(powers, imported) => {
                let imported = self.imported(imported);
                now(manager.import(actor, self.new_key(&powers), imported))?
            }
            Asked::Update(id, fields, to) => {
                now(manager.update(actor, tenant, id, update(fields, &to, self.start)))?
            }
            Asked::Rotate(id, how, until) => {
                let rotation = self.rotation(how, until);
                now(manager.rotate(actor, tenant, id, rotation))?
                    .into_parts()
                    .1
            }
            Asked::Suspend(id) => now(manager.suspend(actor, tenant, id))?,
            Asked::Resume(id) => now(manager.resume(actor, tenant, id))?,
            Asked::Revoke(id) => {
                now(manager.revoke(actor, tenant, id, RevokeReason::Requested))?;
                return Ok(None);
            }
        };
        Ok(Some(record))
    }

    fn imported(&self, imported: Imported) -> ImportedKey {
        let key = match imported {
            Imported::Pair(id) => ImportedKey::pair(id, SECRET),
            // An id of its own in each tenant: the store is shared.
            Imported::Text(number) => {
                ImportedKey::text("legacy", format!("{}-{number}.{SECRET}", self.tenant))
            }
        };
        key.entropy_bits(238)
    }

    fn rotation(&self, how: How, until: Until) -> Rotation {
        let at = |second| self.start + Duration::from_secs(second);
        let rotation = Rotation::new(match how {
            How::None => Overlap::None,
            How::Until(second) => Overlap::Until(at(second)),
            How::For(seconds) => Overlap::For(Duration::from_secs(seconds)),
            How::UntilRevoked => Overlap::UntilRevoked,
        });
        match until {
            Until::AsBefore => rotation,
            Until::Never => rotation.never_expires(),
            Until::At(second) => rotation.expires_at(at(second)),
            Until::In(seconds) => rotation.expires_in(Duration::from_secs(seconds)),
        }
    }
}
