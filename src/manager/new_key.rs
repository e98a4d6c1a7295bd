//! A key as asked for.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use time::{Date, OffsetDateTime};

use super::{Actor, InvalidKey, KeyManager};
use crate::clock::{later, normalized, unix_micros};
use crate::key::{Access, Metadata, Networks, Principal, Quota, Resources, TenantId};

/// A key as asked for. Title and access are required. A restriction that is not set does not exist: the key then never
/// expires, and may be used from anywhere and on all resources.
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
#[derive(Debug, Clone)]
pub struct NewKey(KeyRequest);

/// What was asked for in a [`NewKey`], for a [`Policy`](super::Policy) to judge. Not checked yet.
#[derive(Clone)]
#[non_exhaustive]
pub struct KeyRequest {
    /// Whose key it is to be.
    pub tenant: TenantId,
    /// What it is to be called.
    pub title: String,
    /// What it is to be allowed.
    pub access: Access,
    /// To whom it is to be issued. `None`: to the actor, as which a policy sees it.
    pub owner: Option<Principal>,
    /// For which environment; none: the format's first.
    pub environment: Option<String>,
    /// Which things it is to touch.
    pub resources: Resources,
    /// From where it is to be used.
    pub networks: Networks,
    /// The quotas it is to carry.
    pub quotas: Vec<Quota>,
    /// How many of its requests may be in flight at once.
    pub concurrency: Option<NonZeroU32>,
    /// What is to be attached.
    pub metadata: Metadata,
    /// From when on it is to be valid.
    pub not_before: Option<OffsetDateTime>,
    /// Until when; none: until revoked.
    pub expiry: Option<Expiry>,
}

/// Shows no text that nobody has looked into yet.
impl fmt::Debug for KeyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRequest")
            .field("tenant", &self.tenant)
            .field("title", &"[unchecked]")
            .field("access", &"[unchecked]")
            .field("resources", &"[unchecked]")
            .field("networks", &self.networks)
            .field("quotas", &self.quotas)
            .field("concurrency", &self.concurrency)
            .field("not_before", &self.not_before)
            .field("expiry", &self.expiry)
            .finish_non_exhaustive()
    }
}

/// Until when a key is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Invalid from this instant on.
    At(OffsetDateTime),
    /// Invalid this long after it is issued.
    In(Duration),
    /// Valid to the end of this day in UTC.
    On(Date),
}

impl NewKey {
    /// A key for this tenant, under this title, with this access. It never expires and may be used from anywhere,
    /// unless you restrict it.
    ///
    /// The title is checked when the key is issued.
    #[must_use]
    pub fn new(tenant: TenantId, title: impl Into<String>, access: impl Into<Access>) -> Self {
        Self(KeyRequest {
            tenant,
            title: title.into(),
            access: access.into(),
            owner: None,
            environment: None,
            resources: Resources::Any,
            networks: Networks::Any,
            quotas: Vec::new(),
            concurrency: None,
            metadata: Metadata::default(),
            not_before: None,
            expiry: None,
        })
    }

    /// Issues it to this user, integration or part of the system rather than to the actor.
    #[must_use]
    pub fn owner(mut self, owner: Principal) -> Self {
        self.0.owner = Some(owner);
        self
    }

    /// Issues it for this environment rather than the format's first.
    #[must_use]
    pub fn environment(mut self, name: impl Into<String>) -> Self {
        self.0.environment = Some(name.into());
        self
    }

    /// Restricts which things it may touch: at most [1,000](Resources::MAX) resources, which is checked when the key is
    /// issued. Replaces what was set before.
    #[must_use]
    pub fn resources(mut self, resources: impl Into<Resources>) -> Self {
        self.0.resources = resources.into();
        self
    }

    /// Restricts from where it may be used: at most [100](Networks::MAX) networks, which is checked when the key is
    /// issued. Replaces what was set before.
    #[must_use]
    pub fn networks(mut self, networks: impl Into<Networks>) -> Self {
        self.0.networks = networks.into();
        self
    }

    /// Adds a quota: at most [8](Quota::MAX_PER_KEY), each under a name of its own, which is checked when the key is
    /// issued. Quotas are stored and shown, but not counted yet.
    #[must_use]
    pub fn quota(mut self, quota: Quota) -> Self {
        self.0.quotas.push(quota);
        self
    }

    /// Bounds how many of its requests may be in flight at once, on one node.
    #[must_use]
    pub fn concurrency(mut self, limit: NonZeroU32) -> Self {
        self.0.concurrency = Some(limit);
        self
    }

    /// Attaches metadata: at most [4,096 bytes](Metadata::MAX_BYTES) of compact JSON, [8 levels](Metadata::MAX_DEPTH)
    /// deep, which [`Metadata`] checks when it is made. Replaces what was attached before.
    #[must_use]
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.0.metadata = metadata;
        self
    }

    /// Makes it valid from this instant on.
    #[must_use]
    pub fn not_before(mut self, instant: OffsetDateTime) -> Self {
        self.0.not_before = Some(instant);
        self
    }

    /// Makes it invalid from this instant on.
    #[must_use]
    pub fn expires_at(mut self, instant: OffsetDateTime) -> Self {
        self.0.expiry = Some(Expiry::At(instant));
        self
    }

    /// Makes it invalid this long after it is issued.
    #[must_use]
    pub fn expires_in(mut self, duration: Duration) -> Self {
        self.0.expiry = Some(Expiry::In(duration));
        self
    }

    /// Makes it valid to the end of this day in UTC.
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
        self.0.expiry = Some(Expiry::On(day));
        self
    }

    /// What was asked for.
    #[must_use]
    pub fn request(&self) -> &KeyRequest {
        &self.0
    }

    /// What is asked for by this actor, which is the owner unless another is named.
    pub(super) fn into_request(mut self, actor: &Actor) -> KeyRequest {
        self.0
            .owner
            .get_or_insert_with(|| actor.principal().clone());
        self.0
    }
}

impl KeyManager {
    /// The first invalid instant of what is issued now.
    pub(super) fn end_of(
        &self,
        expiry: Expiry,
        now: OffsetDateTime,
    ) -> Result<OffsetDateTime, InvalidKey> {
        let end = match expiry {
            Expiry::At(instant) => Some(instant),
            Expiry::In(duration) => later(now, duration),
            Expiry::On(day) => day.next_day().map(|next| next.midnight().assume_utc()),
        };
        let end = end.and_then(normalized).ok_or(InvalidKey::Instant)?;
        if end <= now || self.parts.passed.include(unix_micros(end)) {
            return Err(InvalidKey::Expired);
        }
        Ok(end)
    }
}
