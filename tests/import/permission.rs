//! Who may import, and what: the policy is asked of its own, and all that bounds issuing bounds importing.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keyward::Keyward;
use keyward::clock::Clock;
use keyward::key::{Access, RevokeReason, TenantId};
use keyward::manager::{
    Actor, Axis, Ceiling, InvalidKey, KeyQuery, Limits, ManageError, NewKey, Operation, Policy,
    PolicyError, RevokeAll, Ruling, TenantRules,
};
use keyward::store::{CutoffScope, KeyStore, ListQuery, MemoryStore};
use keyward::testkit::ManualClock;
use keyward::time::OffsetDateTime;

use crate::common::{
    Fixture, READ, WRITE, actor, builder, by_digest, by_text, clock, imported, legacy, new_key,
    tenant, text,
};

/// Allows all but one kind of operation, and remembers what was asked.
#[derive(Debug, Clone, Default)]
struct AllBut {
    import: bool,
    asked: Arc<Mutex<Vec<String>>>,
}

#[keyward::async_trait]
impl Policy for AllBut {
    async fn rule(&self, actor: &Actor, asked: &Operation<'_>) -> Result<Ruling, PolicyError> {
        let kind = match asked {
            Operation::Issue { .. } => "issue",
            Operation::Import { .. } => "import",
            _ => "another",
        };
        let tenant = asked.tenant().map(TenantId::as_str).unwrap_or_default();
        let line = format!("{} {kind} {tenant}", actor.principal());
        self.asked.lock().unwrap().push(line);
        let refused = (kind == "import") == self.import;
        Ok(if refused {
            Ruling::Refuse
        } else {
            Ruling::Allow
        })
    }
}

async fn is_empty(store: &MemoryStore) -> bool {
    let keys = store.list(&ListQuery::of(&tenant())).await.unwrap();
    let events = store.events().unwrap().read(None, 0, 10).await.unwrap();
    keys.items.is_empty() && events.is_empty()
}

fn open(store: &MemoryStore, clock: &ManualClock) -> keyward::Builder {
    builder(store, clock).imported_keys(imported([legacy()]))
}

async fn with_rules(rules: TenantRules) -> Fixture {
    let accepting = imported([legacy()]);
    let build = |builder: keyward::Builder| builder.imported_keys(accepting).tenant_rules(rules);
    Fixture(test_support::fixture::Fixture::built(build).await)
}

#[tokio::test]
async fn importing_needs_its_own_permission() {
    for import in [true, false] {
        let (store, clock, policy) = (MemoryStore::new(), clock(), AllBut::default());
        let policy = AllBut { import, ..policy };
        let keyward: Keyward = open(&store, &clock)
            .policy(policy.clone())
            .open()
            .await
            .unwrap();
        let manager = keyward.manager();
        let imported = manager.import(&actor(), new_key(), by_text("1")).await;
        let issued = manager.issue(&actor(), new_key()).await;
        assert_eq!(imported.is_ok(), !import);
        assert_eq!(issued.is_ok(), import);
        let asked = policy.asked.lock().unwrap().clone();
        assert_eq!(
            asked,
            [
                "system:migration import acme-inc",
                "system:migration issue acme-inc"
            ]
        );
    }
}

#[tokio::test]
async fn refused_imports_reveal_nothing() {
    let fixture = Fixture::new().await;
    fixture.import(by_text("1")).await;
    let policy = AllBut {
        import: true,
        ..AllBut::default()
    };
    let refusing = open(&fixture.store, &fixture.clock).policy(policy);
    let refusing = refusing.open().await.unwrap();
    let refuse = async |keyward: &Keyward, actor: &Actor, id: &str| {
        let refused = keyward
            .manager()
            .import(actor, new_key(), by_text(id))
            .await;
        assert!(matches!(refused, Err(ManageError::Refused)), "{refused:?}");
    };
    let another = TenantId::new("another").unwrap();
    let stranger = Actor::user("mallory", another, Ceiling::Unlimited).unwrap();
    for id in ["1", "2"] {
        refuse(&refusing, &actor(), id).await;
        refuse(&fixture.keyward, &stranger, id).await;
    }
    // Not even that the request makes no sense.
    let malformed = keyward::import::ImportedKey::text("unknown", "");
    let refused = fixture.keyward.manager();
    let refused = refused.import(&stranger, new_key(), malformed).await;
    assert!(matches!(refused, Err(ManageError::Refused)));
}

#[tokio::test]
async fn imports_stay_within_the_ceiling() {
    let fixture = Fixture::new().await;
    let limits =
        Limits::new(READ).expires_by(fixture.clock.now().unwrap() + Duration::from_secs(2 * 3_600));
    let ceiling = Ceiling::Limited(limits);
    let alice = Actor::user("alice", tenant(), ceiling).unwrap();
    let import = async |key: NewKey| {
        let manager = fixture.keyward.manager();
        manager.import(&alice, key, by_digest("1")).await
    };
    let hour = Duration::from_secs(3_600);
    for (key, axis) in [
        (
            NewKey::new(tenant(), "a", WRITE).expires_in(hour),
            Axis::Access,
        ),
        (
            NewKey::new(tenant(), "a", Access::Full).expires_in(hour),
            Axis::Access,
        ),
        (new_key(), Axis::Expiry),
        (new_key().expires_in(hour * 3), Axis::Expiry),
    ] {
        match import(key).await {
            Err(ManageError::AboveCeiling(above)) => assert_eq!(above, axis),
            other => panic!("{other:?}"),
        }
    }
    assert!(is_empty(&fixture.store).await);
    assert!(import(new_key().expires_in(hour)).await.is_ok());
}

#[tokio::test]
async fn imports_obey_the_tenants_rules() {
    let day = Duration::from_secs(86_400);
    let fixture = with_rules(TenantRules::new().access(READ).max_lifetime(day * 90)).await;
    let import = async |key: NewKey, issued_at: Option<OffsetDateTime>| {
        let imported = match issued_at {
            Some(instant) => by_text("1").issued_at(instant),
            None => by_text("1"),
        };
        fixture
            .keyward
            .manager()
            .import(&actor(), key, imported)
            .await
    };
    let barred = import(NewKey::new(tenant(), "a", WRITE).expires_in(day), None).await;
    assert!(matches!(
        barred,
        Err(ManageError::Invalid(InvalidKey::AccessBarred))
    ));
    let now = fixture.clock.now().unwrap();
    // A key's life counts from when it was issued, not from its import.
    for (key, issued_at) in [
        (new_key(), None),
        (new_key().expires_in(day * 91), None),
        (new_key().expires_in(day * 90), Some(now - day)),
        (new_key().expires_in(day), Some(now - day * 90)),
    ] {
        let refused = import(key, issued_at).await;
        assert!(matches!(
            refused,
            Err(ManageError::Invalid(InvalidKey::LifetimeTooLong))
        ));
    }
    assert!(is_empty(&fixture.store).await);
    let key = new_key().expires_in(day * 60);
    assert!(import(key, Some(now - day * 30)).await.is_ok());
}

#[tokio::test]
async fn imports_count_towards_the_cap() {
    let fixture = with_rules(TenantRules::new().max_keys(NonZeroU32::new(2).unwrap())).await;
    let manager = fixture.keyward.manager();
    fixture.import(by_text("1")).await;
    manager.issue(&actor(), new_key()).await.unwrap();
    assert!(matches!(
        fixture.try_import(by_text("2")).await,
        Err(ManageError::TenantFull { .. })
    ));
    assert!(matches!(
        manager.issue(&actor(), new_key()).await,
        Err(ManageError::TenantFull { .. })
    ));
    assert_eq!(fixture.status(&text("2")).await, 401);
}

#[tokio::test]
async fn keys_before_a_cutoff_are_refused() {
    let fixture = Fixture::new().await;
    let manager = fixture.keyward.manager();
    let now = fixture.clock.now().unwrap();
    let hour = Duration::from_secs(3_600);
    for scope in [CutoffScope::All, CutoffScope::from(&tenant())] {
        let denied = manager
            .deny_issued_before(&actor(), now - hour, scope)
            .await;
        denied.unwrap();
    }
    let early = by_text("1").issued_at(now - hour - Duration::from_micros(1));
    assert!(matches!(
        fixture.try_import(early).await,
        Err(ManageError::CutOff)
    ));
    assert_eq!(fixture.status(&text("1")).await, 401);
    let record = fixture.import(by_text("1").issued_at(now - hour)).await;
    assert_eq!(record.created_at(), now - hour);
    fixture.import(by_text("2")).await;
    for id in ["1", "2"] {
        assert_eq!(fixture.status(&text(id)).await, 200);
    }
    // One that is set later ends them by when they were issued.
    let later = manager.deny_issued_before(&actor(), now, &tenant()).await;
    later.unwrap();
    assert_eq!(fixture.status(&text("1")).await, 401);
    assert_eq!(fixture.status(&text("2")).await, 200);
    fixture.clock.advance(hour);
    let all = RevokeAll::new(RevokeReason::Leaked);
    manager.revoke_all(&actor(), &tenant(), all).await.unwrap();
    assert_eq!(fixture.status(&text("2")).await, 401);
}

#[tokio::test]
async fn future_issue_dates_are_refused() {
    let fixture = Fixture::new().await;
    let now = fixture.clock.now().unwrap();
    for later in [Duration::from_micros(1), Duration::from_secs(365 * 86_400)] {
        let key = by_text("1").issued_at(now + later);
        assert!(matches!(
            fixture.try_import(key).await,
            Err(ManageError::InTheFuture)
        ));
    }
    for year_10000 in [253_402_300_800, u64::MAX / 2].map(Duration::from_secs) {
        let Some(year_10000) = UNIX_EPOCH.checked_add(year_10000) else {
            continue;
        };
        assert!(matches!(
            fixture.try_import(by_text("1").issued_at(year_10000)).await,
            Err(ManageError::Invalid(InvalidKey::Instant))
        ));
    }
    assert!(is_empty(&fixture.store).await);
    let record = fixture
        .import(by_text("1").issued_at(SystemTime::from(now)))
        .await;
    assert_eq!(record.created_at(), now);
}

#[tokio::test]
async fn rotation_is_due_by_original_age() {
    let fixture = Fixture::new().await;
    let now = fixture.clock.now().unwrap();
    let year = Duration::from_secs(365 * 86_400);
    let old = fixture.import(by_text("1").issued_at(now - year)).await;
    fixture.import(by_text("2")).await;
    let query = KeyQuery::of(&tenant()).due_for_rotation(year);
    let due = fixture
        .keyward
        .manager()
        .list(&actor(), &query)
        .await
        .unwrap();
    let ids: Vec<_> = due.keys.iter().map(|key| key.id()).collect();
    assert_eq!(ids, [old.id()]);
}
