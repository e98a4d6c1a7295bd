//! State that concerns all keys: the epochs, and the fence of cutoffs.

use crate::key::KeyRecord;
use crate::store::CutoffScope;
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering, lock};

/// The node's logical clock, and the fence of cutoffs, which marks the reads that a cutoff may have made old.
///
/// An epoch numbers an operation that the node begins or ends. Every read of the store writes the count and every
/// verification reads the fence, so the two are on different cache lines.
#[derive(Default)]
pub(crate) struct Epochs {
    fence: Padded<Fence>,
    count: Padded<AtomicU64>,
    /// The scopes of pending cutoffs, each as often as it is pending.
    scopes: Mutex<Vec<CutoffScope>>,
}

#[derive(Default)]
#[repr(align(128))]
struct Padded<T>(T);

#[derive(Default)]
struct Fence {
    /// Reads of this epoch and earlier are old, whatever their key.
    barrier: AtomicU64,
    /// Commits of cutoffs with an unknown outcome.
    pending: AtomicU32,
}

impl Epochs {
    /// Begins an epoch, later than all before.
    pub(crate) fn next(&self) -> u64 {
        self.count.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Returns the latest epoch. Any operation that begins from here on is later.
    pub(crate) fn latest(&self) -> u64 {
        self.count.0.load(Ordering::SeqCst)
    }

    /// Returns whether a read of this epoch began after all reads were last marked as old.
    #[inline]
    pub(crate) fn admits(&self, epoch: u64) -> bool {
        epoch > self.fence.0.barrier.load(Ordering::SeqCst)
    }

    /// Returns whether a cutoff by this node that binds the key may be in progress.
    #[inline]
    pub(crate) fn is_pending(&self, record: &KeyRecord) -> bool {
        self.fence.0.pending.load(Ordering::SeqCst) > 0 && self.binds(record)
    }

    #[cold]
    fn binds(&self, record: &KeyRecord) -> bool {
        let (tenant, owner) = (record.tenant(), record.owner());
        lock(&self.scopes)
            .iter()
            .any(|scope| scope.binds(tenant, owner))
    }

    /// Returns whether any cutoff by this node may be in progress.
    pub(crate) fn is_any_pending(&self) -> bool {
        self.fence.0.pending.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn invalidate_all(&self) {
        let epoch = self.next();
        self.fence.0.barrier.fetch_max(epoch, Ordering::SeqCst);
    }

    pub(crate) fn begin_cutoff(&self, scope: &CutoffScope) {
        lock(&self.scopes).push(scope.clone());
        self.fence.0.pending.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends a cutoff, once all reads of the keys in scope are marked as old.
    pub(crate) fn end_cutoff(&self, scope: &CutoffScope) {
        self.fence.0.pending.fetch_sub(1, Ordering::SeqCst);
        let mut scopes = lock(&self.scopes);
        if let Some(place) = scopes.iter().position(|pending| pending == scope) {
            scopes.swap_remove(place);
        }
    }
}
