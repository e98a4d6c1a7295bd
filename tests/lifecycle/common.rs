//! What the tests share: an assembled Keyward on a clock and a store that they steer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keyward::audit::{Event, EventAction, verify_log};
use keyward::clock::Clock;
use keyward::key::{ApiKey, KeyId, KeyRecord, KeyStatus, RevokeReason, TenantId};
use keyward::manager::{
    Actor, Ceiling, Issued, KeyManager, KeyQuery, Limits, ManageError, NewKey, Overlap, Rotation,
};
use keyward::store::KeyStore;
use keyward::testkit::{self, ManualClock};
use keyward::time::OffsetDateTime;
use keyward::verifier::{Attempt, DenialReason, Requirement};
use keyward::{Builder, Keyward};
use serde_json::Value;
pub(crate) use test_support::fixture::{READ, WRITE, actor as system, tenant};

use crate::store::Shim;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// An assembled Keyward for the environment `test`.
#[derive(Clone)]
pub(crate) struct Fixture {
    pub(crate) keyward: Keyward,
    pub(crate) store: Shim,
    pub(crate) clock: ManualClock,
    read: Arc<AtomicU64>,
}

/// What a verification says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Admitted,
    Revoked(RevokeReason),
    CutOff,
    Superseded,
    Suspended,
    NotYetValid,
    Expired,
    Forbidden,
    Other(String),
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with(|builder| builder).await
    }

    pub(crate) async fn with(more: impl FnOnce(Builder) -> Builder) -> Self {
        Self::over(Shim::default(), test_support::fixture::clock(), more).await
    }

    /// Another node, or one that is set up otherwise, over the same store.
    pub(crate) async fn beside(&self, more: impl FnOnce(Builder) -> Builder) -> Self {
        Self::over(self.store.clone(), self.clock.clone(), more).await
    }

    async fn over(store: Shim, clock: ManualClock, more: impl FnOnce(Builder) -> Builder) -> Self {
        let builder = testkit::builder(store.clone(), [READ, WRITE]).clock(clock.clone());
        Self {
            keyward: more(builder).open().await.unwrap(),
            store,
            clock,
            read: Arc::default(),
        }
    }

    pub(crate) fn manager(&self) -> &KeyManager {
        self.keyward.manager()
    }

    pub(crate) fn now(&self) -> OffsetDateTime {
        self.clock.now().unwrap()
    }

    pub(crate) fn later(&self, by: Duration) {
        self.clock.advance(by);
    }

    pub(crate) async fn issue(&self, title: &str) -> Issued {
        self.issue_key(new_key(title)).await
    }

    pub(crate) async fn issue_key(&self, key: NewKey) -> Issued {
        self.manager().issue(&system(), key).await.unwrap()
    }

    pub(crate) async fn record(&self, id: KeyId) -> KeyRecord {
        let stored = self.store.inner().get(id).await.unwrap().unwrap();
        KeyRecord::decode(stored).unwrap()
    }

    pub(crate) async fn status(&self, id: KeyId) -> KeyStatus {
        self.record(id).await.status(self.now())
    }

    pub(crate) async fn answer(&self, key: &ApiKey) -> Answer {
        self.answer_for(key, &Requirement::any_key()).await
    }

    pub(crate) async fn answer_for(&self, key: &ApiKey, need: &Requirement) -> Answer {
        let attempt = Attempt::new(key.presented(), need);
        let Err(denial) = self.keyward.verifier().verify(&attempt).await else {
            return Answer::Admitted;
        };
        match denial.reason() {
            DenialReason::Revoked { reason, .. } => Answer::Revoked(reason.clone()),
            DenialReason::CutOff => Answer::CutOff,
            DenialReason::Superseded => Answer::Superseded,
            DenialReason::Suspended => Answer::Suspended,
            DenialReason::NotYetValid => Answer::NotYetValid,
            DenialReason::Expired => Answer::Expired,
            DenialReason::MissingAccess => Answer::Forbidden,
            other => Answer::Other(other.to_string()),
        }
    }

    /// What was told since the last time that this was asked.
    pub(crate) async fn told(&self) -> Vec<Event> {
        let log = self.store.events().unwrap();
        let events = log.read(None, 0, usize::MAX).await.unwrap();
        let head = verify_log(&events).unwrap();
        let from = self.read.swap(head.events, Ordering::SeqCst);
        let new = events.into_iter().filter(|sealed| sealed.number > from);
        new.map(|sealed| sealed.event).collect()
    }

    pub(crate) async fn rotate(
        &self,
        id: KeyId,
        how: impl Into<Rotation>,
    ) -> Result<Issued, ManageError> {
        self.manager().rotate(&system(), &tenant(), id, how).await
    }

    pub(crate) async fn revoke(&self, id: KeyId) {
        self.manager()
            .revoke(&system(), &tenant(), id, RevokeReason::Requested)
            .await
            .unwrap();
    }

    /// Cuts off all keys of the tenant that were issued before now.
    pub(crate) async fn cut_off(&self) {
        self.manager()
            .deny_issued_before(&system(), self.now(), &tenant())
            .await
            .unwrap();
    }

    /// One key for each way to end but expiry: revoked, cut off, superseded.
    pub(crate) async fn ended_keys(&self) -> [Issued; 3] {
        let cut_off = self.issue("cut off").await;
        self.later(SECOND);
        self.cut_off().await;
        let revoked = self.issue("revoked").await;
        self.revoke(revoked.record().id()).await;
        let superseded = self.issue("superseded").await;
        let rotated = self
            .rotate(superseded.record().id(), Overlap::For(SECOND))
            .await;
        rotated.unwrap();
        self.later(SECOND);
        [revoked, cut_off, superseded]
    }

    /// Changes a key's expiry behind the manager's back, in its column and in its document.
    pub(crate) async fn tamper_end(&self, id: KeyId, end: Option<OffsetDateTime>, text: &str) {
        let mut stored = self.store.inner().get(id).await.unwrap().unwrap();
        let expected = stored.revision;
        let mut document: Value = serde_json::from_slice(&stored.document).unwrap();
        document["restrictions"]["expires_at"] = text.into();
        if document["rotation"].is_object() {
            document["rotation"]["own_end"] = text.into();
        }
        stored.document = serde_json::to_vec(&document).unwrap().into();
        stored.expires_at = end;
        let with = Box::new(stored);
        let replace = keyward::store::Change::Replace { expected, with };
        self.store.change(replace).await;
    }

    /// Changes a field of a key's document behind the manager's back.
    pub(crate) async fn tamper(&self, id: KeyId, field: &str, value: Value) {
        let mut stored = self.store.inner().get(id).await.unwrap().unwrap();
        let expected = stored.revision;
        let mut document: Value = serde_json::from_slice(&stored.document).unwrap();
        let field = field.split('/');
        *field.fold(&mut document, |within, name| &mut within[name]) = value;
        stored.document = serde_json::to_vec(&document).unwrap().into();
        let with = Box::new(stored);
        let replace = keyward::store::Change::Replace { expected, with };
        self.store.change(replace).await;
    }
}

pub(crate) fn named(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

pub(crate) fn new_key(title: &str) -> NewKey {
    NewKey::new(tenant(), title, READ)
}

/// A user of the tenant's with this ceiling, in a request from somewhere.
pub(crate) fn alice(limits: impl Into<Option<Limits>>) -> Actor {
    let ceiling = limits.into().map_or(Ceiling::Unlimited, Ceiling::Limited);
    Actor::user("alice", tenant(), ceiling)
        .unwrap()
        .in_request("req-7")
        .from_address("203.0.113.7".parse().unwrap())
}

pub(crate) fn actions(events: &[Event]) -> Vec<EventAction> {
    events.iter().map(|event| event.action).collect()
}

/// The fields that an event tells of, each with what it was and what it is.
pub(crate) fn fields(event: &Event) -> Vec<(&str, Option<&str>, Option<&str>)> {
    let changes = event.changes.iter();
    changes
        .map(|change| (&*change.field, change.from.as_deref(), change.to.as_deref()))
        .collect()
}

/// That an event tells of alice, her request, her address, the tenant and this instant.
pub(crate) fn is_alices(event: &Event, at: OffsetDateTime) {
    assert_eq!(event.actor.to_string(), "user:alice");
    assert_eq!(event.request.as_deref(), Some("req-7"));
    assert_eq!(event.client, Some("203.0.113.7".parse().unwrap()));
    assert_eq!((event.tenant.as_ref(), event.at), (Some(&tenant()), at));
}

/// The text of an instant in an event.
pub(crate) fn text(at: OffsetDateTime) -> String {
    use keyward::time::format_description::well_known::Rfc3339;
    at.format(&Rfc3339).unwrap()
}

/// The titles of what a query lists, in alphabetical order.
pub(crate) async fn titles(fixture: &Fixture, query: KeyQuery) -> Vec<String> {
    let list = fixture.manager().list(&system(), &query).await.unwrap();
    let mut titles: Vec<_> = list
        .keys
        .iter()
        .map(|key| key.title().to_string())
        .collect();
    titles.sort_unstable();
    titles
}

pub(crate) fn all() -> KeyQuery {
    KeyQuery::of(&tenant())
}
