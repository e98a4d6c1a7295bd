//! Finds the single credential of a request.
//!
//! It does not parse the key: `http/edge/deciding.rs` passes the credential to the verifier, which reads it with
//! `credential.rs`.
//!
//! The edge looks for all accepted forms at once. It refuses a request with a key in two forms, or twice in one form,
//! as malformed, even if one of the keys is valid: a service behind the edge might use the other one (RFC 6750 §2 and
//! §3.1). Intermediaries may join lines of one name with commas (RFC 9110 §5.3), and no key in an application's own
//! format contains a comma, so a comma means two keys. A key of another system that does contain one can be sent only
//! in Basic or in a query. Lists are different: of the sub-protocols of a WebSocket, each is a value of its own.
//!
//! Where a form has several values (the user and the password of Basic), the form of each says which is the key, before
//! any hash and any read of the store.

mod encoded;
mod query;

use zeroize::Zeroizing;

pub(super) use self::encoded::{decoded_base64, split_user};
use self::encoded::{encoded_pair, user_and_password};
use self::query::parameter;
pub(super) use self::query::{decoded, parameters, without_parameters};
use super::key_in::{AuthScheme, KeyIn, Location};
use super::{Head, HeaderSource};
use crate::credential::KeyForms;
use crate::key::KeyTextError::{self, Absent, Ambiguous, HalfPair};
use crate::key::PresentedKey;

/// The credential found in a request.
pub(super) enum Found<'a> {
    Text(&'a [u8]),
    Pair {
        id: &'a [u8],
        secret: &'a [u8],
    },
    /// Decoded bytes: a text (`None`), or an id of this length in bytes followed by a secret.
    Decoded(Zeroizing<Vec<u8>>, Option<usize>),
    /// Why there is no credential to read: none was sent, several, half of a pair, or one that is not encoded as its
    /// scheme asks.
    Unread(KeyTextError),
}

impl Found<'_> {
    pub(super) fn presented(&self) -> PresentedKey<'_> {
        match self {
            Self::Text(text) => PresentedKey::text(*text),
            Self::Pair { id, secret } => PresentedKey::pair(*id, *secret),
            Self::Decoded(text, None) => PresentedKey::text(text.as_slice()),
            Self::Decoded(both, Some(length)) => {
                let (id, secret) = both.split_at_checked(*length).unwrap_or_default();
                PresentedKey::pair(id, secret)
            }
            Self::Unread(error) => PresentedKey::unread(*error),
        }
    }

    /// Combines two findings: two credentials are ambiguous.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unread(Absent), only) | (only, Self::Unread(Absent)) => only,
            _ => Self::Unread(Ambiguous),
        }
    }
}

/// Reads the credential of a request, in any of these forms. `keys` says which texts could be keys.
pub(super) fn read<'a, 'k, H: HeaderSource + ?Sized>(
    forms: &[KeyIn],
    keys: impl Fn() -> KeyForms<'k>,
    head: &Head<'a, H>,
) -> Found<'a> {
    let mut found = authorization(forms, keys, head.headers);
    for form in forms {
        let other = match &form.0 {
            // All schemes share one header, which `authorization` has read.
            Location::Scheme(_) => continue,
            Location::Header(name) => {
                only_one(head.headers, &name.lower).map_or_else(Found::Unread, Found::Text)
            }
            Location::Pair { id, secret } => {
                match (
                    only_one(head.headers, &id.lower),
                    only_one(head.headers, &secret.lower),
                ) {
                    (Ok(id), Ok(secret)) => Found::Pair { id, secret },
                    (Err(Absent), Err(Absent)) => Found::Unread(Absent),
                    (Err(Ambiguous), _) | (_, Err(Ambiguous)) => Found::Unread(Ambiguous),
                    _ => Found::Unread(HalfPair),
                }
            }
            Location::Query(name) => parameter(head.query.unwrap_or_default(), name),
            Location::SubProtocol(prefix) => sub_protocol(head.headers, prefix),
        };
        found = found.and(other);
    }
    found
}

/// Returns the only value of the headers with this name.
fn only_one<'a, H: HeaderSource + ?Sized>(
    headers: &'a H,
    name: &str,
) -> Result<&'a [u8], KeyTextError> {
    let mut values = headers
        .all()
        .filter(|(other, _)| other.eq_ignore_ascii_case(name));
    match (values.next(), values.next()) {
        (None, _) => Err(Absent),
        (Some((_, value)), None) if !has_comma(value) => Ok(trim(value)),
        (Some(_), _) => Err(Ambiguous),
    }
}

/// Reads the `Authorization` header. Of several lines, one with an accepted scheme makes the request ambiguous.
fn authorization<'a, 'k, H: HeaderSource + ?Sized>(
    forms: &[KeyIn],
    keys: impl Fn() -> KeyForms<'k>,
    headers: &'a H,
) -> Found<'a> {
    let accepted = |value: &'a [u8]| {
        let (name, rest) = split_scheme(value);
        let mut schemes = forms.iter().filter_map(KeyIn::auth_scheme);
        let is_bare = |scheme: &AuthScheme| {
            *scheme == AuthScheme::Bare && rest.is_empty() && !name.is_empty()
        };
        schemes
            .find(|scheme| scheme.is_named(name) || is_bare(scheme))
            .map(|scheme| (scheme, name, rest))
    };
    let mut lines = headers.values("authorization");
    let (first, second) = (lines.next(), lines.next());
    if second.is_some() {
        let is_any_accepted = headers
            .values("authorization")
            .any(|line| accepted(line).is_some());
        return if is_any_accepted {
            Found::Unread(Ambiguous)
        } else {
            Found::Unread(Absent)
        };
    }
    match first.and_then(accepted) {
        None if first.is_some_and(|line| joins_accepted(forms, line)) => Found::Unread(Ambiguous),
        None => Found::Unread(Absent),
        Some((AuthScheme::Other(_), _, rest)) => token(rest),
        Some((_, _, rest)) if has_comma(rest) => Found::Unread(Ambiguous),
        Some((AuthScheme::Bearer, _, key)) => Found::Text(key),
        Some((AuthScheme::ApiKey, _, key)) if keys().is_own(key) => Found::Text(key),
        Some((AuthScheme::ApiKey, _, key)) => encoded_pair(key).unwrap_or(Found::Text(key)),
        Some((AuthScheme::Basic, _, encoded)) => user_and_password(encoded, keys()),
        Some((AuthScheme::Bare, key, _)) if has_comma(key) => Found::Unread(Ambiguous),
        Some((AuthScheme::Bare, key, _)) => Found::Text(key),
    }
}

/// Returns whether one of the lines that an intermediary may have joined with commas has an accepted scheme.
pub(super) fn joins_accepted(forms: &[KeyIn], value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|line| {
        let (name, _) = split_scheme(line);
        let mut schemes = forms.iter().filter_map(KeyIn::auth_scheme);
        schemes.any(|scheme| scheme.is_named(name))
    })
}

/// Reads the key after a scheme of the host's: alone, or as the only parameter `token` (RFC 9110 §11.4).
fn token(rest: &[u8]) -> Found<'_> {
    let is_token = |name: &[u8]| name.eq_ignore_ascii_case(b"token");
    if parameter_of_scheme(rest).is_none_or(|(name, _)| !is_token(name)) {
        return match has_comma(rest) {
            true => Found::Unread(Ambiguous),
            false => Found::Text(rest),
        };
    }
    let mut found = Found::Unread(Absent);
    for part in rest.split(|byte| *byte == b',') {
        found = match parameter_of_scheme(trim(part)) {
            Some((name, key)) if is_token(name) => found.and(Found::Text(key)),
            Some(_) => found,
            // This may be another credential, which an intermediary has joined to this one.
            None => Found::Unread(Ambiguous),
        };
    }
    found
}

/// Splits a parameter of a scheme into its name and its value, without quotation marks around that. `None` if it is no
/// parameter.
pub(super) fn parameter_of_scheme(part: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = part.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (part.get(..equals)?, part.get(equals + 1..)?);
    let value = match value {
        [b'"', value @ .., b'"'] => value,
        value => value,
    };
    name.iter()
        .all(u8::is_ascii_alphabetic)
        .then_some((name, value))
}

/// Finds the key among the sub-protocols that a WebSocket client offers.
fn sub_protocol<'a, H: HeaderSource + ?Sized>(headers: &'a H, prefix: &str) -> Found<'a> {
    let lines = headers.values("sec-websocket-protocol");
    let protocols = lines.flat_map(protocols);
    protocols
        .filter_map(|protocol| protocol.strip_prefix(prefix.as_bytes()))
        .map(Found::Text)
        .fold(Found::Unread(Absent), Found::and)
}

/// Splits a line of `Sec-WebSocket-Protocol`.
pub(super) fn protocols(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let parts = line.split(|byte| *byte == b',').map(trim);
    parts.filter(|protocol| !protocol.is_empty())
}

/// Removes the sub-protocols that keys are accepted in from a line. `None` if the line has no such sub-protocol.
pub(super) fn without_protocols(forms: &[KeyIn], line: &[u8]) -> Option<Vec<u8>> {
    let is_credential = |protocol: &&[u8]| {
        let mut prefixes = forms.iter().filter_map(KeyIn::sub_protocol_prefix);
        prefixes.any(|prefix| protocol.starts_with(prefix.as_bytes()))
    };
    let (taken, kept): (Vec<_>, Vec<_>) = protocols(line).partition(is_credential);
    (!taken.is_empty()).then(|| kept.join(&b", "[..]))
}

/// Splits a value into the scheme and the rest.
pub(super) fn split_scheme(value: &[u8]) -> (&[u8], &[u8]) {
    let value = trim(value);
    let end = value
        .iter()
        .position(|byte| is_space(*byte))
        .unwrap_or(value.len());
    let (scheme, rest) = value.split_at_checked(end).unwrap_or((value, &[]));
    (scheme, trim(rest))
}

/// Trims the white space that HTTP defines: spaces and tabs (RFC 9110 §5.6.3).
#[inline]
pub(super) fn trim(value: &[u8]) -> &[u8] {
    match value {
        [first, .., last] if !is_space(*first) && !is_space(*last) => value,
        _ => trimmed(value),
    }
}

fn trimmed(value: &[u8]) -> &[u8] {
    let start = value
        .iter()
        .position(|byte| !is_space(*byte))
        .unwrap_or(value.len());
    let end = value
        .iter()
        .rposition(|byte| !is_space(*byte))
        .map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}

/// Checks all bytes, sixteen at a time, and some of the last ones twice.
fn has_comma(value: &[u8]) -> bool {
    let is_in = |chunk: &[u8; 16]| {
        chunk
            .iter()
            .fold(false, |found, byte| found | (*byte == b','))
    };
    match value.last_chunk() {
        Some(last) => {
            let mut chunks = value.chunks_exact(16).filter_map(<[u8]>::first_chunk);
            chunks.any(is_in) | is_in(last)
        }
        None => value.contains(&b','),
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use base64ct::{Base64, Encoding};

    use super::*;
    use crate::key::KeyTextError::Undecodable;
    use crate::key::{KeyFormat, KeyId};

    fn format() -> KeyFormat {
        KeyFormat::new("acme").unwrap().environment("test").unwrap()
    }

    fn keys(format: &KeyFormat) -> KeyForms<'_> {
        KeyForms {
            format,
            imported: None,
        }
    }

    /// The secret in base64, after an id if there is one. Nothing that is made on the way holds it in clear for long.
    #[cfg(target_os = "linux")]
    fn basic(id: &str, secret: &str) -> String {
        let both = Zeroizing::new([id, ":", secret].concat());
        Base64::encode_string(both.as_bytes())
    }

    /// Each byte of the secret escaped, so that it is in clear where it was decoded only.
    #[cfg(target_os = "linux")]
    fn escaped(secret: &str) -> String {
        secret.bytes().map(|byte| format!("%{byte:02x}")).collect()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn decoded_credentials_are_wiped() {
        use crate::wiping::leaves_no_trace;

        let format = format();
        let keys = keys(&format);
        let id = KeyId::from_u128(7).to_string();
        leaves_no_trace(|secret| user_and_password(basic(&id, secret).as_bytes(), keys));
        leaves_no_trace(|secret| user_and_password(basic("user", secret).as_bytes(), keys));
        leaves_no_trace(|secret| user_and_password(basic("", secret).as_bytes(), keys));
        leaves_no_trace(|secret| encoded_pair(basic(&id, secret).as_bytes()));
        // Behind a key that is taken, and as the key itself.
        leaves_no_trace(|secret| user_and_password(basic("acme_test_0", secret).as_bytes(), keys));
        leaves_no_trace(|secret| {
            let head = Zeroizing::new(["acme_test_", secret].concat());
            user_and_password(basic("user", &head).as_bytes(), keys)
        });
        leaves_no_trace(|secret| {
            let key = escaped(secret);
            parameter(&format!("a=b&key={key}"), "key")
        });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn credentials_that_are_not_taken_are_wiped() {
        use crate::http::near_miss;
        use crate::wiping::leaves_no_trace;

        let format = format();
        let keys = keys(&format);
        leaves_no_trace(|secret| {
            let (key, own) = (escaped(secret), Zeroizing::new(secret.to_owned()));
            let query = format!("key={key}&key={key}&other={key}");
            let forms = [KeyIn::query_parameter("key").unwrap()];
            let head = Head {
                headers: &[("authorization", basic("user", secret))],
                connection: Default::default(),
                query: Some(&query),
            };
            let found = read(&forms, || keys, &head);
            assert!(matches!(found, Found::Unread(Ambiguous)));
            assert!(without_parameters(&forms, &query).is_some());
            assert!(near_miss::find(&forms, keys, &head).is_empty());
            let broken = format!("{}!", basic("user", secret));
            let broken = user_and_password(broken.as_bytes(), keys);
            assert!(matches!(broken, Found::Unread(Undecodable)));
            own
        });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn decoded_names_are_wiped() {
        use crate::wiping::leaves_no_trace;

        leaves_no_trace(|secret| {
            let own = Zeroizing::new(secret.to_owned());
            // Longer than any later allocation, which could otherwise reuse its memory.
            let name = format!("{}{}", "x".repeat(2_000), escaped(secret));
            assert!(matches!(parameter(&name, "key"), Found::Unread(Absent)));
            own
        });
    }

    #[test]
    fn a_comma_is_found_anywhere() {
        for length in 0..=49 {
            let mut value = vec![b'+'; length];
            assert!(!has_comma(&value), "{length}");
            for at in 0..length {
                value[at] = b',';
                assert!(has_comma(&value), "{at} of {length}");
                value[at] = b'-';
            }
        }
    }
}
