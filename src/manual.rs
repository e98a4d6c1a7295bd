//! Guides that are longer than an item's own documentation; the tests compile and run their examples.

// Their programs use axum or actix; without these features they are included as plain text.
#[cfg(any(all(feature = "actix", feature = "axum"), not(doctest)))]
#[doc = include_str!("manual/http.md")]
pub mod http {}

#[doc = include_str!("manual/clients.md")]
pub mod clients {}

#[cfg(any(feature = "axum", not(doctest)))]
#[doc = include_str!("manual/management.md")]
pub mod management {}

#[doc = include_str!("manual/operations.md")]
pub mod operations {}

#[doc = include_str!("manual/hashing.md")]
pub mod hashing {}

#[doc = include_str!("manual/limits.md")]
pub mod limits {}

#[doc = include_str!("manual/migrating.md")]
pub mod migrating {}

#[cfg(not(doctest))] // it needs the testkit; tests/servers runs its examples
#[doc = include_str!("manual/writing_a_backend.md")]
pub mod writing_a_backend {}

#[doc = include_str!("manual/writing_middleware.md")]
#[doc = "```ignore"] // a program of its own, which examples/poem builds
#[doc = include_str!("manual/poem.rs")]
#[doc = "```"]
pub mod writing_middleware {}
