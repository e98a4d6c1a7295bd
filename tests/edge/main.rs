//! Edges without a framework: the credentials they find, the responses to callers, and the reports to
//! operators.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod answers;
mod browsers;
mod clients;
mod common;
mod credentials;
mod expiry;
mod failed_authentications;
mod forged;
mod guarded;
mod guests;
mod limits;
mod near_misses;
mod observed;
mod problems;
mod report_only;
mod reverify;
mod transport;
