//! A place among the requests of a key that may be in flight at once.

use std::fmt;
use std::sync::Arc;

use super::compiled::CachedRecord;

/// A place among the requests of a key that may be in flight at once, on this node. Given back when dropped: keep it
/// until the response has been sent.
#[must_use = "dropping the permit gives its place back"]
pub struct Permit(Option<Arc<CachedRecord>>);

impl Permit {
    /// The place that was taken in the key's slot.
    pub(super) fn of(cached: &Arc<CachedRecord>) -> Self {
        Self(Some(Arc::clone(cached)))
    }

    /// Of a key that does not bound them.
    pub(super) fn uncounted() -> Self {
        Self(None)
    }
}

#[cfg(any(feature = "actix", feature = "tower"))]
impl Permit {
    /// Whether a place is given back when it is dropped.
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
