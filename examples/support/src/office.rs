//! Between a product's management endpoints and the manager of its keys.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use keyward::Keyward;
use keyward::audit::SealedEvent;
use keyward::key::{KeyId, KeyView, RevokeReason, TenantId};
use keyward::manager::{
    Actor, Issued, KeyListView, KeyQuery, ManageError, NewKey, Overlap, PageCursor, Revoked,
};
use keyward::time::OffsetDateTime;
use serde::{Deserialize, Serialize};

use crate::Logins;

/// Somebody who can log in to a product.
pub trait Person: Clone + Send + Sync + 'static {
    /// As whom they ask for things to be done with keys.
    fn actor(&self) -> Actor;

    /// Whose keys they see.
    fn tenant(&self) -> &TenantId;
}

/// Where a product's keys are managed, by whoever is logged in. Cheap to clone.
pub struct Office<P> {
    keyward: Keyward,
    logins: Arc<Logins<P>>,
}

/// The text that a logged-in person sends in `X-Session`, and from where.
#[derive(Clone, Default)]
pub struct Session {
    /// What was sent, if anything was.
    pub text: Option<String>,
    /// From where, for the log of events.
    pub client: Option<IpAddr>,
}

/// The code that a person logs in with.
#[derive(Deserialize)]
pub struct CodeForm {
    code: String,
}

/// What a person is told who has logged in.
#[derive(Serialize)]
pub struct LoggedIn {
    /// To be sent in `X-Session`.
    session: String,
}

/// How long a key and its successor are both good: so many seconds, 0 for not at all; without a number, until the old
/// one is revoked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateForm {
    #[serde(default)]
    overlap_seconds: Option<u64>,
}

/// Which page of the list of keys: the one that begins where another one's `next` says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// That `next`; none for the first page.
    #[serde(default)]
    pub after: Option<PageCursor>,
}

/// Which events to read: those after a number.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    #[serde(default)]
    after: u64,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    /// Nobody is logged in, or no longer.
    #[error("log in first")]
    NotLoggedIn,
    /// What a form holds cannot be: told to whoever filled it in.
    #[error("{0}")]
    Form(String),
    /// The operating system has no random bytes to give.
    #[error(transparent)]
    Random(#[from] getrandom::Error),
    /// The manager did not do it.
    #[error(transparent)]
    Manage(#[from] ManageError),
}

/// How a person who is not logged in can be (RFC 9110 §11.6.1).
#[cfg(any(feature = "actix", feature = "axum"))]
pub(crate) const CHALLENGE: &str = r#"Session realm="office", in="header", name="X-Session""#;

impl NotDone {
    /// That a form holds what cannot be.
    pub fn form(error: impl fmt::Display) -> Self {
        Self::Form(error.to_string())
    }
}

/// Most events in one answer.
const EVENTS: usize = 100;

impl<P: Person> Office<P> {
    /// Where the keys of this Keyward are managed.
    #[must_use]
    pub fn new(keyward: &Keyward) -> Self {
        Self {
            keyward: keyward.clone(),
            logins: Arc::default(),
        }
    }

    /// A code with which this person can log in, once.
    ///
    /// # Errors
    /// [`NotDone::Random`].
    pub fn invite(&self, person: P) -> Result<String, NotDone> {
        Ok(self.logins.invite(person)?)
    }

    /// Opens a session, and uses up the code.
    ///
    /// # Errors
    /// [`NotDone`].
    pub fn log_in(&self, form: &CodeForm) -> Result<LoggedIn, NotDone> {
        let session = self.logins.log_in(&form.code)?;
        let session = session.ok_or(NotDone::NotLoggedIn)?;
        Ok(LoggedIn { session })
    }

    /// Who asks.
    ///
    /// # Errors
    /// [`NotDone::NotLoggedIn`].
    pub fn person(&self, session: &Session) -> Result<P, NotDone> {
        let text = session.text.as_deref();
        let person = text.and_then(|text| self.logins.person(text));
        person.ok_or(NotDone::NotLoggedIn)
    }

    /// Issues the key that a form asks for, which is made into one for the person's tenant.
    ///
    /// # Errors
    /// [`NotDone`].
    pub async fn issue(
        &self,
        session: &Session,
        new: impl FnOnce(&P) -> Result<NewKey, NotDone>,
    ) -> Result<Issued, NotDone> {
        let person = self.person(session)?;
        let new = new(&person)?;
        let manager = self.keyward.manager();
        Ok(manager.issue(&acting(&person, session), new).await?)
    }

    /// A page of the person's tenant's keys.
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

    /// Gives a key a successor.
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

    /// Switches a key off, until it is resumed.
    ///
    /// # Errors
    /// [`NotDone`].
    pub async fn suspend(&self, session: &Session, id: KeyId) -> Result<KeyView, NotDone> {
        let person = self.person(session)?;
        let (manager, actor) = (self.keyward.manager(), acting(&person, session));
        let suspended = manager.suspend(&actor, person.tenant(), id).await?;
        Ok(suspended.view(OffsetDateTime::now_utc()))
    }

    /// Switches a suspended key on again.
    ///
    /// # Errors
    /// [`NotDone`].
    pub async fn resume(&self, session: &Session, id: KeyId) -> Result<KeyView, NotDone> {
        let person = self.person(session)?;
        let (manager, actor) = (self.keyward.manager(), acting(&person, session));
        let resumed = manager.resume(&actor, person.tenant(), id).await?;
        Ok(resumed.view(OffsetDateTime::now_utc()))
    }

    /// Revokes a key, for good.
    ///
    /// # Errors
    /// [`NotDone`].
    pub async fn revoke(&self, session: &Session, id: KeyId) -> Result<Revoked, NotDone> {
        let person = self.person(session)?;
        let (manager, actor) = (self.keyward.manager(), acting(&person, session));
        let reason = RevokeReason::Requested;
        Ok(manager.revoke(&actor, person.tenant(), id, reason).await?)
    }

    /// What was done with the person's tenant's keys.
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

/// The person, with the address that the request came from.
fn acting<P: Person>(person: &P, session: &Session) -> Actor {
    match session.client {
        Some(client) => person.actor().from_address(client),
        None => person.actor(),
    }
}

impl<P> Clone for Office<P> {
    fn clone(&self) -> Self {
        Self {
            keyward: self.keyward.clone(),
            logins: Arc::clone(&self.logins),
        }
    }
}

impl<P> fmt::Debug for Office<P> {
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
