//! Connects a product's management endpoints to its key manager.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use keyward::Keyward;
use keyward::audit::SealedEvent;
use keyward::key::{KeyId, KeyView, RevokeReason, TenantId, ValueError};
use keyward::manager::{
    Actor, Ceiling, Issued, KeyListView, KeyQuery, ManageError, NewKey, Overlap, PageCursor,
    Revoked,
};
use keyward::time::OffsetDateTime;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::login::Logins;

/// A person who can log in to a product, such as the user `partner-admin/ada`.
///
/// The role is the first part of the name. A real product would consult its own list of people.
#[derive(Debug, Clone)]
pub struct Person {
    actor: Actor,
    tenant: TenantId,
}

impl Person {
    /// Creates a person who has this role with the tenant.
    ///
    /// # Errors
    /// If the name or the tenant is not valid.
    pub fn new(role: &str, name: &str, tenant: &str) -> Result<Self, ValueError> {
        let (name, tenant) = (format!("{role}/{name}"), TenantId::new(tenant)?);
        let actor = Actor::user(&name, tenant.clone(), Ceiling::Unlimited)?;
        Ok(Self { actor, tenant })
    }

    /// Returns the actor of the person's requests to the key manager.
    #[must_use]
    pub const fn actor(&self) -> &Actor {
        &self.actor
    }

    /// Returns the tenant of the keys that the person sees.
    #[must_use]
    pub const fn tenant(&self) -> &TenantId {
        &self.tenant
    }
}

/// Returns whether the actor is a person with this role.
#[must_use]
pub fn has_role(actor: &Actor, role: &str) -> bool {
    let who = actor.principal();
    who.is_user() && who.name().split_once('/').is_some_and(|(of, _)| of == role)
}

/// A product's office, in which logged-in persons manage keys. Cheap to clone.
#[derive(Clone)]
pub struct Office {
    keyward: Keyward,
    logins: Arc<Logins>,
}

/// The session text that a logged-in person sends in `X-Session`, with the client's address.
#[derive(Clone, Default)]
pub struct Session {
    /// The text, if one was sent.
    pub text: Option<String>,
    /// The client's address, for the event log.
    pub client: Option<IpAddr>,
}

/// The reason that a person gives for a revocation. If it names none: [`RevokeReason::Requested`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeForm {
    #[serde(default)]
    reason: Reason,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reason {
    #[default]
    Requested,
    Leaked,
    Decommissioned,
}

impl RevokeForm {
    /// Reads the body of a request. A body that is not understood is refused: the log must not name another reason.
    fn read(body: &[u8]) -> Result<RevokeReason, NotDone> {
        if body.is_empty() {
            return Ok(RevokeReason::Requested);
        }
        let wrong = |_| NotDone::form("the reason is requested, leaked or decommissioned");
        // An object: serde would also read a struct from a list.
        let members: Map<String, Value> = serde_json::from_slice(body).map_err(wrong)?;
        let form: Self = serde_json::from_value(members.into()).map_err(wrong)?;
        Ok(match form.reason {
            Reason::Requested => RevokeReason::Requested,
            Reason::Leaked => RevokeReason::Leaked,
            Reason::Decommissioned => RevokeReason::Decommissioned,
        })
    }
}

/// The code that a person logs in with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeForm {
    code: String,
}

/// The response to a login.
#[derive(Serialize)]
pub struct LoggedIn {
    /// The text to send in `X-Session`.
    session: String,
}

/// The time for which both a key and its successor are valid, in seconds. 0: not at all. Without a number: until the
/// old key is revoked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateForm {
    #[serde(default)]
    overlap_seconds: Option<u64>,
}

/// The page of the list of keys that begins at another page's `next`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// The `next` of the page before. `None` for the first page.
    #[serde(default)]
    pub after: Option<PageCursor>,
}

/// The events to read: those after a number.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    #[serde(default)]
    after: u64,
}

/// The reason why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    /// No person is logged in, or the session has ended.
    #[error("log in first")]
    NotLoggedIn,
    /// A form has an invalid value. The person who filled it in sees the text.
    #[error("{0}")]
    Form(String),
    /// The operating system cannot provide random bytes.
    #[error(transparent)]
    Random(#[from] getrandom::Error),
    /// The manager refused or failed.
    #[error(transparent)]
    Manage(#[from] ManageError),
}

/// The challenge for a person who is not logged in (RFC 9110 §11.6.1).
#[cfg(any(feature = "actix", feature = "axum"))]
pub(crate) const CHALLENGE: &str = r#"Session realm="office", in="header", name="X-Session""#;

impl NotDone {
    /// Creates the error for an invalid value in a form.
    pub fn form(error: impl fmt::Display) -> Self {
        Self::Form(error.to_string())
    }
}

/// Maximum number of events in one response.
const EVENTS: usize = 100;

impl Office {
    /// Creates the office for this Keyward's keys.
    #[must_use]
    pub fn new(keyward: &Keyward) -> Self {
        Self {
            keyward: keyward.clone(),
            logins: Arc::default(),
        }
    }

    /// Creates a code with which this person can log in once.
    ///
    /// # Errors
    /// [`NotDone::Random`].
    pub fn invite(&self, person: Person) -> Result<String, NotDone> {
        Ok(self.logins.invite(person)?)
    }

    /// Opens a session and uses up the code.
    ///
    /// # Errors
    /// [`NotDone`].
    pub fn log_in(&self, form: &CodeForm) -> Result<LoggedIn, NotDone> {
        let session = self.logins.log_in(&form.code)?;
        let session = session.ok_or(NotDone::NotLoggedIn)?;
        Ok(LoggedIn { session })
    }

    /// Returns the person who sent a request.
    ///
    /// # Errors
    /// [`NotDone::NotLoggedIn`].
    pub fn person(&self, session: &Session) -> Result<Person, NotDone> {
        let text = session.text.as_deref();
        let person = text.and_then(|text| self.logins.person(text));
        person.ok_or(NotDone::NotLoggedIn)
    }

    /// Issues the key that `new` builds from a form for the person's tenant.
    ///
    /// # Errors
    /// [`NotDone`].
    pub async fn issue(
        &self,
        session: &Session,
        new: impl FnOnce(&Person) -> Result<NewKey, NotDone>,
    ) -> Result<Issued, NotDone> {
        let person = self.person(session)?;
        let new = new(&person)?;
        let manager = self.keyward.manager();
        Ok(manager.issue(&acting(&person, session), new).await?)
    }

    /// Returns a page of the keys of the person's tenant.
    ///
    /// # Errors
    /// [`NotDone`].
    pub async fn list(
        &self,
        session: &Session,
        page: &ListQuery,
        query: impl FnOnce(KeyQuery) -> KeyQuery,
    ) -> Result<KeyListView, NotDone> {
        let person = self.person(session)?;
        let mut query = query(KeyQuery::of(person.tenant()));
        if let Some(cursor) = page.after {
            query = query.after(cursor).map_err(ManageError::from)?;
        }
        let manager = self.keyward.manager();
        let list = manager.list(&acting(&person, session), &query).await?;
        Ok(list.view(OffsetDateTime::now_utc()))
    }

    /// Issues a successor for a key.
    ///
    /// # Errors
    /// [`NotDone`].
    pub async fn rotate(
        &self,
        session: &Session,
        id: KeyId,
        form: &RotateForm,
    ) -> Result<Issued, NotDone> {
        let person = self.person(session)?;
        let overlap = match form.overlap_seconds {
            Some(0) => Overlap::None,
            Some(seconds) => Overlap::For(Duration::from_secs(seconds)),
            None => Overlap::UntilRevoked,
        };
        let (manager, actor) = (self.keyward.manager(), acting(&person, session));
        Ok(manager.rotate(&actor, person.tenant(), id, overlap).await?)
    }

    /// Suspends a key until it is resumed.
    ///
    /// # Errors
    /// [`NotDone`].
    pub async fn suspend(&self, session: &Session, id: KeyId) -> Result<KeyView, NotDone> {
        let person = self.person(session)?;
        let (manager, actor) = (self.keyward.manager(), acting(&person, session));
        let suspended = manager.suspend(&actor, person.tenant(), id).await?;
        Ok(suspended.view(OffsetDateTime::now_utc()))
    }

    /// Resumes a suspended key.
    ///
    /// # Errors
    /// [`NotDone`].
    pub async fn resume(&self, session: &Session, id: KeyId) -> Result<KeyView, NotDone> {
        let person = self.person(session)?;
        let (manager, actor) = (self.keyward.manager(), acting(&person, session));
        let resumed = manager.resume(&actor, person.tenant(), id).await?;
        Ok(resumed.view(OffsetDateTime::now_utc()))
    }

    /// Revokes a key for good, for the reason in the body, such as `{"reason":"leaked"}`.
    ///
    /// # Errors
    /// [`NotDone`].
    pub async fn revoke(
        &self,
        session: &Session,
        id: KeyId,
        body: &[u8],
    ) -> Result<Revoked, NotDone> {
        let person = self.person(session)?;
        let reason = RevokeForm::read(body)?;
        let (manager, actor) = (self.keyward.manager(), acting(&person, session));
        Ok(manager.revoke(&actor, person.tenant(), id, reason).await?)
    }

    /// Returns the events of the person's tenant.
    ///
    /// # Errors
    /// [`NotDone`].
    pub async fn events(
        &self,
        session: &Session,
        query: &EventQuery,
    ) -> Result<Vec<SealedEvent>, NotDone> {
        let person = self.person(session)?;
        let (manager, actor) = (self.keyward.manager(), acting(&person, session));
        let events = manager.events(&actor, person.tenant(), query.after, EVENTS);
        Ok(events.await?)
    }
}

/// Returns the person's actor, with the client's address if it is known.
fn acting(person: &Person, session: &Session) -> Actor {
    let actor = person.actor.clone();
    match session.client {
        Some(client) => actor.from_address(client),
        None => actor,
    }
}

impl fmt::Debug for Office {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Office").finish_non_exhaustive()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for CodeForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeForm").finish_non_exhaustive()
    }
}

impl fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoggedIn").finish_non_exhaustive()
    }
}
