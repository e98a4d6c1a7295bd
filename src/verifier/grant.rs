//! Yes, and to what.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Permit;
use super::compiled::CachedRecord;
use crate::key::{Environment, KeyId, KeyRecord, Resource, TenantId, Title};

/// Yes.
#[derive(Debug)]
pub struct Admitted {
    grant: Grant,
    permit: Permit,
}

impl Admitted {
    pub(super) fn new(grant: Grant, permit: Permit) -> Self {
        Self { grant, permit }
    }

    /// What was granted. Keep the whole until the response has been sent: the permit in it is given back when
    /// it is dropped.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// What was granted, and the permit to keep until the response has been sent.
    pub fn into_parts(self) -> (Grant, Permit) {
        (self.grant, self.permit)
    }
}

/// What was granted: whose key it was, and what it permits. Cheap to clone; travels with the request.
#[derive(Clone)]
pub struct Grant {
    cached: Arc<CachedRecord>,
    /// None where the handler promised nothing, so that most grants allocate nothing.
    duties: Option<Arc<Duties>>,
}

impl Grant {
    pub(super) fn new(cached: Arc<CachedRecord>, duties: Option<Duties>) -> Self {
        Self {
            cached,
            duties: duties.map(Arc::new),
        }
    }

    pub(super) fn cached(&self) -> &Arc<CachedRecord> {
        &self.cached
    }

    /// The same, with these checks owed besides.
    pub(super) fn owing(&self, more: Option<Duties>) -> Self {
        let duties = match more {
            Some(mut more) => {
                more.before.clone_from(&self.duties);
                Some(Arc::new(more))
            }
            None => self.duties.clone(),
        };
        Self {
            cached: Arc::clone(&self.cached),
            duties,
        }
    }

    /// The key's id.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.cached.record.id()
    }

    /// Whose key it is.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        self.cached.record.tenant()
    }

    /// What people call the key.
    #[must_use]
    pub fn title(&self) -> &Title {
        self.cached.record.title()
    }

    /// The environment that the key was issued for.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        self.cached.record.environment()
    }

    /// All that is known of the key, as it was when the request was admitted.
    #[must_use]
    pub fn record(&self) -> &KeyRecord {
        &self.cached.record
    }

    /// Whether the key is permitted this resource. The answer counts as the check that a route promised with
    /// [`checked_by_handler`](super::Requirement::checked_by_handler).
    ///
    /// # Errors
    /// [`ResourceDenied`] if it is not: the handler answers 403, or 404 where existence itself is not to be told.
    pub fn permits(&self, kind: &str, value: &str) -> Result<(), ResourceDenied> {
        self.done(kind);
        if self.cached.record.resources().permit(kind, value) {
            Ok(())
        } else {
            Err(ResourceDenied)
        }
    }

    /// What a list has to be filtered by. Counts as a check, as [`permits`](Self::permits) does.
    #[must_use]
    pub fn only(&self, kind: &str) -> Only<'_> {
        self.done(kind);
        match self.cached.record.resources().values(kind) {
            [] => Only::Any,
            values => Only::These(values),
        }
    }

    /// A kind of resource that the handler promised to check and has not. An adapter answers 500 in place of a
    /// success then, whatever the key, so that the slip shows on the first try.
    #[must_use]
    pub fn unchecked(&self) -> Option<&str> {
        self.duties.as_ref().and_then(|duties| duties.first_open())
    }

    /// Whether the key is still good, as far as this node knows at this moment without asking the store.
    ///
    /// False once the key is revoked, suspended, expired or superseded, and also where nothing is known that is
    /// [young enough](super::KeyCache::lease) to say: [`ended`](Self::ended) asks then. What the key may do may have
    /// changed since; the grant holds what it was.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let home = self.cached.home.upgrade();
        home.is_some_and(|home| home.is_good(self.key_id()) == Some(true))
    }

    /// Ends when the key stops being good: it was revoked, here or on another node, suspended, superseded, or it
    /// expired. With it a host cuts a long response short.
    ///
    /// It hears of a change as fast as a verification would. If the store does not answer, it ends when verifications
    /// stop being granted: at most one [lease](super::KeyCache::lease) after the last successful read of the key, or
    /// poll of the change feed, began. It needs a tokio runtime with its timer enabled.
    ///
    /// ```
    /// # async fn f(admitted: keyward::verifier::Admitted, send: impl Future<Output = ()>) {
    /// let grant = admitted.grant();
    /// tokio::select! {
    ///     () = send => {}           // the response has been sent
    ///     () = grant.ended() => {}  // the key ended first: cut the response
    /// }
    /// # }
    /// ```
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let cached = Arc::clone(&self.cached);
        async move {
            // With the verifier gone nobody could tell.
            if let Some(home) = cached.home.upgrade() {
                home.wait_until_ended(cached.record.id()).await;
            }
        }
    }

    fn done(&self, kind: &str) {
        if let Some(duties) = &self.duties {
            duties.done(kind);
        }
    }
}

/// Shows the key's name and no more.
impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("key_id", &self.key_id())
            .field("tenant", self.tenant())
            .field("title", self.title())
            .finish_non_exhaustive()
    }
}

/// What a list has to be filtered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only<'a> {
    /// The key is not restricted in this kind.
    Any,
    /// Only these resources, in ascending order of their values. Never empty.
    These(&'a [Resource]),
}

impl Only<'_> {
    /// Whether the list may show what belongs to this resource.
    #[must_use]
    pub fn permits(&self, value: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(resources) => resources.iter().any(|resource| resource.value() == value),
        }
    }
}

/// The key does not permit this resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the API key does not permit this")]
pub struct ResourceDenied;

/// The checks that a handler promised. Shared by the clones of a grant.
#[derive(Debug)]
pub(super) struct Duties {
    kinds: Vec<(Box<str>, AtomicBool)>,
    /// What a guard outside of this one was promised.
    before: Option<Arc<Self>>,
}

impl Duties {
    /// None if nothing is promised.
    pub(super) fn new<'a>(kinds: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut kinds = kinds.map(|kind| (kind.into(), AtomicBool::new(false)));
        let first = kinds.next()?;
        Some(Self {
            kinds: std::iter::once(first).chain(kinds).collect(),
            before: None,
        })
    }

    fn done(&self, kind: &str) {
        let promised = self
            .kinds
            .iter()
            .filter(|(promised, _)| **promised == *kind);
        for (_, done) in promised {
            done.store(true, Ordering::Release);
        }
        if let Some(before) = &self.before {
            before.done(kind);
        }
    }

    fn first_open(&self) -> Option<&str> {
        let mut open = self
            .kinds
            .iter()
            .filter(|(_, done)| !done.load(Ordering::Acquire));
        // What was promised to a guard outside, it asks after itself.
        open.next().map(|(kind, _)| &**kind)
    }
}
