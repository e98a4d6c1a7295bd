//! Reads the credentials that are sent in base64: an id and a secret, or the user and the password of Basic.

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

use super::Found;
use crate::credential::KeyForms;
use crate::key::KeyId;
use crate::key::KeyTextError::{Ambiguous, Undecodable};

/// Maximum length of a base64 pair that is decoded: more than any key needs.
const MAX_BASE64: usize = 1_024;

/// Decodes base64. `None` if it is none, or longer than any key needs.
pub(in crate::http) fn decoded_base64(encoded: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if encoded.len() > MAX_BASE64 {
        return None;
    }
    let mut decoded = Zeroizing::new(vec![0; encoded.len()]);
    let length = Base64::decode(encoded, &mut decoded).ok()?.len();
    decoded.truncate(length);
    Some(decoded)
}

/// Splits a decoded user and password.
pub(in crate::http) fn split_user(both: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = both.iter().position(|byte| *byte == b':')?;
    both.get(..colon).zip(both.get(colon + 1..))
}

/// Decodes an id and a secret, as Elasticsearch's clients encode them after `ApiKey`. `None` if it is no such pair.
pub(super) fn encoded_pair(encoded: &[u8]) -> Option<Found<'static>> {
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
pub(super) fn user_and_password(encoded: &[u8], keys: KeyForms<'_>) -> Found<'static> {
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
