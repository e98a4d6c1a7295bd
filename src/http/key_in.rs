//! The forms in which a client may send a key.

use std::fmt;

use crate::codes::codes;

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
    /// A sub-protocol that begins with this, in `Sec-WebSocket-Protocol`.
    SubProtocol(Box<str>),
}

/// An authentication scheme (RFC 9110 §11.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AuthScheme {
    Bearer,
    ApiKey,
    Basic,
    Other(FieldName),
    /// The value of `Authorization` is the key.
    Bare,
}

/// A field name (RFC 9110 §5.1) or a scheme, as written and in lower case. Look-ups use the lower case.
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
    ///
    /// `ApiKey` also takes the base64 of the key's id, a colon and its secret, as Elasticsearch's clients send it.
    #[must_use]
    pub const fn api_key() -> Self {
        Self(Location::Scheme(AuthScheme::ApiKey))
    }

    /// The key as `Authorization: Basic …` (RFC 7617), as `curl -u` sends it.
    ///
    /// The key is the user or the password, or the key's id is the user and its secret is the password. A value beside
    /// a key that is no key itself is ignored, since clients fill it in: `{key}:x`, `api:{key}`. Two keys, or an id
    /// beside a whole key, are two credentials (400). The form of a value decides whether it is a key: that of the
    /// application's own keys, or of accepted [imported keys](crate::import::ImportedKeys).
    ///
    /// # Security
    /// The user beside a key proves nothing: never read a name from it. The adapters remove the header, unless
    /// `Edge::keep_credential` is set.
    #[must_use]
    pub const fn basic() -> Self {
        Self(Location::Scheme(AuthScheme::Basic))
    }

    /// The key as `Authorization: {name} {key}`, with a scheme of the host's choice, such as `Token`.
    ///
    /// The name matches in any case. The key may also be a parameter (RFC 9110 §11.4), as Rails writes it:
    /// `Token token="{key}"`. The names of the schemes above mean those.
    ///
    /// ```
    /// use keyward::http::KeyIn;
    ///
    /// assert_eq!(KeyIn::scheme("Token")?, KeyIn::scheme("token")?);
    /// assert_eq!(KeyIn::scheme("Bearer")?, KeyIn::bearer());
    /// # Ok::<(), keyward::http::KeyInError>(())
    /// ```
    ///
    /// # Errors
    /// [`KeyInError`] if the name is not a valid name of a scheme (RFC 9110 §11.1).
    pub fn scheme(name: &str) -> Result<Self, KeyInError> {
        let known = [AuthScheme::Bearer, AuthScheme::ApiKey, AuthScheme::Basic];
        let known = known
            .into_iter()
            .find(|scheme| scheme.is_named(name.as_bytes()));
        Ok(Self(Location::Scheme(match known {
            Some(scheme) => scheme,
            None => AuthScheme::Other(FieldName::new(name)?),
        })))
    }

    /// The key alone as `Authorization: {key}`, with no scheme before it, as cargo sends it.
    ///
    /// A value with a space in it is not read: it begins with a scheme.
    #[must_use]
    pub const fn authorization() -> Self {
        Self(Location::Scheme(AuthScheme::Bare))
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

    /// The key after this prefix, as one of the sub-protocols that a WebSocket client offers in
    /// `Sec-WebSocket-Protocol` (RFC 6455 §1.9). Browsers let a page set no other header of a WebSocket.
    ///
    /// With the prefix `acme.key.`, a page calls `new WebSocket(url, ["acme.v1", "acme.key." + key])`. The adapters
    /// remove the sub-protocol with the key, so that a handler cannot select it and send the key back. The page must
    /// offer another one, and the handler must select it: browsers close a connection for which none of the offered
    /// sub-protocols is selected. The guide [Clients](crate::manual::clients) shows both sides.
    ///
    /// # Errors
    /// [`KeyInError`] if the prefix is not a token of RFC 9110 §5.6.2, as sub-protocols are.
    pub fn web_socket_protocol(prefix: &str) -> Result<Self, KeyInError> {
        if !is_token(prefix) {
            return Err(KeyInError(prefix.into()));
        }
        Ok(Self(Location::SubProtocol(prefix.into())))
    }

    /// Returns the headers that carry only a key in this form.
    pub(super) fn headers(&self) -> impl Iterator<Item = &FieldName> {
        let (one, other) = match &self.0 {
            Location::Header(name) => (Some(name), None),
            Location::Pair { id, secret } => (Some(id), Some(secret)),
            Location::Scheme(_) | Location::Query(_) | Location::SubProtocol(_) => (None, None),
        };
        one.into_iter().chain(other)
    }

    /// Returns whether the key is only a part of the target or of a header, and the rest is the application's.
    #[cfg(any(feature = "actix", feature = "http"))]
    pub(super) fn is_a_part(&self) -> bool {
        matches!(self.0, Location::Query(_) | Location::SubProtocol(_))
    }

    /// Returns the prefix of the sub-protocols that carry a key in this form.
    pub(super) fn sub_protocol_prefix(&self) -> Option<&str> {
        match &self.0 {
            Location::SubProtocol(prefix) => Some(prefix),
            _ => None,
        }
    }

    pub(super) fn auth_scheme(&self) -> Option<&AuthScheme> {
        match &self.0 {
            Location::Scheme(scheme) => Some(scheme),
            _ => None,
        }
    }
}

impl AuthScheme {
    /// Whether this name, in any case, is a name of the scheme.
    pub(super) fn is_named(&self, name: &[u8]) -> bool {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match self {
            // Most clients send the registered spelling, so the exact comparison comes first.
            Self::Bearer => name == b"Bearer" || is("bearer"),
            Self::ApiKey => is("apikey") || is("api-key"),
            Self::Basic => is("basic"),
            Self::Other(scheme) => is(&scheme.lower),
            Self::Bare => false,
        }
    }

    /// Returns the rest of a value that begins with a name of the scheme, in any case.
    pub(super) fn strip_from<'a>(&self, value: &'a [u8]) -> Option<&'a [u8]> {
        let lengths = match self {
            Self::Bearer => 6..=6,
            Self::ApiKey => 6..=7,
            Self::Basic => 5..=5,
            Self::Other(scheme) => scheme.lower.len()..=scheme.lower.len(),
            Self::Bare => return None,
        };
        let mut splits = lengths.filter_map(|length| value.split_at_checked(length));
        splits
            .find(|(name, _)| self.is_named(name))
            .map(|(_, rest)| rest)
    }
}

impl FieldName {
    fn new(name: &str) -> Result<Self, KeyInError> {
        let lower = name.to_ascii_lowercase();
        if !is_token(name) || lower == "authorization" {
            return Err(KeyInError(name.into()));
        }
        Ok(Self {
            written: name.into(),
            lower: lower.into(),
        })
    }
}

/// Returns whether this is a token of RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_allowed)
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

codes! {
    KeyInError;
    Self(_) => "invalid_name",
}

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
            assert!(KeyIn::scheme(name).is_err(), "{name:?}");
        }
        assert!(KeyIn::pair("X-Key", "x-key").is_err());
        for name in ["", "a b", "a=b", "a&b", "ä", "a%20b"] {
            assert!(KeyIn::query_parameter(name).is_err(), "{name:?}");
        }
        for prefix in ["", "acme key.", "acme,key.", "acme/key", "é", "acme\"key"] {
            assert!(KeyIn::web_socket_protocol(prefix).is_err(), "{prefix:?}");
        }
    }

    #[test]
    fn a_scheme_has_one_form() {
        for (name, form) in [
            ("BEARER", KeyIn::bearer()),
            ("api-key", KeyIn::api_key()),
            ("basic", KeyIn::basic()),
            ("TOKEN", KeyIn::scheme("Token").unwrap()),
        ] {
            assert_eq!(KeyIn::scheme(name), Ok(form));
        }
    }
}
