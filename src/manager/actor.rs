//! The actor that asks for a management operation.

use std::any::Any;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use time::OffsetDateTime;

use super::Ceiling;
use crate::audit::{Event, EventAction, FieldChange};
use crate::key::{NonEmpty, Principal, Redactor, TenantId, ValueError, refused_in_name};

/// The caller of a management operation: its principal, the tenants it acts for, and the most it may grant.
///
/// The host application makes actors from its own sessions; Keyward trusts them. The [`Policy`](super::Policy) decides
/// which operations an actor may do.
///
/// ```
/// use keyward::{key::{Access, TenantId}, manager::{Actor, Ceiling, Limits}, scope};
///
/// let tenant = TenantId::new("acme-inc")?;
/// let ceiling = Ceiling::Limited(Limits::new(scope!("read:editions")));
/// let actor = Actor::user("alice", tenant, ceiling)?.in_request("req-7f3a").from_address("203.0.113.7".parse()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Actor {
    principal: Principal,
    tenants: Tenants,
    ceiling: Ceiling,
    request: Option<String>,
    client: Option<IpAddr>,
    data: Option<Arc<dyn Any + Send + Sync>>,
}

/// The tenants that an actor acts for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Tenants {
    /// All tenants.
    All,
    /// Only these tenants.
    Only(NonEmpty<TenantId>),
}

impl From<TenantId> for Tenants {
    fn from(tenant: TenantId) -> Self {
        Self::Only(NonEmpty::from(tenant))
    }
}

impl Actor {
    /// Longest request name that is kept, in characters.
    const MAX_REQUEST: usize = 128;

    /// Creates the actor of the host application itself, under a name such as `setup`: for all tenants and without a
    /// ceiling.
    ///
    /// A name that is not valid for a [`Principal`] is kept as far as a valid one can hold it.
    #[must_use]
    pub fn system(name: &str) -> Self {
        let valid = |character: char| match refused_in_name(character, false) {
            Some(_) => '?',
            None => character,
        };
        let name = name.trim().chars().map(valid);
        let name: String = name.take(Principal::MAX_CHARACTERS).collect();
        let name = name.trim_end();
        // Only an empty name is still invalid here.
        let principal = Principal::system(name).unwrap_or_else(|_| Principal::unnamed_system());
        Self::new(principal, Tenants::All, Ceiling::Unlimited)
    }

    /// Creates the actor of a person, who acts for these tenants and may grant no more than the ceiling.
    ///
    /// # Errors
    /// As [`Principal::user`].
    pub fn user(
        name: &str,
        tenants: impl Into<Tenants>,
        ceiling: Ceiling,
    ) -> Result<Self, ValueError> {
        Ok(Self::new(Principal::user(name)?, tenants.into(), ceiling))
    }

    /// Creates the actor of a program, which acts for these tenants and may grant no more than the ceiling.
    ///
    /// # Errors
    /// As [`user`](Self::user).
    pub fn integration(
        name: &str,
        tenants: impl Into<Tenants>,
        ceiling: Ceiling,
    ) -> Result<Self, ValueError> {
        Ok(Self::new(
            Principal::integration(name)?,
            tenants.into(),
            ceiling,
        ))
    }

    fn new(principal: Principal, tenants: Tenants, ceiling: Ceiling) -> Self {
        Self {
            principal,
            tenants,
            ceiling,
            request: None,
            client: None,
            data: None,
        }
    }

    /// Sets the name of the request that the actor acts in, for the audit log. Characters other than visible ASCII
    /// become `?`, 128 characters are kept, and the text of a key is masked.
    #[must_use]
    pub fn in_request(mut self, request: &str) -> Self {
        self.request = Some(visible(request).take(Self::MAX_REQUEST).collect());
        self
    }

    /// Sets the client address that the actor acts from, for the audit log.
    #[must_use]
    pub fn from_address(mut self, client: IpAddr) -> Self {
        self.client = Some(client.to_canonical());
        self
    }

    /// Attaches the host application's own data about the actor, such as a role or a list of groups, for its
    /// [`Policy`](super::Policy).
    ///
    /// An actor carries one value, and a second one replaces it. Keyward passes the value to the policy and does
    /// nothing else with it: it is neither stored nor in events, nor in the actor's `Debug`.
    ///
    /// ```
    /// use keyward::manager::{Actor, Operation, Policy, PolicyError, Ruling};
    ///
    /// #[derive(PartialEq)]
    /// enum Role { Admin, Member }
    ///
    /// #[derive(Debug)]
    /// struct ByRole;
    ///
    /// #[keyward::async_trait]
    /// impl Policy for ByRole {
    ///     async fn rule(&self, actor: &Actor, operation: &Operation<'_>) -> Result<Ruling, PolicyError> {
    ///         let is_allowed = match actor.data() {
    ///             Some(Role::Admin) => true,
    ///             Some(Role::Member) => operation.owner() == Some(actor.principal()),
    ///             None => false,
    ///         };
    ///         Ok(if is_allowed { Ruling::Allow } else { Ruling::Refuse })
    ///     }
    /// }
    /// let actor = Actor::system("setup").with_data(Role::Admin);
    /// assert!(actor.data() == Some(&Role::Admin));
    /// ```
    #[doc(alias = "role")]
    #[must_use]
    pub fn with_data(mut self, data: impl Any + Send + Sync) -> Self {
        self.data = Some(Arc::new(data));
        self
    }

    /// Returns the data that the host application [attached](Self::with_data). `None` without a value of exactly this
    /// type.
    #[doc(alias = "role")]
    #[must_use]
    pub fn data<T: Any>(&self) -> Option<&T> {
        self.data.as_deref()?.downcast_ref()
    }

    /// Returns the actor's principal.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Returns the most that the actor may grant.
    #[must_use]
    pub(crate) fn ceiling(&self) -> &Ceiling {
        &self.ceiling
    }

    pub(super) fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// Returns whether the actor acts for this tenant.
    #[must_use]
    pub(crate) fn acts_for(&self, tenant: &TenantId) -> bool {
        match &self.tenants {
            Tenants::All => true,
            Tenants::Only(tenants) => tenants.contains(tenant),
        }
    }

    /// Returns whether the actor acts for all tenants.
    #[must_use]
    pub(crate) fn acts_for_all(&self) -> bool {
        self.tenants == Tenants::All
    }

    /// Builds the audit event of an action, without a key.
    pub(super) fn event(
        &self,
        at: OffsetDateTime,
        action: EventAction,
        tenant: Option<TenantId>,
        changes: Vec<FieldChange>,
        redactor: &Redactor,
    ) -> Event {
        let request = self.request.as_deref();
        Event {
            at,
            tenant,
            actor: self.principal.masked(redactor),
            action,
            key: None,
            title: None,
            changes,
            request: request.map(|request| redactor.redact(request).into_owned()),
            client: self.client,
        }
    }
}

/// Omits the request name, for which a client may have sent any text, and the host application's data.
impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Actor")
            .field("principal", &self.principal)
            .field("tenants", &self.tenants)
            .field("ceiling", &self.ceiling)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

fn visible(text: &str) -> impl Iterator<Item = char> {
    text.chars().map(|character| {
        if character.is_ascii_graphic() {
            character
        } else {
            '?'
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_names_are_kept_or_sanitized() {
        for (name, kept) in [
            ("setup", "system:setup"),
            ("", "system:unnamed"),
            (" a b\n", "system:a b"),
            ("Jörg\n\u{202e}b", "system:Jörg??b"),
        ] {
            assert_eq!(Actor::system(name).principal().to_string(), kept);
        }
        assert_eq!(
            Actor::system(&"x".repeat(1_000)).principal().name().len(),
            255
        );
    }

    #[test]
    fn data_is_found_by_its_type_and_not_shown() {
        let actor = Actor::system("a");
        assert_eq!(actor.data::<&str>(), None);
        let actor = actor.with_data("admin");
        assert_eq!(actor.clone().data(), Some(&"admin"));
        assert_eq!(actor.data::<String>(), None, "another type");
        assert!(!format!("{actor:?}").contains("admin"));
        let actor = actor.with_data(7_u8);
        assert_eq!(actor.data::<&str>(), None, "replaced");
        assert_eq!(actor.data(), Some(&7_u8));
    }

    #[test]
    fn request_names_cannot_forge_a_line() {
        let actor = Actor::system("a").in_request("id\r\n{\"action\":\"key_revoked\"}");
        assert_eq!(actor.request.unwrap(), "id??{\"action\":\"key_revoked\"}");
    }
}
