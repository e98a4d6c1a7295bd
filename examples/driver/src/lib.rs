//! Starts a product as a process of its own, and drives it: by the very [lines](Server::run_lines) that it prints, by a
//! [program in Python](Server::run_python), and [by hand](Client).
//!
//! For tests alone: it panics where something is not as it has to be.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod client;
mod lines;
mod server;

pub use client::{Client, Reply, office};
pub use lines::{Ran, Wanted};
pub use server::Server;
pub use test_support::{BASH, CURL, REQUESTS, has};
