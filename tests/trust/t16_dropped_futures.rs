//! Promise 16: a future dropped after its k-th poll, for every k, leaves no open transaction and no stale entry. Shown
//! for every operation of the manager, for verifying, opening, and handing on usage; each is dropped at once after the
//! poll and, over a store that works on elsewhere, also a while later, when what it waited for was done and nobody had
//! heard of it.
//!
//! Planted bugs that it catches: a set that is committed change by change; a lock that is only given back once the
//! commit has answered; a cache that is told only once the answer arrived; a batch of usage that is merged again where
//! its answer never came.

mod planted;

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use keyward::Keyward;
use keyward::audit::EventAction;
use keyward::hashing::{Argon2Params, Hashing, Pepper};
use keyward::key::{KeyStatus, RevokeReason};
use keyward::manager::{Issued, KeyQuery, KeyUpdate, ManageError};
use keyward::store::KeyStore;
use keyward::testkit::{Call, Fault, FaultyStore};
use keyward::verifier::{Attempt, KeyCache, Requirement};

use self::planted::{Broken, Bug};
use crate::common::{actor, builder, clock, tenant};
use crate::operations::{Done, Op, World, assemble, new_key, poll_times, poll_until};
use crate::store::{IS_ON_DISK, LATER, PAUSES, Store, assert_settled, opened_again};

/// What takes longer hangs.
const HANGS: Duration = Duration::from_secs(120);
/// At least two polls: a read with a time limit is polled twice when it begins.
const YIELDS: [Fault; 3] = [Fault::Yield(2), Fault::Yield(3), Fault::Yield(4)];

/// A store each of whose calls has to wait.
fn waiting(store: impl KeyStore) -> FaultyStore {
    FaultyStore::over(store).at_random(16, 1, YIELDS)
}

async fn is_granted(keyward: &Keyward, key: &Issued) -> bool {
    let any = Requirement::any_key();
    let attempt = Attempt::new(key.api_key().presented(), &any);
    keyward.verifier().verify(&attempt).await.is_ok()
}

/// Whether calls that have nothing to do with the one that was dropped go through.
async fn others_go_through(keyward: &Keyward) -> [EventAction; 3] {
    let (manager, actor, tenant) = (keyward.manager(), actor(), tenant());
    let key = new_key("bystander").concurrency(NonZeroU32::MIN);
    let key = manager.issue(&actor, key).await.unwrap();
    let id = key.record().id();
    for _ in 0..2 {
        assert!(is_granted(keyward, &key).await);
    }
    let update = KeyUpdate::new().title("changed");
    let updated = manager.update(&actor, &tenant, id, update).await.unwrap();
    assert_eq!(manager.get(&actor, &tenant, id).await.unwrap(), updated);
    let listed = manager.list(&actor, &KeyQuery::of(&tenant)).await.unwrap();
    assert!(listed.keys.contains(&updated));
    let revoked = manager.revoke(&actor, &tenant, id, RevokeReason::Requested);
    revoked.await.unwrap();
    assert!(!is_granted(keyward, &key).await);
    assert!(keyward.flush_usage().await.unwrap() > 0);
    use EventAction::{KeyIssued, KeyRevoked, KeyUpdated};
    [KeyIssued, KeyUpdated, KeyRevoked]
}

/// Whether this is the answer of an operation that was done before, or was not.
fn is_proper(op: Op, done: bool, again: &Result<Done, ManageError>) -> bool {
    use ManageError as E;
    match op {
        Op::Import if done => matches!(again, Err(E::AlreadyImported { .. })),
        Op::Suspend if done => matches!(again, Err(E::AlreadySuspended { .. })),
        Op::Resume if done => matches!(again, Err(E::NotSuspended)),
        Op::Rotate if done => matches!(again, Err(E::AlreadyRotated { .. })),
        Op::Revoke | Op::RevokeLeaked | Op::RotateAway if done => {
            matches!(again, Err(E::AlreadyRevoked { .. }))
        }
        _ => again.is_ok(),
    }
}

/// How far an operation came before it was dropped.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    /// It had not answered, and had told this much of what it tells.
    Told(usize),
    ToItsEnd,
}

/// Drops an operation after so many polls, or once the commit of that fault hangs, and looks at what it left.
async fn drop_after(
    (polls, pause): (usize, Duration),
    op: Op,
    bug: Bug,
    fault: Option<(u64, Fault)>,
) -> Came {
    let world = World::new().await;
    let losing = FaultyStore::over(Broken::with(bug, world.store.clone()));
    let waiting = match IS_ON_DISK {
        // It has to be waited for without that.
        true => FaultyStore::over(losing.clone()).at_random(16, 1, [Fault::Yield(1)]),
        false => waiting(losing.clone()),
    };
    let node = world.open(waiting).await;
    let other = world.open(opened_again(&world.store)).await;
    assert!(is_granted(&node, &world.live).await);
    let mut hanging = u64::MAX;
    if let Some((call, fault)) = fault {
        let call = losing.calls(Call::Commit) + call;
        let _ = losing.clone().on(Call::Commit, call..call + 1, fault);
        if matches!(fault, Fault::Hang | Fault::HangAfter) {
            hanging = call;
        }
    }
    let operation = op.run(&node, &world);
    let answer = if hanging == u64::MAX {
        poll_times(operation, polls, pause).await
    } else {
        poll_until(operation, || losing.calls(Call::Commit) > hanging, pause).await
    };
    losing.heal();
    assert_settled(&world.store).await;
    let what = format!("{op:?} with {fault:?}, dropped after {polls} polls and {pause:?}");

    // Through another connection: all or nothing, and told as it is.
    let mut told = world.told().await;
    let (all, stages) = op.telling();
    assert_eq!(all[..told.len()], told, "{what}");
    assert!(stages.contains(&told.len()), "{what}: {told:?}");
    let came = match answer {
        None => Came::Told(told.len()),
        Some(_) => Came::ToItsEnd,
    };
    if let Some(answer) = answer {
        assert_eq!(told, all, "{what}");
        world.confirm(op, answer.unwrap()).await;
    }

    // Nothing stale: both nodes say what the row says.
    for key in [&world.live, &world.suspended, &world.heir] {
        let status = world.record(key.record().id()).await.status(world.now);
        let lives = status == KeyStatus::Active;
        assert_eq!(is_granted(&node, key).await, lives, "{what}");
        assert_eq!(is_granted(&other, key).await, lives, "{what}");
    }

    // Nothing held.
    let done = told.len() == all.len();
    let rest = all[told.len()..].to_vec();
    told.extend(others_go_through(&node).await);
    told.extend(others_go_through(&other).await);

    let again = op.run(&node, &world).await;
    assert!(
        is_proper(op, done && !all.is_empty(), &again),
        "{what}: {again:?}"
    );
    if op == Op::Issue && done {
        told.push(EventAction::KeyIssued); // another one
    }
    if op == Op::RemoveTenant && done {
        told.push(EventAction::TenantRemoved); // that it was called again
    }
    told.extend(rest);
    assert_eq!(world.told().await, told, "{what}, and called again");
    came
}

async fn drop_after_every_poll(op: Op, bug: Bug, fault: Option<(u64, Fault)>) {
    // What a lost answer changes is the same after a while, and on a disk not tried at each poll.
    let is_plain = fault.is_none();
    let step = if IS_ON_DISK && !is_plain { 3 } else { 1 };
    for pause in PAUSES
        .into_iter()
        .filter(|pause| is_plain || pause.is_zero())
    {
        let mut polls = 0;
        while drop_after((polls, pause), op, bug, fault).await != Came::ToItsEnd {
            polls += step;
            assert!(polls < 1_000, "{op:?} does not end");
        }
        assert!(polls > 0, "{op:?} was dropped under way");
    }
}

#[tokio::test]
async fn a_dropped_operation_is_done_or_not() {
    for op in Op::ALL {
        drop_after_every_poll(op, Bug::None, None).await;
    }
}

#[tokio::test]
async fn drops_after_lost_answers_are_safe() {
    for op in Op::ALL {
        if op.telling().0.is_empty() {
            continue; // It commits nothing.
        }
        drop_after_every_poll(op, Bug::None, Some((0, Fault::LostAnswer))).await;
        // The store knows nothing of this one, whichever it is.
        if !IS_ON_DISK {
            drop_after_every_poll(op, Bug::None, Some((0, Fault::Indeterminate))).await;
        }
        // A commit that takes place and is never heard of again.
        let (all, stages) = op.telling();
        let calls = if IS_ON_DISK { stages.len() - 1 } else { 3 };
        for call in (0..3).take(calls) {
            let hanging = Some((call, Fault::HangAfter));
            drop_after((0, LATER), op, Bug::None, hanging).await;
            let hanging = Some((call, Fault::Hang));
            let came = drop_after((0, Duration::ZERO), op, Bug::None, hanging).await;
            // The first two sets of these have been committed, and one is left.
            if matches!((op, call), (Op::RevokeAll, 2) | (Op::Replay, 1)) {
                assert_eq!(came, Came::Told(stages[stages.len() - 2]), "{op:?}");
                assert!(stages[stages.len() - 2] < all.len());
            }
        }
    }
}

#[tokio::test]
async fn the_drops_catch_planted_bugs() {
    for (bug, op) in [
        (Bug::SetIsTorn, Op::Rotate),
        (Bug::LockIsKept, Op::Issue),
        (Bug::CacheToldLate, Op::Revoke),
    ] {
        let caught = tokio::spawn(drop_after_every_poll(op, bug, None)).await;
        assert!(caught.is_err_and(|error| error.is_panic()), "{bug:?}");
    }
}

#[tokio::test]
async fn dropped_lookups_block_no_others() {
    let world = World::new().await;
    let node = world.open(waiting(world.store.clone())).await;
    for _ in 0..100 {
        let dropped = poll_times(Op::FindOwner.run(&node, &world), 1, Duration::ZERO);
        assert!(dropped.await.is_none());
    }
    let revoked = Op::RevokeLeaked.run(&node, &world).await;
    assert!(revoked.is_ok(), "{revoked:?}");
}

#[tokio::test]
async fn opening_can_be_dropped_and_repeated() {
    let pepper = |fill: u8| Pepper::new(7, (fill..fill + 32).collect::<Vec<u8>>()).unwrap();
    for polls in 0..20 {
        let world = World::new().await;
        let open = |store: FaultyStore, fill| {
            let hashing = Hashing::recommended().pepper(pepper(fill));
            assemble(store, &world.clock).hashing(hashing).open()
        };
        let losing = FaultyStore::over(world.store.clone());
        let losing = losing.on(Call::Commit, 0..1, Fault::HangAfter);
        let mut polled = 0;
        let is_dropped = || {
            polled += 1;
            polled > polls || losing.calls(Call::Commit) > 0
        };
        let opening = open(waiting(losing.clone()), 0);
        let dropped = poll_until(opening, is_dropped, LATER).await;
        assert!(dropped.is_none());
        assert_settled(&world.store).await;
        let node = open(waiting(world.store.clone()), 0).await.unwrap();
        others_go_through(&node).await;
        assert!(open(waiting(world.store.clone()), 1).await.is_err());
    }
}

/// Drops a verification after so many polls, of a key that has one place and a digest that is outdated.
async fn drop_verification_after((polls, pause): (usize, Duration), fault: Option<Fault>) -> bool {
    let world = World::new().await;
    let plain = world.open(world.store.clone()).await;
    let key = new_key("one at a time").concurrency(NonZeroU32::MIN);
    let key = plain.manager().issue(&actor(), key).await.unwrap();
    let before = world.told().await;
    let losing = FaultyStore::over(world.store.clone());
    let pepper = Pepper::new(7, (0..32).collect::<Vec<u8>>()).unwrap();
    let peppered = || Hashing::recommended().pepper(pepper.clone());
    let node = assemble(waiting(losing.clone()), &world.clock).hashing(peppered());
    let node = node.open().await.unwrap();
    let other = assemble(opened_again(&world.store), &world.clock).hashing(peppered());
    let other = other.open().await.unwrap();
    if let Some(fault) = fault {
        let call = losing.calls(Call::Commit);
        let _ = losing.clone().on(Call::Commit, call..call + 1, fault);
    }
    let ended = poll_times(is_granted(&node, &key), polls, pause).await;
    assert!(ended.unwrap_or(true), "after {polls} polls with {fault:?}");
    for node in [&other, &node, &node] {
        assert!(
            is_granted(node, &key).await,
            "after {polls} polls with {fault:?}"
        );
    }
    // Nobody's turn was lost. What replaces the digest may go on after the verdict.
    let begun = Instant::now();
    while world.record(key.record().id()).await.digest() == key.record().digest() {
        assert!(begun.elapsed() < HANGS, "a turn was lost");
        tokio::task::yield_now().await;
        assert!(is_granted(&node, &key).await);
    }
    assert_eq!(world.told().await, before, "and it is no news");
    ended.is_some()
}

#[tokio::test]
async fn dropped_verifications_leave_nothing() {
    let faults = [None, Some(Fault::LostAnswer), Some(Fault::Indeterminate)];
    for (fault, pause) in faults
        .into_iter()
        .flat_map(|of| PAUSES.map(|pause| (of, pause)))
    {
        let mut polls = 0;
        while !drop_verification_after((polls, pause), fault).await {
            polls += 1;
        }
        assert!(polls > 0, "it was dropped under way");
    }
    for fault in [Fault::Hang, Fault::HangAfter] {
        let all = (usize::MAX, Duration::ZERO);
        let is_decided = drop_verification_after(all, Some(fault)).await;
        assert!(is_decided, "the verdict waits for no commit");
    }
}

#[tokio::test]
async fn dropped_slow_hashes_leave_nothing() {
    let store = Store::new();
    let slow = Hashing::argon2id(Argon2Params::OWASP);
    // Each verification is a first one.
    let node = builder(waiting(store.clone()), clock()).hashing(slow.clone());
    let node = node.cache(KeyCache::off()).open().await.unwrap();
    let any = Requirement::any_key();
    // One kept under a fast hash, which is about to be replaced, and one kept under the slow one.
    for hashing in [Hashing::recommended(), slow] {
        let issuing = builder(store.clone(), clock()).hashing(hashing);
        let issuing = issuing.open().await.unwrap();
        let key = new_key("one at a time").concurrency(NonZeroU32::MIN);
        let issued = issuing.manager().issue(&actor(), key).await.unwrap();
        let attempt = Attempt::new(issued.api_key().presented(), &any);
        let mut polls = 0;
        loop {
            let ended = poll_times(node.verifier().verify(&attempt), polls, Duration::ZERO).await;
            // A grant would hold the only place.
            let ended = ended.map(|verdict| verdict.is_ok());
            let whole = node.verifier().verify(&attempt).await;
            let denied = whole.err().map(|denial| denial.to_string());
            assert_eq!(denied, None, "after {polls} polls");
            if let Some(is_granted) = ended {
                assert!(is_granted);
                break;
            }
            polls += 1;
            assert!(polls < 1_000, "it does not end");
        }
        // The store makes each read wait for a poll, however fast the hash is.
        assert!(polls > 1, "it was dropped while it waited");
        // No turn was lost.
        let begun = Instant::now();
        loop {
            let stored = store.get(issued.record().id()).await.unwrap().unwrap();
            if stored.digest.expose().starts_with("$keyward-argon2id$") {
                break;
            }
            assert!(begun.elapsed() < HANGS, "a turn was lost");
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(node.verifier().verify(&attempt).await.is_ok());
        }
    }
}

/// Drops the handing on of usage after so many polls, or once it hangs, uses the key once more, and hands that on.
async fn drop_flush_after(
    (polls, pause): (usize, Duration),
    bug: Bug,
    fault: Option<Fault>,
) -> bool {
    let world = World::new().await;
    let losing = FaultyStore::over(Broken::with(bug, world.store.clone()));
    if let Some(fault) = fault {
        let _ = losing.clone().on(Call::MergeUsage, 0..1, fault);
    }
    let node = world.open(waiting(losing.clone())).await;
    for _ in 0..3 {
        assert!(is_granted(&node, &world.live).await);
    }
    let flush = node.flush_usage();
    let ended = if matches!(fault, Some(Fault::Hang | Fault::HangAfter)) {
        poll_until(flush, || losing.calls(Call::MergeUsage) > 0, pause).await
    } else {
        poll_times(flush, polls, pause).await
    };
    let ended = ended.is_some();
    losing.heal();
    assert!(is_granted(&node, &world.live).await);
    node.flush_usage().await.unwrap();
    let ids = [world.live.record().id()];
    let usage = world.store.usage().unwrap().read(&ids).await.unwrap();
    let granted = usage[0].map(|usage| usage.granted);
    assert_eq!(granted, Some(4), "after {polls} polls with {fault:?}");
    ended
}

#[tokio::test]
async fn a_dropped_flush_counts_usage_once() {
    let faults = [None, Some(Fault::LostAnswer), Some(Fault::Unavailable)];
    for (fault, pause) in faults
        .into_iter()
        .flat_map(|of| PAUSES.map(|pause| (of, pause)))
    {
        let mut polls = 0;
        while !drop_flush_after((polls, pause), Bug::None, fault).await {
            polls += 1;
        }
        assert!(polls > 0);
    }
    let once_it_hangs = (0, LATER);
    for fault in [Fault::Hang, Fault::HangAfter] {
        assert!(!drop_flush_after(once_it_hangs, Bug::None, Some(fault)).await);
    }
    // Without the other fault it would be the same batch, which is merged once.
    let (bug, fault) = (Bug::UsageCountsTwice, Some(Fault::LostAnswer));
    let caught = tokio::spawn(async move {
        let mut polls = 0;
        while !drop_flush_after((polls, Duration::ZERO), bug, fault).await {
            polls += 1;
        }
    });
    assert!(caught.await.is_err_and(|error| error.is_panic()));
}
