//! Peppers: the application's own keys under which digests are created.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::key::ValueError;

const VERSION: ValueError = ValueError::malformed("pepper version", "1 or more");
const SHORT: ValueError = ValueError::malformed("pepper", "at least 32 bytes");
const PLACEHOLDER: ValueError = ValueError::malformed(
    "pepper",
    "drawn at random; bytes that are all the same are a placeholder",
);

const CHECK: &[u8] = b"keyward/pepper-check/v1";

/// A secret of the application, kept apart from the store: without it, an attacker cannot even guess at stolen
/// digests.
///
/// # Security
/// The pepper is wiped from memory when dropped; `Debug` shows the version only. Keep it in a different place than the
/// store's backups, and keep it safe: losing it loses every key hashed under it.
#[derive(Clone)]
pub struct Pepper {
    version: u32,
    key: Arc<Key>,
}

struct Key {
    bytes: Zeroizing<Vec<u8>>,
    /// HMAC-SHA-256 with the key already absorbed.
    keyed: Hmac<Sha256>,
}

impl Pepper {
    /// Least length in bytes: that of the hash's output (RFC 2104 §3).
    pub(crate) const MIN_BYTES: usize = 32;

    /// Creates a pepper of these bytes, which must be drawn at random once and kept.
    ///
    /// Digests name the pepper by its version, and a higher version replaces a lower one. Never reuse a version for
    /// other bytes.
    ///
    /// # Errors
    /// [`ValueError`] unless there are at least 32, not all the same, and the version is
    /// 1 or more.
    pub fn new(version: u32, bytes: impl Into<Vec<u8>>) -> Result<Self, ValueError> {
        let bytes = Zeroizing::new(bytes.into());
        if version == 0 {
            return Err(VERSION);
        }
        if bytes.len() < Self::MIN_BYTES {
            return Err(SHORT);
        }
        if bytes.iter().all(|byte| Some(byte) == bytes.first()) {
            return Err(PLACEHOLDER);
        }
        let keyed = Hmac::new_from_slice(&bytes).map_err(|_| SHORT)?;
        Ok(Self {
            version,
            key: Arc::new(Key { bytes, keyed }),
        })
    }

    /// Returns the version by which digests name the pepper.
    #[must_use]
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.key.bytes
    }

    pub(crate) fn mac(&self) -> Hmac<Sha256> {
        self.key.keyed.clone()
    }

    /// Returns a value that reveals nothing of the pepper, with which a wrong pepper is detected at start.
    pub(crate) fn check_value(&self) -> String {
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

/// The accepted peppers, and the one for new digests.
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

    /// Accepts a pepper. The latest pepper of a version replaces earlier ones.
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
        assert_eq!(Pepper::new(0, random.clone()).unwrap_err(), VERSION);
        assert_eq!(Pepper::new(1, random[..31].to_vec()).unwrap_err(), SHORT);
        assert_eq!(Pepper::new(1, vec![0; 64]).unwrap_err(), PLACEHOLDER);
        assert_eq!(Pepper::new(1, random).unwrap().version(), 1);
    }
}
