//! Yes, and to what.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Permit;
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
    record: Arc<KeyRecord>,
    duties: Arc<Duties>,
}

impl Grant {
    pub(super) fn new(record: KeyRecord, duties: Duties) -> Self {
        Self {
            record: Arc::new(record),
            duties: Arc::new(duties),
        }
    }

    /// The key's id.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.record.id()
    }

    /// Whose key it is.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        self.record.tenant()
    }

    /// What people call the key.
    #[must_use]
    pub fn title(&self) -> &Title {
        self.record.title()
    }

    /// The environment that the key was issued for.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        self.record.environment()
    }

    /// All that is known of the key, as it was when the request was admitted.
    #[must_use]
    pub fn record(&self) -> &KeyRecord {
        &self.record
    }

    /// Whether the key is permitted this resource. The answer counts as the check that a route promised with
    /// [`checked_by_handler`](super::Requirement::checked_by_handler).
    ///
    /// # Errors
    /// [`Refused`] if it is not: the handler answers 403, or 404 where existence itself is not to be told.
    pub fn permits(&self, kind: &str, value: &str) -> Result<(), Refused> {
        self.duties.done(kind);
        if self.record.resources().permit(kind, value) {
            Ok(())
        } else {
            Err(Refused)
        }
    }

    /// What a list has to be filtered by. Counts as a check, as [`permits`](Self::permits) does.
    #[must_use]
    pub fn only(&self, kind: &str) -> Only<'_> {
        self.duties.done(kind);
        match self.record.resources().values(kind) {
            [] => Only::Any,
            values => Only::These(values),
        }
    }

    /// A kind of resource that the handler promised to check and has not. An adapter answers 500 in place of a
    /// success then, whatever the key, so that the slip shows on the first try.
    #[must_use]
    pub fn unchecked(&self) -> Option<&str> {
        self.duties.first_open()
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
pub struct Refused;

/// The checks that a handler promised. Shared by the clones of a grant.
#[derive(Debug)]
pub(super) struct Duties(Vec<(Box<str>, AtomicBool)>);

impl Duties {
    pub(super) fn new<'a>(kinds: impl Iterator<Item = &'a str>) -> Self {
        Self(
            kinds
                .map(|kind| (kind.into(), AtomicBool::new(false)))
                .collect(),
        )
    }

    fn done(&self, kind: &str) {
        for (_, done) in self.0.iter().filter(|(promised, _)| **promised == *kind) {
            done.store(true, Ordering::Release);
        }
    }

    fn first_open(&self) -> Option<&str> {
        let mut open = self
            .0
            .iter()
            .filter(|(_, done)| !done.load(Ordering::Acquire));
        open.next().map(|(kind, _)| &**kind)
    }
}
