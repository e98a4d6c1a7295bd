//! The credential that a caller sent, before any check, and why it is no key.

use std::fmt;

use crate::codes::codes;

/// A credential as received: one text, an id and a secret, no credential, or too many.
///
/// It accepts bytes as well as text, since header values need not be UTF-8. `Debug` shows the form only.
#[derive(Clone, Copy)]
pub struct PresentedKey<'a>(pub(super) Presentation<'a>);

#[derive(Clone, Copy)]
pub(super) enum Presentation<'a> {
    Text(&'a [u8]),
    Pair {
        id: &'a [u8],
        secret: &'a [u8],
    },
    /// No single value, or not both of a pair, came.
    Unread(KeyTextError),
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
        Self::unread(KeyTextError::HalfPair)
    }

    /// Represents a credential that is not encoded as its scheme requires, such as `Basic` without base64.
    #[must_use]
    pub const fn undecodable() -> Self {
        Self::unread(KeyTextError::Undecodable)
    }

    /// Represents a request without a credential.
    #[must_use]
    pub const fn none() -> Self {
        Self::unread(KeyTextError::Absent)
    }

    /// Represents more than one credential, equal or not (RFC 6750 §3.1 `invalid_request`).
    #[must_use]
    pub(crate) const fn several() -> Self {
        Self::unread(KeyTextError::Ambiguous)
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
            (Some(_), Some(_)) => Self::several(),
        }
    }

    /// Returns the text; `None` if the credential is not a single text.
    pub(crate) fn whole_text(self) -> Option<&'a [u8]> {
        match self.0 {
            Presentation::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Represents a request from which no credential could be read, for this reason.
    pub(crate) const fn unread(error: KeyTextError) -> Self {
        Self(Presentation::Unread(error))
    }
}

impl fmt::Debug for PresentedKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match self.0 {
            Presentation::Text(_) => "text, redacted",
            Presentation::Pair { .. } => "pair, redacted",
            Presentation::Unread(error) => error.code(),
        };
        write!(f, "PresentedKey({form})")
    }
}

/// Why a credential is not a key text of this format.
///
/// It is for the operator and contains no part of the text: a caller only learns that the credential was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum KeyTextError {
    /// No credential was presented.
    #[error("no credential was presented")]
    Absent,
    /// More than one credential was presented.
    #[error("more than one credential was presented")]
    Ambiguous,
    /// One value of the two-value form was presented without the other.
    #[error("one half of an id and secret pair was presented without the other")]
    HalfPair,
    /// The credential is not encoded as its scheme requires.
    #[error("the credential is not encoded as its scheme asks")]
    Undecodable,
    /// The credential is empty.
    #[error("the credential is empty")]
    Empty,
    /// The credential is longer than any key.
    #[error("the credential is longer than 256 bytes")]
    Oversize,
    /// There is white space around the key.
    #[error("there is white space around the key")]
    Padded,
    /// There are quotation marks around the key.
    #[error("there are quotation marks around the key")]
    Quoted,
    /// The text does not begin with the format's prefix.
    #[error("the text does not begin with this application's prefix")]
    Prefix,
    /// The prefix and environment are right except for upper and lower case.
    #[error("the text's prefix or environment is in the wrong case")]
    Recased,
    /// The text names an environment that is not accepted here.
    #[error("the text names an environment that is not accepted here")]
    Environment,
    /// The text is shorter than a key.
    #[error("the text is {missing} characters short")]
    Truncated {
        /// The number of missing characters.
        missing: usize,
    },
    /// The text is longer than a key.
    #[error("the text is {extra} characters too long")]
    Extended {
        /// The number of characters beyond the end of a key.
        extra: usize,
    },
    /// A byte is not an ASCII letter or digit.
    #[error("the byte at position {position} is not a letter or digit")]
    Character {
        /// Position in bytes from the start of the text (from the start of the secret in the two-value form).
        position: usize,
    },
    /// The checksum does not match: the text was mistyped or altered.
    #[error("the checksum does not match: the text was mistyped or altered")]
    Checksum,
    /// The id is out of range or not in its canonical spelling.
    #[error("the id is not one, or not in its one spelling")]
    Id,
}

codes! {
    KeyTextError, inside "malformed_";
    Self::Absent => "absent",
    Self::Ambiguous => "ambiguous",
    Self::HalfPair => "half_pair",
    Self::Undecodable => "undecodable",
    Self::Empty => "empty",
    Self::Oversize => "oversize",
    Self::Padded => "padded",
    Self::Quoted => "quoted",
    Self::Prefix => "prefix",
    Self::Recased => "recased",
    Self::Environment => "environment",
    Self::Truncated { .. } => "truncated",
    Self::Extended { .. } => "extended",
    Self::Character { .. } => "character",
    Self::Checksum => "checksum",
    Self::Id => "id",
}
