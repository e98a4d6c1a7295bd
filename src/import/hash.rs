//! Plain hashes of tokens, with or without a secret of the site.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha384, Sha512, Sha512_256};

use super::format::is_name;

/// A plain hash by which another system kept its tokens, with or without a secret of the site.
///
/// The secret itself is given to [`ImportedKeys::site_secret`](super::ImportedKeys::site_secret) and never stored.
///
/// ```
/// use keyward::import::{LegacyDigest, LegacyHash};
///
/// // GitLab's personal access tokens: the SHA-256 of the token and a secret after it, in base64.
/// let hash = LegacyHash::SHA256.secret_last("db-key-base");
/// let digest = LegacyDigest::base64(&hash, "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=")?;
/// assert_eq!(digest.scheme(), "sha256-secret");
/// # Ok::<(), keyward::import::LegacyError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyHash {
    function: Function,
    secret: SiteSecret,
}

/// Returns the name as errors and `Debug` may show it. A text that is no name is perhaps the secret itself.
fn shown(name: &str) -> Box<str> {
    let name = if is_name(name) { name } else { "[not a name]" };
    name.into()
}

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
    Sha512Half,
}

/// How the site's secret of this name enters the hash.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SiteSecret {
    Absent,
    Hmac(Box<str>),
    First(Box<str>),
    Last(Box<str>),
}

impl LegacyHash {
    /// SHA-1, which needs the feature `legacy-digests`.
    ///
    /// # Security
    /// SHA-1 is broken for signatures: two texts with one digest can be made. For a token that a generator drew, it is
    /// still not feasible to find the token from its digest. Such a digest is imported only with a declared entropy of
    /// 112 bits or more, and the first use replaces it.
    pub const SHA1: Self = Self::plain(Function::Sha1);
    /// SHA-256.
    pub const SHA256: Self = Self::plain(Function::Sha256);
    /// SHA-384.
    pub const SHA384: Self = Self::plain(Function::Sha384);
    /// SHA-512.
    pub const SHA512: Self = Self::plain(Function::Sha512);
    /// SHA-512/256, which is not a prefix of SHA-512 (FIPS 180-4).
    pub const SHA512_256: Self = Self::plain(Function::Sha512Half);

    const fn plain(function: Function) -> Self {
        Self {
            function,
            secret: SiteSecret::Absent,
        }
    }

    /// Makes it HMAC with this hash (RFC 2104), with the [site secret](super::ImportedKeys::site_secret) of this name
    /// as the key.
    #[must_use]
    pub fn hmac(mut self, site_secret: &str) -> Self {
        self.secret = SiteSecret::Hmac(shown(site_secret));
        self
    }

    /// Makes it the hash of the [site secret](super::ImportedKeys::site_secret) of this name and then the token, as
    /// CakePHP's `Security::hash` with a salt. A separator is part of the secret.
    #[must_use]
    pub fn secret_first(mut self, site_secret: &str) -> Self {
        self.secret = SiteSecret::First(shown(site_secret));
        self
    }

    /// Makes it the hash of the token and then the [site secret](super::ImportedKeys::site_secret) of this name, as
    /// GitLab's personal access tokens. A separator is part of the secret.
    #[must_use]
    pub fn secret_last(mut self, site_secret: &str) -> Self {
        self.secret = SiteSecret::Last(shown(site_secret));
        self
    }

    /// Returns the name of the site secret that it needs.
    pub(super) fn site_secret(&self) -> Option<&str> {
        match &self.secret {
            SiteSecret::Absent => None,
            SiteSecret::Hmac(name) | SiteSecret::First(name) | SiteSecret::Last(name) => Some(name),
        }
    }

    pub(super) fn function(&self) -> Function {
        self.function
    }

    /// Returns the name of the scheme.
    pub(super) fn scheme(&self) -> &'static str {
        let [plain, hmac, first, last, _] = self.function.schemes();
        match self.secret {
            SiteSecret::Absent => plain,
            SiteSecret::Hmac(_) => hmac,
            SiteSecret::First(_) => first,
            SiteSecret::Last(_) => last,
        }
    }

    /// Finds the hash with this scheme; `None` if there is no such scheme. `name` is the site secret's name, where the
    /// scheme has one.
    pub(super) fn of_scheme(scheme: &str, name: Option<&str>) -> Option<Self> {
        Function::ALL.into_iter().find_map(|function| {
            let [plain, hmac, first, last, _] = function.schemes();
            let hash = Self::plain(function);
            Some(match name {
                None if scheme == plain => hash,
                Some(name) if scheme == hmac => hash.hmac(name),
                Some(name) if scheme == first => hash.secret_first(name),
                Some(name) if scheme == last => hash.secret_last(name),
                _ => return None,
            })
        })
    }

    /// Computes the hash of a token; `None` without the feature that it needs. `secret` is the site secret, or empty if
    /// there is none.
    pub(super) fn of(&self, token: &[u8], secret: &[u8]) -> Option<Vec<u8>> {
        match self.secret {
            SiteSecret::Absent => self.function.hash([token, b""]),
            SiteSecret::Hmac(_) => self.function.hmac(secret, token),
            SiteSecret::First(_) => self.function.hash([secret, token]),
            SiteSecret::Last(_) => self.function.hash([token, secret]),
        }
    }
}

impl Function {
    pub(super) const ALL: [Self; 5] = [
        Self::Sha1,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
        Self::Sha512Half,
    ];

    /// Returns the names of the schemes: plain, HMAC, the secret first, the secret last, and HMAC under a salt.
    pub(super) const fn schemes(self) -> [&'static str; 5] {
        match self {
            Self::Sha1 => [
                "sha1",
                "hmac-sha1",
                "secret-sha1",
                "sha1-secret",
                "salted-sha1",
            ],
            Self::Sha256 => [
                "sha256",
                "hmac-sha256",
                "secret-sha256",
                "sha256-secret",
                "salted-sha256",
            ],
            Self::Sha384 => [
                "sha384",
                "hmac-sha384",
                "secret-sha384",
                "sha384-secret",
                "salted-sha384",
            ],
            Self::Sha512 => [
                "sha512",
                "hmac-sha512",
                "secret-sha512",
                "sha512-secret",
                "salted-sha512",
            ],
            Self::Sha512Half => [
                "sha512-256",
                "hmac-sha512-256",
                "secret-sha512-256",
                "sha512-256-secret",
                "salted-sha512-256",
            ],
        }
    }

    /// Returns the length of the output in bytes.
    pub(super) const fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 | Self::Sha512Half => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Returns whether the feature that it needs is enabled.
    pub(super) const fn is_available(self) -> bool {
        cfg!(feature = "legacy-digests") || !matches!(self, Self::Sha1)
    }

    pub(super) fn hash(self, parts: [&[u8]; 2]) -> Option<Vec<u8>> {
        fn by<D: sha2::Digest>(parts: [&[u8]; 2]) -> Vec<u8> {
            let mut hash = D::new();
            for part in parts {
                hash.update(part);
            }
            hash.finalize().to_vec()
        }
        match self {
            #[cfg(feature = "legacy-digests")]
            Self::Sha1 => Some(by::<sha1::Sha1>(parts)),
            #[cfg(not(feature = "legacy-digests"))]
            Self::Sha1 => None,
            Self::Sha256 => Some(by::<Sha256>(parts)),
            Self::Sha384 => Some(by::<Sha384>(parts)),
            Self::Sha512 => Some(by::<Sha512>(parts)),
            Self::Sha512Half => Some(by::<Sha512_256>(parts)),
        }
    }

    pub(super) fn hmac(self, key: &[u8], message: &[u8]) -> Option<Vec<u8>> {
        fn by<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Option<Vec<u8>> {
            let mut mac = <M as KeyInit>::new_from_slice(key).ok()?;
            mac.update(message);
            Some(mac.finalize().into_bytes().to_vec())
        }
        match self {
            #[cfg(feature = "legacy-digests")]
            Self::Sha1 => by::<Hmac<sha1::Sha1>>(key, message),
            #[cfg(not(feature = "legacy-digests"))]
            Self::Sha1 => None,
            Self::Sha256 => by::<Hmac<Sha256>>(key, message),
            Self::Sha384 => by::<Hmac<Sha384>>(key, message),
            Self::Sha512 => by::<Hmac<Sha512>>(key, message),
            Self::Sha512Half => by::<Hmac<Sha512_256>>(key, message),
        }
    }
}

impl Function {
    /// Returns the hash's name, and the length of a digest in hexadecimal.
    pub(super) const fn expected(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA-1 in 40 hexadecimal digits, or in base64",
            Self::Sha256 => "SHA-256 in 64 hexadecimal digits, or in base64",
            Self::Sha384 => "SHA-384 in 96 hexadecimal digits, or in base64",
            Self::Sha512 => "SHA-512 in 128 hexadecimal digits, or in base64",
            Self::Sha512Half => "SHA-512/256 in 64 hexadecimal digits, or in base64",
        }
    }
}
