//! Tools for tests, of applications and of this crate.
//!
//! | to test | use |
//! |---|---|
//! | a handler of your application | [`keyward_with_key`], [`builder`], [`TestKey`] |
//! | that no route of it is open | `assert_guarded`, with the feature `axum`; `assert_app_guarded`, with `actix` |
//! | that only routes for guests are | `assert_guarded_except`; `assert_app_guarded_except`, with `actix` |
//! | that no route behind your own middleware is | `assert_requests_guarded`, with the feature `http` |
//! | the answers of your own middleware | [`every_denial`] |
//! | expiry, age, failed randomness | [`ManualClock`], [`ManualMonotonicClock`], [`SeededRandom`], [`FailingRandom`] |
//! | failures of the store | [`FaultyStore`] |
//! | a parser of your key format in another language | [`test_vectors`] |
//! | a backend of your own | [`conformance!`], which makes a test of each case of [the suite](mod@conformance) |
//!
//! This feature changes no other behaviour. A [`Keyward`](crate::Keyward) with one of these clocks or random sources
//! opens only if every environment that its format accepts is `test`. Another crate that switches the feature on
//! therefore cannot weaken a production system.

mod clock;
#[cfg(not(test))] // it needs proptest, which unit tests can do without
pub mod conformance;
mod denials;
mod faulty_store;
mod fixture;
#[cfg(any(feature = "actix", feature = "http"))]
mod guarded;
mod random;
mod vectors;

#[cfg(not(test))]
pub use crate::__keyward_conformance as conformance;
pub use clock::{ManualClock, ManualMonotonicClock};
pub use denials::every_denial;
pub use faulty_store::{Call, Fault, FaultyStore};
pub use fixture::{TestKey, builder, keyward_with_key};
#[cfg(feature = "http")]
pub use guarded::assert_requests_guarded;
#[cfg(feature = "actix")]
pub use guarded::{assert_app_guarded, assert_app_guarded_except};
#[cfg(feature = "axum")]
pub use guarded::{assert_guarded, assert_guarded_except};
pub use random::{FailingRandom, SeededRandom};
pub use vectors::{TestVector, VectorOutcome, test_vectors};
