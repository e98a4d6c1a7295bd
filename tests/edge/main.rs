//! What comes in over HTTP and what goes out, without a framework: which credentials are found, what callers are told,
//! and what operators are told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod answers;
mod common;
mod credentials;
mod forged;
mod limits;
mod near_misses;
mod problems;
mod report_only;
mod reverify;
mod transport;
