//! Keys of the application's own that digests are made under.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

const CHECK: &[u8] = b"keyward/pepper-check/v1";

/// A secret of the application's own, kept apart from the store: without it, stolen digests cannot even be guessed at.
///
/// # Security
/// Wiped from memory when dropped; `Debug` shows the version only. Keep it where the store's backups are not,
/// and keep it safe: whoever loses it loses every key hashed under it.
#[derive(Clone)]
pub struct Pepper {
    version: u32,
    key: Arc<Key>,
}

struct Key {
    bytes: Zeroizing<Vec<u8>>,
    /// HMAC-SHA-256 with the key already taken in.
    keyed: Hmac<Sha256>,
}

impl Pepper {
    /// Least length in bytes: that of the hash's output (RFC 2104 §3).
    pub const MIN_BYTES: usize = 32;

    /// A pepper of these bytes, drawn at random once and kept.
    ///
    /// The version names it in digests, and a higher one replaces a lower one. It is never reused for other bytes.
    ///
    /// # Errors
    /// [`PepperError`] unless there are at least [`MIN_BYTES`](Self::MIN_BYTES), not all the same, and the
    /// version is 1 or more.
    pub fn new(version: u32, bytes: impl Into<Vec<u8>>) -> Result<Self, PepperError> {
        let bytes = Zeroizing::new(bytes.into());
        if version == 0 {
            return Err(PepperError::Version);
        }
        if bytes.len() < Self::MIN_BYTES {
            return Err(PepperError::Short);
        }
        if bytes.iter().all(|byte| Some(byte) == bytes.first()) {
            return Err(PepperError::Placeholder);
        }
        let keyed = Hmac::new_from_slice(&bytes).map_err(|_| PepperError::Short)?;
        Ok(Self {
            version,
            key: Arc::new(Key { bytes, keyed }),
        })
    }

    /// The version that names the pepper in digests.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.key.bytes
    }

    pub(super) fn mac(&self) -> Hmac<Sha256> {
        self.key.keyed.clone()
    }

    /// A value that gives nothing of the pepper away, by which a store tells a wrong one at start.
    pub(super) fn check_value(&self) -> String {
        let mut mac = self.mac();
        mac.update(CHECK);
        let check = mac.finalize().into_bytes();
        check.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pepper(version {}, [redacted])", self.version)
    }
}

/// A pepper cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PepperError {
    /// The version is 0.
    #[error("a pepper's version is 1 or more")]
    Version,
    /// There are too few bytes.
    #[error("a pepper has at least 32 bytes")]
    Short,
    /// All bytes are the same.
    #[error("all bytes of the pepper are the same; it is a placeholder, not a secret")]
    Placeholder,
}

/// The peppers that are accepted, and the one that new digests are made under.
#[derive(Debug, Clone, Default)]
pub(super) struct Peppers {
    accepted: Vec<Pepper>,
    current: Option<Pepper>,
}

impl Peppers {
    pub(super) fn set_current(&mut self, pepper: Pepper) {
        self.accept(pepper.clone());
        self.current = Some(pepper);
    }

    /// The latest given under a version stands.
    pub(super) fn accept(&mut self, pepper: Pepper) {
        self.accepted
            .retain(|known| known.version != pepper.version);
        self.accepted.push(pepper);
    }

    pub(super) fn current(&self) -> Option<&Pepper> {
        self.current.as_ref()
    }

    pub(super) fn find(&self, version: u32) -> Option<&Pepper> {
        self.iter().find(|pepper| pepper.version == version)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pepper> {
        self.accepted.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_refused() {
        let random: Vec<u8> = (0..32).collect();
        assert_eq!(
            Pepper::new(0, random.clone()).unwrap_err(),
            PepperError::Version
        );
        assert_eq!(
            Pepper::new(1, random[..31].to_vec()).unwrap_err(),
            PepperError::Short
        );
        assert_eq!(
            Pepper::new(1, vec![0; 64]).unwrap_err(),
            PepperError::Placeholder
        );
        assert_eq!(Pepper::new(1, random).unwrap().version(), 1);
    }
}
