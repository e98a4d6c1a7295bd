//! Random operations on a store.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use proptest::prelude::*;
use proptest::sample::select;

use crate::key::StoredKey;
use crate::store::{
    Change, ChangeSet, Committed, CutoffScope, KeyFilter, ListQuery, Precondition, Segments,
    StoreError,
};
use crate::testkit::conformance::Failure;
use crate::testkit::conformance::material::{Store, at, event, key, owner, rehash, set, tenant};

pub(super) const IDS: u128 = 6;

/// One operation. Names and instants are numbers, so that a printed sequence is readable.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    /// Commits changes, under conditions.
    Commit {
        changes: Vec<Step>,
        conditions: Vec<Condition>,
    },
    /// Commits an earlier set again, this many back.
    Again(usize),
    Get(u128),
    List {
        tenant: u8,
        segments: Segments,
        limit: u16,
        filter: Option<Filter>,
    },
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Insert {
        id: u128,
        tenant: u8,
        owner: u8,
        second: i64,
    },
    Replace {
        id: u128,
        expected: u64,
        title: u8,
    },
    Revoke {
        id: u128,
        second: i64,
    },
    Rehash {
        id: u128,
        from: u8,
        to: u8,
    },
    Purge {
        id: u128,
        second: i64,
    },
    RemoveTenant {
        tenant: u8,
    },
    Cutoff {
        scope: u8,
        second: i64,
    },
    LowerCutoff {
        scope: u8,
        from: i64,
        to: i64,
    },
    Setting {
        name: u8,
        value: u8,
    },
}

#[derive(Debug, Clone)]
pub(super) enum Condition {
    Below { tenant: u8, limit: u32 },
    NotCutOff { tenant: u8, owner: u8, second: i64 },
}

#[derive(Debug, Clone)]
pub(super) enum Filter {
    Owner(u8),
    Title(u8),
    Ids(u128, u128),
    IssuedBy(i64),
}

pub(super) fn sequence(length: RangeInclusive<usize>) -> impl Strategy<Value = Vec<Operation>> {
    proptest::collection::vec(operation(), length)
}

fn operation() -> impl Strategy<Value = Operation> {
    let commit = (
        proptest::collection::vec(step(), 1..4),
        proptest::collection::vec(condition(), 0..2),
    );
    let commit = commit.prop_map(|(changes, conditions)| Operation::Commit {
        changes,
        conditions,
    });
    let segments = vec![Segments::Live, Segments::LiveThenRevoked, Segments::Revoked];
    let list = (
        0..2_u8,
        select(segments),
        1..5_u16,
        proptest::option::of(filter()),
    );
    let list = list.prop_map(|(tenant, segments, limit, filter)| Operation::List {
        tenant,
        segments,
        limit,
        filter,
    });
    prop_oneof![
        6 => commit,
        1 => (0..4_usize).prop_map(Operation::Again),
        2 => (0..IDS).prop_map(Operation::Get),
        2 => list,
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..IDS, 0..2_u8, 0..2_u8, 0..4_i64)
            .prop_map(|(id, tenant, owner, second)| Step::Insert { id, tenant, owner, second }),
        3 => (0..IDS, 1..4_u64, 0..3_u8)
            .prop_map(|(id, expected, title)| Step::Replace { id, expected, title }),
        3 => (0..IDS, 0..4_i64).prop_map(|(id, second)| Step::Revoke { id, second }),
        1 => (0..IDS, 0..3_u8, 0..3_u8).prop_map(|(id, from, to)| Step::Rehash { id, from, to }),
        1 => (0..IDS, 0..5_i64).prop_map(|(id, second)| Step::Purge { id, second }),
        1 => (0..2_u8).prop_map(|tenant| Step::RemoveTenant { tenant }),
        1 => (0..7_u8, 0..5_i64).prop_map(|(scope, second)| Step::Cutoff { scope, second }),
        1 => (0..7_u8, 0..5_i64, 0..5_i64)
            .prop_map(|(scope, from, to)| Step::LowerCutoff { scope, from, to }),
        1 => (0..2_u8, 0..3_u8).prop_map(|(name, value)| Step::Setting { name, value }),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        (0..2_u8, 1..5_u32).prop_map(|(tenant, limit)| Condition::Below { tenant, limit }),
        (0..2_u8, 0..2_u8, 0..5_i64).prop_map(|(tenant, owner, second)| Condition::NotCutOff {
            tenant,
            owner,
            second
        }),
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    prop_oneof![
        (0..2_u8).prop_map(Filter::Owner),
        (0..3_u8).prop_map(Filter::Title),
        (0..IDS, 0..IDS).prop_map(|(first, last)| Filter::Ids(first, last)),
        (0..4_i64).prop_map(Filter::IssuedBy),
    ]
}

impl Operation {
    /// Whether the store's positions order the operation. They do not for settings and digests, which add no feed
    /// item.
    pub(super) fn is_ordered(&self) -> bool {
        match self {
            Self::Commit { changes, .. } => !changes
                .iter()
                .any(|step| matches!(step, Step::Rehash { .. } | Step::Setting { .. })),
            Self::Again(_) | Self::Get(_) | Self::List { .. } => true,
        }
    }
}

/// The committed sets, kept so that they can be committed again.
#[derive(Default)]
pub(super) struct World {
    sets: Vec<ChangeSet>,
}

/// An answer of a store or of the reference.
#[derive(Debug)]
pub(super) enum Answer {
    Committed(Result<Committed, StoreError>),
    Key(Box<Option<StoredKey>>),
    Keys(Vec<StoredKey>),
    /// An error that none of these operations may return.
    Fault(Failure),
    /// There was nothing to do.
    Nothing,
}

impl World {
    /// Returns the set that the operation commits, and remembers a new one.
    fn set_of(&mut self, operation: &Operation) -> Result<Option<ChangeSet>, Failure> {
        match operation {
            Operation::Commit {
                changes,
                conditions,
            } => {
                let set = change_set(changes, conditions)?;
                self.sets.push(set.clone());
                Ok(Some(set))
            }
            Operation::Again(back) => Ok(self.again(*back)),
            Operation::Get(_) | Operation::List { .. } => Ok(None),
        }
    }

    fn again(&self, back: usize) -> Option<ChangeSet> {
        self.sets.iter().rev().nth(back).cloned()
    }

    /// Returns the set that the operation committed. It must be the operation performed last.
    pub(super) fn committed_by(&self, operation: &Operation) -> Option<ChangeSet> {
        match operation {
            Operation::Commit { .. } => self.sets.last().cloned(),
            Operation::Again(back) => self.again(*back),
            Operation::Get(_) | Operation::List { .. } => None,
        }
    }

    pub(super) async fn perform(&mut self, store: &Store, operation: &Operation) -> Answer {
        match self.try_perform(store, operation).await {
            Ok(answer) => answer,
            Err(failure) => Answer::Fault(failure),
        }
    }

    async fn try_perform(
        &mut self,
        store: &Store,
        operation: &Operation,
    ) -> Result<Answer, Failure> {
        Ok(match operation {
            Operation::Commit { .. } | Operation::Again(_) => match self.set_of(operation)? {
                Some(set) => Answer::Committed(store.commit(&set).await),
                None => Answer::Nothing,
            },
            Operation::Get(id) => Answer::Key(Box::new(store.get(key(*id)?.id).await?)),
            Operation::List { limit, .. } => {
                let mut query = query_of(operation)?.limit(*limit);
                let mut keys = Vec::new();
                // With one task, all pages show one state. With several tasks, the history reads a single page
                // instead.
                loop {
                    let page = store.list(&query).await?;
                    keys.extend(page.items);
                    if keys.len() > 1_000 {
                        return Err(Failure::new(format!("{operation:?}: the pages never end")));
                    }
                    match page.next {
                        Some(place) if Some(place) > query.position() => query = query.after(place),
                        Some(_) => {
                            return Err(Failure::new(format!("{operation:?}: does not go on")));
                        }
                        None => break,
                    }
                }
                Answer::Keys(keys)
            }
        })
    }
}

/// Returns the query of a list, with pages large enough for all keys.
pub(super) fn query_of(operation: &Operation) -> Result<ListQuery, Failure> {
    let Operation::List {
        tenant: of,
        segments,
        filter,
        ..
    } = operation
    else {
        return Err(Failure::new("not a list"));
    };
    let query = ListQuery::of(&named_tenant(*of)?)
        .listing(*segments)
        .at_latest();
    let filter = match filter {
        None => return Ok(query),
        Some(Filter::Owner(name)) => KeyFilter::Owner(named_owner(*name)?),
        Some(Filter::Title(name)) => KeyFilter::TitleStartsWith(title(*name).into()),
        Some(Filter::Ids(first, last)) => KeyFilter::IdBetween(key(*first)?.id, key(*last)?.id),
        Some(Filter::IssuedBy(second)) => KeyFilter::IssuedBy(at(*second)?),
    };
    Ok(query.only(filter))
}

fn change_set(steps: &[Step], conditions: &[Condition]) -> Result<ChangeSet, Failure> {
    let changes = steps.iter().map(change).collect::<Result<Vec<_>, _>>()?;
    let mut all = set(changes)?;
    for (index, step) in steps.iter().enumerate() {
        let id = match step {
            Step::Insert { id, .. }
            | Step::Replace { id, .. }
            | Step::Revoke { id, .. }
            | Step::Rehash { id, .. }
            | Step::Purge { id, .. } => *id,
            Step::RemoveTenant { .. }
            | Step::Cutoff { .. }
            | Step::LowerCutoff { .. }
            | Step::Setting { .. } => continue,
        };
        all = all.with_event_of(index, event(id)?);
    }
    for condition in conditions {
        all = all.on_condition(match condition {
            Condition::Below { tenant, limit } => Precondition::UnrevokedKeysBelow {
                tenant: named_tenant(*tenant)?,
                limit: NonZeroU32::new(*limit).unwrap_or(NonZeroU32::MIN),
            },
            Condition::NotCutOff {
                tenant,
                owner,
                second,
            } => Precondition::NotCutOff {
                tenant: named_tenant(*tenant)?,
                owner: named_owner(*owner)?,
                issued_at: at(*second)?,
            },
        });
    }
    Ok(all)
}

fn change(step: &Step) -> Result<Change, Failure> {
    Ok(match step {
        Step::Insert {
            id,
            tenant,
            owner,
            second,
        } => Change::Insert(Box::new(StoredKey {
            tenant: named_tenant(*tenant)?,
            owner: named_owner(*owner)?,
            created_at: at(*second)?,
            digest: crate::key::Digest::new("$d0")?,
            ..key(*id)?
        })),
        Step::Replace {
            id,
            expected,
            title: name,
        } => Change::Replace {
            expected: *expected,
            with: Box::new(StoredKey {
                title: crate::key::Title::new(title(*name))?,
                ..key(*id)?
            }),
        },
        Step::Revoke { id, second } => Change::Revoke {
            id: key(*id)?.id,
            at: at(*second)?,
            reason: crate::key::RevokeReason::Leaked,
        },
        Step::Rehash { id, from, to } => rehash(*id, &format!("$d{from}"), &format!("$d{to}"))?,
        Step::Purge { id, second } => Change::Purge {
            id: key(*id)?.id,
            ended_before: at(*second)?,
        },
        Step::RemoveTenant { tenant } => Change::RemoveTenant {
            tenant: named_tenant(*tenant)?,
        },
        Step::Cutoff { scope, second } => Change::Cutoff {
            scope: scope_of(*scope)?,
            before: at(*second)?,
        },
        Step::LowerCutoff { scope, from, to } => Change::LowerCutoff {
            scope: scope_of(*scope)?,
            from: at(*from)?,
            to: at(*to)?,
        },
        Step::Setting { name, value } => Change::Setting {
            name: format!("name {name}"),
            value: format!("value {value}"),
        },
    })
}

fn named_tenant(name: u8) -> Result<crate::key::TenantId, Failure> {
    tenant(&format!("t{name}"))
}

fn named_owner(name: u8) -> Result<crate::key::Principal, Failure> {
    owner(&format!("o{name}"))
}

const fn title(name: u8) -> &'static str {
    match name {
        0 => "a",
        1 => "ab",
        _ => "b",
    }
}

fn scope_of(number: u8) -> Result<CutoffScope, Failure> {
    Ok(match number {
        0 => CutoffScope::All,
        1 | 2 => CutoffScope::from(&named_tenant(number - 1)?),
        _ => CutoffScope::Owner {
            tenant: named_tenant(number & 1)?,
            owner: named_owner(number >> 1 & 1)?,
        },
    })
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "World({} sets)", self.sets.len())
    }
}
