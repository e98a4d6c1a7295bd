//! One line of the audit log.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::ChainHead;
use crate::key::{KeyId, Principal, TenantId, Title};

/// Who did what to which key, when and from where. Never bears a secret or a digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Whose keys; none where it was done to everybody's.
    pub tenant: Option<TenantId>,
    /// Who acted.
    pub actor: Principal,
    /// What was done.
    pub action: EventAction,
    /// To which key; none where it was done to many at once.
    pub key: Option<KeyId>,
    /// What the key was called then.
    pub title: Option<Title>,
    /// What changed, from what to what.
    pub changes: Vec<FieldChange>,
    /// The request that it was done in, as the host named it.
    pub request: Option<String>,
    /// The address that the request came from.
    pub client: Option<IpAddr>,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventAction {
    /// A key was issued, anew or as the successor of another.
    KeyIssued,
    /// A key was brought in from elsewhere.
    KeyImported,
    /// Fields of a key were changed.
    KeyUpdated,
    /// A key was switched off.
    KeySuspended,
    /// A key was switched on again.
    KeyResumed,
    /// A key was given a successor.
    KeyRotated,
    /// A key was revoked.
    KeyRevoked,
    /// A key that had ended was removed from the store. The event tells its id, and neither title nor owner.
    KeyPurged,
    /// All keys of a scope that were issued before an instant were ended.
    KeysCutOff,
    /// The instant before which keys had to be issued to be ended was moved back, as it lay in the future.
    CutoffLowered,
    /// A tenant and the last of its keys were removed from the store. The event tells how many keys the call removed.
    TenantRemoved,
    /// The oldest events were removed from the log. The event is the [checkpoint](Event::checkpoint) that the rest of
    /// the log is verified from.
    EventsCut,
}

/// The field with the number of the last event that was cut.
const THROUGH: &str = "through";
/// The field with the hash of that event, in lower-case hex.
const HASH: &str = "hash";

/// One field that an event changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// The field.
    pub field: Cow<'static, str>,
    /// What it was; none where there was nothing.
    pub from: Option<String>,
    /// What it is; none where there is nothing.
    pub to: Option<String>,
}

impl FieldChange {
    /// A field that had no value before.
    #[must_use]
    pub fn set(field: &'static str, to: impl Into<String>) -> Self {
        Self::of(field, None, Some(to.into()))
    }

    /// A field, with what it was and what it is.
    #[must_use]
    pub fn of(field: &'static str, from: Option<String>, to: Option<String>) -> Self {
        Self {
            field: Cow::Borrowed(field),
            from,
            to,
        }
    }
}

impl Event {
    /// The last event that was cut, if this event records a [cut](EventAction::EventsCut): its number and its hash.
    ///
    /// The first event that remained in the log follows it.
    #[must_use]
    pub fn checkpoint(&self) -> Option<ChainHead> {
        let field = |name: &str| {
            let mut changes = self.changes.iter();
            changes.find(|change| change.field == name)?.to.as_deref()
        };
        if self.action != EventAction::EventsCut {
            return None;
        }
        let mut hash = [0; 32];
        let decoded = base16ct::lower::decode(field(HASH)?, &mut hash).ok()?;
        (decoded.len() == 32).then_some(())?;
        let events = field(THROUGH)?.parse().ok()?;
        Some(ChainHead { events, hash })
    }

    /// The fields of an event that records a cut of the events from one to another.
    pub(crate) fn cut_fields(from: u64, through: ChainHead) -> Vec<FieldChange> {
        vec![
            FieldChange::set("from", from.to_string()),
            FieldChange::set(THROUGH, through.events.to_string()),
            FieldChange::set(HASH, base16ct::lower::encode_string(&through.hash)),
        ]
    }

    /// The event as one line of JSON: control characters are escaped, so that no title can forge a line.
    #[must_use]
    pub fn to_line(&self) -> String {
        // Strings, numbers and instants between the years 0 and 9999 can always be written.
        serde_json::to_string(self)
            .unwrap_or_else(|_| format!("{{\"unwritable\":\"{}\"}}", self.actor))
    }
}
