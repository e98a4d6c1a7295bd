//! Audit events, and the hash chain that links each event to the one before.
//!
//! If the store keeps events, every change by the manager commits together with its event. The one exception is a
//! revocation: it commits even if the log cannot take its event. Events contain no secret and no digest. They are kept
//! until [`cut_events`](crate::manager::KeyManager::cut_events) removes the oldest; the rest of the log still
//! verifies.

mod chain;
mod hex;

pub use chain::{ChainBreak, ChainHead, LogCheck, SealedEvent, verify_chain, verify_log};

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::key::{KeyId, Principal, TenantId, Title};

/// One line of the audit log: who did what to which key, when and from where.
///
/// An event never contains a secret or a digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The time of the action.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The tenant of the affected keys; `None` if the action applied to all tenants.
    pub tenant: Option<TenantId>,
    /// The actor.
    pub actor: Principal,
    /// The action.
    pub action: EventAction,
    /// The affected key; `None` if the action affected many keys at once.
    pub key: Option<KeyId>,
    /// The key's title at the time of the action.
    pub title: Option<Title>,
    /// The changed fields, with old and new values.
    pub changes: Vec<FieldChange>,
    /// The host's name for the request that caused the action.
    pub request: Option<String>,
    /// The address that the request came from.
    pub client: Option<IpAddr>,
}

/// The kind of action that an event records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventAction {
    /// A key was issued, either as a new key or as the successor of another.
    KeyIssued,
    /// A key was imported from another system.
    KeyImported,
    /// Fields of a key were changed.
    KeyUpdated,
    /// A key was suspended.
    KeySuspended,
    /// A suspended key was resumed.
    KeyResumed,
    /// A key was rotated: it has a successor.
    KeyRotated,
    /// A key was revoked.
    KeyRevoked,
    /// An ended key was removed from the store.
    ///
    /// The event names the key's id, and neither its title nor its owner.
    KeyPurged,
    /// A cutoff was set: all keys of its [scope](crate::store::CutoffScope) that were issued before its instant were
    /// ended.
    KeysCutOff,
    /// A cutoff was moved back, because its instant lay in the future.
    CutoffLowered,
    /// A tenant and the last of its keys were removed from the store.
    ///
    /// The event says how many keys the call removed.
    TenantRemoved,
    /// The oldest events were removed from the log.
    ///
    /// The event is the [checkpoint](Event::checkpoint) from which the rest of the log is verified.
    EventsCut,
}

/// The name of the field with the number of the last event that was cut.
const THROUGH: &str = "through";
/// The name of the field with the hash of that event, in lower-case hex.
const HASH: &str = "hash";

/// A field that an event changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// The name of the field.
    pub field: Cow<'static, str>,
    /// The old value; `None` if there was no value.
    pub from: Option<String>,
    /// The new value; `None` if there is no value now.
    pub to: Option<String>,
}

impl FieldChange {
    /// Creates the change of a field that had no value before.
    pub(crate) fn set(field: &'static str, to: impl Into<String>) -> Self {
        Self::of(field, None, Some(to.into()))
    }

    /// Creates the change of a field from its old value to its new one.
    pub(crate) fn of(field: &'static str, from: Option<String>, to: Option<String>) -> Self {
        Self {
            field: Cow::Borrowed(field),
            from,
            to,
        }
    }
}

impl Event {
    /// Returns the number and the hash of the last event that was cut, if this event records a
    /// [cut](EventAction::EventsCut).
    ///
    /// The first event that remained in the log follows that event.
    #[must_use]
    pub fn checkpoint(&self) -> Option<ChainHead> {
        let field = |name: &str| {
            let mut changes = self.changes.iter();
            changes.find(|change| change.field == name)?.to.as_deref()
        };
        if self.action != EventAction::EventsCut {
            return None;
        }
        let hash = hex::read(field(HASH)?)?;
        let events = field(THROUGH)?.parse().ok()?;
        Some(ChainHead { events, hash })
    }

    /// Returns the fields of an event that records the cut of all events from number `from` through `through`.
    pub(crate) fn cut_fields(from: u64, through: ChainHead) -> Vec<FieldChange> {
        vec![
            FieldChange::set("from", from.to_string()),
            FieldChange::set(THROUGH, through.events.to_string()),
            FieldChange::set(HASH, hex::text(&through.hash)),
        ]
    }

    /// Returns the event as one line of JSON.
    ///
    /// Control characters are escaped, so that a title cannot forge a line.
    #[must_use]
    pub fn to_line(&self) -> String {
        // Strings, numbers and instants between the years 0 and 9999 always serialize.
        serde_json::to_string(self)
            .unwrap_or_else(|_| format!("{{\"unwritable\":\"{}\"}}", self.actor))
    }
}
