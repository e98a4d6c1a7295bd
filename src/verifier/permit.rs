//! A place among the requests of a key that may be in flight at once.

use std::fmt;
use std::sync::Arc;

use crate::cache::compiled::CachedRecord;

/// A place among the requests of a key that may be in flight at once, on this node.
///
/// Dropping the permit gives the place back: keep it until the response has been sent.
#[must_use = "dropping the permit gives its place back"]
pub struct Permit(Option<Arc<CachedRecord>>);

impl Permit {
    /// Creates the permit for a place that was taken in the key's slot.
    pub(super) fn of(cached: &Arc<CachedRecord>) -> Self {
        Self(Some(Arc::clone(cached)))
    }

    /// Creates the permit of a key that does not limit its requests in flight.
    pub(super) fn uncounted() -> Self {
        Self(None)
    }
}

#[cfg(any(feature = "actix", feature = "tower"))]
impl Permit {
    /// Returns whether dropping the permit gives a place back.
    pub(crate) fn is_counted(&self) -> bool {
        self.0.is_some()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(cached) = self.0.take() {
            if let Some(home) = cached.home.upgrade() {
                home.slots.give_back(cached.record.id());
            }
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_counted = self.0.is_some();
        f.debug_struct("Permit")
            .field("is_counted", &is_counted)
            .finish()
    }
}
