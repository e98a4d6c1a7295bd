//! The people of a product, and their sessions.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use keyward::http::ManagementSession;
use keyward::key::{TenantId, ValueError};
use keyward::manager::{Actor, Ceiling};
use serde::{Deserialize, Serialize};

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

    /// Returns the tenant of the keys that the person manages.
    #[must_use]
    pub const fn tenant(&self) -> &TenantId {
        &self.tenant
    }
}

/// Makes the library's endpoints manage the keys of this person's tenant.
impl From<Person> for ManagementSession {
    fn from(person: Person) -> Self {
        Self::new(person.actor, person.tenant)
    }
}

/// Returns whether the actor is a person with this role.
#[must_use]
pub fn has_role(actor: &Actor, role: &str) -> bool {
    let who = actor.principal();
    who.is_user() && who.name().split_once('/').is_some_and(|(of, _)| of == role)
}

/// A product's office, in which persons log in to manage keys. Cheap to clone.
#[derive(Clone, Default)]
pub struct Office {
    logins: Arc<Logins>,
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

/// The reason why no person is logged in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The code or the session is unknown, was used up, or has ended.
    #[error("log in first")]
    NotLoggedIn,
    /// The operating system cannot provide random bytes.
    #[error(transparent)]
    Random(#[from] getrandom::Error),
}

/// The challenge for a person who is not logged in (RFC 9110 §11.6.1).
#[cfg(any(feature = "actix", feature = "axum"))]
pub(crate) const CHALLENGE: &str = r#"Session realm="office", in="header", name="X-Session""#;

impl Office {
    /// Creates a code with which this person can log in once.
    ///
    /// # Errors
    /// [`LoginError::Random`].
    pub fn invite(&self, person: Person) -> Result<String, LoginError> {
        Ok(self.logins.invite(person)?)
    }

    /// Opens a session and uses up the code.
    ///
    /// # Errors
    /// [`LoginError`].
    pub fn log_in(&self, form: &CodeForm) -> Result<LoggedIn, LoginError> {
        let session = self.logins.log_in(&form.code)?;
        let session = session.ok_or(LoginError::NotLoggedIn)?;
        Ok(LoggedIn { session })
    }

    /// Returns the person who sent a request with this text in `X-Session`, from this address.
    ///
    /// # Errors
    /// [`LoginError::NotLoggedIn`].
    pub fn person(
        &self,
        session: Option<&str>,
        client: Option<IpAddr>,
    ) -> Result<Person, LoginError> {
        let person = session.and_then(|text| self.logins.person(text));
        let mut person = person.ok_or(LoginError::NotLoggedIn)?;
        if let Some(client) = client {
            person.actor = person.actor.from_address(client); // for the event log
        }
        Ok(person)
    }
}

impl fmt::Debug for Office {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Office").finish_non_exhaustive()
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
