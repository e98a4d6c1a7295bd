//! Digests of other libraries, parsed strictly and bounded before they are computed.

use std::fmt;

use argon2::{Argon2, Version};
use hmac::{Hmac, Mac};
use sha2::{Digest as _, Sha256, Sha512};

use super::LegacyError;
use super::encoding::{from_base64, from_hex, hex, read_argon2};
use super::format::{Lookup, is_name};
use super::heavy::Heavy;
use crate::hashing::argon2id::{self, Memory};
use crate::hashing::{Argon2Params, HashingError, Output};

/// A digest that another library created, in one of the supported schemes.
///
/// Each scheme is parsed strictly: exact lengths, one spelling, bounded parameters. The key's
/// [format](super::LegacyFormat) says whether the digest covers the secret or the whole text.
///
/// ```
/// use keyward::import::LegacyDigest;
///
/// let digest = LegacyDigest::sha256("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")?;
/// assert_eq!(digest, LegacyDigest::sha256_base64("LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=")?);
/// assert!(LegacyDigest::sha256("d41d8cd98f00b204e9800998ecf8427e").is_err());
/// # Ok::<(), keyward::import::LegacyError>(())
/// ```
#[derive(Clone)]
pub struct LegacyDigest(LegacyScheme);

#[derive(Clone)]
enum LegacyScheme {
    Sha256(Output<[u8; 32]>),
    Sha512(Output<[u8; 64]>),
    HmacSha256 {
        key: Box<str>,
        output: Output<[u8; 32]>,
    },
    /// A PHC string of argon2d, argon2i or argon2id.
    Argon2(Box<str>),
    Heavy(Heavy),
}

impl LegacyDigest {
    /// Parses SHA-256 in 64 hex digits, as stored by Laravel Sanctum and `prefixed-api-key`.
    ///
    /// # Errors
    /// [`LegacyError::MalformedDigest`].
    pub fn sha256(hex: &str) -> Result<Self, LegacyError> {
        Ok(Self(LegacyScheme::Sha256(output(from_hex(hex))?)))
    }

    /// Parses SHA-256 in base64: standard or URL-safe alphabet, padded or not.
    ///
    /// # Security
    /// 32 random bytes in base64, a common form of token, look the same. Make sure that you read the column of
    /// digests: otherwise the store keeps the tokens themselves.
    ///
    /// # Errors
    /// [`LegacyError::MalformedDigest`].
    pub fn sha256_base64(text: &str) -> Result<Self, LegacyError> {
        Ok(Self(LegacyScheme::Sha256(output(from_base64(text))?)))
    }

    /// Parses SHA-512 in 128 hex digits.
    ///
    /// # Errors
    /// [`LegacyError::MalformedDigest`].
    pub fn sha512(hex: &str) -> Result<Self, LegacyError> {
        Ok(Self(LegacyScheme::Sha512(output(from_hex(hex))?)))
    }

    /// Parses SHA-512 in base64, as [`sha256_base64`](Self::sha256_base64).
    ///
    /// # Errors
    /// [`LegacyError::MalformedDigest`].
    pub fn sha512_base64(text: &str) -> Result<Self, LegacyError> {
        Ok(Self(LegacyScheme::Sha512(output(from_base64(text))?)))
    }

    /// Parses HMAC-SHA-256 in 64 hex digits, under the [HMAC key](super::ImportedKeys::hmac_key) of this name.
    ///
    /// # Errors
    /// [`LegacyError::MalformedDigest`], [`LegacyError::HmacKey`].
    pub fn hmac_sha256(key: &str, hex: &str) -> Result<Self, LegacyError> {
        Self::hmac_of(key, output(from_hex(hex))?)
    }

    /// Parses HMAC-SHA-256 in base64, as [`sha256_base64`](Self::sha256_base64).
    ///
    /// # Errors
    /// [`LegacyError::MalformedDigest`], [`LegacyError::HmacKey`].
    pub fn hmac_sha256_base64(key: &str, text: &str) -> Result<Self, LegacyError> {
        Self::hmac_of(key, output(from_base64(text))?)
    }

    fn hmac_of(key: &str, output: Output<[u8; 32]>) -> Result<Self, LegacyError> {
        if !is_name(key) {
            return Err(LegacyError::HmacKey);
        }
        let key = key.into();
        Ok(Self(LegacyScheme::HmacSha256 { key, output }))
    }

    /// Parses Argon2 in its PHC string, as written by argon2-cffi and PHP: `$argon2id$v=19$m=65536,t=3,p=4$…$…`.
    ///
    /// Accepted are argon2id, argon2i and argon2d, with an explicit `v=19`, a salt of 8 to 48 bytes, 16 to 64 bytes of
    /// output, no `keyid` and no `data`. An import accepts parameters up to those of
    /// [`Hashing::accept_argon2id`](crate::hashing::Hashing::accept_argon2id).
    ///
    /// # Errors
    /// [`LegacyError::MalformedDigest`]; [`LegacyError::ExcessiveDigest`] past 2 GiB, 64 passes or 16 lanes.
    pub fn argon2(text: &str) -> Result<Self, LegacyError> {
        match read_argon2(text, Argon2Params::MOST_READ) {
            Ok(_) => Ok(Self(LegacyScheme::Argon2(text.into()))),
            Err(HashingError::Excessive) => Err(LegacyError::ExcessiveDigest),
            Err(_) => Err(LegacyError::MalformedDigest),
        }
    }

    /// Parses bcrypt in 60 characters: `$2a$`, `$2b$` or `$2y$`, and a cost of 4 to 15.
    ///
    /// bcrypt reads no more than 72 bytes. Longer secrets are refused, since any two with the same beginning would
    /// match.
    ///
    /// # Errors
    /// [`LegacyError::MalformedDigest`], [`LegacyError::ExcessiveDigest`].
    #[cfg(feature = "legacy-digests")]
    pub fn bcrypt(text: &str) -> Result<Self, LegacyError> {
        Heavy::bcrypt(text).map(LegacyScheme::Heavy).map(Self)
    }

    /// Parses the output of one of Django's password hashers: `pbkdf2_sha256`, `pbkdf2_sha1`, `argon2`,
    /// `bcrypt_sha256`, `bcrypt`, `scrypt`, and the unsalted `sha512$$…` of `djangorestframework-api-key`.
    ///
    /// Source: Django's `django.contrib.auth.hashers`. Up to 4,000,000 iterations, and for scrypt up to 64 MiB and
    /// a parallelization of 16.
    ///
    /// # Errors
    /// [`LegacyError::MalformedDigest`], [`LegacyError::ExcessiveDigest`].
    #[cfg(feature = "legacy-digests")]
    pub fn django(text: &str) -> Result<Self, LegacyError> {
        let (algorithm, rest) = text.split_once('$').unwrap_or_default();
        match algorithm {
            "argon2" => Self::argon2(&format!("${rest}")),
            "sha512" => match rest.strip_prefix('$') {
                Some(hex) if hex.len() == 128 => Self::sha512(hex),
                _ => Err(LegacyError::MalformedDigest),
            },
            _ => Heavy::django(text).map(LegacyScheme::Heavy).map(Self),
        }
    }

    /// Returns the scheme's name, for the audit log.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        match &self.0 {
            LegacyScheme::Sha256(_) => "sha256",
            LegacyScheme::Sha512(_) => "sha512",
            LegacyScheme::HmacSha256 { .. } => "hmac-sha256",
            LegacyScheme::Argon2(_) => "argon2",
            LegacyScheme::Heavy(heavy) => heavy.scheme(),
        }
    }

    pub(super) fn key_name(&self) -> Option<&str> {
        match &self.0 {
            LegacyScheme::HmacSha256 { key, .. } => Some(key),
            _ => None,
        }
    }

    /// Returns the bytes by which a text is found; `None` if the format does not find it by such a digest.
    pub(super) fn as_lookup(&self, lookup: &Lookup) -> Option<&[u8]> {
        match (&self.0, lookup) {
            (LegacyScheme::Sha256(output), Lookup::Sha256) => Some(output.expose()),
            (LegacyScheme::Sha512(output), Lookup::Sha512) => Some(output.expose()),
            (LegacyScheme::HmacSha256 { key, output }, Lookup::HmacSha256 { key: wanted })
                if key == wanted =>
            {
                Some(output.expose())
            }
            _ => None,
        }
    }

    /// Returns whether a comparison with the digest needs a slow hash.
    pub(super) fn is_slow(&self) -> bool {
        !matches!(
            self.0,
            LegacyScheme::Sha256(_) | LegacyScheme::Sha512(_) | LegacyScheme::HmacSha256 { .. }
        )
    }

    /// Checks that the digest's Argon2 parameters are within `most`.
    pub(super) fn check_bounds(&self, most: Argon2Params) -> Result<(), HashingError> {
        match &self.0 {
            LegacyScheme::Argon2(text) => read_argon2(text, most).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// Returns the digest in the single spelling in which it is stored.
    pub(super) fn to_text(&self) -> String {
        let name = self.scheme();
        match &self.0 {
            LegacyScheme::Sha256(output) => format!("{name}:{}", hex(output.expose())),
            LegacyScheme::Sha512(output) => format!("{name}:{}", hex(output.expose())),
            LegacyScheme::HmacSha256 { key, output } => {
                format!("{name}:{key}:{}", hex(output.expose()))
            }
            LegacyScheme::Argon2(text) => format!("{name}:{text}"),
            LegacyScheme::Heavy(heavy) => format!("{name}:{}", heavy.text()),
        }
    }

    pub(super) fn from_text(text: &str, most: Argon2Params) -> Result<Self, HashingError> {
        let malformed = |_| HashingError::Malformed;
        let (scheme, rest) = text.split_once(':').ok_or(HashingError::Malformed)?;
        let read = match scheme {
            "sha256" => Self::sha256(rest).map_err(malformed)?,
            "sha512" => Self::sha512(rest).map_err(malformed)?,
            "hmac-sha256" => {
                let (key, output) = rest.split_once(':').ok_or(HashingError::Malformed)?;
                Self::hmac_sha256(key, output).map_err(malformed)?
            }
            "argon2" => Self::argon2(rest).map_err(malformed)?,
            _ => Self(LegacyScheme::Heavy(Heavy::stored(scheme, rest)?)),
        };
        read.check_bounds(most)?;
        if read.to_text() == text {
            Ok(read)
        } else {
            Err(HashingError::Malformed)
        }
    }

    /// Returns whether the digest was made from these bytes, in time that does not depend on where they differ.
    ///
    /// The parameters were bounded when the digest was parsed.
    pub(super) fn is_of(
        &self,
        presented: &[u8],
        mac: Option<Hmac<Sha256>>,
        most: Argon2Params,
        memory: &mut Memory,
    ) -> Result<bool, HashingError> {
        match &self.0 {
            LegacyScheme::Sha256(output) => Ok(output.is(&Sha256::digest(presented))),
            LegacyScheme::Sha512(output) => Ok(output.is(&Sha512::digest(presented))),
            LegacyScheme::HmacSha256 { output, .. } => {
                let mut mac = mac.ok_or(HashingError::UnknownAlgorithm)?;
                mac.update(presented);
                Ok(output.is(&mac.finalize().into_bytes()))
            }
            LegacyScheme::Argon2(text) => {
                let read = read_argon2(text, most)?;
                let length = read.output.expose().len();
                let params = argon2id::plain_params(read.params, length)?;
                let argon2 = Argon2::new(read.algorithm, Version::V0x13, params);
                let mut output = vec![0; length];
                argon2id::fill(&argon2, presented, &read.salt, &mut output, memory)?;
                Ok(read.output.is(&output))
            }
            LegacyScheme::Heavy(heavy) => heavy.is_of(presented, memory),
        }
    }
}

/// Compares in time that does not depend on where the digests differ.
impl PartialEq for LegacyDigest {
    fn eq(&self, other: &Self) -> bool {
        Output::new(self.to_text()).is(other.to_text().as_bytes())
    }
}

impl Eq for LegacyDigest {}

/// Shows the scheme only.
impl fmt::Debug for LegacyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LegacyDigest({}, [redacted])", self.scheme())
    }
}

fn output<const N: usize>(bytes: Option<Vec<u8>>) -> Result<Output<[u8; N]>, LegacyError> {
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.map(Output::new).ok_or(LegacyError::MalformedDigest)
}
