//! For tests, yours and ours: a clock that you set, and random sources that repeat themselves or fail.
//!
//! Nothing else behaves differently with this feature on. A [`Keyward`](crate::Keyward) on any of these opens only
//! if every environment that its format accepts is `test`, so that a feature that some other crate switched on
//! can weaken nobody's production.

mod clock;
mod random;

pub use clock::ManualClock;
pub use random::{FailingRandom, SeededRandom};
