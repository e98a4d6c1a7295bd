//! Starts a product as a separate process and drives it in three ways: with the [lines](Server::run_lines) that it
//! prints, with a [Python program](Server::run_python), and with [single requests](Client).
//!
//! For tests only: it panics if an expectation fails.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod client;
mod hello;
mod lines;
mod product;
mod server;

pub use client::{Client, Reply};
pub use hello::hello;
pub use lines::{Ran, Wanted};
pub use product::{Printed, Product, Program, office, text};
pub use server::Server;
pub use test_support::{BASH, CURL, REQUESTS, SFV, has};
