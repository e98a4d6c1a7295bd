//! What a node knows of keys: cached records, the feed of changes, and the reads of the store.
//!
//! # Why is a cache entry safe to decide on?
//! Each entry passes three rules before it decides:
//! - *The fence* (`slot.rs`): the cache keeps a snapshot of the record for later requests only while neither a commit
//!   of this node nor a change from the feed has overtaken it. A node that revokes a key fences it before the commit
//!   (`fenced_store.rs`), and until the outcome is known. An overtaken snapshot still decides on a request that came
//!   before its read began, unless a hash was computed since: otherwise a key under constant change would be
//!   undecidable.
//! - *The lease* (`lease.rs`): a read decides for a bounded time after it began, or for as long as polls of the feed
//!   keep completing. Without polls every key is read again once per bound; without the store nothing is granted.
//! - *The tag* (`tag.rs`): a mismatch counts as a wrong secret only if the tag is of a secret that was proven against
//!   the very digest in the entry.

pub(crate) mod compiled;
mod epochs;
mod fenced_store;
mod following;
mod key_cache;
mod lasting;
pub(crate) mod lease;
mod map;
mod passed_ends;
pub(crate) mod reads;
mod segments;
pub(crate) mod slot;
mod slots;
pub(crate) mod tag;
mod watchers;
mod weight;

pub(crate) use fenced_store::FencedStore;
pub use key_cache::KeyCache;
pub(crate) use passed_ends::PassedEnds;
pub(crate) use slots::Slots;
