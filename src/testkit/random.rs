//! Random sources that repeat themselves, or fail.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

use crate::random::{OsRandom, RandomError, RandomSource};

/// A random source that yields the same bytes in every run. Clones continue a common sequence.
#[derive(Clone)]
pub struct SeededRandom {
    seed: u64,
    blocks: Arc<AtomicU64>,
}

impl SeededRandom {
    /// Creates a source that yields the bytes of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            blocks: Arc::default(),
        }
    }

    /// Returns the next block: SHA-256 of the seed and the block's number.
    fn block(&self) -> [u8; 32] {
        let number = self.blocks.fetch_add(1, Ordering::Relaxed);
        Sha256::digest([self.seed, number].map(u64::to_be_bytes).as_flattened()).into()
    }

    /// Draws a number below this bound, which must not be 0.
    pub(crate) fn below(&self, bound: usize) -> usize {
        let drawn = self
            .block()
            .first_chunk()
            .copied()
            .map(usize::from_be_bytes);
        drawn
            .and_then(|drawn| drawn.checked_rem(bound))
            .unwrap_or_default()
    }
}

impl RandomSource for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
        for bytes in buffer.chunks_mut(32) {
            bytes
                .iter_mut()
                .zip(self.block())
                .for_each(|(byte, drawn)| *byte = drawn);
        }
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
