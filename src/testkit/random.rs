//! Random sources that repeat themselves, or fail.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::random::{OsRandom, RandomError, RandomSource};

/// A random source that yields the same bytes in every run. Clones continue a common sequence.
#[derive(Clone)]
pub struct SeededRandom(Arc<Mutex<ChaCha20Rng>>);

impl SeededRandom {
    /// Creates a source that yields the bytes of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(ChaCha20Rng::seed_from_u64(seed))))
    }
}

impl RandomSource for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
        let mut generator = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        generator.fill_bytes(buffer);
        Ok(())
    }

    fn is_for_tests(&self) -> bool {
        true
    }
}

impl fmt::Debug for SeededRandom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeededRandom")
    }
}

/// A random source that succeeds a number of times and then fails. Clones share the count.
#[derive(Debug, Clone)]
pub struct FailingRandom(Arc<AtomicU64>);

impl FailingRandom {
    /// Creates a source that answers this many calls.
    #[must_use]
    pub fn after(calls: u64) -> Self {
        Self(Arc::new(AtomicU64::new(calls)))
    }
}

impl RandomSource for FailingRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
        let one_less = |left: u64| left.checked_sub(1);
        let answered = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        // The contents of the buffer after a failed call must not be used.
        buffer.fill(0);
        match answered {
            Ok(_) => OsRandom.fill(buffer),
            Err(_) => Err(RandomError::new("planted by the test")),
        }
    }

    fn is_for_tests(&self) -> bool {
        true
    }
}
