//! Sources of random bytes.
//!
//! By default, Keyward draws key ids, secrets and salts from the operating system each time it needs them. A generator
//! kept in memory would repeat itself in a virtual machine that was cloned or restored from a snapshot.

use std::fmt::Debug;

use rand_core::TryRng;

use crate::codes::codes;

/// A source of random bytes.
///
/// # Contract
/// The bytes are fit for cryptographic keys: uniform, and unpredictable to anyone. A call fills the whole buffer or
/// fails; Keyward issues nothing from a call that failed.
pub trait RandomSource: Debug + Send + Sync + 'static {
    /// Fills `buffer` with fresh random bytes.
    ///
    /// # Errors
    /// [`RandomError`] if the source has no random bytes. Keyward then does not use the contents of `buffer`.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError>;

    /// Returns whether a test chooses the bytes.
    ///
    /// A [`Keyward`](crate::Keyward) with such a source opens only for the `test` environment.
    fn is_for_tests(&self) -> bool;
}

/// A failure of a random source.
#[derive(Debug, thiserror::Error)]
#[error("the random source failed")]
pub struct RandomError {
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

codes! {
    RandomError;
    Self { .. } => "random_failed",
}

impl RandomError {
    /// Creates an error with the cause that the source reported.
    pub fn new(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            source: Some(source.into()),
        }
    }
}

/// The operating system's generator, called for every buffer.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsRandom;

impl RandomSource for OsRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
        getrandom::SysRng
            .try_fill_bytes(buffer)
            .map_err(RandomError::new)
    }

    fn is_for_tests(&self) -> bool {
        false
    }
}
