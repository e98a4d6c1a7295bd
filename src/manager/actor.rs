//! Who asks.

use std::fmt;
use std::net::IpAddr;

use time::OffsetDateTime;

use super::Ceiling;
use crate::audit::{Event, EventAction, FieldChange};
use crate::key::{NonEmpty, Principal, PrincipalError, Redactor, StoredKey, TenantId};

/// Who asks for a management operation: who it is, for which tenants it acts, and the most it may grant.
///
/// The host makes actors from its own sessions; Keyward believes it. What an actor may do is the
/// [`Policy`](super::Policy)'s to say.
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
}

/// For which tenants an actor acts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Tenants {
    /// All of them.
    All,
    /// These.
    Only(NonEmpty<TenantId>),
}

impl From<TenantId> for Tenants {
    fn from(tenant: TenantId) -> Self {
        Self::Only(NonEmpty::one(tenant))
    }
}

impl Actor {
    /// Longest request name that is kept, in characters.
    const MAX_REQUEST: usize = 128;

    /// The host application itself, under a name such as `setup`: for all tenants and without a ceiling.
    ///
    /// A name that no [`Principal`] could bear is kept as far as it could.
    #[must_use]
    pub fn system(name: &str) -> Self {
        let name: String = visible(name).take(Self::MAX_REQUEST).collect();
        // Only the empty name is left to be refused.
        let principal = Principal::system(&name).unwrap_or_else(|_| Principal::unnamed_system());
        Self::new(principal, Tenants::All, Ceiling::Unlimited)
    }

    /// A person, who acts for these tenants and may grant no more than the ceiling.
    ///
    /// # Errors
    /// [`PrincipalError`] unless the name is 1 to 128 visible ASCII characters.
    pub fn user(
        name: &str,
        tenants: impl Into<Tenants>,
        ceiling: Ceiling,
    ) -> Result<Self, PrincipalError> {
        Ok(Self::new(Principal::user(name)?, tenants.into(), ceiling))
    }

    /// A program, which acts for these tenants and may grant no more than the ceiling.
    ///
    /// # Errors
    /// As [`user`](Self::user).
    pub fn integration(
        name: &str,
        tenants: impl Into<Tenants>,
        ceiling: Ceiling,
    ) -> Result<Self, PrincipalError> {
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
        }
    }

    /// Names the request that it acts in, for the audit log. Other than visible ASCII characters become `?`, 128
    /// characters are kept, and the text of a key is masked.
    #[must_use]
    pub fn in_request(mut self, request: &str) -> Self {
        self.request = Some(visible(request).take(Self::MAX_REQUEST).collect());
        self
    }

    /// Says from which address it acts, for the audit log.
    #[must_use]
    pub fn from_address(mut self, client: IpAddr) -> Self {
        self.client = Some(client.to_canonical());
        self
    }

    /// Who it is.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The most it may grant.
    #[must_use]
    pub fn ceiling(&self) -> &Ceiling {
        &self.ceiling
    }

    pub(super) fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// Whether it acts for this tenant.
    #[must_use]
    pub fn acts_for(&self, tenant: &TenantId) -> bool {
        match &self.tenants {
            Tenants::All => true,
            Tenants::Only(tenants) => tenants.contains(tenant),
        }
    }

    /// Whether it acts for all tenants.
    #[must_use]
    pub fn acts_for_all(&self) -> bool {
        self.tenants == Tenants::All
    }

    /// What the audit log tells of something that it does to a key.
    pub(super) fn event(
        &self,
        at: OffsetDateTime,
        action: EventAction,
        key: &StoredKey,
        changes: Vec<FieldChange>,
        redactor: &Redactor,
    ) -> Event {
        Event {
            key: Some(key.id),
            title: Some(key.title.clone()),
            ..self.event_of_many(at, action, Some(key.tenant.clone()), changes, redactor)
        }
    }

    /// What the audit log tells of something that it does to many keys at once.
    pub(super) fn event_of_many(
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

/// Shows no request name: it may be anything that a client sent.
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
    fn any_system_name_is_kept_as_far_as_it_can_be() {
        for (name, kept) in [
            ("setup", "system:setup"),
            ("", "system:unnamed"),
            ("a b\n", "system:a?b?"),
        ] {
            assert_eq!(Actor::system(name).principal().to_string(), kept);
        }
        assert_eq!(
            Actor::system(&"x".repeat(1_000)).principal().name().len(),
            128
        );
    }

    #[test]
    fn a_request_name_cannot_forge_a_log_line() {
        let actor = Actor::system("a").in_request("id\r\n{\"action\":\"key_revoked\"}");
        assert_eq!(actor.request.unwrap(), "id??{\"action\":\"key_revoked\"}");
    }
}
