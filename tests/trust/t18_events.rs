//! Promise 18: where audit is strict, no change but revocation commits without its event; events = operations. Random
//! operations run into random faults in front of the store. Then the log is held against three things that do not know
//! of it: what a recorder behind the faults saw of the rows, the feed of changes, and what the manager answered to each
//! operation.
//!
//! Planted bugs that it catches: the event of an update is lost; an event is recorded for a change that was none; a
//! retry is committed anew, or told again; an event tells of another action than was done.

mod stores;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward::Keyward;
use keyward::audit::{ChainHead, EventAction, SealedEvent, verify_chain};
use keyward::clock::Clock;
use keyward::import::ImportedKey;
use keyward::key::{KeyId, KeyRecord, RevokeReason, TenantId};
use keyward::manager::{
    Actor, Issued, KeyBound, KeyUpdate, ManageError, NewKey, Overlap, RevokeAll,
};
use keyward::store::{Changed, Cursor, CutoffScope, FeedPage, KeyStore, StoreError};
use keyward::testkit::{Fault, FaultyStore, ManualClock};
use keyward::verifier::{Attempt, Requirement};
use test_support::size;

use self::stores::{Broken, Bug, Recorder, Step};
use crate::common::{Choices, READ, clock};
use crate::operations::assemble;
use crate::store::IS_ON_DISK;

/// A conflict is not among them: a store that has committed a set answers it as it did the first time.
const LOSSES: [Fault; 4] = [
    Fault::Unavailable,
    Fault::Indeterminate,
    Fault::LostAnswer,
    Fault::Yield(1),
];
const CONFLICTS: [Fault; 4] = [
    Fault::Unavailable,
    Fault::Indeterminate,
    Fault::Conflict,
    Fault::Yield(1),
];
const TENANTS: usize = 3;
const KEYS: usize = 12;
const MOMENT: Duration = Duration::from_millis(1);

/// What was done, and to which key; to any one where the operation did not say.
type Told = (Option<KeyId>, EventAction);

/// What an operation may have told, by what it answered.
#[derive(Debug, Default)]
struct Answered {
    /// Exactly these, in this order, each of its key.
    told: Vec<Told>,
    /// Or nothing at all: nobody knows.
    or_nothing: bool,
    /// It may have cut off as well, unless a later cutoff stood.
    may_cut_off: bool,
    /// And any number of revocations: it stopped on the way.
    and_some: bool,
    /// The key that it rotates: ancestors of that may be revoked first, whatever comes of it.
    rotates: Option<KeyId>,
}

/// Several tasks' random operations on the same keys.
struct Play {
    keyward: Keyward,
    clock: ManualClock,
    keys: Mutex<Vec<Arc<Issued>>>,
    answers: Mutex<HashMap<String, Answered>>,
}

impl Play {
    async fn over(store: impl KeyStore) -> Arc<Self> {
        let clock = clock();
        let keyward = assemble(store, &clock).open().await.unwrap();
        Arc::new(Self {
            keyward,
            clock,
            keys: Mutex::default(),
            answers: Mutex::default(),
        })
    }

    /// A key to do something to. The oldest is forgotten now and then, as most have ended by then.
    fn any_key(&self, choices: &mut Choices) -> Option<Arc<Issued>> {
        let mut keys = self.keys.lock().unwrap();
        if keys.len() > KEYS || !keys.is_empty() && choices.chance(12) {
            keys.remove(0);
        }
        let one = choices.below(KEYS);
        keys.get(one).cloned()
    }

    fn keep(&self, issued: Issued) {
        self.keys.lock().unwrap().push(Arc::new(issued));
    }

    async fn run(self: Arc<Self>, task: usize, operations: usize) {
        let mut choices = Choices::new(u64::try_from(task).unwrap());
        for n in 0..operations {
            let name = format!("{task}-{n}");
            let answered = self.step(&name, &mut choices).await;
            self.answers.lock().unwrap().insert(name, answered);
            self.clock.advance(MOMENT);
        }
    }

    async fn step(&self, name: &str, choices: &mut Choices) -> Answered {
        use EventAction as A;
        let manager = self.keyward.manager();
        let actor = Actor::system("test").in_request(name);
        let Some(key) = self.any_key(choices) else {
            let tenant = tenant(choices.below(TENANTS));
            let issued = manager.issue(&actor, NewKey::new(tenant, name, READ)).await;
            let answered = answered(
                issued.as_ref().map(drop),
                vec![(new(&issued), A::KeyIssued)],
            );
            issued.into_iter().for_each(|issued| self.keep(issued));
            return answered;
        };
        let (tenant, id) = (key.record().tenant(), key.record().id());
        let reason = RevokeReason::Requested;
        match choices.below(100) {
            0..50 => {
                let update = KeyUpdate::new().title(name);
                let updated = manager.update(&actor, tenant, id, update).await;
                answered(updated.as_ref().map(drop), vec![(Some(id), A::KeyUpdated)])
            }
            50..62 => {
                let suspended = manager.suspend(&actor, tenant, id).await;
                answered(
                    suspended.as_ref().map(drop),
                    vec![(Some(id), A::KeySuspended)],
                )
            }
            62..74 => {
                let resumed = manager.resume(&actor, tenant, id).await;
                answered(resumed.as_ref().map(drop), vec![(Some(id), A::KeyResumed)])
            }
            74..83 => {
                let is_cut = choices.chance(3);
                let overlap = if is_cut {
                    Overlap::None
                } else {
                    Overlap::For(MOMENT * 50)
                };
                let rotated = manager.rotate(&actor, tenant, id, overlap).await;
                let mut told = vec![(new(&rotated), A::KeyIssued), (Some(id), A::KeyRotated)];
                told.extend(is_cut.then_some((Some(id), A::KeyRevoked)));
                let answered = answered(rotated.as_ref().map(drop), told);
                rotated.into_iter().for_each(|issued| self.keep(issued));
                let rotates = Some(id);
                Answered {
                    rotates,
                    ..answered
                }
            }
            83..86 => {
                let revoked = manager.revoke(&actor, tenant, id, reason).await;
                answered(revoked.as_ref().map(drop), vec![(Some(id), A::KeyRevoked)])
            }
            86..88 => {
                let leaked = manager.revoke_leaked(&actor, key.api_key().presented());
                answered(
                    leaked.await.as_ref().map(drop),
                    vec![(Some(id), A::KeyRevoked)],
                )
            }
            88..91 => {
                let text = format!(
                    "{}.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg",
                    choices.next()
                );
                let imported = ImportedKey::text("legacy", text).entropy_bits(238);
                let new = NewKey::new(tenant.clone(), name, READ);
                let imported = manager.import(&actor, new, imported).await;
                let id = imported.as_ref().ok().map(KeyRecord::id);
                answered(imported.as_ref().map(drop), vec![(id, A::KeyImported)])
            }
            91 if choices.chance(4) => {
                let all = RevokeAll::new(reason);
                let swept = manager.revoke_all(&actor, tenant, all).await;
                some(&swept.map(|swept| swept.revoked))
            }
            91 => {
                let before = self.clock.now().unwrap()
                    - MOMENT * u32::try_from(choices.below(9_000)).unwrap();
                let scope = CutoffScope::from(tenant);
                let denied = manager.deny_issued_before(&actor, before, scope).await;
                Answered {
                    may_cut_off: denied.as_ref().err().is_none_or(is_open),
                    ..Answered::default()
                }
            }
            92 => {
                let records = self
                    .keys
                    .lock()
                    .unwrap()
                    .iter()
                    .take(2)
                    .map(record)
                    .collect::<Vec<_>>();
                let replayed = manager.replay_restrictions(&actor, records).await;
                some(&replayed.map(|replayed| replayed.revoked))
            }
            _ => {
                let any = Requirement::any_key();
                let attempt = Attempt::new(key.api_key().presented(), &any);
                let _ = self.keyward.verifier().verify(&attempt).await;
                let _ = manager.get(&actor, tenant, id).await;
                Answered::default()
            }
        }
    }
}

fn tenant(n: usize) -> TenantId {
    TenantId::new(format!("tenant-{n}")).unwrap()
}

fn record(key: &Arc<Issued>) -> KeyBound {
    KeyBound::revoked(
        key.record().id(),
        key.record().tenant().clone(),
        key.record().created_at(),
        RevokeReason::Leaked,
    )
}

/// Whether it is not known what was done.
fn is_open(error: &ManageError) -> bool {
    matches!(error, ManageError::Store(StoreError::Indeterminate(_)))
}

/// The key that it made.
fn new(issued: &Result<Issued, ManageError>) -> Option<KeyId> {
    issued.as_ref().ok().map(|issued| issued.record().id())
}

fn answered(answer: Result<(), &ManageError>, told: Vec<Told>) -> Answered {
    let is_open = answer.err().is_some_and(is_open);
    Answered {
        told: if answer.is_ok() || is_open {
            told
        } else {
            Vec::new()
        },
        or_nothing: is_open,
        ..Answered::default()
    }
}

/// What revokes so many, and may stop on the way.
fn some(answer: &Result<u64, ManageError>) -> Answered {
    let revoked = answer.as_ref().copied().unwrap_or_default();
    Answered {
        told: vec![(None, EventAction::KeyRevoked); usize::try_from(revoked).unwrap()],
        may_cut_off: true,
        and_some: answer.is_err(),
        ..Answered::default()
    }
}

/// Plays, and holds the log against the rows, the feed and the answers. How many operations told of something.
async fn play(
    store: impl KeyStore + Clone,
    recorder: &Recorder,
    (tasks, operations): (usize, usize),
    faults: [Fault; 4],
) -> Result<usize, String> {
    let FeedPage::Resync { next: start } = recorder.changes(None, Duration::ZERO).await.unwrap()
    else {
        panic!("an empty store has no news");
    };
    let faulty = FaultyStore::over(store.clone());
    let play = Play::over(faulty.clone()).await;
    let _ = faulty.at_random(18, 5, faults);
    let running = (0..tasks).map(|task| tokio::spawn(Arc::clone(&play).run(task, operations)));
    for task in running.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let log = store.events().unwrap();
    let events = log.read(None, 0, usize::MAX).await.unwrap();
    verify_chain(ChainHead::default(), &events).map_err(|broken| broken.to_string())?;
    let rows = recorder.steps.lock().await;
    let feed = feed(&store, start).await;
    agrees_with_rows(&events, &rows)?;
    let told = rows.iter().map(|(of, _)| *of).collect::<Vec<_>>();
    if feed != told {
        return Err("the feed tells another history than the rows".into());
    }
    let answers = play.answers.lock().unwrap();
    agrees_with_answers(&events, &answers)
}

async fn feed(store: &impl KeyStore, mut cursor: Cursor) -> Vec<Option<(KeyId, u64)>> {
    let mut all = Vec::new();
    loop {
        let page = store.changes(Some(&cursor), Duration::ZERO).await.unwrap();
        let FeedPage::Next { items, next, .. } = page else {
            panic!("the feed is whole");
        };
        if items.is_empty() {
            return all;
        }
        all.extend(items.into_iter().map(|news| match news {
            Changed::Key { id, revision } => Some((id, revision)),
            _ => None,
        }));
        cursor = next;
    }
}

/// Each step of a row has its event, in the order of commits, and each event its step.
fn agrees_with_rows(events: &[SealedEvent], rows: &[Step]) -> Result<(), String> {
    for (SealedEvent { number, event, .. }, (of, action)) in events.iter().zip(rows) {
        if (event.key, event.action) != (of.map(|(id, _)| id), *action) {
            return Err(format!(
                "event {number}: {event:?}, and {of:?} was {action:?}"
            ));
        }
    }
    match events.len() == rows.len() {
        true => Ok(()),
        false => Err(format!("{} events of {} steps", events.len(), rows.len())),
    }
}

/// Each operation has told what it answered, once.
fn agrees_with_answers(
    events: &[SealedEvent],
    answers: &HashMap<String, Answered>,
) -> Result<usize, String> {
    let mut told: HashMap<&str, Vec<Told>> = HashMap::new();
    for SealedEvent { event, .. } in events {
        let name = event.request.as_deref().unwrap();
        told.entry(name)
            .or_default()
            .push((event.key, event.action));
    }
    if let Some(nobodys) = told.keys().find(|name| !answers.contains_key(**name)) {
        return Err(format!("{nobodys} told and was not asked"));
    }
    for (name, answered) in answers {
        let mut told = told.get(name.as_str()).cloned().unwrap_or_default();
        if answered.rotates.is_some() {
            told.retain(|of| of.1 != EventAction::KeyRevoked || of.0 == answered.rotates);
        }
        let mut rest = told.clone();
        if answered.may_cut_off {
            rest.retain(|(_, action)| *action != EventAction::KeysCutOff);
        }
        let is_one = |(key, action): &Told, (of, told): &Told| {
            action == told && (key.is_none() || key == of)
        };
        let mut pairs = answered.told.iter().zip(&rest);
        let is_told =
            rest.len() == answered.told.len() && pairs.all(|(one, told)| is_one(one, told));
        let is_so = match answered {
            _ if is_told => told.len() - rest.len() < 2,
            answered if answered.or_nothing => told.is_empty(),
            answered => {
                answered.and_some && rest.iter().all(|one| one.1 == EventAction::KeyRevoked)
            }
        };
        if !is_so {
            return Err(format!("{name} answered {answered:?} and told {told:?}"));
        }
    }
    Ok(told.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_and_events_match() {
    let operations = if IS_ON_DISK { 4_000 } else { 20_000 };
    let operations = size("KEYWARD_OPERATIONS", operations) as usize;
    let mut told = 0;
    for (tasks, faults) in [(1, LOSSES), (1, CONFLICTS), (4, LOSSES), (4, CONFLICTS)] {
        let recorder = Recorder::default();
        let sizes = (tasks, operations / 4 / tasks);
        let played = play(recorder.clone(), &recorder, sizes, faults).await;
        told += played.unwrap();
    }
    assert!(told > operations / 5, "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_bugs_are_caught() {
    for bug in [
        Bug::UpdateIsSilent,
        Bug::NothingIsTold,
        Bug::RetryIsAnew,
        Bug::RetryIsToldAgain,
        Bug::WrongAction,
    ] {
        // Whether a bug shows depends on how the tasks meet: a longer play follows one in which it did not.
        let mut operations = if IS_ON_DISK { 300 } else { 1_000 };
        let mut is_caught = false;
        while !is_caught {
            assert!(operations < 20_000, "{bug:?}");
            let recorder = Recorder::default();
            let broken = Broken::with(bug, recorder.clone());
            let played = play(broken, &recorder, (2, operations), LOSSES).await;
            is_caught = played.is_err();
            operations *= 2;
        }
    }
}
