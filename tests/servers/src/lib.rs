//! Keyward's adapters in real servers, tried over real sockets: for each framework what is its own, and one table of
//! cases that holds for all. The code of the README and of a guide is run here too, where all that it uses is at hand.
#![cfg(any(test, doctest))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod actix;
mod axum;
mod both;
mod client;
mod hyper;
mod looking_up;
mod managing;
mod nested;
mod poem;
mod refused;
mod tonic;
mod tower;
mod wire;

use keyward::key::Scope;
use keyward::scope;

const READ: Scope = scope!("read:editions");

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../../src/manual/writing_a_backend.md")]
struct WritingABackend;
