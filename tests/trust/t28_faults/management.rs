//! Each call of each operation of the manager fails in turn, in every way that it can. Whatever an operation answers is
//! held against what a second handle on the store shows.

use std::num::NonZeroU32;

use keyward::Keyward;
use keyward::key::{PresentedKey, RevokeReason, TenantId};
use keyward::manager::{
    Issued, KeyBound, KeyUpdate, ManageError, NewKey, Overlap, RevokeAll, TenantRules,
};
use keyward::store::StoreError;
use keyward::testkit::{Call, Fault, FaultyStore};

use super::{COMMIT_FAULTS, NOBODYS, READ_FAULTS, naming};
use crate::common::{READ, actor, tenant};
use crate::operations::{Done, HOUR, Op, World, assemble, swept};

/// That what was answered is so: all was done, or nothing, or what the operation says may be done half-way.
pub(super) async fn is_honest(op: Op, world: &World, answer: Result<Done, ManageError>, why: &str) {
    let told = world.told().await;
    let (all, stages) = op.telling();
    let why = format!("{op:?}, {why}: {answer:?}");
    match answer {
        Ok(Done::Replayed(replayed) | Done::Narrowed(replayed)) if replayed.missing > 0 => {
            assert_eq!(
                all.len(),
                told.len() + usize::try_from(replayed.missing).unwrap()
            );
            assert!(why.contains("OtherKey") || why.contains("Missing"), "{why}");
        }
        Ok(done) => {
            assert_eq!(told, all, "{why}");
            world.confirm(op, done).await;
        }
        Err(error) => {
            let is_open = matches!(error, ManageError::Store(StoreError::Indeterminate(_)));
            let has_begun = matches!(error, ManageError::Unfinished { .. });
            assert_eq!(all[..told.len()], told, "{why}");
            assert!(stages.contains(&told.len()), "{why}");
            assert!(!has_begun || !told.is_empty(), "{why}");
            let may_be_half = is_open || has_begun || op == Op::Replay;
            assert!(may_be_half || told.is_empty(), "{why}");
        }
    }
}

/// A Keyward over a store whose calls fail so once it is open, counted from there.
async fn failing(
    world: &World,
    faults: &[(std::ops::Range<u64>, Fault)],
) -> (Keyward, FaultyStore) {
    let store = FaultyStore::over(world.store.clone());
    let keyward = world.open(store.clone()).await;
    let begun = store.all_calls();
    for (which, fault) in faults {
        let which = begun + which.start..begun.saturating_add(which.end);
        let _ = store.clone().on_any(which, *fault);
    }
    (keyward, store)
}

fn faults(world: &World) -> impl Iterator<Item = Fault> {
    let all = READ_FAULTS.into_iter().chain([Fault::OtherOutcomes]);
    let other = world.revoked.record().id();
    all.map(move |fault| naming(fault, other))
}

#[tokio::test]
async fn a_fault_never_half_succeeds() {
    let of_faults = READ_FAULTS.len() + 1;
    assert!(
        COMMIT_FAULTS
            .iter()
            .all(|fault| READ_FAULTS.contains(fault) || *fault == Fault::OtherOutcomes)
    );
    for op in Op::ALL {
        for (n, lasting) in (0..of_faults).flat_map(|n| [(n, false), (n, true)]) {
            for call in 0.. {
                let world = World::new().await;
                let fault = faults(&world).nth(n).unwrap();
                let end = if lasting { u64::MAX } else { call + 1 };
                let (keyward, store) = failing(&world, &[(call..end, fault)]).await;
                let before = store.all_calls();
                let answer = op.run(&keyward, &world).await;
                let is_reached = store.all_calls() - before > call;
                is_honest(op, &world, answer, &format!("{fault:?} in {call}..{end}")).await;
                if !is_reached {
                    break;
                }
            }
        }
    }
}

/// Once an answer was lost, no error means that nothing was done. A conflict is not among them: a store that has
/// committed a set answers it as it did the first time.
#[tokio::test]
async fn a_lost_answer_is_no_definite_failure() {
    let thens = [
        Fault::Unavailable,
        Fault::Corrupt,
        Fault::Unsupported,
        Fault::Indeterminate,
    ];
    for (op, then) in Op::ALL
        .into_iter()
        .flat_map(|op| thens.map(|then| (op, then)))
    {
        for call in 0.. {
            let world = World::new().await;
            let lost = (call..call + 1, Fault::LostAnswer);
            let (keyward, store) = failing(&world, &[lost, (call + 1..u64::MAX, then)]).await;
            let before = store.all_calls();
            let answer = op.run(&keyward, &world).await;
            let is_reached = store.all_calls() - before > call;
            is_honest(
                op,
                &world,
                answer,
                &format!("{then:?} after the answer of {call}"),
            )
            .await;
            if !is_reached {
                break;
            }
        }
    }
}

/// What must not be done, whatever fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hopeless {
    RotateAgain,
    RotateSuspended,
    UpdateRevoked,
    ResumeRevoked,
    RevokeAgain,
    RevokeByWrongSecret,
    GetOfAnotherTenant,
    IssueAtTheCap,
    ImportAgain,
}

impl Hopeless {
    const ALL: [Self; 9] = [
        Self::RotateAgain,
        Self::RotateSuspended,
        Self::UpdateRevoked,
        Self::ResumeRevoked,
        Self::RevokeAgain,
        Self::RevokeByWrongSecret,
        Self::GetOfAnotherTenant,
        Self::IssueAtTheCap,
        Self::ImportAgain,
    ];

    async fn run(self, keyward: &Keyward, world: &World) -> Result<(), ManageError> {
        let (manager, actor, tenant) = (keyward.manager(), actor(), tenant());
        let (revoked, live) = (world.revoked.record().id(), world.live.record().id());
        let suspended = world.suspended.record().id();
        let for_hour = Overlap::For(HOUR);
        match self {
            Self::RotateAgain => Op::Rotate.run(keyward, world).await.map(drop),
            Self::RotateSuspended => {
                let rotated = manager.rotate(&actor, &tenant, suspended, for_hour);
                rotated.await.map(drop)
            }
            Self::UpdateRevoked => {
                let update = KeyUpdate::new().title("updated");
                let updated = manager.update(&actor, &tenant, revoked, update);
                updated.await.map(drop)
            }
            Self::ResumeRevoked => manager.resume(&actor, &tenant, revoked).await.map(drop),
            Self::RevokeAgain => {
                let again = manager.revoke(&actor, &tenant, revoked, RevokeReason::Leaked);
                again.await.map(drop)
            }
            Self::RevokeByWrongSecret => {
                let (id, secret) = (live.to_string(), world.heir.api_key().expose_secret());
                let leaked = manager.revoke_leaked(&actor, PresentedKey::pair(&id, secret));
                leaked.await.map(drop)
            }
            Self::GetOfAnotherTenant => manager.get(&actor, &swept(), live).await.map(drop),
            Self::IssueAtTheCap => Op::Issue.run(keyward, world).await.map(drop),
            Self::ImportAgain => Op::Import.run(keyward, world).await.map(drop),
        }
    }

    /// What makes it hopeless.
    async fn prepare(self, world: &World) {
        let keyward = world.open(world.store.clone()).await;
        let first = match self {
            Self::RotateAgain => Op::Rotate,
            Self::ImportAgain => Op::Import,
            _ => return,
        };
        first.run(&keyward, world).await.unwrap();
    }

    /// Under each fault at each call: that it is not done.
    async fn under(self, fault: Fault) {
        for call in 0.. {
            let world = World::new().await;
            self.prepare(&world).await;
            let before = world.told().await;
            let mut fault = naming(fault, world.revoked.record().id());
            if self == Self::RevokeAgain || self == Self::UpdateRevoked {
                fault = naming(fault, world.live.record().id());
            }
            let store = FaultyStore::over(world.store.clone());
            let mut builder = assemble(store.clone(), &world.clock);
            if self == Self::IssueAtTheCap {
                builder = builder.tenant_rules(TenantRules::new().max_keys(NonZeroU32::MIN));
            }
            let keyward = builder.open().await.unwrap();
            let begun = store.all_calls();
            let _ = store.clone().on_any(begun + call..begun + call + 1, fault);
            let answer = self.run(&keyward, &world).await;
            assert!(answer.is_err(), "{self:?}, {fault:?} at {call}");
            assert_eq!(
                world.told().await,
                before,
                "{self:?}, {fault:?} at {call}: {answer:?}"
            );
            if store.all_calls() - begun <= call {
                break;
            }
        }
    }
}

#[tokio::test]
async fn hopeless_calls_fail_under_any_fault() {
    for hopeless in Hopeless::ALL {
        for fault in READ_FAULTS.into_iter().chain([Fault::OtherOutcomes]) {
            match (hopeless, fault) {
                // Its own test is below.
                (Hopeless::RotateAgain, Fault::OtherKey(_)) => {}
                // A successor that is gone is none.
                (Hopeless::RotateAgain, Fault::Missing) => {}
                _ => hopeless.under(fault).await,
            }
        }
    }
}

#[tokio::test]
async fn a_wrong_answer_rotates_no_key_twice() {
    Hopeless::RotateAgain.under(Fault::OtherKey(NOBODYS)).await;
}

#[tokio::test]
async fn wrong_outcomes_are_no_revocations() {
    let world = World::new().await;
    let two: Vec<_> = [&world.live, &world.heir].into_iter().map(kept).collect();
    let (keyward, _) = failing(&world, &[(0..u64::MAX, Fault::OtherOutcomes)]).await;
    let replayed = keyward.manager().replay_restrictions(&actor(), two).await;
    assert!(world.admits(world.live.api_key().presented()).await);
    assert!(replayed.is_err(), "{replayed:?}, and the key still works");
}

#[tokio::test]
async fn wrong_outcomes_finish_no_sweep() {
    let world = World::new().await;
    let keyward = world.open(world.store.clone()).await;
    let other = TenantId::new("two-keys").unwrap();
    for title in ["one", "two"] {
        let key = NewKey::new(other.clone(), title, READ);
        keyward.manager().issue(&actor(), key).await.unwrap();
    }
    world.clock.advance(HOUR); // so that the cutoff ends them, and not the sweep before it
    let (keyward, store) = failing(&world, &[]).await;
    let commits = store.calls(Call::Commit);
    let _ = store.on(Call::Commit, commits + 1..u64::MAX, Fault::OtherOutcomes); // the cutoff comes first
    let all = RevokeAll::new(RevokeReason::Leaked);
    let swept = keyward.manager().revoke_all(&actor(), &other, all).await;
    assert!(
        matches!(swept, Err(ManageError::Unfinished { .. })),
        "{swept:?}"
    );
}

#[tokio::test]
async fn another_keys_answer_is_not_missing() {
    let world = World::new().await;
    let other = world.revoked.record().id();
    let (keyward, _) = failing(&world, &[(0..1, Fault::OtherKey(other))]).await;
    let replayed = keyward
        .manager()
        .replay_restrictions(&actor(), [kept(&world.live)])
        .await;
    assert!(world.admits(world.live.api_key().presented()).await);
    assert!(replayed.is_err(), "{replayed:?}, and the key still works");
}

pub(super) fn kept(key: &Issued) -> KeyBound {
    KeyBound::revoked(
        key.record().id(),
        tenant(),
        key.record().created_at(),
        RevokeReason::Leaked,
    )
}
