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

use base64ct::{Base64, Encoding};
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::key_in::{AuthScheme, KeyIn, Location};
use super::{Head, HeaderSource};
use crate::credential::KeyForms;
use crate::key::KeyTextError::{self, Absent, Ambiguous, HalfPair, Undecodable};
use crate::key::{KeyId, PresentedKey};

/// Maximum length of a base64 pair that is decoded: more than any key needs.
const MAX_BASE64: usize = 1_024;

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

/// Decodes base64. `None` if it is none, or longer than any key needs.
pub(super) fn decoded_base64(encoded: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if encoded.len() > MAX_BASE64 {
        return None;
    }
    let mut decoded = Zeroizing::new(vec![0; encoded.len()]);
    let length = Base64::decode(encoded, &mut decoded).ok()?.len();
    decoded.truncate(length);
    Some(decoded)
}

/// Splits a decoded user and password.
pub(super) fn split_user(both: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = both.iter().position(|byte| *byte == b':')?;
    both.get(..colon).zip(both.get(colon + 1..))
}

/// Decodes an id and a secret, as Elasticsearch's clients encode them after `ApiKey`. `None` if it is no such pair.
fn encoded_pair(encoded: &[u8]) -> Option<Found<'static>> {
    let mut both = decoded_base64(encoded)?;
    let (id, _) = split_user(&both).filter(|(id, _)| is_id(id))?;
    let length = id.len();
    both.remove(length);
    Some(Found::Decoded(both, Some(length)))
}

/// Which part of a user and a password is the credential.
enum Part {
    User,
    Password,
    /// The id of a key, and its secret.
    Pair,
    /// A key that contains a colon, without the colon of an empty password.
    Whole,
}

/// Reads the key from a user and a password (RFC 7617 §2).
fn user_and_password(encoded: &[u8], keys: KeyForms<'_>) -> Found<'static> {
    let Some(mut both) = decoded_base64(encoded) else {
        return Found::Unread(Undecodable);
    };
    let Some((user, password)) = split_user(&both) else {
        return Found::Unread(Undecodable);
    };
    let (colon, part) = (user.len(), credential_part(&both, user, password, keys));
    match part {
        None => return Found::Unread(Ambiguous),
        Some(Part::User) => both.truncate(colon),
        // The moved bytes stay within the buffer, all of which is wiped.
        Some(Part::Password) => drop(both.drain(..=colon)),
        Some(Part::Pair) => {
            both.remove(colon);
            return Found::Decoded(both, Some(colon));
        }
        Some(Part::Whole) if both.last() == Some(&b':') => drop(both.pop()),
        Some(Part::Whole) => {}
    }
    Found::Decoded(both, None)
}

/// Returns the part that is the credential, by its form; `None` if there are two.
fn credential_part(both: &[u8], user: &[u8], password: &[u8], keys: KeyForms<'_>) -> Option<Part> {
    match (keys.is_own(user), keys.is_own(password)) {
        (true, true) => return None,
        (true, false) => return (!keys.is_imported(password, true)).then_some(Part::User),
        // The id may be that of another key. A format that takes any text must not take a user's name.
        (false, true) => {
            let is_other = is_id(user) || keys.is_imported(user, true);
            return (!is_other).then_some(Part::Password);
        }
        (false, false) => {}
    }
    if keys.is_pair(user, password) {
        return Some(Part::Pair);
    }
    if password.is_empty() {
        return Some(Part::User);
    }
    // The first of the formats of other systems that can read a text reads it.
    let whole = both.strip_suffix(b":").unwrap_or(both);
    let whole = keys.legacy_rank(whole);
    let is_whole = |part: usize| whole.is_some_and(|whole| whole < part);
    match (keys.legacy_rank(user), keys.legacy_rank(password)) {
        (Some(user), Some(password)) => is_whole(user.min(password)).then_some(Part::Whole),
        (Some(user), None) if !is_whole(user) => Some(Part::User),
        (None, Some(password)) if !is_whole(password) => Some(Part::Password),
        (None, None) if whole.is_none() => Some(match user.len() {
            // For the operator, the error of that form.
            KeyId::TEXT_LENGTH => Part::Pair,
            0 => Part::Password,
            _ => Part::Whole,
        }),
        _ => Some(Part::Whole),
    }
}

fn is_id(text: &[u8]) -> bool {
    let text = std::str::from_utf8(text).unwrap_or_default();
    text.parse::<KeyId>().is_ok()
}

/// Finds the parameter of this name in a query.
fn parameter(query: &str, name: &str) -> Found<'static> {
    let mut values = parameters(query).filter(|(other, _)| is_named(other, name));
    match (values.next(), values.next()) {
        (None, _) => Found::Unread(Absent),
        (Some((_, value)), None) => Found::Decoded(decoded(value), None),
        (Some(_), Some(_)) => Found::Unread(Ambiguous),
    }
}

/// Splits a query into its parameters (the URL Standard's `application/x-www-form-urlencoded`): names and values, as
/// written.
pub(super) fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').unwrap_or((part, "")))
}

/// Decodes the name or the value of a parameter. Either may hold a secret: the buffer is wiped, and is large enough
/// never to be moved.
pub(super) fn decoded(written: &str) -> Zeroizing<Vec<u8>> {
    let mut decoded = Zeroizing::new(Vec::with_capacity(written.len()));
    for (index, piece) in written.split('+').enumerate() {
        if index > 0 {
            decoded.push(b' ');
        }
        decoded.extend(percent_decode_str(piece));
    }
    decoded
}

fn is_named(written: &str, name: &str) -> bool {
    if written.contains(['%', '+']) {
        **decoded(written) == *name.as_bytes()
    } else {
        written == name
    }
}

/// Removes the parameters that keys are accepted in from a query. `None` if the query has no such parameter. The
/// remaining parameters are unchanged.
pub(super) fn without_parameters(forms: &[KeyIn], query: &str) -> Option<String> {
    let is_credential = |part: &&str| {
        let (written, _) = parameters(part).next().unwrap_or_default();
        forms
            .iter()
            .any(|form| matches!(&form.0, Location::Query(name) if is_named(written, name)))
    };
    let (taken, kept): (Vec<_>, Vec<_>) = query.split('&').partition(is_credential);
    (!taken.is_empty()).then(|| kept.join("&"))
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
    use super::*;
    use crate::key::KeyFormat;
    use crate::testkit::SeededRandom;

    #[test]
    fn queries_are_read_as_the_url_standard_says() {
        let random = SeededRandom::new(1);
        let pieces = ["a", "k", "%", "&", "=", "+", "2", "f", "F", "é", "-"];
        for _ in 0..2_000 {
            let piece = |_| pieces[random.below(pieces.len())];
            let query: String = (0..random.below(25)).map(piece).collect();
            let ours = parameters(&query).map(|(name, value)| {
                let text = |written| String::from_utf8_lossy(&decoded(written)).into_owned();
                (text(name), text(value))
            });
            let theirs = form_urlencoded::parse(query.as_bytes()).into_owned();
            assert!(ours.eq(theirs), "{query}");
        }
    }

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
