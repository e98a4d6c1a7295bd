//! Many keys in one call: the answers are those of single imports, and the commits are fewer.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keyward::Keyward;
use keyward::clock::Clock;
use keyward::import::{ImportError, ImportedKey, LegacyDigest};
use keyward::key::{KeyRecord, TenantId};
use keyward::manager::{
    Actor, Ceiling, Limits, ManageError, NewKey, Operation, Policy, PolicyError, Ruling,
    TenantRules,
};
use keyward::store::{CutoffScope, KeyStore, MemoryStore, StoreError};
use keyward::testkit::{Call, Fault, FaultyStore};
use test_support::fixture::{self, Choices};

use crate::common::{
    READ, WRITE, actor, builder, by_digest, clock, imported, legacy, new_key, sha256, tenant,
};

type Row = (NewKey, ImportedKey);
type Answer = Result<KeyRecord, ManageError>;

async fn open(store: impl KeyStore) -> Keyward {
    let builder = fixture::builder(store, clock()).imported_keys(imported([legacy()]));
    builder.open().await.unwrap()
}

fn rows(ids: std::ops::Range<usize>) -> Vec<Row> {
    ids.map(|id| (new_key(), by_digest(&id.to_string())))
        .collect()
}

async fn import(keyward: &Keyward, rows: Vec<Row>) -> Vec<Answer> {
    keyward.manager().import_all(&actor(), rows).await
}

fn imported_count(answers: &[Answer]) -> usize {
    answers.iter().filter(|answer| answer.is_ok()).count()
}

fn already_count(answers: &[Answer]) -> usize {
    let is_already = |answer: &&Answer| matches!(answer, Err(ManageError::AlreadyImported { .. }));
    answers.iter().filter(is_already).count()
}

async fn events(store: &impl KeyStore) -> Vec<String> {
    let log = store.events().unwrap();
    let events = log.read(None, 0, 1_000).await.unwrap();
    events.iter().map(|sealed| sealed.event.to_line()).collect()
}

#[tokio::test]
async fn a_commit_holds_sixteen_rows() {
    let store = FaultyStore::over(MemoryStore::new());
    let keyward = open(store.clone()).await;
    let before = store.calls(Call::Commit);
    assert_eq!(imported_count(&import(&keyward, rows(0..100)).await), 100);
    assert_eq!(store.calls(Call::Commit) - before, 7);
    assert_eq!(events(&store).await.len(), 100, "each with its event");
    assert!(import(&keyward, Vec::new()).await.is_empty());
}

#[tokio::test]
async fn a_bad_row_keeps_no_other_out() {
    let store = MemoryStore::new();
    let keyward = open(store.clone()).await;
    let mut rows = rows(0..40);
    rows[3].1 = ImportedKey::digest("legacy", "a.b", sha256());
    rows[17].1 = ImportedKey::digest("unknown", "17", sha256());
    rows[18].0 = NewKey::new(tenant(), "", READ);
    rows[30] = (new_key(), by_digest("29"));
    let answers = import(&keyward, rows).await;
    assert_eq!(answers.len(), 40);
    for (number, answer) in answers.iter().enumerate() {
        let is_as_expected = match number {
            3 => matches!(answer, Err(ManageError::Import(ImportError::Id))),
            17 => matches!(answer, Err(ManageError::Import(ImportError::UnknownFormat))),
            18 => matches!(answer, Err(ManageError::Invalid(_))),
            30 => matches!(answer, Err(ManageError::AlreadyImported { .. })),
            _ => {
                let id = keyward.manager().imported_id("legacy", &number.to_string());
                answer.as_ref().unwrap().id() == id.unwrap()
            }
        };
        assert!(is_as_expected, "{number}: {answer:?}");
    }
    assert_eq!(events(&store).await.len(), 36);
}

#[tokio::test]
async fn a_repeated_call_changes_nothing() {
    let store = FaultyStore::over(MemoryStore::new());
    let keyward = open(store.clone()).await;
    import(&keyward, rows(0..20)).await;
    let answers = import(&keyward, rows(0..50)).await;
    assert_eq!(
        (already_count(&answers), imported_count(&answers)),
        (20, 30)
    );
    let (logged, before) = (events(&store).await, store.calls(Call::Commit));
    let answers = import(&keyward, rows(0..50)).await;
    assert_eq!(already_count(&answers), 50);
    assert_eq!(events(&store).await, logged);
    // One failed commit for sixteen rows, and none for each.
    assert_eq!(store.calls(Call::Commit) - before, 4);
}

#[tokio::test]
async fn a_failed_commit_can_be_repeated() {
    for fault in [Fault::Unavailable, Fault::Indeterminate, Fault::LostAnswer] {
        let store = FaultyStore::over(MemoryStore::new());
        let opened = {
            let keyward = open(store.clone()).await;
            drop(keyward);
            store.calls(Call::Commit)
        };
        // The second commit of the import, each time that it is tried.
        let faulty = store.on(Call::Commit, opened * 2 + 1..opened * 2 + 4, fault);
        let keyward = open(faulty.clone()).await;
        let answers = import(&keyward, rows(0..48)).await;
        assert_eq!(imported_count(&answers[..16]), 16);
        for (number, answer) in answers.iter().enumerate().skip(16) {
            let Err(ManageError::Store(error)) = answer else {
                panic!("{number}: {answer:?}");
            };
            let is_tried = number < 32 && fault != Fault::Unavailable;
            match error {
                StoreError::Indeterminate(_) => assert!(is_tried),
                StoreError::Unavailable(_) => assert!(!is_tried),
                other => panic!("{other}"),
            }
        }
        faulty.heal();
        let again = import(&keyward, rows(0..48)).await;
        assert_eq!(already_count(&again) + imported_count(&again), 48);
        assert_eq!(events(&faulty).await.len(), 48, "{fault:?}");
    }
}

#[tokio::test]
async fn taken_ids_count_for_each_row() {
    let store = MemoryStore::new();
    let keyward = open(store).await;
    import(&keyward, rows(0..150)).await;
    let other = TenantId::new("another").unwrap();
    let theirs = |id: usize| {
        (
            NewKey::new(other.clone(), "k", READ),
            by_digest(&id.to_string()),
        )
    };
    let guesses: Vec<_> = (0..300).map(theirs).collect();
    let answers = import(&keyward, guesses).await;
    let taken = |answer: &&Answer| matches!(answer, Err(ManageError::IdTaken { .. }));
    assert_eq!(answers.iter().filter(taken).count(), 100);
    for answer in answers.iter().skip(150) {
        assert!(
            matches!(answer, Err(ManageError::TooManyLookups)),
            "{answer:?}"
        );
    }
}

/// Refuses titles, and counts what it was asked.
#[derive(Debug, Clone, Default)]
struct ByTitle(Arc<AtomicU64>);

#[keyward::async_trait]
impl Policy for ByTitle {
    async fn rule(&self, _: &Actor, asked: &Operation<'_>) -> Result<Ruling, PolicyError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        match asked {
            Operation::Import { key, .. } if key.title == "refused" => Ok(Ruling::Refuse),
            Operation::Import { key, .. } if key.title == "unknown" => {
                Err(PolicyError::new("no answer"))
            }
            _ => Ok(Ruling::Allow),
        }
    }
}

async fn with_rules(store: &MemoryStore, policy: &ByTitle) -> Keyward {
    let cap = TenantRules::new().max_keys(NonZeroU32::new(20).unwrap());
    let builder = builder(store, &clock()).imported_keys(imported([legacy()]));
    let builder = builder.tenant_rules(cap).policy(policy.clone());
    builder.open().await.unwrap()
}

fn any_row(choices: &mut Choices) -> Row {
    let tenant = TenantId::new(["a", "b"][choices.below(2)]).unwrap();
    let title = ["k", "k", "k", "k", "refused", "unknown", ""][choices.below(7)];
    let access = if choices.chance(8) { WRITE } else { READ };
    let id = choices.below(60).to_string();
    let digest = if choices.chance(6) {
        LegacyDigest::sha256(&"0".repeat(64)).unwrap()
    } else {
        sha256()
    };
    let format = if choices.chance(12) {
        "unknown"
    } else {
        "legacy"
    };
    (
        NewKey::new(tenant, title, access),
        ImportedKey::digest(format, &id, digest),
    )
}

/// Planted bugs that this catches: a cap that leaves a place for one row of a commit; one row's answer for all rows
/// of its commit.
#[tokio::test]
async fn answers_are_those_of_single_imports() {
    let limited = Ceiling::Limited(Limits::new(READ));
    let a = TenantId::new("a").unwrap();
    let actors = [
        Actor::system("migration"),
        Actor::user("alice", a, limited).unwrap(),
    ];
    for seed in 0..60 {
        let mut choices = Choices::new(seed);
        let (one, many) = (MemoryStore::new(), MemoryStore::new());
        let (asked_one, asked_many) = (ByTitle::default(), ByTitle::default());
        let singly = with_rules(&one, &asked_one).await;
        let together = with_rules(&many, &asked_many).await;
        for _ in 0..3 {
            let migration = &actors[choices.below(2)];
            let rows: Vec<_> = (0..choices.below(50))
                .map(|_| any_row(&mut choices))
                .collect();
            let mut expected = Vec::new();
            for (key, imported) in rows.clone() {
                expected.push(singly.manager().import(migration, key, imported).await);
            }
            let answers = together.manager().import_all(migration, rows).await;
            let shown = |answers: &[Answer]| -> Vec<String> {
                let one = |answer: &Answer| match answer {
                    Ok(record) => format!("{record:?}"),
                    Err(error) => format!("{error:?}"),
                };
                answers.iter().map(one).collect()
            };
            assert_eq!(shown(&answers), shown(&expected), "seed {seed}");
        }
        assert_eq!(events(&many).await, events(&one).await, "seed {seed}");
        let counts = [asked_one, asked_many].map(|asked| asked.0.load(Ordering::SeqCst));
        assert_eq!(counts[0], counts[1], "the policy is asked for each row");
    }
}

#[tokio::test]
async fn no_row_hides_behind_a_later_one() {
    let store = MemoryStore::new();
    let keyward = open(store.clone()).await;
    let now = clock().now().unwrap();
    let at = |seconds: u64| now - Duration::from_secs(seconds);
    let (manager, actor) = (keyward.manager(), actor());
    let cutoff = manager.deny_issued_before(&actor, at(500), CutoffScope::All);
    cutoff.await.unwrap();
    let issued = [10, 1_000, 20].into_iter().enumerate();
    let rows = issued.map(|(id, age)| {
        let imported = by_digest(&id.to_string()).issued_at(at(age));
        (new_key(), imported)
    });
    let answers = import(&keyward, rows.collect()).await;
    assert!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
    assert!(
        matches!(answers[1], Err(ManageError::CutOff)),
        "{answers:?}"
    );
}
