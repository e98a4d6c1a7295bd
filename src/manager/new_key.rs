//! A request for a new key.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use time::{Date, OffsetDateTime};

use super::draft::normalize;
use super::{Actor, InvalidKey, ManagerParts};
use crate::clock::{later, normalized};
use crate::key::{
    Access, Metadata, Networks, Principal, Quota, Resources, Restrictions, TenantId, Timestamp,
    instant_of,
};

/// A request for a new key. Title and access are required.
///
/// A restriction that is not set does not exist: the key then never expires, and may be used from anywhere and on all
/// resources.
///
/// ```
/// use std::time::Duration;
/// use keyward::{key::{Resources, TenantId}, manager::NewKey, scope};
///
/// let tenant = TenantId::new("acme-inc")?;
/// let key = NewKey::new(tenant, "Nightly Snowflake ETL", scope!("read:editions"))
///     .resources(Resources::only(["project:p-17".parse()?, "project:p-18".parse()?])?)
///     .expires_in(Duration::from_secs(90 * 86_400));
/// # let _ = key;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct NewKey {
    pub(super) request: KeyRequest,
    pub(super) expiry: Option<Expiry>,
    pub(super) request_id: Option<String>,
}

/// Omits unchecked text: it may hold a key.
impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey")
            .field("request", &self.request)
            .field("expiry", &self.expiry)
            .finish_non_exhaustive()
    }
}

/// A [`NewKey`] as an actor asks for it, for a [`Policy`](super::Policy) to judge. Its texts are not yet checked.
#[derive(Clone)]
#[non_exhaustive]
pub struct KeyRequest {
    /// Tenant of the key.
    pub tenant: TenantId,
    /// Title of the key.
    pub title: String,
    /// Owner of the key: the actor, unless the request names another.
    pub owner: Option<Principal>,
    /// Environment of the key. `None`: the format's first.
    pub environment: Option<String>,
    /// Restrictions of the key, with the instant at which it will expire.
    pub restrictions: Restrictions,
    /// Metadata to attach.
    pub metadata: Metadata,
}

/// Omits unchecked text: it may hold a key.
impl fmt::Debug for KeyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRequest")
            .field("tenant", &self.tenant)
            .field("title", &"[unchecked]")
            .field("restrictions", &"[unchecked]")
            .finish_non_exhaustive()
    }
}

/// The end of a new key's validity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Invalid from this instant on.
    At(OffsetDateTime),
    /// Invalid this long after it is issued.
    In(Duration),
    /// Valid to the end of this day in UTC.
    On(Date),
}

impl Expiry {
    /// Returns the first instant at which a key issued at `issued_at` is invalid. `None` outside the years 0000 to
    /// 9999.
    pub(super) fn instant(self, issued_at: OffsetDateTime) -> Option<OffsetDateTime> {
        let end = match self {
            Self::At(instant) => Some(instant),
            Self::In(duration) => later(issued_at, duration),
            Self::On(day) => day.next_day().map(|next| next.midnight().assume_utc()),
        };
        end.and_then(normalized)
    }
}

impl NewKey {
    /// Creates a request for a key of this tenant, under this title, with this access. Unless you restrict it, the key
    /// never expires and may be used from anywhere.
    ///
    /// The manager checks the title when it issues the key.
    #[must_use]
    pub fn new(tenant: TenantId, title: impl Into<String>, access: impl Into<Access>) -> Self {
        Self {
            request: KeyRequest {
                tenant,
                title: title.into(),
                owner: None,
                environment: None,
                restrictions: Restrictions::new(access.into()),
                metadata: Metadata::default(),
            },
            expiry: None,
            request_id: None,
        }
    }

    /// Issues at most one key for this request, however often it is made: 1 to 255 visible ASCII characters, such as
    /// the value of an `Idempotency-Key` header.
    ///
    /// The request id is the caller's, and another one for each key that the caller wants. If the answer to a request
    /// is lost, make the same request again with the same id: [`ManageError::AlreadyIssued`] names the key that was
    /// issued for it, and otherwise the key is issued now. Ids of different principals, tenants or operations do not
    /// meet. [`import`](super::KeyManager::import) needs no request id, as the imported key has an id.
    ///
    /// [`ManageError::AlreadyIssued`]: super::ManageError::AlreadyIssued
    #[must_use]
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.request_id = Some(id.into());
        self
    }

    /// Issues the key to this user, integration or part of the system rather than to the actor.
    #[must_use]
    pub fn owner(mut self, owner: Principal) -> Self {
        self.request.owner = Some(owner);
        self
    }

    /// Issues the key for this environment rather than the format's first.
    #[must_use]
    pub fn environment(mut self, name: impl Into<String>) -> Self {
        self.request.environment = Some(name.into());
        self
    }

    /// Restricts the key to these resources: at most 1,000, which the manager checks when it issues the key. Replaces
    /// an earlier restriction.
    #[must_use]
    pub fn resources(mut self, resources: impl Into<Resources>) -> Self {
        self.request.restrictions.resources = resources.into();
        self
    }

    /// Restricts the key to these networks: at most 100, which the manager checks when it issues the key. Replaces an
    /// earlier restriction.
    #[must_use]
    pub fn networks(mut self, networks: impl Into<Networks>) -> Self {
        self.request.restrictions.networks = networks.into();
        self
    }

    /// Adds a quota: at most 8, each under a name of its own, which the manager checks when it issues the key.
    /// See [limits](crate::manual::limits).
    #[must_use]
    pub fn quota(mut self, quota: Quota) -> Self {
        self.request.restrictions.quotas.push(quota);
        self
    }

    /// Limits how many of the key's requests may be in flight at once. With the default limiter, each node counts for
    /// itself.
    #[must_use]
    pub fn concurrency(mut self, limit: NonZeroU32) -> Self {
        self.request.restrictions.concurrency = Some(limit);
        self
    }

    /// Attaches metadata: at most 4,096 bytes of compact JSON, 8 levels deep, which [`Metadata`] checks when it
    /// is made. Replaces earlier metadata.
    #[must_use]
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.request.metadata = metadata;
        self
    }

    /// Makes the key valid from this instant on.
    #[must_use]
    pub fn not_before(mut self, instant: impl Into<Timestamp>) -> Self {
        self.request.restrictions.not_before = Some(instant_of(instant));
        self
    }

    /// Makes the key invalid from this instant on.
    #[must_use]
    pub fn expires_at(mut self, instant: impl Into<Timestamp>) -> Self {
        self.expiry = Some(Expiry::At(instant_of(instant)));
        self
    }

    /// Makes the key invalid this long after it is issued.
    #[must_use]
    pub fn expires_in(mut self, duration: Duration) -> Self {
        self.expiry = Some(Expiry::In(duration));
        self
    }

    /// Makes the key valid to the end of this day in UTC.
    ///
    /// ```
    /// use keyward::{key::{Access, TenantId}, manager::NewKey, time::{Date, Month}};
    ///
    /// let last_day = Date::from_calendar_date(2027, Month::March, 31)?;
    /// let key = NewKey::new(TenantId::new("acme-inc")?, "Audit 2027", Access::Full).expires_on(last_day);
    /// # let _ = key;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn expires_on(mut self, day: Date) -> Self {
        self.expiry = Some(Expiry::On(day));
        self
    }
}

impl ManagerParts {
    /// Returns the request as this actor makes it now: with an owner, and with the instant of its expiry.
    pub(super) fn request(
        &self,
        actor: &Actor,
        key: NewKey,
        now: OffsetDateTime,
    ) -> Result<KeyRequest, InvalidKey> {
        let NewKey {
            mut request,
            expiry,
            request_id: _,
        } = key;
        let owner = || actor.principal().clone();
        request.owner.get_or_insert_with(owner);
        let end = expiry.map(|expiry| self.end_of(expiry, now));
        request.restrictions.expires_at = end.transpose()?;
        normalize(&mut request.restrictions)?;
        Ok(request)
    }
}
