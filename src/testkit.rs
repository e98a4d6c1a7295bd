//! For tests, yours and ours.
//!
//! | to test | take |
//! |---|---|
//! | a handler of your application | [`keyward_with_key`], [`builder`], [`TestKey`] |
//! | that no route of it is open | `assert_guarded`, with the feature `axum`; `assert_app_guarded`, with `actix` |
//! | what your own middleware answers | [`every_denial`] |
//! | what expires, what grows old, and when randomness fails | [`ManualClock`], [`ManualMonotonicClock`], [`SeededRandom`], [`FailingRandom`] |
//! | what happens when the store fails | [`FaultyStore`] |
//! | a backend of your own | [`conformance!`], which makes a test of each case of [the suite](mod@conformance) |
//!
//! Nothing else behaves differently with this feature on. A [`Keyward`](crate::Keyward) on a clock or a random source
//! of these opens only if every environment that its format accepts is `test`, so that a feature that some other
//! crate switched on can weaken nobody's production.

mod clock;
pub mod conformance;
mod denials;
mod faulty_store;
mod fixture;
#[cfg(any(feature = "actix", feature = "axum"))]
mod guarded;
mod random;

pub use crate::__keyward_conformance as conformance;
pub use clock::{ManualClock, ManualMonotonicClock};
pub use denials::every_denial;
pub use faulty_store::{Call, Fault, FaultyStore};
pub use fixture::{TestKey, builder, keyward_with_key};
#[cfg(feature = "actix")]
pub use guarded::assert_app_guarded;
#[cfg(feature = "axum")]
pub use guarded::assert_guarded;
pub use random::{FailingRandom, SeededRandom};
