//! Issuing, listing and revoking keys, as a host does it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward::audit::{ChainHead, EventAction, verify_chain};
use keyward::clock::Clock;
use keyward::key::{
    Access, KeyFormat, KeyId, KeyStatus, Metadata, Networks, Principal, Quota, Resource, Resources,
    RevokeReason, Scope, TenantId, ValueError,
};
use keyward::manager::{
    Actor, AllowAll, Ceiling, InvalidKey, Issued, KeyQuery, Limits, ManageError, NewKey, Operation,
    PageCursor, PageCursorError, Policy, PolicyError, Ruling, TenantRules,
};
use keyward::store::{CutoffScope, KeyStore, ListQuery, MemoryStore};
use keyward::testkit::ManualClock;
use keyward::time::OffsetDateTime;
use keyward::verifier::{Attempt, DenialClass, DenialReason, Requirement};
use keyward::{Builder, Keyward, scope};
use serde_json::json;

const READ: Scope = scope!("read:editions");

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

fn system() -> Actor {
    Actor::system("test")
}

fn clock() -> ManualClock {
    ManualClock::new(OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap())
}

fn builder(store: &MemoryStore, clock: &ManualClock) -> Builder {
    Keyward::builder(store.clone())
        .format(KeyFormat::new("acme").unwrap().environment("test").unwrap())
        .scopes([READ.described("Read")])
        .policy(AllowAll)
        .clock(clock.clone())
}

async fn keyward() -> (Keyward, MemoryStore, ManualClock) {
    let (store, clock) = (MemoryStore::new(), clock());
    let keyward = builder(&store, &clock).open().await.unwrap();
    (keyward, store, clock)
}

async fn issue(keyward: &Keyward, owner: &TenantId, title: &str) -> Issued {
    let key = NewKey::new(owner.clone(), title, READ);
    keyward.manager().issue(&system(), key).await.unwrap()
}

#[tokio::test]
async fn a_new_key_is_kept_as_asked() {
    let (keyward, _, clock) = keyward().await;
    let now = clock.now().unwrap();
    let quota = Quota::new(
        "minute",
        NonZeroU32::new(60).unwrap(),
        Duration::from_secs(60),
    )
    .unwrap();
    let resources = Resources::only([Resource::new("project", "p1").unwrap()]).unwrap();
    let networks = Networks::only(["::ffff:10.0.0.0/104".parse().unwrap()]).unwrap();
    let owner = Principal::integration("power-bi").unwrap();
    let metadata = Metadata::try_from(json!({"ticket": "OPS-7"})).unwrap();
    let asked = NewKey::new(tenant("t"), "  Nightly ETL ", READ)
        .owner(owner.clone())
        .resources(resources.clone())
        .networks(networks.clone())
        .quota(quota.clone())
        .concurrency(NonZeroU32::new(5).unwrap())
        .metadata(metadata.clone())
        .not_before(now + Duration::from_secs(10))
        .expires_in(Duration::from_secs(3_600));
    let issued = keyward.manager().issue(&system(), asked).await.unwrap();
    let id = issued.record().id();
    let record = keyward
        .manager()
        .get(&system(), &tenant("t"), id)
        .await
        .unwrap();
    assert_eq!(record, *issued.record());
    assert_eq!(record.title().as_str(), "Nightly ETL");
    assert_eq!(record.owner(), &owner);
    assert_eq!(record.created_by(), &Principal::system("test").unwrap());
    assert_eq!(record.access(), &Access::from(READ));
    assert_eq!(
        (record.resources(), record.networks()),
        (&resources, &networks)
    );
    assert_eq!(record.networks().to_string(), "10.0.0.0/8");
    assert_eq!(record.quotas(), [quota]);
    assert_eq!(record.concurrency().map(NonZeroU32::get), Some(5));
    assert_eq!(record.metadata(), &metadata);
    assert_eq!((record.revision(), record.lineage()), (1, id));
    assert_eq!(record.environment().as_str(), "test");
    assert_eq!(record.status(now), KeyStatus::NotYetValid);
    assert_eq!(
        record.status(now + Duration::from_secs(10)),
        KeyStatus::Active
    );
    assert_eq!(
        record.status(now + Duration::from_secs(3_600)),
        KeyStatus::Expired
    );
    assert_eq!(record.display_prefix(), issued.api_key().display_prefix());

    let view = serde_json::to_value(record.view(now)).unwrap();
    assert_eq!(view["status"], "not_yet_valid");
    assert_eq!(view["created_at"], "2027-01-15T08:00:00Z");
    assert_eq!(view["owner"], "integration:power-bi");
    assert!(view.get("digest").is_none());
}

#[tokio::test]
async fn defaults_grant_nothing_more() {
    let (keyward, ..) = keyward().await;
    let issued = issue(&keyward, &tenant("t"), "plain").await;
    let record = issued.record();
    assert_eq!(record.access(), &Access::from(READ));
    assert_eq!((record.expires_at(), record.not_before()), (None, None));
    assert_eq!(
        (record.resources(), record.networks()),
        (&Resources::Any, &Networks::Any)
    );
    assert_eq!(record.owner(), system().principal());
    assert!(
        Access::scopes([]).is_err(),
        "a key without access cannot be asked for"
    );
}

/// As much of a key as a scope can be long.
fn scope_of_key(text: &str) -> Scope {
    text[..Scope::MAX_LENGTH].parse().unwrap()
}

#[tokio::test]
async fn an_invalid_key_is_not_issued() {
    let (keyward, store, clock) = keyward().await;
    let quota = |name: &str| {
        let window = Duration::from_secs(60);
        Quota::new(name, NonZeroU32::MIN, window).unwrap()
    };
    let new = |title: &str| NewKey::new(tenant("t"), title, READ);
    let key = issue(&keyward, &tenant("other"), "other").await;
    let refuse = async |key: NewKey| match keyward.manager().issue(&system(), key).await {
        Err(ManageError::Invalid(why)) => why,
        other => panic!("{other:?}"),
    };
    for title in ["", "   ", "\t\n"] {
        assert!(matches!(
            refuse(new(title)).await,
            InvalidKey::Title(ValueError::Empty { .. })
        ));
    }
    let long = "x".repeat(101);
    assert!(matches!(
        refuse(new(&long)).await,
        InvalidKey::Title(ValueError::TooLarge { .. })
    ));
    for title in ["a\nb", "a\0b", "a\u{202e}b", "\u{7}"] {
        assert!(matches!(
            refuse(new(title)).await,
            InvalidKey::Title(ValueError::Character { .. })
        ));
    }
    let text = key.api_key().expose();
    let pasted = format!("my key {text}");
    let broken = format!("{}-{}", &text[..20], &text[20..]);
    let notes = Metadata::try_from(json!({"notes": [pasted.clone()]})).unwrap();
    let cut = scope_of_key(text);
    let project = Resource::new("project", text).unwrap();
    let whose = TenantId::new(text).unwrap();
    for (holds, expected) in [
        (NewKey::new(whose, "k", READ), "tenant"),
        (NewKey::new(tenant("t"), "k", [READ, cut]), "scope"),
        (new("k").resources(project), "resource"),
        (new(&pasted), "title"),
        (new(&broken), "title"),
        (new("k").owner(Principal::user(text).unwrap()), "owner"),
        (new("k").metadata(notes), "metadata"),
    ] {
        let why = refuse(holds).await;
        assert!(
            matches!(why, InvalidKey::HoldsKey { field } if field == expected),
            "{why:?}"
        );
    }

    let undeclared = NewKey::new(tenant("t"), "k", [READ, scope!("delete:all")]);
    let why = refuse(undeclared).await;
    assert!(matches!(why, InvalidKey::UndeclaredScope(scope) if scope.as_str() == "delete:all"));
    let recased = NewKey::new(tenant("t"), "k", scope!("READ:editions"));
    assert!(matches!(
        refuse(recased).await,
        InvalidKey::UndeclaredScope(_)
    ));

    assert!(matches!(
        refuse(new("k").environment("live")).await,
        InvalidKey::Format(_)
    ));
    assert!(matches!(
        refuse(new("k").environment("")).await,
        InvalidKey::Format(_)
    ));
    let past = clock.now().unwrap() - Duration::from_secs(1);
    assert!(matches!(
        refuse(new("k").expires_at(past)).await,
        InvalidKey::Expired
    ));
    let twice = new("k").quota(quota("a")).quota(quota("a"));
    assert!(matches!(refuse(twice).await, InvalidKey::RepeatedQuota(_)));
    let many = (0..9).fold(new("k"), |key, n| key.quota(quota(&format!("q{n}"))));
    assert!(matches!(refuse(many).await, InvalidKey::TooManyQuotas));
    let resources = (0..1_001).map(|n| Resource::new("project", &format!("p{n}")).unwrap());
    let many = new("k").resources(Resources::only(resources).unwrap());
    assert!(matches!(refuse(many).await, InvalidKey::TooManyResources));
    let networks = (0..101).map(|n| format!("10.0.{n}.0/24").parse().unwrap());
    let many = new("k").networks(Networks::only(networks).unwrap());
    assert!(matches!(refuse(many).await, InvalidKey::TooManyNetworks));

    assert!(
        store
            .list(&ListQuery::of(&tenant("t")))
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert_eq!(
        store
            .events()
            .unwrap()
            .read(None, 0, 10)
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_name_like_a_prefix_is_allowed() {
    let (keyward, ..) = keyward().await;
    let name = "acme_corp_nightly-snowflake-export-job";
    let key = NewKey::new(tenant("t"), name, READ).owner(Principal::integration(name).unwrap());
    let issued = keyward.manager().issue(&system(), key).await.unwrap();
    assert_eq!(issued.record().title().as_str(), name);

    let pasted = Actor::system(issued.api_key().expose());
    let key = NewKey::new(tenant("t"), "key", READ).owner(Principal::user("alice").unwrap());
    let refused = keyward.manager().issue(&pasted, key).await;
    assert!(matches!(
        refused,
        Err(ManageError::Invalid(InvalidKey::HoldsKey {
            field: "actor"
        }))
    ));
}

#[tokio::test]
async fn the_largest_key_is_kept_whole() {
    let (keyward, ..) = keyward().await;
    let value = "\"".repeat(124); // each takes two bytes in JSON
    let resources =
        (0..1_000).map(|n| Resource::new(&"k".repeat(32), &format!("{value}{n:04}")).unwrap());
    let networks = (0..100).map(|n| format!("2001:db8:{n:x}::/48").parse().unwrap());
    let key = NewKey::new(tenant(&"t".repeat(128)), "é".repeat(100), READ)
        .resources(Resources::only(resources).unwrap())
        .networks(Networks::only(networks).unwrap())
        .metadata(Metadata::try_from(json!({"a": "x".repeat(4_088)})).unwrap());
    let issued = keyward.manager().issue(&system(), key).await.unwrap();
    let need = Requirement::scope(READ).filters(&"k".repeat(32));
    let attempt = Attempt::new(issued.api_key().presented(), &need);
    let attempt = attempt.client("2001:db8:1::1".parse().unwrap());
    let admitted = keyward.verifier().verify(&attempt).await.unwrap();
    assert_eq!(admitted.grant().record(), issued.record());
}

#[tokio::test]
async fn lists_are_newest_first_and_unrevoked() {
    let (keyward, _, clock) = keyward().await;
    let (mine, other) = (tenant("mine"), tenant("other"));
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(
            issue(&keyward, &mine, &format!("key {n}"))
                .await
                .record()
                .id(),
        );
        clock.advance(Duration::from_secs(1));
    }
    issue(&keyward, &other, "not mine").await;
    let manager = keyward.manager();
    let listed = async |query: &KeyQuery| -> Vec<KeyId> {
        let list = manager.list(&system(), query).await.unwrap();
        list.keys.iter().map(keyward::key::KeyRecord::id).collect()
    };
    let newest_first: Vec<_> = ids.iter().rev().copied().collect();
    assert_eq!(listed(&KeyQuery::of(&mine)).await, newest_first);

    for id in [ids[3], ids[1]] {
        manager
            .revoke(&system(), &mine, id, RevokeReason::Requested)
            .await
            .unwrap();
    }
    assert_eq!(listed(&KeyQuery::of(&mine)).await, [ids[4], ids[2], ids[0]]);
    // A key just revoked moves to the bottom, and expiry is never an order.
    let all = KeyQuery::of(&mine).live_first();
    assert_eq!(listed(&all).await, [ids[4], ids[2], ids[0], ids[3], ids[1]]);
    assert!(listed(&KeyQuery::of(&tenant("nobody"))).await.is_empty());
}

#[tokio::test]
async fn pages_keep_their_place() {
    let (keyward, _, clock) = keyward().await;
    let mine = tenant("mine");
    let manager = keyward.manager();
    let mut ids = Vec::new();
    for n in 0..10 {
        // Several keys in the same microsecond: the id decides.
        ids.push(
            issue(&keyward, &mine, &format!("key {n}"))
                .await
                .record()
                .id(),
        );
        if n % 3 == 0 {
            clock.advance(Duration::from_micros(1));
        }
    }
    let whole = manager
        .list(&system(), &KeyQuery::of(&mine).live_first())
        .await
        .unwrap();
    let whole: Vec<_> = whole.keys.iter().map(keyward::key::KeyRecord::id).collect();
    for size in 1..=11 {
        let mut seen = Vec::new();
        let mut query = KeyQuery::of(&mine).live_first().limit(size);
        loop {
            let page = manager.list(&system(), &query).await.unwrap();
            assert!(page.keys.len() <= usize::from(size));
            seen.extend(page.keys.iter().map(keyward::key::KeyRecord::id));
            let Some(next) = page.next else { break };
            let next: PageCursor = next.to_string().parse().unwrap();
            query = KeyQuery::of(&mine)
                .live_first()
                .limit(size)
                .after(next)
                .unwrap();
        }
        assert_eq!(seen, whole, "pages of {size}");
    }

    let first = manager
        .list(&system(), &KeyQuery::of(&mine).live_first().limit(4))
        .await
        .unwrap();
    clock.advance(Duration::from_secs(1));
    issue(&keyward, &mine, "newer").await;
    let (gone, last) = (whole[1], whole[3]);
    for id in [gone, last] {
        manager
            .revoke(&system(), &mine, id, RevokeReason::Requested)
            .await
            .unwrap();
    }
    let after = first.next.unwrap();
    let rest = KeyQuery::of(&mine).live_first().after(after).unwrap();
    let rest = manager.list(&system(), &rest).await.unwrap();
    let rest: Vec<_> = rest.keys.iter().map(keyward::key::KeyRecord::id).collect();
    assert_eq!(rest, [&whole[4..], &[gone, last]].concat());

    assert_eq!(
        KeyQuery::of(&tenant("other")).live_first().after(after),
        Err(PageCursorError::OtherQuery)
    );
    assert_eq!(
        KeyQuery::of(&mine).after(after),
        Err(PageCursorError::OtherQuery)
    );
}

#[tokio::test]
async fn a_revoked_key_stays_revoked() {
    let (keyward, _, clock) = keyward().await;
    let mine = tenant("mine");
    let manager = keyward.manager();
    let issued = issue(&keyward, &mine, "key").await;
    let id = issued.record().id();
    let any = Requirement::any_key();
    let attempt = Attempt::new(issued.api_key().presented(), &any);
    let admitted = keyward.verifier().verify(&attempt).await.unwrap();
    assert_eq!(admitted.grant().key_id(), id);

    let at = clock.now().unwrap();
    let revoked = manager
        .revoke(&system(), &mine, id, RevokeReason::Leaked)
        .await
        .unwrap();
    assert_eq!((revoked.at, &revoked.reason), (at, &RevokeReason::Leaked));
    let denial = keyward.verifier().verify(&attempt).await.unwrap_err();
    let DenialReason::Revoked { at: since, reason } = denial.reason() else {
        panic!("{denial:?}");
    };
    assert_eq!((*since, reason), (at, &RevokeReason::Leaked));

    clock.advance(Duration::from_secs(60));
    let again = manager
        .revoke(&system(), &mine, id, RevokeReason::Requested)
        .await;
    assert!(matches!(again, Err(ManageError::AlreadyRevoked { at: since }) if since == at));
    let record = manager.get(&system(), &mine, id).await.unwrap();
    assert_eq!(record.status(clock.now().unwrap()), KeyStatus::Revoked);
    assert_eq!(record.revocation().unwrap().reason, RevokeReason::Leaked);
    assert_eq!(record.revision(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_revocations_succeed_once() {
    let (keyward, store, _) = keyward().await;
    let mine = tenant("mine");
    for _ in 0..500 {
        let issued = Arc::new(issue(&keyward, &mine, "key").await);
        let is_revoked = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let mut tasks = Vec::new();
        for _ in 0..3 {
            let (keyward, mine, issued) = (keyward.clone(), mine.clone(), Arc::clone(&issued));
            let is_revoked = Arc::clone(&is_revoked);
            tasks.push(tokio::spawn(async move {
                let id = issued.record().id();
                let any = Requirement::any_key();
                let attempt = Attempt::new(issued.api_key().presented(), &any);
                let revoked = keyward
                    .manager()
                    .revoke(&system(), &mine, id, RevokeReason::Leaked)
                    .await;
                is_revoked.store(true, std::sync::atomic::Ordering::SeqCst);
                assert!(keyward.verifier().verify(&attempt).await.is_err());
                revoked.is_ok()
            }));
        }
        let any = Requirement::any_key();
        let attempt = Attempt::new(issued.api_key().presented(), &any);
        for _ in 0..20 {
            let was_revoked = is_revoked.load(std::sync::atomic::Ordering::SeqCst);
            let verdict = keyward.verifier().verify(&attempt).await;
            assert!(
                !(was_revoked && verdict.is_ok()),
                "granted after a revocation returned"
            );
        }
        let mut succeeded = 0;
        for task in tasks {
            succeeded += u32::from(task.await.unwrap());
        }
        assert_eq!(succeeded, 1);
    }
    let events = store.events().unwrap().read(None, 0, 10_000).await.unwrap();
    assert_eq!(
        events.len(),
        1_000,
        "one event for each thing that was done"
    );
    verify_chain(ChainHead::default(), &events).unwrap();
}

#[tokio::test]
async fn foreign_and_unknown_keys_look_alike() {
    let (keyward, ..) = keyward().await;
    let manager = keyward.manager();
    let (mine, other) = (tenant("mine"), tenant("other"));
    let theirs = issue(&keyward, &other, "theirs").await.record().id();
    let nobody = KeyId::from_u128(7);
    let alice = Actor::user("alice", mine.clone(), Ceiling::Unlimited).unwrap();
    for actor in [&alice, &system()] {
        for (tenant, id) in [(&mine, theirs), (&mine, nobody)] {
            let get = manager.get(actor, tenant, id).await.unwrap_err();
            let revoke = manager
                .revoke(actor, tenant, id, RevokeReason::Leaked)
                .await
                .unwrap_err();
            for error in [get, revoke] {
                assert!(matches!(error, ManageError::NotFound));
                assert_eq!(error.to_string(), "there is no such key");
            }
        }
    }
    for id in [theirs, nobody] {
        let error = manager.get(&alice, &other, id).await.unwrap_err();
        assert!(matches!(error, ManageError::NotFound));
        let error = manager
            .revoke(&alice, &other, id, RevokeReason::Leaked)
            .await
            .unwrap_err();
        assert!(matches!(error, ManageError::NotFound));
    }
    let list = manager.list(&alice, &KeyQuery::of(&other)).await;
    assert!(matches!(list, Err(ManageError::Refused)));
    let issued = manager
        .issue(&alice, NewKey::new(other.clone(), "k", READ))
        .await;
    assert!(matches!(issued, Err(ManageError::Refused)));
    assert!(
        manager
            .get(&system(), &other, theirs)
            .await
            .unwrap()
            .revocation()
            .is_none()
    );
}

#[tokio::test]
async fn the_policy_is_asked_first() {
    #[derive(Debug, Clone, Default)]
    struct Asked(Arc<Mutex<Vec<String>>>);
    #[async_trait::async_trait]
    impl Policy for Asked {
        async fn rule(
            &self,
            actor: &Actor,
            operation: &Operation<'_>,
        ) -> Result<Ruling, PolicyError> {
            let kind = match operation {
                Operation::Issue { key } => {
                    assert_eq!(
                        key.environment.as_deref(),
                        Some("test"),
                        "a policy sees it all"
                    );
                    assert_eq!(key.owner, Some(Principal::system("root").unwrap()));
                    "issue"
                }
                Operation::Get { .. } => "get",
                Operation::List { .. } => "list",
                Operation::Revoke { .. } => "revoke",
                _ => "other",
            };
            let line = format!(
                "{} {kind} {}",
                actor.principal(),
                operation.tenant().unwrap()
            );
            self.0.lock().unwrap().push(line);
            Ok(Ruling::Refuse)
        }
    }
    let (store, clock, asked) = (MemoryStore::new(), clock(), Asked::default());
    let open = builder(&store, &clock).open().await.unwrap();
    let id = issue(&open, &tenant("t"), "key").await.record().id();
    let keyward = builder(&store, &clock)
        .policy(asked.clone())
        .open()
        .await
        .unwrap();
    let manager = keyward.manager();
    let t = tenant("t");
    let key = NewKey::new(t.clone(), "", scope!("undeclared"))
        .environment("test")
        .owner(Principal::system("root").unwrap());
    assert!(matches!(
        manager.issue(&system(), key).await,
        Err(ManageError::Refused)
    ));
    for id in [id, KeyId::from_u128(1)] {
        assert!(matches!(
            manager.get(&system(), &t, id).await,
            Err(ManageError::Refused)
        ));
        let revoked = manager
            .revoke(&system(), &t, id, RevokeReason::Leaked)
            .await;
        assert!(matches!(revoked, Err(ManageError::Refused)));
    }
    assert!(matches!(
        manager.list(&system(), &KeyQuery::of(&t)).await,
        Err(ManageError::Refused)
    ));
    let expected = ["issue", "get", "revoke", "get", "revoke", "list"];
    let expected = expected.map(|kind| format!("system:test {kind} t"));
    assert_eq!(*asked.0.lock().unwrap(), expected);
}

#[tokio::test]
async fn each_change_commits_with_its_event() {
    let (keyward, store, clock) = keyward().await;
    let t = tenant("t");
    let actor = Actor::user("alice", t.clone(), Ceiling::Unlimited)
        .unwrap()
        .in_request("req-1\nforged")
        .from_address("::ffff:203.0.113.7".parse().unwrap());
    let key = NewKey::new(t.clone(), "Power BI", READ).expires_in(Duration::from_secs(60));
    let issued = keyward.manager().issue(&actor, key).await.unwrap();
    let id = issued.record().id();
    keyward
        .manager()
        .revoke(&actor, &t, id, RevokeReason::Leaked)
        .await
        .unwrap();
    let log = store.events().unwrap();
    let events = log.read(Some(&t), 0, 10).await.unwrap();
    assert!(
        log.read(Some(&tenant("other")), 0, 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(log.read(None, 1, 10).await.unwrap(), events[1..]);
    let actions: Vec<_> = events.iter().map(|sealed| sealed.event.action).collect();
    assert_eq!(actions, [EventAction::KeyIssued, EventAction::KeyRevoked]);
    for (sealed, number) in events.iter().zip(1..) {
        let event = &sealed.event;
        assert_eq!((sealed.number, event.key), (number, Some(id)));
        assert_eq!(event.actor.to_string(), "user:alice");
        assert_eq!(event.request.as_deref(), Some("req-1?forged"));
        assert_eq!(event.client, Some("203.0.113.7".parse().unwrap()));
        assert_eq!(
            (event.at, event.title.as_ref().unwrap().as_str()),
            (clock.now().unwrap(), "Power BI")
        );
    }
    let changed = |index: usize, field: &str| {
        let changes = &events[index].event.changes;
        changes
            .iter()
            .find(|change| change.field == field)
            .unwrap()
            .to
            .clone()
            .unwrap()
    };
    assert_eq!(changed(0, "access"), "read:editions");
    assert_eq!(changed(0, "expires_at"), "2027-01-15T08:01:00Z");
    assert_eq!(changed(1, "revoked"), "leaked");
    verify_chain(ChainHead::default(), &events).unwrap();
}

#[tokio::test]
async fn a_reason_is_one_line_without_a_key() {
    let (keyward, store, _) = keyward().await;
    let (t, manager) = (tenant("t"), keyward.manager());
    for (words, kept) in [
        (
            "found in a public repository",
            "found in a public repository",
        ),
        ("two\nlines", "unreadable"),
        ("", "unreadable"),
        ("leaked", "leaked"),
    ] {
        let asked = RevokeReason::other(words).map(|reason| reason.as_str().to_owned());
        assert_eq!(
            asked.ok().as_deref(),
            (kept != "unreadable").then_some(kept)
        );
        let words = RevokeReason::from_stored(words); // as a store may hold it
        let id = issue(&keyward, &t, "key").await.record().id();
        let revoked = manager.revoke(&system(), &t, id, words).await.unwrap();
        assert_eq!(revoked.reason.as_str(), kept);
    }
    let issued = issue(&keyward, &t, "key").await;
    let (text, id) = (issued.api_key().expose(), issued.record().id());
    let reason = RevokeReason::other(&format!("found {text}")).unwrap();
    let curious = system().in_request(&format!("GET/?key={text}"));
    let revoked = manager.revoke(&curious, &t, id, reason).await.unwrap();
    let masked = format!("found {}[redacted]", issued.api_key().display_prefix());
    assert_eq!(revoked.reason.as_str(), masked);
    let record = manager.get(&system(), &t, id).await.unwrap();
    assert_eq!(record.revocation().unwrap().reason.as_str(), masked);
    for sealed in store.events().unwrap().read(None, 0, 100).await.unwrap() {
        assert!(
            !sealed
                .event
                .to_line()
                .contains(issued.api_key().expose_secret())
        );
    }
}

#[tokio::test]
async fn a_key_works_from_its_networks_only() {
    let (keyward, ..) = keyward().await;
    let networks = ["203.0.113.0/24", "2001:db8::/32"].map(|text| text.parse().unwrap());
    let key = NewKey::new(tenant("t"), "key", READ).networks(Networks::only(networks).unwrap());
    let issued = keyward.manager().issue(&system(), key).await.unwrap();
    let any = Requirement::any_key();
    for (client, is_good) in [
        ("203.0.113.7", true),
        ("::ffff:203.0.113.7", true),
        ("2001:db8:1::1", true),
        ("203.0.114.7", false),
        ("::ffff:203.0.114.7", false),
        ("::203.0.113.7", false),
        ("2001:db9::1", false),
        ("::1", false),
    ] {
        let attempt = Attempt::new(issued.api_key().presented(), &any);
        let attempt = attempt.client(client.parse().unwrap());
        match keyward.verifier().verify(&attempt).await {
            Ok(_) => assert!(is_good, "{client}"),
            Err(denial) => {
                assert!(!is_good, "{client}");
                assert!(matches!(denial.reason(), DenialReason::OutsideNetworks));
                assert_eq!(denial.class().status(), 401);
            }
        }
    }
    let unknown = Attempt::new(issued.api_key().presented(), &any);
    let denial = keyward.verifier().verify(&unknown).await.unwrap_err();
    assert!(matches!(denial.reason(), DenialReason::AddressUnknown));
}

#[tokio::test]
async fn concurrency_is_limited_per_key() {
    let (keyward, ..) = keyward().await;
    let verifier = keyward.verifier();
    let two = NewKey::new(tenant("t"), "two", READ).concurrency(NonZeroU32::new(2).unwrap());
    let two = keyward.manager().issue(&system(), two).await.unwrap();
    let any = Requirement::any_key();
    let attempt = Attempt::new(two.api_key().presented(), &any);
    let first = verifier.verify(&attempt).await.unwrap();
    let (grant, permit) = verifier.verify(&attempt).await.unwrap().into_parts();
    for _ in 0..3 {
        let denial = verifier.verify(&attempt).await.unwrap_err();
        assert!(matches!(denial.reason(), DenialReason::TooManyInFlight));
        assert_eq!(denial.class().status(), 429);
    }
    // A refusal for another reason takes no place, and the grant alone holds none.
    let write = Requirement::full_access();
    let forbidden = Attempt::new(two.api_key().presented(), &write);
    assert_eq!(
        verifier
            .verify(&forbidden)
            .await
            .unwrap_err()
            .class()
            .status(),
        403
    );
    drop(permit);
    assert_eq!(grant.key_id(), two.record().id());
    let third = verifier.verify(&attempt).await.unwrap();
    assert!(verifier.verify(&attempt).await.is_err());
    drop((first, third));
    assert!(verifier.verify(&attempt).await.is_ok());

    let free = issue(&keyward, &tenant("t"), "free").await;
    let attempt = Attempt::new(free.api_key().presented(), &any);
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(verifier.verify(&attempt).await.unwrap());
    }
}

#[tokio::test]
async fn a_cutoff_ends_earlier_keys() {
    use keyward::store::{Change, ChangeId, ChangeSet};
    let (keyward, store, clock) = keyward().await;
    let mine = tenant("mine");
    let old = issue(&keyward, &mine, "old").await;
    let others = issue(&keyward, &tenant("other"), "another tenant's").await;
    clock.advance(Duration::from_secs(1));
    let cutoff = Change::Cutoff {
        scope: CutoffScope::from(&mine),
        before: clock.now().unwrap(),
    };
    let set = ChangeSet::one(ChangeId::generate(&keyward::random::OsRandom), cutoff);
    store.commit(&set).await.unwrap();
    let new = issue(&keyward, &mine, "new").await;
    let any = Requirement::any_key();
    let verify = async |key: &Issued| {
        let attempt = Attempt::new(key.api_key().presented(), &any);
        keyward.verifier().verify(&attempt).await
    };
    let denial = verify(&old).await.unwrap_err();
    assert!(matches!(denial.reason(), DenialReason::CutOff));
    assert_eq!(denial.class().status(), 401);
    assert!(verify(&others).await.is_ok() && verify(&new).await.is_ok());
    let id = old.record().id();
    let record = keyward.manager().get(&system(), &mine, id).await.unwrap();
    assert_eq!(record.status(clock.now().unwrap()), KeyStatus::Revoked);
}

#[tokio::test]
async fn metadata_numbers_keep_every_digit() {
    let (keyward, ..) = keyward().await;
    let any = Requirement::any_key();
    let numbers: Vec<f64> = (0..150_i32)
        .map(|n| (1.0 + f64::from(n) / 7.0).powi(n) * 1.715_373_926_432e-100)
        .collect();
    let mut padding = 0;
    let fits = |padding: usize| {
        Metadata::try_from(json!({"numbers": numbers, "padding": "x".repeat(padding)}))
    };
    while fits(padding + 1).is_ok() {
        padding += 1;
    }
    let key = NewKey::new(tenant("t"), "key", READ).metadata(fits(padding).unwrap());
    let issued = keyward.manager().issue(&system(), key).await.unwrap();
    let attempt = Attempt::new(issued.api_key().presented(), &any);
    let admitted = keyward.verifier().verify(&attempt).await.unwrap();
    assert_eq!(admitted.grant().record(), issued.record());
}

#[tokio::test]
async fn a_tenant_stays_within_its_cap() {
    let (store, clock) = (MemoryStore::new(), clock());
    let limit = NonZeroU32::new(3).unwrap();
    let keyward = builder(&store, &clock)
        .tenant_rules(TenantRules::new().max_keys(limit))
        .open()
        .await
        .unwrap();
    let (t, manager) = (tenant("t"), keyward.manager());
    let mut tasks = Vec::new();
    for n in 0..20 {
        let (keyward, t) = (keyward.clone(), t.clone());
        tasks.push(tokio::spawn(async move {
            let key = NewKey::new(t, format!("key {n}"), READ);
            keyward.manager().issue(&system(), key).await
        }));
    }
    let mut issued = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(key) => issued.push(key.record().id()),
            Err(error) => assert!(matches!(error, ManageError::TenantFull)),
        }
    }
    assert_eq!(issued.len(), 3);
    issue(&keyward, &tenant("other"), "another tenant's").await;
    manager
        .revoke(&system(), &t, issued[0], RevokeReason::Requested)
        .await
        .unwrap();
    issue(&keyward, &t, "in its place").await;
    let key = NewKey::new(t.clone(), "one more", READ);
    assert!(matches!(
        manager.issue(&system(), key).await,
        Err(ManageError::TenantFull)
    ));
}

#[tokio::test]
async fn an_unreadable_key_can_be_revoked() {
    use keyward::store::{Change, ChangeId, ChangeSet};
    let (keyward, store, _) = keyward().await;
    let (t, manager) = (tenant("t"), keyward.manager());
    let good = issue(&keyward, &t, "good").await.record().id();
    let bad = issue(&keyward, &t, "bad").await.record().id();
    let mut stored = store.get(bad).await.unwrap().unwrap();
    stored.document = b"nonsense".as_slice().into();
    let replace = Change::Replace {
        expected: 1,
        with: Box::new(stored),
    };
    let set = ChangeSet::one(ChangeId::generate(&keyward::random::OsRandom), replace);
    store.commit(&set).await.unwrap();

    let list = manager.list(&system(), &KeyQuery::of(&t)).await.unwrap();
    assert_eq!(
        list.keys
            .iter()
            .map(keyward::key::KeyRecord::id)
            .collect::<Vec<_>>(),
        [good]
    );
    assert_eq!(list.unreadable, [bad]);
    assert!(matches!(
        manager.get(&system(), &t, bad).await,
        Err(ManageError::Unreadable(_))
    ));
    manager
        .revoke(&system(), &t, bad, RevokeReason::Leaked)
        .await
        .unwrap();
    assert!(store.get(bad).await.unwrap().unwrap().revocation.is_some());
}

#[tokio::test]
async fn the_environment_can_be_chosen() {
    let format = KeyFormat::new("acme").unwrap().environment("live").unwrap();
    let keyward = Keyward::builder(MemoryStore::new())
        .format(
            format
                .environment("test")
                .unwrap()
                .secret_length(64)
                .unwrap(),
        )
        .scopes([READ.described("Read")])
        .policy(AllowAll)
        .open()
        .await
        .unwrap();
    for (asked, environment) in [(None, "live"), (Some("test"), "test")] {
        let mut key = NewKey::new(tenant("t"), "key", Access::Full);
        if let Some(name) = asked {
            key = key.environment(name);
        }
        let issued = keyward.manager().issue(&system(), key).await.unwrap();
        let text = issued.api_key().expose();
        assert!(text.starts_with(&format!("acme_{environment}_")));
        assert_eq!(issued.api_key().expose_secret().len(), 64);
        let any = Requirement::any_key();
        let attempt = Attempt::new(issued.api_key().presented(), &any);
        assert!(keyward.verifier().verify(&attempt).await.is_ok());
    }
}

#[tokio::test]
async fn full_access_exceeds_any_scope() {
    let admin = scope!("admin");
    let (store, clock) = (MemoryStore::new(), clock());
    let keyward = builder(&store, &clock)
        .scopes([
            admin.clone().described("All").implies_all(),
            scope!("write").described(""),
        ])
        .open()
        .await
        .unwrap();
    let write = scope!("write");
    let needs = [
        Requirement::any_key(),
        Requirement::scope(READ),
        Requirement::scope(READ.and(write.clone())),
        Requirement::scope(READ.or(write.clone())),
        Requirement::full_access(),
        Requirement::scope(scope!("undeclared")),
    ];
    for (access, expected) in [
        (Access::Full, [true, true, true, true, true, true]),
        (admin.into(), [true, true, true, true, false, false]),
        (READ.into(), [true, true, false, true, false, false]),
        (
            write.clone().into(),
            [true, false, false, true, false, false],
        ),
        ([READ, write].into(), [true, true, true, true, false, false]),
    ] {
        let key = NewKey::new(tenant("t"), "key", access.clone());
        let issued = keyward.manager().issue(&system(), key).await.unwrap();
        for (need, expected) in needs.iter().zip(expected) {
            let attempt = Attempt::new(issued.api_key().presented(), need);
            let verdict = keyward.verifier().verify(&attempt).await;
            assert_eq!(verdict.is_ok(), expected, "{access} for {need:?}");
        }
    }
    let verifier = keyward.verifier();
    assert!(
        verifier
            .prepare(Requirement::scope(READ).filters("project"))
            .is_ok()
    );
    assert!(
        verifier
            .prepare(Requirement::scope(scope!("read:edition")))
            .is_err()
    );
    assert!(
        verifier
            .prepare(Requirement::any_key().resource("Project"))
            .is_err()
    );
}

#[tokio::test]
async fn undeclared_scopes_are_named() {
    let write = scope!("write:editions").described("Write");
    let builder = builder(&MemoryStore::new(), &clock()).scopes([write]);
    let keyward = builder.open().await.unwrap();
    let issued = issue(&keyward, &tenant("t"), "key").await;
    let [misspelt, write] = [scope!("read:edition"), scope!("write:editions")];
    for (rule, names) in [
        (misspelt.clone().into(), true),
        (READ.and(misspelt.clone()), true),
        (write.clone().or(misspelt.clone()), true),
        (write.into(), false),
    ] {
        let need = Requirement::scope(rule);
        let attempt = Attempt::new(issued.api_key().presented(), &need);
        let denial = keyward.verifier().verify(&attempt).await.unwrap_err();
        assert_eq!(denial.class(), DenialClass::Forbidden);
        let named = match denial.reason() {
            DenialReason::UndeclaredScope(scope) => Some(scope),
            _ => None,
        };
        assert_eq!(named, names.then_some(&misspelt), "{need:?}");
    }
    let either = Requirement::scope(READ.or(misspelt));
    let attempt = Attempt::new(issued.api_key().presented(), &either);
    assert!(keyward.verifier().verify(&attempt).await.is_ok());
}

#[tokio::test]
async fn nothing_is_assumed_when_opening() {
    use keyward::OpenError;
    let format = || KeyFormat::new("acme").unwrap().environment("live").unwrap();
    let none = Keyward::builder(MemoryStore::new())
        .policy(AllowAll)
        .open()
        .await;
    assert!(matches!(none, Err(OpenError::NoFormat)));
    let none = Keyward::builder(MemoryStore::new())
        .format(format())
        .open()
        .await;
    assert!(matches!(none, Err(OpenError::NoPolicy)));
    let twice = Keyward::builder(MemoryStore::new())
        .format(format())
        .policy(AllowAll)
        .scopes([READ.described("a"), READ.described("b")]);
    assert!(matches!(twice.open().await, Err(OpenError::Catalog(_))));
}

#[tokio::test]
async fn the_exceeded_axis_is_named() {
    let (keyward, ..) = keyward().await;
    let limits = Limits::new(READ).concurrency(NonZeroU32::new(5).unwrap());
    let alice = Actor::user("alice", tenant("t"), Ceiling::Limited(limits)).unwrap();
    for (key, message) in [
        (
            NewKey::new(tenant("t"), "k", Access::Full).concurrency(NonZeroU32::MIN),
            "the key exceeds what the actor may grant: access",
        ),
        (
            NewKey::new(tenant("t"), "k", READ),
            "the key exceeds what the actor may grant: concurrency",
        ),
    ] {
        let error = keyward.manager().issue(&alice, key).await.unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}
