//! The stored digest of a secret.

use std::fmt;

use subtle::ConstantTimeEq;

use super::ValueError;

/// The stored digest of a secret: a self-describing PHC string.
///
/// Only [`hashing`](crate::hashing) interprets it.
///
/// # Security
/// A digest is not the secret, but worth protecting: `Debug` shows the algorithm only, and there is no `Display` and
/// no `Serialize`. `==` takes the same time wherever two digests differ. A backend writes it with
/// [`expose`](Self::expose).
#[derive(Clone)]
pub struct Digest(Box<str>);

impl Digest {
    /// Longest digest in bytes.
    pub(crate) const MAX_BYTES: usize = 512;

    /// Creates a digest from a text that was read from a store.
    ///
    /// # Errors
    /// [`ValueError`] if the text is longer than 512 bytes or not visible ASCII. The content
    /// is checked only when the digest is used.
    pub fn new(text: impl Into<Box<str>>) -> Result<Self, ValueError> {
        let text = text.into();
        if text.len() > Self::MAX_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ValueError::malformed(
                "digest",
                "at most 512 visible ASCII characters",
            ));
        }
        Ok(Self(text))
    }

    /// Returns a placeholder until a secret is drawn. No secret matches it.
    pub(crate) fn none() -> Self {
        Self(Box::default())
    }

    /// Returns the digest's text, to be stored.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Digest {}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithm = self.0.split('$').nth(1).unwrap_or_default();
        // A hostile row may hold anything in this place, such as another key's secret.
        let known = algorithm.starts_with("keyward-") && algorithm.len() <= 32;
        let shown = if known { algorithm } else { "unknown" };
        write!(f, "Digest({shown}, [redacted])")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn comparison_is_constant_time() {
        let (source, _) = include_str!("digest.rs")
            .split_once("#[cfg(test)]")
            .unwrap();
        // A derived `PartialEq` would stop at the first difference.
        assert!(source.contains("self.0.as_bytes().ct_eq(other.0.as_bytes())"));
    }
}
