//! Imports of keys that other systems issued: each one goes on working, and an attacker gains nothing by them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod bounds;
mod common;
mod displayed;
mod every_sample;
mod forms;
mod identity;
mod leaks;
mod many;
mod opaque;
mod own_beginning;
mod permission;
mod planted;
mod properties;
mod refused;
mod samples;
mod silence;
mod strength;
