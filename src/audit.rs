//! What an event is, and the chain that ties each to the one before.
//!
//! Every change that the manager makes commits together with its event. Events bear no secret and no digest.

mod chain;
mod event;

pub use chain::{ChainBreak, ChainHead, SealedEvent, verify_chain};
pub use event::{Event, EventAction, FieldChange};
