//! Keyward as its users use it: a backend of their own and a handler of their own, from the public API alone.
//!
//! | to see | read |
//! |---|---|
//! | how a durable backend is written | [`RedbStore`] |
//! | how a handler asks for a key | [`handler`] |

pub mod handler;
mod redb_store;

pub use redb_store::RedbStore;
