//! The credential that a caller sent, before any check.

use std::fmt;

use super::{KeyFormat, KeyTextError, ParsedKey};

/// A credential as received: one text, an id and a secret, no credential, or too many.
///
/// It accepts bytes as well as text, since header values need not be UTF-8. `Debug` shows the form only.
#[derive(Clone, Copy)]
pub struct PresentedKey<'a>(Presentation<'a>);

#[derive(Clone, Copy)]
enum Presentation<'a> {
    Absent,
    Ambiguous,
    HalfPair,
    Undecodable,
    Text(&'a [u8]),
    Pair { id: &'a [u8], secret: &'a [u8] },
}

impl<'a> PresentedKey<'a> {
    /// Creates a credential from the whole key in one value, without a scheme such as `Bearer`.
    #[must_use]
    pub fn text<T: AsRef<[u8]> + ?Sized>(text: &'a T) -> Self {
        Self(Presentation::Text(text.as_ref()))
    }

    /// Creates a credential from two values: the 36-character id and the secret.
    ///
    /// # Security
    /// A secret alone cannot be recognized among other text: keep the header that contains it out of logs.
    #[must_use]
    pub fn pair<I, S>(id: &'a I, secret: &'a S) -> Self
    where
        I: AsRef<[u8]> + ?Sized,
        S: AsRef<[u8]> + ?Sized,
    {
        Self(Presentation::Pair {
            id: id.as_ref(),
            secret: secret.as_ref(),
        })
    }

    /// Represents one value of the two-value form without the other.
    #[must_use]
    pub const fn half_pair() -> Self {
        Self(Presentation::HalfPair)
    }

    /// Represents a credential that is not encoded as its scheme requires, such as `Basic` without base64.
    #[must_use]
    pub const fn undecodable() -> Self {
        Self(Presentation::Undecodable)
    }

    /// Represents a request without a credential.
    #[must_use]
    pub const fn none() -> Self {
        Self(Presentation::Absent)
    }

    /// Represents more than one credential, equal or not (RFC 6750 §3.1 `invalid_request`).
    #[must_use]
    pub const fn several() -> Self {
        Self(Presentation::Ambiguous)
    }

    /// Returns the only credential of a request that may have carried several.
    ///
    /// Without a credential the result is [`none`](Self::none). More than one is refused as a bad request, equal or
    /// not (RFC 6750 §3.1 `invalid_request`).
    ///
    /// ```
    /// use keyward::key::PresentedKey;
    ///
    /// let bearer = Some("acme_live_…").map(PresentedKey::text);
    /// let header = Some("acme_live_…").map(PresentedKey::text);
    /// let presented = PresentedKey::only_one_of([bearer, header].into_iter().flatten());
    /// assert_eq!(format!("{presented:?}"), "PresentedKey(ambiguous)");
    /// ```
    #[must_use]
    pub fn only_one_of(credentials: impl IntoIterator<Item = Self>) -> Self {
        let mut credentials = credentials.into_iter();
        match (credentials.next(), credentials.next()) {
            (None, _) => Self::none(),
            (Some(only), None) => only,
            (Some(_), Some(_)) => Self(Presentation::Ambiguous),
        }
    }

    /// Returns the text; `None` if the credential is not a single text.
    pub(crate) fn whole_text(self) -> Option<&'a [u8]> {
        match self.0 {
            Presentation::Text(text) => Some(text),
            _ => None,
        }
    }

    #[inline(always)]
    pub(super) fn parse(self, format: &'a KeyFormat) -> Result<ParsedKey<'a>, KeyTextError> {
        match self.0 {
            Presentation::Absent => Err(KeyTextError::Absent),
            Presentation::Ambiguous => Err(KeyTextError::Ambiguous),
            Presentation::HalfPair => Err(KeyTextError::HalfPair),
            Presentation::Undecodable => Err(KeyTextError::Undecodable),
            Presentation::Text(text) => format.parse(text),
            Presentation::Pair { id, secret } => format.parse_pair(id, secret),
        }
    }
}

impl fmt::Debug for PresentedKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match self.0 {
            Presentation::Absent => "none",
            Presentation::Ambiguous => "ambiguous",
            Presentation::HalfPair => "half a pair",
            Presentation::Undecodable => "undecodable",
            Presentation::Text(_) => "text, redacted",
            Presentation::Pair { .. } => "pair, redacted",
        };
        write!(f, "PresentedKey({form})")
    }
}
