//! The encoding of digests: PHC strings, parsed strictly and bounded before they are computed.

use argon2::PasswordHash;
use argon2::password_hash::phc::{Ident, Output, ParamsString, Salt};

use super::output::Output as Compared;
use super::{Argon2Params, HashingError};
use crate::key::{Digest, KeyId};

const SHA256: &str = "keyward-sha256";
const HMAC_SHA256: &str = "keyward-hmac-sha256";
const ARGON2ID: &str = "keyward-argon2id";

/// Version of the layout of the bytes that a digest covers.
const VERSION: u32 = 1;

/// The algorithm of a digest, with its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Sha256,
    Hmac {
        pepper: u32,
    },
    Argon2id {
        params: Argon2Params,
        pepper: Option<u32>,
    },
}

impl Scheme {
    const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => SHA256,
            Self::Hmac { .. } => HMAC_SHA256,
            Self::Argon2id { .. } => ARGON2ID,
        }
    }

    pub(super) const fn pepper(self) -> Option<u32> {
        match self {
            Self::Sha256 => None,
            Self::Hmac { pepper } => Some(pepper),
            Self::Argon2id { pepper, .. } => pepper,
        }
    }
}

/// The parts of a digest.
#[derive(Clone)]
pub(super) struct StoredDigest {
    pub(super) scheme: Scheme,
    pub(super) salt: [u8; 16],
    pub(super) output: Compared<[u8; 32]>,
}

impl StoredDigest {
    /// Parses the digest of the key `id`. Each digest has exactly one accepted spelling.
    pub(super) fn read(
        digest: &Digest,
        id: KeyId,
        most: Argon2Params,
    ) -> Result<Self, HashingError> {
        let malformed = || HashingError::Malformed;
        let text = digest.expose();
        let name = text.split('$').nth(1).unwrap_or_default();
        if ![SHA256, HMAC_SHA256, ARGON2ID].contains(&name) {
            return Err(HashingError::UnknownAlgorithm);
        }
        let phc = PasswordHash::new(text).map_err(|_| malformed())?;
        if phc.version != Some(VERSION) {
            return Err(HashingError::UnknownAlgorithm);
        }
        let number = |name: &str| phc.params.get_decimal(name);
        let required = |name: &str| number(name).ok_or_else(malformed);
        let scheme = match name {
            SHA256 => Scheme::Sha256,
            HMAC_SHA256 => Scheme::Hmac {
                pepper: required("pepper")?,
            },
            _ => Scheme::Argon2id {
                params: Argon2Params::stored(required("m")?, required("t")?, required("p")?, most)?,
                pepper: number("pepper"),
            },
        };
        let salt = phc
            .salt
            .as_ref()
            .and_then(|salt| salt.as_ref().try_into().ok());
        let output = phc
            .hash
            .as_ref()
            .and_then(|hash| hash.as_bytes().try_into().ok());
        let read = Self {
            scheme,
            salt: salt.ok_or_else(malformed)?,
            output: Compared::new(output.ok_or_else(malformed)?),
        };
        // A fast digest's salt is the key's id, so a digest copied from another row is detected before it is used.
        let is_fast = !matches!(scheme, Scheme::Argon2id { .. });
        let is_another_keys = is_fast && read.salt != id.to_bytes();
        if is_another_keys || scheme.pepper() == Some(0) || read.write()? != *digest {
            return Err(malformed());
        }
        Ok(read)
    }

    /// Encodes the digest.
    pub(super) fn write(&self) -> Result<Digest, HashingError> {
        let malformed = |_| HashingError::Malformed;
        let mut params = ParamsString::new();
        let mut add = |name: &str, value: u32| params.add_decimal(name, value).map_err(malformed);
        if let Scheme::Argon2id { params, .. } = self.scheme {
            add("m", params.memory_kib())?;
            add("t", params.passes())?;
            add("p", params.lanes())?;
        }
        if let Some(pepper) = self.scheme.pepper() {
            add("pepper", pepper)?;
        }
        let phc = PasswordHash {
            algorithm: Ident::new(self.scheme.name()).map_err(malformed)?,
            version: Some(VERSION),
            params,
            salt: Some(Salt::new(&self.salt).map_err(malformed)?),
            hash: Some(Output::new(self.output.expose()).map_err(malformed)?),
        };
        Digest::new(phc.to_string()).map_err(|_| HashingError::Malformed)
    }
}
