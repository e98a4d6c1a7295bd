//! Strict parsers for the encodings of digests: hex, base64 and the PHC strings of Argon2.

use argon2::PasswordHash;
use base64ct::{Base64, Base64Unpadded, Base64Url, Base64UrlUnpadded, Encoding};

use crate::hashing::{Argon2Params, HashingError, Output};

pub(super) fn hex(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(bytes)
}

pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    base16ct::mixed::decode_vec(text).ok()
}

/// Decodes base64 in the standard or URL-safe alphabet, padded or not.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    Base64::decode_vec(text)
        .or_else(|_| Base64Unpadded::decode_vec(text))
        .or_else(|_| Base64Url::decode_vec(text))
        .or_else(|_| Base64UrlUnpadded::decode_vec(text))
        .ok()
}

/// Decodes passlib's base64: `.` in place of `+`, without padding.
#[cfg(feature = "legacy-digests")]
pub(super) fn from_adapted_base64(text: &str) -> Option<Vec<u8>> {
    if text.contains('+') {
        return None;
    }
    Base64Unpadded::decode_vec(&text.replace('.', "+")).ok()
}

/// The parts of an Argon2 digest.
pub(super) struct Argon2Parts {
    pub(super) algorithm: argon2::Algorithm,
    pub(super) params: Argon2Params,
    pub(super) salt: Vec<u8>,
    pub(super) output: Output<Vec<u8>>,
}

pub(super) fn read_argon2(text: &str, most: Argon2Params) -> Result<Argon2Parts, HashingError> {
    let malformed = || HashingError::Malformed;
    let phc = PasswordHash::new(text).map_err(|_| malformed())?;
    let algorithm = match phc.algorithm.as_str() {
        "argon2id" => argon2::Algorithm::Argon2id,
        "argon2i" => argon2::Algorithm::Argon2i,
        "argon2d" => argon2::Algorithm::Argon2d,
        _ => return Err(malformed()),
    };
    let number = |name| phc.params.get_decimal(name).ok_or_else(malformed);
    let params = Argon2Params::stored(number("m")?, number("t")?, number("p")?, most)?;
    let salt = phc.salt.as_ref().ok_or_else(malformed)?;
    let salt: &[u8] = salt.as_ref();
    let output = phc.hash.as_ref().ok_or_else(malformed)?.as_bytes();
    let is_whole = phc.version == Some(19)
        && phc.params.iter().count() == 3
        && (8..=48).contains(&salt.len())
        && (16..=64).contains(&output.len())
        && phc.to_string() == text;
    if !is_whole {
        return Err(malformed());
    }
    Ok(Argon2Parts {
        algorithm,
        params,
        salt: salt.to_vec(),
        output: Output::new(output.to_vec()),
    })
}
