//! Digests of bcrypt, PBKDF2 and scrypt, which need the crates of the feature `legacy-digests`.

mod pbkdf2;
mod scrypt;

use sha2::{Digest as _, Sha256};

use self::pbkdf2::Pbkdf2;
use super::LegacyError;
use super::digest::is_salt;
use super::encoding::{from_base64, from_hex, hex};
use crate::hashing::argon2id::Memory;
use crate::hashing::{HashingError, Output};

/// A digest of bcrypt, PBKDF2 or scrypt, in the encoding of the library that made it.
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
    Pbkdf2(Writer),
    Scrypt(Writer),
}

/// The library that encoded a digest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    Django,
    Passlib,
    Werkzeug,
}

/// Number of bytes that bcrypt reads: two longer secrets with the same beginning would match.
const BCRYPT_BYTES: usize = 72;

impl Heavy {
    /// Checks a digest of the scheme with this name.
    ///
    /// # Errors
    /// [`HashingError::UnknownAlgorithm`] if there is no such scheme.
    pub(super) fn stored(scheme: &str, text: &str) -> Result<Self, HashingError> {
        let schemes = [
            Scheme::Bcrypt,
            Scheme::BcryptSha256,
            Scheme::Pbkdf2(Writer::Django),
            Scheme::Pbkdf2(Writer::Passlib),
            Scheme::Pbkdf2(Writer::Werkzeug),
            Scheme::Scrypt(Writer::Django),
            Scheme::Scrypt(Writer::Werkzeug),
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
            "pbkdf2_sha256" | "pbkdf2_sha1" => Self::new(Scheme::Pbkdf2(Writer::Django), text),
            "scrypt" => Self::new(Scheme::Scrypt(Writer::Django), text),
            other => Err(unsupported(other)),
        }
    }

    /// Checks the output of one of passlib's hashes that needs this module.
    pub(super) fn passlib(text: &str) -> Result<Self, LegacyError> {
        match text.split('$').nth(1).unwrap_or_default() {
            "2a" | "2b" | "2y" | "2x" | "2" => Self::bcrypt(text),
            "pbkdf2" | "pbkdf2-sha256" | "pbkdf2-sha512" => {
                Self::new(Scheme::Pbkdf2(Writer::Passlib), text)
            }
            other => Err(unsupported(other)),
        }
    }

    /// Checks the output of one of Werkzeug's methods that needs this module.
    pub(super) fn werkzeug(text: &str) -> Result<Self, LegacyError> {
        let (method, _) = text.split_once('$').unwrap_or_default();
        match method.split(':').next().unwrap_or_default() {
            "pbkdf2" => Self::new(Scheme::Pbkdf2(Writer::Werkzeug), text),
            "scrypt" => Self::new(Scheme::Scrypt(Writer::Werkzeug), text),
            other => Err(unsupported(other)),
        }
    }

    fn new(scheme: Scheme, text: &str) -> Result<Self, LegacyError> {
        match scheme {
            Scheme::Bcrypt | Scheme::BcryptSha256 => check_bcrypt(text)?,
            Scheme::Pbkdf2(writer) => drop(Pbkdf2::read(writer, text)?),
            Scheme::Scrypt(writer) => drop(Scrypt::read(writer, text)?),
        }
        let text = text.into();
        Ok(Self { scheme, text })
    }

    /// Returns the most bytes of a secret that the scheme reads.
    pub(super) fn most_bytes(&self) -> Option<usize> {
        matches!(self.scheme, Scheme::Bcrypt).then_some(BCRYPT_BYTES)
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
            Scheme::Pbkdf2(writer) => {
                let read = Pbkdf2::read(writer, text).map_err(|_| HashingError::Malformed)?;
                Ok(read.is_of(presented))
            }
            Scheme::Scrypt(writer) => scrypt(writer, text, presented, memory),
        }
    }
}

impl Scheme {
    const fn name(self) -> &'static str {
        match self {
            Self::Bcrypt => "bcrypt",
            Self::BcryptSha256 => "bcrypt-sha256",
            Self::Pbkdf2(Writer::Django) => "pbkdf2",
            Self::Pbkdf2(Writer::Passlib) => "passlib-pbkdf2",
            Self::Pbkdf2(Writer::Werkzeug) => "werkzeug-pbkdf2",
            Self::Scrypt(Writer::Werkzeug) => "werkzeug-scrypt",
            Self::Scrypt(_) => "scrypt",
        }
    }
}

/// Returns the error for a scheme of this name. The text may be anything, even a token, so the error names only schemes
/// of this list.
fn unsupported(name: &str) -> LegacyError {
    const KNOWN: [(&str, &str); 13] = [
        ("1", "md5-crypt (`$1$`)"),
        ("2", "the bcrypt variant `$2$`"),
        ("2x", "the bcrypt variant `$2x$`"),
        ("5", "sha256-crypt (`$5$`)"),
        ("6", "sha512-crypt (`$6$`)"),
        ("bcrypt-sha256", "passlib's `$bcrypt-sha256$`"),
        ("md5", "MD5"),
        ("unsalted_md5", "MD5"),
        ("sha1", "Django's salted SHA-1"),
        ("unsalted_sha1", "Django's unsalted SHA-1"),
        ("plain", "plain text: import it as the key's text"),
        ("scrypt", "passlib's `$scrypt$`"),
        ("sha224", "SHA-224"),
    ];
    let mut known = KNOWN.iter();
    let scheme = known.find(|(known, _)| *known == name);
    LegacyError::UnsupportedScheme {
        scheme: scheme.map_or("an unknown scheme", |(_, shown)| shown),
    }
}

fn check_bcrypt(text: &str) -> Result<(), LegacyError> {
    const MOST_COST: u32 = 15;
    let malformed = LegacyError::MalformedDigest {
        expected: "bcrypt in 60 characters: `$2a$`, `$2b$` or `$2y$`, a cost, a salt and an output",
    };
    if let Some(variant @ ("2" | "2x")) = text.split('$').nth(1) {
        return Err(unsupported(variant));
    }
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
        Ok(16..=31) => Err(LegacyError::ExcessiveDigest {
            limit: "a cost of 15 of bcrypt",
        }),
        _ => Err(malformed),
    }
}

/// scrypt, as Django (`scrypt$n$salt$r$p$base64`) or Werkzeug (`scrypt:n:r:p$salt$hex`) writes it.
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

    fn read(writer: Writer, text: &str) -> Result<Self, LegacyError> {
        let malformed = LegacyError::MalformedDigest {
            expected: "scrypt with a power of two, a salt of 1 to 64 characters and 64 bytes of output",
        };
        let size = |number| usize::try_from(number).map_err(|_| malformed);
        let (algorithm, [n, r, p], salt, output) = if writer == Writer::Werkzeug {
            let [method, salt, output] = fields(text, '$').ok_or(malformed)?;
            let [algorithm, n, r, p] = fields(method, ':').ok_or(malformed)?;
            (algorithm, [n, r, p], salt, from_hex(output))
        } else {
            let [algorithm, n, salt, r, p, output] = fields(text, '$').ok_or(malformed)?;
            (algorithm, [n, r, p], salt, from_base64(output))
        };
        let number = |text| number(text).ok_or(malformed);
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
            return Err(LegacyError::ExcessiveDigest {
                limit: "64 MiB of memory and a parallelization of 16 of scrypt",
            });
        }
        is_salt(salt)?;
        let output = output.filter(|output| output.len() == 64);
        Ok(Self {
            n: size(n)?,
            r: size(r)?,
            p: size(p)?,
            salt: salt.as_bytes().to_vec(),
            output: Output::new(output.ok_or(malformed)?),
        })
    }
}

fn fields<const N: usize>(text: &str, separator: char) -> Option<[&str; N]> {
    let fields: Vec<_> = text.split(separator).collect();
    fields.try_into().ok()
}

/// Parses a number in its canonical spelling.
fn number(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn bcrypt(text: &str, presented: &[u8]) -> Result<bool, HashingError> {
    if presented.len() > BCRYPT_BYTES {
        return Ok(false);
    }
    bcrypt::verify(presented, text).map_err(|_| HashingError::Malformed)
}

fn scrypt(
    writer: Writer,
    text: &str,
    presented: &[u8],
    memory: &mut Memory,
) -> Result<bool, HashingError> {
    let read = Scrypt::read(writer, text).map_err(|_| HashingError::Malformed)?;
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
