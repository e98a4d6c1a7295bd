//! API keys for Rust applications.

pub mod clock;
pub mod key;
pub mod random;
