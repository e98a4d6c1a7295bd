//! What may befall a file, and what then holds: nothing is granted that should not be, what cannot be decided is a 503,
//! what was acknowledged is not lost, and work goes on where it can.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it left out"
)]

mod child;
mod common;
mod damage;
mod disk;
mod future;
mod locks;
mod read_only;
mod replaced;
mod restored;
mod rows;
