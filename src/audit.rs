//! Audit events, and the hash chain that links each event to the one before.
//!
//! If the store keeps events, every change by the manager commits together with its event. The one exception is a
//! revocation: it commits even if the log cannot take its event. Events contain no secret and no digest. They are kept
//! until [`cut_events`](crate::manager::KeyManager::cut_events) removes the oldest; the rest of the log still
//! verifies.

mod chain;
mod event;

pub use chain::{ChainBreak, ChainHead, LogCheck, SealedEvent, verify_chain, verify_log};
pub use event::{Event, EventAction, FieldChange};
