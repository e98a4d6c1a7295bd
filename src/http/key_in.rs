//! The forms in which a client may send a key.

use std::fmt;

/// A form in which a client may send a key. An [`Edge`](super::Edge) accepts only the forms added to it.
///
/// ```
/// use keyward::http::KeyIn;
///
/// let forms = [KeyIn::bearer(), KeyIn::header("X-API-Key")?];
/// # let _ = forms;
/// # Ok::<(), keyward::http::KeyInError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyIn(pub(super) Location);

/// The location of the key in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Location {
    /// `Authorization: {scheme} {key}`.
    Scheme(AuthScheme),
    /// Keeps the name as the host wrote it, for challenges.
    Header(FieldName),
    Pair {
        id: FieldName,
        secret: FieldName,
    },
    Query(Box<str>),
}

/// An authentication scheme (RFC 9110 §11.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AuthScheme {
    Bearer,
    ApiKey,
    Basic,
}

/// A field name (RFC 9110 §5.1), as written and in lower case. Look-ups use the lower case.
#[derive(Clone, Eq)]
pub(super) struct FieldName {
    pub(super) written: Box<str>,
    pub(super) lower: Box<str>,
}

impl KeyIn {
    /// The key as `Authorization: Bearer {key}` (RFC 6750 §2.1).
    #[must_use]
    pub const fn bearer() -> Self {
        Self(Location::Scheme(AuthScheme::Bearer))
    }

    /// The key as `Authorization: ApiKey {key}`, or `Api-Key`. No standard defines this scheme, but many products use
    /// it.
    #[must_use]
    pub const fn api_key() -> Self {
        Self(Location::Scheme(AuthScheme::ApiKey))
    }

    /// The key as `Authorization: Basic …` (RFC 7617), as `curl -u` sends it.
    ///
    /// Either the key is the user and the password is empty, or the key's id is the user and its secret is the
    /// password.
    #[must_use]
    pub const fn basic() -> Self {
        Self(Location::Scheme(AuthScheme::Basic))
    }

    /// The key alone in a header with this name, such as `X-API-Key`.
    ///
    /// # Errors
    /// [`KeyInError`] if the name is not a valid header name, or is `Authorization`, which has schemes.
    pub fn header(name: &str) -> Result<Self, KeyInError> {
        Ok(Self(Location::Header(FieldName::new(name)?)))
    }

    /// The key as two values: its id in one header and its secret in another.
    ///
    /// # Errors
    /// As for [`header`](Self::header), and if both have the same name.
    pub fn pair(id: &str, secret: &str) -> Result<Self, KeyInError> {
        let (id, secret) = (FieldName::new(id)?, FieldName::new(secret)?);
        if id.lower == secret.lower {
            return Err(KeyInError(secret.written));
        }
        Ok(Self(Location::Pair { id, secret }))
    }

    /// The key in a parameter of the query, such as `?api_key=…`.
    ///
    /// # Security
    /// URLs end up in the logs of every proxy on the way, in histories and in `Referer` headers, and the key with
    /// them (RFC 6750 §5.3 and RFC 9700 §4.3.2 advise against it). Use it only for clients that cannot send a header.
    ///
    /// # Errors
    /// [`KeyInError`] unless the name consists of letters, digits, `-`, `_` and `.`.
    pub fn query_parameter(name: &str) -> Result<Self, KeyInError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_plain) {
            return Err(KeyInError(name.into()));
        }
        Ok(Self(Location::Query(name.into())))
    }

    /// Returns the headers that carry a key in this form.
    pub(super) fn headers(&self) -> impl Iterator<Item = &FieldName> {
        let (one, other) = match &self.0 {
            Location::Header(name) => (Some(name), None),
            Location::Pair { id, secret } => (Some(id), Some(secret)),
            Location::Scheme(_) | Location::Query(_) => (None, None),
        };
        one.into_iter().chain(other)
    }

    #[cfg(any(feature = "actix", feature = "tower"))]
    pub(super) fn is_in_query(&self) -> bool {
        matches!(self.0, Location::Query(_))
    }

    pub(super) fn scheme(&self) -> Option<AuthScheme> {
        match self.0 {
            Location::Scheme(scheme) => Some(scheme),
            _ => None,
        }
    }
}

impl AuthScheme {
    /// Whether this name, in any case, is a name of the scheme.
    pub(super) fn is_named(self, name: &[u8]) -> bool {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match self {
            // Most clients send the registered spelling, so the exact comparison comes first.
            Self::Bearer => name == b"Bearer" || is("bearer"),
            Self::ApiKey => is("apikey") || is("api-key"),
            Self::Basic => is("basic"),
        }
    }
}

impl FieldName {
    fn new(name: &str) -> Result<Self, KeyInError> {
        // A token of RFC 9110 §5.6.2.
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let lower = name.to_ascii_lowercase();
        if name.is_empty() || !name.bytes().all(is_token) || lower == "authorization" {
            return Err(KeyInError(name.into()));
        }
        Ok(Self {
            written: name.into(),
            lower: lower.into(),
        })
    }
}

/// Compares case-insensitively, as HTTP does.
impl PartialEq for FieldName {
    fn eq(&self, other: &Self) -> bool {
        self.lower == other.lower
    }
}

impl fmt::Debug for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.written)
    }
}

/// The error for a name that no key can be sent under.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no key can be sent under the name `{0}`")]
pub struct KeyInError(Box<str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_names_are_refused() {
        for name in [
            "",
            "X API",
            "X-Key:",
            "X-Schlüssel",
            "X\nY",
            "Authorization",
            "authorization",
        ] {
            assert!(KeyIn::header(name).is_err(), "{name:?}");
            assert!(KeyIn::pair("X-Id", name).is_err(), "{name:?}");
            assert!(KeyIn::pair(name, "X-Secret").is_err(), "{name:?}");
        }
        assert!(KeyIn::pair("X-Key", "x-key").is_err());
        for name in ["", "a b", "a=b", "a&b", "ä", "a%20b"] {
            assert!(KeyIn::query_parameter(name).is_err(), "{name:?}");
        }
    }
}
