//! The text that a client receives once.

use std::fmt;

use zeroize::Zeroizing;

use super::format::DISPLAYED_ID_DIGITS;
use super::{KeyId, PresentedKey, base62};

/// The whole key as its client will send it, which exists only between issuing and showing.
///
/// # Security
/// The text is wiped from memory when the value is dropped. `Debug` shows the display prefix; there is no `Display`,
/// no `Serialize`, no `Clone` and no `PartialEq`. Show the key once, over TLS, in a response marked
/// `Cache-Control: no-store`.
pub struct ApiKey {
    text: Zeroizing<String>,
    id: KeyId,
    head: usize,
    secret_length: usize,
}

impl ApiKey {
    pub(super) fn new(
        text: Zeroizing<String>,
        id: KeyId,
        head: usize,
        secret_length: usize,
    ) -> Self {
        Self {
            text,
            id,
            head,
            secret_length,
        }
    }

    /// Returns the key's text, to be sent as one value.
    ///
    /// # Security
    /// Anyone who has this text has the key.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Returns the key's id, the first value of the two-value form.
    ///
    /// It is not a secret.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Returns the secret alone, the second value of the two-value form.
    ///
    /// # Security
    /// Together with the id, which is public, it is the key. Alone it looks like any other text: a
    /// [`Redactor`](super::Redactor) cannot find it in a log.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        let start = self.head + base62::ID_DIGITS;
        self.text
            .get(start..start + self.secret_length)
            .unwrap_or_default()
    }

    /// Returns the part of the text that may be shown afterwards, such as `acme_live_2Nq8vR1x`.
    #[must_use]
    pub fn display_prefix(&self) -> &str {
        self.text
            .get(..self.head + DISPLAYED_ID_DIGITS)
            .unwrap_or_default()
    }

    /// Returns the key as a client presents it in one value.
    #[must_use]
    pub fn presented(&self) -> PresentedKey<'_> {
        PresentedKey::text(self.expose())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({}[redacted])", self.display_prefix())
    }
}
