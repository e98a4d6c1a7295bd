//! Digests of other libraries, parsed strictly and bounded before they are computed.

use std::fmt;

#[cfg(feature = "legacy-digests")]
use super::schemes::{Pbkdf2, Scrypt, check_bcrypt};
use super::schemes::{check_argon2, from_base64, read_argon2};
use crate::hashing::output::Output;
use crate::hashing::{Argon2Params, HashingError};
use crate::key::Lookup;

/// A digest that another library created, in one of the supported schemes.
///
/// Each scheme is parsed strictly: exact lengths, one spelling, bounded parameters. The key's
/// [format](crate::key::LegacyFormat) says whether the digest covers the secret or the whole text.
///
/// ```
/// use keyward::hashing::LegacyDigest;
///
/// let digest = LegacyDigest::sha256("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")?;
/// assert_eq!(digest, LegacyDigest::sha256_base64("LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=")?);
/// assert!(LegacyDigest::sha256("d41d8cd98f00b204e9800998ecf8427e").is_err());
/// # Ok::<(), keyward::hashing::LegacyDigestError>(())
/// ```
#[derive(Clone)]
pub struct LegacyDigest(pub(super) LegacyScheme);

#[derive(Clone)]
pub(super) enum LegacyScheme {
    Sha256(Output<[u8; 32]>),
    Sha512(Output<[u8; 64]>),
    HmacSha256 {
        key: Box<str>,
        output: Output<[u8; 32]>,
    },
    /// A PHC string of argon2d, argon2i or argon2id.
    Argon2(Box<str>),
    #[cfg(feature = "legacy-digests")]
    Bcrypt(Box<str>),
    /// Django's `bcrypt_sha256`: bcrypt of the SHA-256 in hex.
    #[cfg(feature = "legacy-digests")]
    BcryptSha256(Box<str>),
    /// PBKDF2 in Django's encoding.
    #[cfg(feature = "legacy-digests")]
    Pbkdf2(Box<str>),
    /// scrypt in Django's encoding.
    #[cfg(feature = "legacy-digests")]
    Scrypt(Box<str>),
}

impl LegacyDigest {
    /// Parses SHA-256 in 64 hex digits, as stored by Laravel Sanctum and `prefixed-api-key`.
    ///
    /// # Errors
    /// [`LegacyDigestError::Malformed`].
    pub fn sha256(hex: &str) -> Result<Self, LegacyDigestError> {
        Ok(Self(LegacyScheme::Sha256(from_hex(hex)?)))
    }

    /// Parses SHA-256 in base64: standard or URL-safe alphabet, padded or not.
    ///
    /// # Security
    /// 32 random bytes in base64, a common form of token, look the same. Make sure that you read the column of
    /// digests: otherwise the store keeps the tokens themselves.
    ///
    /// # Errors
    /// [`LegacyDigestError::Malformed`].
    pub fn sha256_base64(text: &str) -> Result<Self, LegacyDigestError> {
        Ok(Self(LegacyScheme::Sha256(bytes_of_base64(text)?)))
    }

    /// Parses SHA-512 in 128 hex digits.
    ///
    /// # Errors
    /// [`LegacyDigestError::Malformed`].
    pub fn sha512(hex: &str) -> Result<Self, LegacyDigestError> {
        Ok(Self(LegacyScheme::Sha512(from_hex(hex)?)))
    }

    /// Parses SHA-512 in base64, as [`sha256_base64`](Self::sha256_base64).
    ///
    /// # Errors
    /// [`LegacyDigestError::Malformed`].
    pub fn sha512_base64(text: &str) -> Result<Self, LegacyDigestError> {
        Ok(Self(LegacyScheme::Sha512(bytes_of_base64(text)?)))
    }

    /// Parses HMAC-SHA-256 in 64 hex digits, under the [HMAC key](super::ImportedKeys::hmac_key) of this name.
    ///
    /// # Errors
    /// [`LegacyDigestError::Malformed`], [`LegacyDigestError::Key`].
    pub fn hmac_sha256(key: &str, hex: &str) -> Result<Self, LegacyDigestError> {
        Self::hmac_of(key, from_hex(hex)?)
    }

    /// Parses HMAC-SHA-256 in base64, as [`sha256_base64`](Self::sha256_base64).
    ///
    /// # Errors
    /// [`LegacyDigestError::Malformed`], [`LegacyDigestError::Key`].
    pub fn hmac_sha256_base64(key: &str, text: &str) -> Result<Self, LegacyDigestError> {
        Self::hmac_of(key, bytes_of_base64(text)?)
    }

    fn hmac_of(key: &str, output: Output<[u8; 32]>) -> Result<Self, LegacyDigestError> {
        if !is_key_name(key) {
            return Err(LegacyDigestError::Key);
        }
        let key = key.into();
        Ok(Self(LegacyScheme::HmacSha256 { key, output }))
    }

    /// Parses Argon2 in its PHC string, as written by argon2-cffi and PHP: `$argon2id$v=19$m=65536,t=3,p=4$…$…`.
    ///
    /// Accepted are argon2id, argon2i and argon2d, with an explicit `v=19`, a salt of 8 to 48 bytes, 16 to 64 bytes of
    /// output, no `keyid` and no `data`. An import accepts parameters up to those of
    /// [`Hashing::accept_argon2id`](super::super::Hashing::accept_argon2id).
    ///
    /// # Errors
    /// [`LegacyDigestError::Malformed`]; [`LegacyDigestError::Excessive`] past 2 GiB, 64 passes or 16 lanes.
    pub fn argon2(text: &str) -> Result<Self, LegacyDigestError> {
        check_argon2(text)?;
        Ok(Self(LegacyScheme::Argon2(text.into())))
    }

    /// Parses bcrypt in 60 characters: `$2a$`, `$2b$` or `$2y$`, and a cost of 4 to 15.
    ///
    /// bcrypt reads no more than 72 bytes. Longer secrets are refused, since any two with the same beginning would
    /// match.
    ///
    /// # Errors
    /// [`LegacyDigestError::Malformed`], [`LegacyDigestError::Excessive`].
    #[cfg(feature = "legacy-digests")]
    pub fn bcrypt(text: &str) -> Result<Self, LegacyDigestError> {
        check_bcrypt(text)?;
        Ok(Self(LegacyScheme::Bcrypt(text.into())))
    }

    /// Parses the output of one of Django's password hashers: `pbkdf2_sha256`, `pbkdf2_sha1`, `argon2`,
    /// `bcrypt_sha256`, `bcrypt`, `scrypt`, and the unsalted `sha512$$…` of `djangorestframework-api-key`.
    ///
    /// Source: Django's `django.contrib.auth.hashers`. Up to 4,000,000 iterations, and for scrypt up to 64 MiB and
    /// a parallelization of 16.
    ///
    /// # Errors
    /// [`LegacyDigestError::Malformed`], [`LegacyDigestError::Excessive`].
    #[cfg(feature = "legacy-digests")]
    pub fn django(text: &str) -> Result<Self, LegacyDigestError> {
        let (algorithm, rest) = text.split_once('$').ok_or(LegacyDigestError::Malformed)?;
        match algorithm {
            "argon2" => Self::argon2(&format!("${rest}")),
            "bcrypt" => Self::bcrypt(rest),
            "bcrypt_sha256" => {
                check_bcrypt(rest)?;
                Ok(Self(LegacyScheme::BcryptSha256(rest.into())))
            }
            "pbkdf2_sha256" | "pbkdf2_sha1" => {
                Pbkdf2::read(text)?;
                Ok(Self(LegacyScheme::Pbkdf2(text.into())))
            }
            "scrypt" => {
                Scrypt::read(text)?;
                Ok(Self(LegacyScheme::Scrypt(text.into())))
            }
            "sha512" => match rest.strip_prefix('$') {
                Some(hex) if hex.len() == 128 => Self::sha512(hex),
                _ => Err(LegacyDigestError::Malformed),
            },
            _ => Err(LegacyDigestError::Malformed),
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
            #[cfg(feature = "legacy-digests")]
            LegacyScheme::Bcrypt(_) => "bcrypt",
            #[cfg(feature = "legacy-digests")]
            LegacyScheme::BcryptSha256(_) => "bcrypt-sha256",
            #[cfg(feature = "legacy-digests")]
            LegacyScheme::Pbkdf2(_) => "pbkdf2",
            #[cfg(feature = "legacy-digests")]
            LegacyScheme::Scrypt(_) => "scrypt",
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
    pub(crate) fn is_slow(&self) -> bool {
        !matches!(
            self.0,
            LegacyScheme::Sha256(_) | LegacyScheme::Sha512(_) | LegacyScheme::HmacSha256 { .. }
        )
    }

    /// Checks that the digest's Argon2 parameters are within `most`.
    pub(crate) fn check_bounds(&self, most: Argon2Params) -> Result<(), HashingError> {
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
            #[cfg(feature = "legacy-digests")]
            LegacyScheme::Bcrypt(text)
            | LegacyScheme::BcryptSha256(text)
            | LegacyScheme::Pbkdf2(text)
            | LegacyScheme::Scrypt(text) => format!("{name}:{text}"),
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
            #[cfg(feature = "legacy-digests")]
            "bcrypt" => Self::bcrypt(rest).map_err(malformed)?,
            #[cfg(feature = "legacy-digests")]
            "bcrypt-sha256" => Self::django(&format!("bcrypt_sha256${rest}")).map_err(malformed)?,
            #[cfg(feature = "legacy-digests")]
            "pbkdf2" | "scrypt" => Self::django(rest).map_err(malformed)?,
            _ => return Err(HashingError::UnknownAlgorithm),
        };
        read.check_bounds(most)?;
        if read.to_text() == text {
            Ok(read)
        } else {
            Err(HashingError::Malformed)
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

/// Why a text is not a digest of the scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LegacyDigestError {
    /// The text is malformed, or has a wrong length.
    #[error("the text is no digest of this scheme")]
    Malformed,
    /// The digest's parameters exceed the bounds.
    #[error("the digest asks for more passes, memory or lanes than is obeyed")]
    Excessive,
    /// The name of an HMAC key is invalid, or the key is empty.
    #[error(
        "an HMAC key has a name of 1 to 32 lower-case letters, digits and hyphens, and is not empty"
    )]
    Key,
}

pub(super) fn is_key_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    (1..=32).contains(&name.len())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

pub(super) fn hex(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(bytes)
}

fn from_hex<const N: usize>(text: &str) -> Result<Output<[u8; N]>, LegacyDigestError> {
    let bytes = base16ct::mixed::decode_vec(text).ok();
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.map(Output::new).ok_or(LegacyDigestError::Malformed)
}

fn bytes_of_base64<const N: usize>(text: &str) -> Result<Output<[u8; N]>, LegacyDigestError> {
    let bytes = from_base64(text).and_then(|bytes| bytes.try_into().ok());
    bytes.map(Output::new).ok_or(LegacyDigestError::Malformed)
}
