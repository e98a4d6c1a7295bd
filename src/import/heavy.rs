//! Digests of bcrypt and of Django's hashers, which need the crates of the feature `legacy-digests`.

mod scrypt;

use sha2::{Digest as _, Sha256};

use super::LegacyError;
use super::encoding::{from_base64, hex};
use crate::hashing::argon2id::Memory;
use crate::hashing::{HashingError, Output};

/// A digest of bcrypt or of one of Django's hashers, in its own encoding.
#[derive(Clone)]
pub(super) struct Heavy {
    scheme: Scheme,
    text: Box<str>,
}

#[derive(Clone, Copy)]
enum Scheme {
    Bcrypt,
    /// Django's `bcrypt_sha256`: bcrypt of the SHA-256 in hex.
    BcryptSha256,
    Pbkdf2,
    Scrypt,
}

impl Heavy {
    /// Checks a digest of the scheme with this name.
    ///
    /// # Errors
    /// [`HashingError::UnknownAlgorithm`] if there is no such scheme.
    pub(super) fn stored(scheme: &str, text: &str) -> Result<Self, HashingError> {
        let schemes = [
            Scheme::Bcrypt,
            Scheme::BcryptSha256,
            Scheme::Pbkdf2,
            Scheme::Scrypt,
        ];
        let scheme = schemes.into_iter().find(|known| known.name() == scheme);
        let scheme = scheme.ok_or(HashingError::UnknownAlgorithm)?;
        Self::new(scheme, text).map_err(|_| HashingError::Malformed)
    }

    pub(super) fn bcrypt(text: &str) -> Result<Self, LegacyError> {
        Self::new(Scheme::Bcrypt, text)
    }

    /// Checks the output of one of Django's password hashers that needs this module.
    pub(super) fn django(text: &str) -> Result<Self, LegacyError> {
        let (algorithm, rest) = text.split_once('$').unwrap_or_default();
        match algorithm {
            "bcrypt" => Self::new(Scheme::Bcrypt, rest),
            "bcrypt_sha256" => Self::new(Scheme::BcryptSha256, rest),
            "pbkdf2_sha256" | "pbkdf2_sha1" => Self::new(Scheme::Pbkdf2, text),
            "scrypt" => Self::new(Scheme::Scrypt, text),
            _ => Err(LegacyError::MalformedDigest),
        }
    }

    fn new(scheme: Scheme, text: &str) -> Result<Self, LegacyError> {
        match scheme {
            Scheme::Bcrypt | Scheme::BcryptSha256 => check_bcrypt(text)?,
            Scheme::Pbkdf2 => drop(Pbkdf2::read(text)?),
            Scheme::Scrypt => drop(Scrypt::read(text)?),
        }
        let text = text.into();
        Ok(Self { scheme, text })
    }

    pub(super) fn scheme(&self) -> &'static str {
        self.scheme.name()
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn is_of(
        &self,
        presented: &[u8],
        memory: &mut Memory,
    ) -> Result<bool, HashingError> {
        let text = &self.text;
        match self.scheme {
            Scheme::Bcrypt => bcrypt(text, presented),
            Scheme::BcryptSha256 => {
                let hashed = hex(&Sha256::digest(presented));
                bcrypt(text, hashed.as_bytes())
            }
            Scheme::Pbkdf2 => pbkdf2(text, presented),
            Scheme::Scrypt => scrypt(text, presented, memory),
        }
    }
}

impl Scheme {
    const fn name(self) -> &'static str {
        match self {
            Self::Bcrypt => "bcrypt",
            Self::BcryptSha256 => "bcrypt-sha256",
            Self::Pbkdf2 => "pbkdf2",
            Self::Scrypt => "scrypt",
        }
    }
}

fn check_bcrypt(text: &str) -> Result<(), LegacyError> {
    const MOST_COST: u32 = 15;
    let malformed = LegacyError::MalformedDigest;
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
        Ok(16..=31) => Err(LegacyError::ExcessiveDigest),
        _ => Err(malformed),
    }
}

/// Django's PBKDF2: `pbkdf2_sha256$iterations$salt$base64`.
struct Pbkdf2 {
    is_sha1: bool,
    iterations: u32,
    salt: Vec<u8>,
    output: Output<Vec<u8>>,
}

impl Pbkdf2 {
    const MOST_ITERATIONS: u32 = 4_000_000;

    fn read(text: &str) -> Result<Self, LegacyError> {
        let malformed = LegacyError::MalformedDigest;
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
            return Err(LegacyError::ExcessiveDigest);
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
struct Scrypt {
    n: usize,
    r: usize,
    p: usize,
    salt: Vec<u8>,
    output: Output<Vec<u8>>,
}

impl Scrypt {
    /// Limit of memory in units of 128 bytes, the same as Argon2id's default. scrypt uses `r * (n + p + 2)` units: n
    /// for the table, p for the lanes and two to compute on.
    const MOST_BLOCKS: u64 = 64 * 1024 * 1024 / 128;
    const MOST_P: u32 = 16;

    fn read(text: &str) -> Result<Self, LegacyError> {
        let malformed = LegacyError::MalformedDigest;
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
            return Err(LegacyError::ExcessiveDigest);
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

fn fields<const N: usize>(text: &str) -> Result<[&str; N], LegacyError> {
    let fields: Vec<_> = text.split('$').collect();
    fields.try_into().map_err(|_| LegacyError::MalformedDigest)
}

/// Parses a number in its canonical spelling.
fn number(text: &str) -> Result<u32, LegacyError> {
    let number: u32 = text.parse().map_err(|_| LegacyError::MalformedDigest)?;
    if number.to_string() == text {
        Ok(number)
    } else {
        Err(LegacyError::MalformedDigest)
    }
}

fn salt_bytes(salt: &str) -> Result<Vec<u8>, LegacyError> {
    let is_salt = (1..=64).contains(&salt.len()) && salt.bytes().all(|b| b.is_ascii_graphic());
    if is_salt {
        Ok(salt.as_bytes().to_vec())
    } else {
        Err(LegacyError::MalformedDigest)
    }
}

fn bcrypt(text: &str, presented: &[u8]) -> Result<bool, HashingError> {
    /// Number of bytes that bcrypt reads: two longer secrets with the same beginning would match.
    const MOST_BYTES: usize = 72;
    if presented.len() > MOST_BYTES {
        return Ok(false);
    }
    bcrypt::verify(presented, text).map_err(|_| HashingError::Malformed)
}

fn pbkdf2(text: &str, presented: &[u8]) -> Result<bool, HashingError> {
    let read = Pbkdf2::read(text).map_err(|_| HashingError::Malformed)?;
    let mut output = vec![0; read.output.expose().len()];
    if read.is_sha1 {
        pbkdf2::pbkdf2_hmac::<sha1::Sha1>(presented, &read.salt, read.iterations, &mut output);
    } else {
        pbkdf2::pbkdf2_hmac::<Sha256>(presented, &read.salt, read.iterations, &mut output);
    }
    Ok(read.output.is(&output))
}

fn scrypt(text: &str, presented: &[u8], memory: &mut Memory) -> Result<bool, HashingError> {
    let read = Scrypt::read(text).map_err(|_| HashingError::Malformed)?;
    let mut output = vec![0; read.output.expose().len()];
    scrypt::fill(
        (read.n, read.r, read.p),
        &read.salt,
        presented,
        &mut output,
        memory,
    )?;
    Ok(read.output.is(&output))
}
