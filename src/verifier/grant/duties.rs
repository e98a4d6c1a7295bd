//! What the handler of an admitted request owes.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::super::attempt::Attempt;
use crate::cache::{CachedRecord, Home};

/// What the handler owes: the checks that it promised, and the true cost of a request that was counted by an estimate.
/// Shared by the clones of a grant.
pub(super) struct Duties {
    promises: Vec<Promise>,
    /// Whether an inner guard has to decide, and none has.
    pub(super) awaits_inner_guard: AtomicBool,
    /// The duties towards an outer guard.
    pub(super) before: Option<Arc<Self>>,
    /// The true cost. `None` if the cost is no estimate.
    cost: Option<AtomicU64>,
    pub(super) home: Weak<dyn Home>,
}

/// A kind of resource that the handler promised to check.
#[derive(Debug)]
struct Promise {
    kind: Box<str>,
    is_checked: AtomicBool,
    /// Whether a check has refused a resource, and the observer has not heard of it.
    is_refused: AtomicBool,
}

/// The true cost is not known.
const UNSETTLED: u64 = u64::MAX;

impl Duties {
    /// Creates the duties; `None` if there are none.
    #[inline]
    pub(super) fn new(attempt: &Attempt<'_>, cached: &CachedRecord) -> Option<Self> {
        // Most routes settle no kind of resource.
        let requirement = attempt.requirement;
        let is_whole = requirement.settled().is_empty() && !requirement.is_checked_inside();
        if is_whole && !attempt.is_estimate {
            return None;
        }
        Self::promised(attempt, cached)
    }

    fn promised(attempt: &Attempt<'_>, cached: &CachedRecord) -> Option<Self> {
        let kinds = attempt.requirement.handler_checks();
        let mut promises = kinds
            .map(|kind| Promise {
                kind: kind.into(),
                is_checked: AtomicBool::new(false),
                is_refused: AtomicBool::new(false),
            })
            .peekable();
        let is_checked_inside = attempt.requirement.is_checked_inside();
        if promises.peek().is_none() && !attempt.is_estimate && !is_checked_inside {
            return None;
        }
        Some(Self {
            promises: promises.collect(),
            awaits_inner_guard: AtomicBool::new(is_checked_inside),
            before: None,
            cost: attempt.is_estimate.then(|| AtomicU64::new(UNSETTLED)),
            home: Weak::clone(&cached.home),
        })
    }

    pub(super) fn is_estimate(&self) -> bool {
        self.cost.is_some()
    }

    pub(super) fn settle(&self, cost: u32) {
        if let Some(settled) = &self.cost {
            settled.store(cost.into(), Ordering::Release);
        }
        if let Some(before) = &self.before {
            before.settle(cost);
        }
    }

    /// Returns the true cost, if it was set.
    pub(super) fn settled(&self) -> Option<u32> {
        let cost = self.cost.as_ref()?.load(Ordering::Acquire);
        u32::try_from(cost).ok()
    }

    pub(super) fn done(&self, kind: &str) {
        self.mark(kind, |promise| &promise.is_checked);
    }

    pub(super) fn refused(&self, kind: &str) {
        self.mark(kind, |promise| &promise.is_refused);
    }

    /// Sets this mark of a kind, for the outer guards too.
    fn mark(&self, kind: &str, mark: fn(&Promise) -> &AtomicBool) {
        let promised = self.promises.iter().filter(|of| *of.kind == *kind);
        for promise in promised {
            mark(promise).store(true, Ordering::Release);
        }
        if let Some(before) = &self.before {
            before.mark(kind, mark);
        }
    }

    /// Returns a kind with a refused resource, and takes all such marks: several guards report one refusal once.
    pub(super) fn take_refused(&self) -> Option<&str> {
        let before = self
            .before
            .as_ref()
            .and_then(|before| before.take_refused());
        let mut first = None;
        for promise in &self.promises {
            if promise.is_refused.swap(false, Ordering::AcqRel) {
                first = first.or(Some(&*promise.kind));
            }
        }
        first.or(before)
    }

    pub(super) fn first_open(&self) -> Option<&str> {
        let mut open = self
            .promises
            .iter()
            .filter(|promise| !promise.is_checked.load(Ordering::Acquire));
        // An outer guard asks after its own promises itself.
        open.next().map(|promise| &*promise.kind)
    }
}

impl fmt::Debug for Duties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Duties")
            .field("promises", &self.promises)
            .field("cost", &self.cost)
            .finish_non_exhaustive()
    }
}
