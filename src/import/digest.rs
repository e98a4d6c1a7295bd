//! Digests of other libraries, parsed strictly and bounded before they are computed.

use std::fmt;

use argon2::{Argon2, Version};

use super::encoding::{from_base64, from_hex, hex, read_argon2};
use super::format::is_name;
use super::hash::{Function, LegacyHash};
use super::heavy::Heavy;
use super::{ImportError, LegacyError};
use crate::hashing::argon2id::{self, Memory};
use crate::hashing::{Argon2Params, HashingError, Output};

/// A digest that another library created, in one of the supported schemes.
///
/// Each scheme is parsed strictly: exact lengths, one spelling, bounded parameters. The key's
/// [format](super::LegacyFormat) says whether the digest covers the secret or the whole text.
///
/// ```
/// use keyward::import::{LegacyDigest, LegacyHash};
///
/// let digest = LegacyDigest::sha256("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")?;
/// let same = LegacyDigest::base64(&LegacyHash::SHA256, "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=")?;
/// assert_eq!(digest, same);
/// assert!(LegacyDigest::sha256("d41d8cd98f00b204e9800998ecf8427e").is_err());
/// # Ok::<(), keyward::import::LegacyError>(())
/// ```
#[derive(Clone)]
pub struct LegacyDigest(LegacyScheme);

#[derive(Clone)]
enum LegacyScheme {
    Plain {
        hash: LegacyHash,
        output: Output<Vec<u8>>,
    },
    /// HMAC with the salt as its key.
    Salted {
        function: Function,
        salt: Box<str>,
        output: Output<Vec<u8>>,
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
        Self::hex(&LegacyHash::SHA256, hex)
    }

    /// Parses a digest by this hash in hex digits.
    ///
    /// # Errors
    /// [`LegacyError::MalformedDigest`]; [`LegacyError::SiteSecret`] if the name of the hash's site secret is invalid;
    /// [`LegacyError::NeedsFeature`] for SHA-1 without the feature `legacy-digests`.
    pub fn hex(hash: &LegacyHash, text: &str) -> Result<Self, LegacyError> {
        Self::plain(hash, from_hex(text))
    }

    /// Parses a digest by this hash in base64: standard or URL-safe alphabet, padded or not.
    ///
    /// # Security
    /// 32 random bytes in base64, a common form of token, look the same as a digest of that length. Make sure that you
    /// read the column of digests: otherwise the store keeps the tokens themselves.
    ///
    /// # Errors
    /// [`LegacyError::MalformedDigest`]; [`LegacyError::SiteSecret`] if the name of the hash's site secret is invalid;
    /// [`LegacyError::NeedsFeature`] for SHA-1 without the feature `legacy-digests`.
    pub fn base64(hash: &LegacyHash, text: &str) -> Result<Self, LegacyError> {
        Self::plain(hash, from_base64(text))
    }

    fn plain(hash: &LegacyHash, output: Option<Vec<u8>>) -> Result<Self, LegacyError> {
        if !hash.site_secret().is_none_or(is_name) {
            return Err(LegacyError::SiteSecret);
        }
        let output = output_of(hash.function(), output)?;
        let hash = hash.clone();
        Ok(Self(LegacyScheme::Plain { hash, output }))
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
            Err(HashingError::Excessive) => Err(LegacyError::ExcessiveDigest {
                limit: "2 GiB of memory, 64 passes and 16 lanes of Argon2",
            }),
            Err(_) => Err(LegacyError::MalformedDigest {
                expected: "Argon2 of version 19 as a PHC string, with a salt of 8 to 48 bytes",
            }),
        }
    }

    /// Parses bcrypt in 60 characters: `$2a$`, `$2b$` or `$2y$`, and a cost of 4 to 15.
    ///
    /// bcrypt reads no more than 72 bytes. Longer secrets are refused, since any two with the same beginning would
    /// match.
    ///
    /// # Errors
    /// [`LegacyError::MalformedDigest`], [`LegacyError::ExcessiveDigest`]; [`LegacyError::UnsupportedScheme`] for
    /// `$2x$`; [`LegacyError::NeedsFeature`] without the feature `legacy-digests`.
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
    /// [`LegacyError::MalformedDigest`], [`LegacyError::ExcessiveDigest`]; [`LegacyError::UnsupportedScheme`] for
    /// another hasher; [`LegacyError::NeedsFeature`] without the feature `legacy-digests`.
    pub fn django(text: &str) -> Result<Self, LegacyError> {
        let (algorithm, rest) = text.split_once('$').unwrap_or_default();
        match algorithm {
            "argon2" => Self::argon2(&format!("${rest}")),
            "sha512" => {
                let digest = rest.strip_prefix('$').unwrap_or_default();
                Self::hex(&LegacyHash::SHA512, digest)
            }
            _ => Heavy::django(text).map(LegacyScheme::Heavy).map(Self),
        }
    }

    /// Parses the output of one of passlib's hashes: `$pbkdf2-sha256$…`, `$pbkdf2-sha512$…`, `$pbkdf2$…` (SHA-1),
    /// `$argon2id$…` and `$2b$…`.
    ///
    /// Source: passlib's documentation, `passlib.hash.pbkdf2_{digest}`. Up to 4,000,000 rounds.
    ///
    /// # Errors
    /// [`LegacyError::MalformedDigest`], [`LegacyError::ExcessiveDigest`]; [`LegacyError::UnsupportedScheme`] for
    /// another hash; [`LegacyError::NeedsFeature`] without the feature `legacy-digests`.
    pub fn passlib(text: &str) -> Result<Self, LegacyError> {
        if text.starts_with("$argon2") {
            return Self::argon2(text);
        }
        Heavy::passlib(text).map(LegacyScheme::Heavy).map(Self)
    }

    /// Parses the output of Werkzeug's `generate_password_hash`, as in Flask: `pbkdf2:sha256:…`, `scrypt:…`, and the
    /// `sha256$…` of versions before 2.3, which is HMAC under a salt. The others with `sha1`, `sha384` and `sha512`,
    /// too.
    ///
    /// Source: Werkzeug's `werkzeug.security`. Up to 4,000,000 iterations, and for scrypt up to 64 MiB and a
    /// parallelization of 16.
    ///
    /// # Errors
    /// [`LegacyError::MalformedDigest`], [`LegacyError::ExcessiveDigest`]; [`LegacyError::UnsupportedScheme`] for
    /// another method; [`LegacyError::NeedsFeature`] without the feature `legacy-digests`.
    pub fn werkzeug(text: &str) -> Result<Self, LegacyError> {
        let (method, rest) = text.split_once('$').unwrap_or_default();
        let mut functions = Function::ALL.into_iter();
        let function = functions.find(|function| {
            let [plain, ..] = function.schemes();
            *function != Function::Sha512Half && plain == method
        });
        match (function, rest.split_once('$')) {
            (Some(function), Some((salt, digest))) => Self::salted(function, salt, digest),
            (Some(function), None) => Err(malformed(function)),
            (None, _) => Heavy::werkzeug(text).map(LegacyScheme::Heavy).map(Self),
        }
    }

    fn salted(function: Function, salt: &str, digest: &str) -> Result<Self, LegacyError> {
        is_salt(salt)?;
        let output = output_of(function, from_hex(digest))?;
        let salt = salt.into();
        Ok(Self(LegacyScheme::Salted {
            function,
            salt,
            output,
        }))
    }

    /// Returns the scheme's name, for the audit log.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        match &self.0 {
            LegacyScheme::Plain { hash, .. } => hash.scheme(),
            LegacyScheme::Salted { function, .. } => {
                let [.., salted] = function.schemes();
                salted
            }
            LegacyScheme::Argon2(_) => "argon2",
            LegacyScheme::Heavy(heavy) => heavy.scheme(),
        }
    }

    /// Returns the name of the site secret that the digest needs.
    pub(super) fn site_secret(&self) -> Option<&str> {
        match &self.0 {
            LegacyScheme::Plain { hash, .. } => hash.site_secret(),
            _ => None,
        }
    }

    /// Returns the bytes by which a text is found; `None` if the format does not find it by such a digest.
    pub(super) fn as_lookup(&self, lookup: &LegacyHash) -> Option<&[u8]> {
        match &self.0 {
            LegacyScheme::Plain { hash, output } if hash == lookup => Some(output.expose()),
            _ => None,
        }
    }

    /// Returns whether a comparison with the digest needs a slow hash.
    pub(super) fn is_slow(&self) -> bool {
        matches!(self.0, LegacyScheme::Argon2(_) | LegacyScheme::Heavy(_))
    }

    /// Returns whether only the entropy of the secret protects it, since the digest's function is broken otherwise.
    pub(crate) fn is_weak(&self) -> bool {
        match &self.0 {
            LegacyScheme::Plain { hash, .. } => hash.function() == Function::Sha1,
            LegacyScheme::Salted { function, .. } => *function == Function::Sha1,
            LegacyScheme::Argon2(_) | LegacyScheme::Heavy(_) => false,
        }
    }

    /// Returns the most bytes of a secret that the digest's scheme reads.
    pub(super) fn most_bytes(&self) -> Option<usize> {
        match &self.0 {
            LegacyScheme::Heavy(heavy) => heavy.most_bytes(),
            _ => None,
        }
    }

    /// Checks that the digest's Argon2 parameters are within `most`.
    pub(super) fn check_bounds(&self, most: Argon2Params) -> Result<(), ImportError> {
        let LegacyScheme::Argon2(text) = &self.0 else {
            return Ok(());
        };
        let asked = read_argon2(text, Argon2Params::MOST_READ).map(|read| read.params);
        match (read_argon2(text, most), asked) {
            (Ok(_), _) => Ok(()),
            (Err(_), Ok(asked)) => Err(ImportError::Excessive { asked, most }),
            // INVARIANT: a digest was parsed within those bounds.
            (Err(_), Err(_)) => Err(ImportError::Unverifiable {
                reason: "its Argon2 string is malformed",
            }),
        }
    }

    /// Returns the digest in the single spelling in which it is stored.
    pub(super) fn to_text(&self) -> String {
        let name = self.scheme();
        match &self.0 {
            LegacyScheme::Plain { hash, output } => {
                let output = hex(output.expose());
                match hash.site_secret() {
                    Some(secret) => format!("{name}:{secret}:{output}"),
                    None => format!("{name}:{output}"),
                }
            }
            LegacyScheme::Salted { salt, output, .. } => {
                format!("{name}:{salt}:{}", hex(output.expose()))
            }
            LegacyScheme::Argon2(text) => format!("{name}:{text}"),
            LegacyScheme::Heavy(heavy) => format!("{name}:{}", heavy.text()),
        }
    }

    pub(super) fn from_text(text: &str, most: Argon2Params) -> Result<Self, HashingError> {
        let (scheme, rest) = text.split_once(':').ok_or(HashingError::Malformed)?;
        let read = match Self::read_stored(scheme, rest) {
            Some(read) => read.map_err(|error| match error {
                LegacyError::NeedsFeature { .. } => HashingError::UnknownAlgorithm,
                _ => HashingError::Malformed,
            })?,
            None => Self(LegacyScheme::Heavy(Heavy::stored(scheme, rest)?)),
        };
        read.check_bounds(most)
            .map_err(|_| HashingError::Excessive)?;
        if read.to_text() == text {
            Ok(read)
        } else {
            Err(HashingError::Malformed)
        }
    }

    /// Reads a stored digest of a scheme that needs no slow hash but Argon2's; `None` if it is of another scheme.
    fn read_stored(scheme: &str, rest: &str) -> Option<Result<Self, LegacyError>> {
        if scheme == "argon2" {
            return Some(Self::argon2(rest));
        }
        let mut functions = Function::ALL.into_iter();
        let salted = functions.find(|function| {
            let [.., salted] = function.schemes();
            salted == scheme
        });
        if let Some(function) = salted {
            let (salt, digest) = rest.rsplit_once(':').unwrap_or_default();
            return Some(Self::salted(function, salt, digest));
        }
        let (name, digest) = match rest.split_once(':') {
            Some((name, digest)) => (Some(name), digest),
            None => (None, rest),
        };
        let hash = LegacyHash::of_scheme(scheme, name)?;
        Some(Self::hex(&hash, digest))
    }

    /// Returns whether the digest was made from these bytes, in time that does not depend on where they differ.
    ///
    /// The parameters were bounded when the digest was parsed. `secret` is the site secret, or empty if none is needed.
    pub(super) fn is_of(
        &self,
        presented: &[u8],
        secret: &[u8],
        most: Argon2Params,
        memory: &mut Memory,
    ) -> Result<bool, HashingError> {
        let unavailable = HashingError::UnknownAlgorithm;
        match &self.0 {
            LegacyScheme::Plain { hash, output } => {
                let computed = hash.of(presented, secret).ok_or(unavailable)?;
                Ok(output.is(&computed))
            }
            LegacyScheme::Salted {
                function,
                salt,
                output,
            } => {
                let computed = function.hmac(salt.as_bytes(), presented);
                Ok(output.is(&computed.ok_or(unavailable)?))
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

fn output_of(function: Function, bytes: Option<Vec<u8>>) -> Result<Output<Vec<u8>>, LegacyError> {
    let bytes = bytes.filter(|bytes| bytes.len() == function.length());
    let output = bytes.ok_or(malformed(function))?;
    if function.is_available() {
        Ok(Output::new(output))
    } else {
        Err(LegacyError::NeedsFeature { scheme: "SHA-1" })
    }
}

const fn malformed(function: Function) -> LegacyError {
    LegacyError::MalformedDigest {
        expected: function.expected(),
    }
}

/// Checks a salt that is written as text.
pub(super) fn is_salt(salt: &str) -> Result<(), LegacyError> {
    let is_salt = (1..=64).contains(&salt.len()) && salt.bytes().all(|b| b.is_ascii_graphic());
    if is_salt {
        Ok(())
    } else {
        Err(LegacyError::MalformedDigest {
            expected: "salted with 1 to 64 visible ASCII characters",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_feature_is_named() {
        for (read, scheme) in [
            (LegacyDigest::bcrypt("$2b$04$…"), "bcrypt"),
            (LegacyDigest::django("scrypt$…"), "Django"),
            (LegacyDigest::passlib("$pbkdf2$…"), "passlib"),
            (LegacyDigest::werkzeug("scrypt:…$…"), "Werkzeug"),
            (
                LegacyDigest::hex(&LegacyHash::SHA1, &"a".repeat(40)),
                "SHA-1",
            ),
        ] {
            let is_missing = matches!(read, Err(LegacyError::NeedsFeature { .. }));
            assert_eq!(is_missing, !cfg!(feature = "legacy-digests"), "{scheme}");
            if let Err(error @ LegacyError::NeedsFeature { .. }) = read {
                let error = error.to_string();
                let names = error.contains(scheme) && error.contains("`legacy-digests`");
                assert!(names, "{error}");
            }
        }
    }

    #[test]
    fn needless_features_are_not_asked_for() {
        let hex = |bytes: usize| "ab".repeat(bytes);
        for (hash, bytes) in [
            (LegacyHash::SHA256, 32),
            (LegacyHash::SHA384, 48),
            (LegacyHash::SHA512.hmac("site"), 64),
            (LegacyHash::SHA512_256.secret_last("site"), 32),
        ] {
            assert!(LegacyDigest::hex(&hash, &hex(bytes)).is_ok());
            assert!(LegacyDigest::hex(&hash, &hex(bytes + 1)).is_err());
        }
        let salted = format!("sha256$salt${}", hex(32));
        assert!(LegacyDigest::werkzeug(&salted).is_ok());
    }
}
