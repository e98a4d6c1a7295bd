//! Guides: longer than an item's own documentation, and compiled and run with the tests.

#[doc = include_str!("manual/migrating.md")]
pub mod migrating {}

#[doc = include_str!("manual/writing_a_backend.md")]
pub mod writing_a_backend {}

#[doc = include_str!("manual/writing_middleware.md")]
#[doc = "```ignore"] // a program of its own, which examples/poem builds
#[doc = include_str!("manual/poem.rs")]
#[doc = "```"]
pub mod writing_middleware {}
