//! What an event is, and the chain that ties each to the one before.
//!
//! If the store keeps events, every change by the manager commits together with its event, except that a revocation
//! commits even if the log cannot take its event. Events contain no secret and no digest. Keyward never deletes them.

mod chain;
mod event;

pub use chain::{ChainBreak, ChainHead, SealedEvent, verify_chain};
pub use event::{Event, EventAction, FieldChange};
