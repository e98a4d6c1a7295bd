//! API keys for Rust applications.

pub mod audit;
pub mod clock;
pub mod hashing;
pub mod key;
pub mod manager;
pub mod random;
pub mod store;
