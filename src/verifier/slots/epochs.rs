//! What concerns all keys at once: the epochs, and the fence of cutoffs.

use crate::key::KeyRecord;
use crate::store::CutoffScope;
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering, lock};

/// The node's logical clock, and the fence of cutoffs: which reads a cutoff may have made old.
///
/// An epoch numbers what the node begins or ends. Every read of the store writes the count and every verification reads
/// the fence, so the two are on different cache lines.
#[derive(Default)]
pub(crate) struct Epochs {
    fence: Padded<Fence>,
    count: Padded<AtomicU64>,
    /// Whose keys the pending cutoffs bind, each as often as it is pending.
    scopes: Mutex<Vec<CutoffScope>>,
}

#[derive(Default)]
#[repr(align(128))]
struct Padded<T>(T);

#[derive(Default)]
struct Fence {
    /// Reads that began no later are old, whatever their key.
    barrier: AtomicU64,
    /// Commits of cutoffs whose outcome is not known.
    pending: AtomicU32,
}

impl Epochs {
    /// Begins an epoch, later than all before.
    pub(in crate::verifier) fn next(&self) -> u64 {
        self.count.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The latest epoch. What begins from here on is later.
    pub(in crate::verifier) fn latest(&self) -> u64 {
        self.count.0.load(Ordering::SeqCst)
    }

    /// Whether a read of this epoch began after the last time that all was forgotten.
    #[inline]
    pub(in crate::verifier) fn admits(&self, epoch: u64) -> bool {
        epoch > self.fence.0.barrier.load(Ordering::SeqCst)
    }

    /// Whether a cutoff of this node's that binds the key may be taking place.
    #[inline]
    pub(in crate::verifier) fn is_pending(&self, record: &KeyRecord) -> bool {
        self.fence.0.pending.load(Ordering::SeqCst) > 0 && self.binds(record)
    }

    #[cold]
    fn binds(&self, record: &KeyRecord) -> bool {
        let (tenant, owner) = (record.tenant(), record.owner());
        lock(&self.scopes)
            .iter()
            .any(|scope| scope.binds(tenant, owner))
    }

    /// Whether any cutoff of this node's may be taking place.
    pub(in crate::verifier) fn is_any_pending(&self) -> bool {
        self.fence.0.pending.load(Ordering::SeqCst) > 0
    }

    pub(in crate::verifier) fn invalidate_all(&self) {
        let epoch = self.next();
        self.fence.0.barrier.fetch_max(epoch, Ordering::SeqCst);
    }

    pub(in crate::verifier) fn begin_cutoff(&self, scope: &CutoffScope) {
        lock(&self.scopes).push(scope.clone());
        self.fence.0.pending.fetch_add(1, Ordering::SeqCst);
    }

    /// Once what was read of the keys in scope has been made old.
    pub(in crate::verifier) fn end_cutoff(&self, scope: &CutoffScope) {
        self.fence.0.pending.fetch_sub(1, Ordering::SeqCst);
        let mut scopes = lock(&self.scopes);
        if let Some(place) = scopes.iter().position(|pending| pending == scope) {
            scopes.swap_remove(place);
        }
    }
}
