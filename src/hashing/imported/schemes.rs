//! Strict parsers for the digest encodings of other libraries.

use argon2::PasswordHash;
use base64ct::{Base64, Base64Unpadded, Base64Url, Base64UrlUnpadded, Encoding};

use super::LegacyDigestError;
use crate::hashing::output::Output;
use crate::hashing::{Argon2Params, HashingError};

/// Decodes base64 in the standard or URL-safe alphabet, padded or not.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    Base64::decode_vec(text)
        .or_else(|_| Base64Unpadded::decode_vec(text))
        .or_else(|_| Base64Url::decode_vec(text))
        .or_else(|_| Base64UrlUnpadded::decode_vec(text))
        .ok()
}

pub(super) fn check_argon2(text: &str) -> Result<(), LegacyDigestError> {
    read_argon2(text, Argon2Params::MOST_READ)
        .map(|_| ())
        .map_err(|error| match error {
            HashingError::Excessive => LegacyDigestError::Excessive,
            _ => LegacyDigestError::Malformed,
        })
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

#[cfg(feature = "legacy-digests")]
pub(super) fn check_bcrypt(text: &str) -> Result<(), LegacyDigestError> {
    const MOST_COST: u32 = 15;
    let malformed = LegacyDigestError::Malformed;
    let rest = ["$2a$", "$2b$", "$2y$"]
        .iter()
        .find_map(|start| text.strip_prefix(start));
    let (cost, rest) = rest
        .and_then(|rest| rest.split_once('$'))
        .ok_or(malformed)?;
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'/';
    let is_cost = cost.len() == 2 && cost.bytes().all(|byte| byte.is_ascii_digit());
    if !is_cost || rest.len() != 53 || !rest.bytes().all(is_digit) {
        return Err(malformed);
    }
    // The last digits of salt and output have unused bits, which must be zero.
    let ends = rest.as_bytes();
    let salt_ends = ends.get(21).is_some_and(|end| b".Oeu".contains(end));
    let output_ends = ends
        .last()
        .is_some_and(|end| b".CGKOSWaeimquy26".contains(end));
    if !salt_ends || !output_ends {
        return Err(malformed);
    }
    match cost.parse::<u32>() {
        Ok(4..=MOST_COST) => Ok(()),
        Ok(16..=31) => Err(LegacyDigestError::Excessive),
        _ => Err(malformed),
    }
}

/// Django's PBKDF2: `pbkdf2_sha256$iterations$salt$base64`.
#[cfg(feature = "legacy-digests")]
pub(super) struct Pbkdf2 {
    pub(super) is_sha1: bool,
    pub(super) iterations: u32,
    pub(super) salt: Vec<u8>,
    pub(super) output: Output<Vec<u8>>,
}

#[cfg(feature = "legacy-digests")]
impl Pbkdf2 {
    const MOST_ITERATIONS: u32 = 4_000_000;

    pub(super) fn read(text: &str) -> Result<Self, LegacyDigestError> {
        let malformed = LegacyDigestError::Malformed;
        let [algorithm, iterations, salt, output] = fields(text)?;
        let is_sha1 = match algorithm {
            "pbkdf2_sha1" => true,
            "pbkdf2_sha256" => false,
            _ => return Err(malformed),
        };
        let iterations = number(iterations)?;
        if iterations == 0 {
            return Err(malformed);
        }
        if iterations > Self::MOST_ITERATIONS {
            return Err(LegacyDigestError::Excessive);
        }
        let output = from_base64(output).ok_or(malformed)?;
        if output.len() != if is_sha1 { 20 } else { 32 } {
            return Err(malformed);
        }
        Ok(Self {
            is_sha1,
            iterations,
            salt: salt_bytes(salt)?,
            output: Output::new(output),
        })
    }
}

/// Django's scrypt: `scrypt$n$salt$r$p$base64`.
#[cfg(feature = "legacy-digests")]
pub(super) struct Scrypt {
    /// A power of two.
    pub(super) n: usize,
    pub(super) r: usize,
    pub(super) p: usize,
    pub(super) salt: Vec<u8>,
    pub(super) output: Output<Vec<u8>>,
}

#[cfg(feature = "legacy-digests")]
impl Scrypt {
    /// Limit of memory in units of 128 bytes, the same as Argon2id's default. scrypt uses `r * (n + p + 2)` units: n
    /// for the table, p for the lanes and two to compute on.
    const MOST_BLOCKS: u64 = 64 * 1024 * 1024 / 128;
    const MOST_P: u32 = 16;

    pub(super) fn read(text: &str) -> Result<Self, LegacyDigestError> {
        let malformed = LegacyDigestError::Malformed;
        let size = |number| usize::try_from(number).map_err(|_| malformed);
        let [algorithm, n, salt, r, p, output] = fields(text)?;
        let (n, r, p) = (number(n)?, number(r)?, number(p)?);
        if algorithm != "scrypt" || n < 2 || !n.is_power_of_two() || r == 0 || p == 0 {
            return Err(malformed);
        }
        // RFC 7914 §6.
        if u64::from(n.trailing_zeros()) >= 16 * u64::from(r) {
            return Err(malformed);
        }
        let blocks = u64::from(r).saturating_mul(u64::from(n) + u64::from(p) + 2);
        if blocks > Self::MOST_BLOCKS || p > Self::MOST_P {
            return Err(LegacyDigestError::Excessive);
        }
        let output = from_base64(output).ok_or(malformed)?;
        if output.len() != 64 {
            return Err(malformed);
        }
        Ok(Self {
            n: size(n)?,
            r: size(r)?,
            p: size(p)?,
            salt: salt_bytes(salt)?,
            output: Output::new(output),
        })
    }
}

#[cfg(feature = "legacy-digests")]
fn fields<const N: usize>(text: &str) -> Result<[&str; N], LegacyDigestError> {
    let fields: Vec<_> = text.split('$').collect();
    fields.try_into().map_err(|_| LegacyDigestError::Malformed)
}

/// Parses a number in its canonical spelling.
#[cfg(feature = "legacy-digests")]
fn number(text: &str) -> Result<u32, LegacyDigestError> {
    let number: u32 = text.parse().map_err(|_| LegacyDigestError::Malformed)?;
    if number.to_string() == text {
        Ok(number)
    } else {
        Err(LegacyDigestError::Malformed)
    }
}

#[cfg(feature = "legacy-digests")]
fn salt_bytes(salt: &str) -> Result<Vec<u8>, LegacyDigestError> {
    let is_salt = (1..=64).contains(&salt.len()) && salt.bytes().all(|b| b.is_ascii_graphic());
    if is_salt {
        Ok(salt.as_bytes().to_vec())
    } else {
        Err(LegacyDigestError::Malformed)
    }
}
