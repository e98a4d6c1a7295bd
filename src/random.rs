//! Where random bytes come from.
//!
//! Key ids, secrets and salts are drawn from the operating system each time they are needed. A generator
//! kept in memory would repeat itself in a virtual machine that was cloned or restored from a snapshot.

use std::fmt::Debug;

use rand_core::TryRng;

/// Fills buffers with random bytes.
///
/// # Contract
/// The bytes are fit for cryptographic keys: uniform, and unpredictable to anyone. A buffer is filled
/// whole, or the call fails; nothing is issued from a call that failed.
pub trait RandomSource: Debug + Send + Sync + 'static {
    /// Fills `buffer` with fresh random bytes.
    ///
    /// # Errors
    /// [`RandomError`] if no random bytes can be had. The contents of `buffer` are then not used.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError>;

    /// Whether the bytes are chosen by a test rather than random.
    ///
    /// A [`Keyward`](crate::Keyward) with such a source opens only for the `test` environment.
    fn is_for_tests(&self) -> bool;
}

/// No random bytes can be had.
#[derive(Debug, thiserror::Error)]
#[error("no random bytes can be had")]
pub struct RandomError {
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl RandomError {
    /// An error with the cause that the source reported.
    pub fn new(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            source: Some(source.into()),
        }
    }
}

/// The operating system's generator, asked for each time.
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
