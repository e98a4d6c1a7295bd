//! API keys for Rust applications.

pub mod clock;
pub mod hashing;
pub mod key;
pub mod random;
