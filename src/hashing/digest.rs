//! Digests: the data that they cover, their encoding as PHC strings, and the only comparison of their outputs.
//!
//! A digest is parsed strictly, and its parameters are bounded before it is computed.

use argon2::PasswordHash;
use argon2::password_hash::phc;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use super::{Argon2Params, HashingError};
use crate::key::{Digest, Environment, KeyId, KeyRecord};

const DOMAIN: &[u8] = b"keyward/secret/v1";

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
    pub(super) output: Output<[u8; 32]>,
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
            output: Output::new(output.ok_or_else(malformed)?),
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
        let mut params = phc::ParamsString::new();
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
            algorithm: phc::Ident::new(self.scheme.name()).map_err(malformed)?,
            version: Some(VERSION),
            params,
            salt: Some(phc::Salt::new(&self.salt).map_err(malformed)?),
            hash: Some(phc::Output::new(self.output.expose()).map_err(malformed)?),
        };
        Digest::new(phc.to_string()).map_err(|_| HashingError::Malformed)
    }
}

/// The key that a secret belongs to: the parts that its digest binds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Binding<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) id: KeyId,
}

impl<'a> Binding<'a> {
    pub(crate) fn of(record: &'a KeyRecord) -> Self {
        Self {
            environment: record.environment(),
            id: record.id(),
        }
    }

    /// Feeds the domain tag (17 bytes), the environment after its length (1 byte), and the id (16 bytes).
    pub(crate) fn feed(&self, mut sink: impl FnMut(&[u8])) {
        let environment = self.environment.as_str().as_bytes();
        sink(DOMAIN);
        // An environment has at most 16 characters.
        sink(&[u8::try_from(environment.len()).unwrap_or(u8::MAX)]);
        sink(environment);
        sink(&self.id.to_bytes());
    }

    /// Feeds the binding, then the secret after its length (2 bytes, big-endian).
    pub(super) fn feed_with(&self, secret: &[u8], mut sink: impl FnMut(&[u8])) {
        self.feed(&mut sink);
        // A credential has at most 256 bytes.
        sink(
            &u16::try_from(secret.len())
                .unwrap_or(u16::MAX)
                .to_be_bytes(),
        );
        sink(secret);
    }

    /// Returns SHA-256 of the binding alone: Argon2's associated data, of which the crate takes 32 bytes.
    pub(super) fn associated_data(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        self.feed(|part| hash.update(part));
        hash.finalize().into()
    }
}

/// The output of a hash or MAC with which a presented value is compared.
///
/// There is no `PartialEq`: `==` stops at the first difference, and a caller could learn from its duration.
#[derive(Clone)]
pub(crate) struct Output<B>(B);

impl<B: AsRef<[u8]>> Output<B> {
    pub(crate) fn new(bytes: B) -> Self {
        Self(bytes)
    }

    /// Returns whether the bytes are equal, in time that does not depend on where they differ.
    pub(crate) fn is(&self, computed: &[u8]) -> bool {
        self.0.as_ref().ct_eq(computed).into()
    }

    /// Returns the output, to be encoded.
    pub(crate) fn expose(&self) -> &B {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_match_in_every_bit() {
        let output = Output::new([7; 32]);
        assert!(output.is(&[7; 32]));
        assert!(!output.is(&[7; 31]));
        for bit in 0..256 {
            let mut other = [7; 32];
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!output.is(&other), "{bit}");
        }
    }

    #[test]
    fn outputs_have_no_other_comparison() {
        trait Chosen<Marker> {
            fn chosen() {}
        }
        struct Comparable;
        impl<T> Chosen<()> for T {}
        impl<T: PartialEq> Chosen<Comparable> for T {}
        // Fails to compile if there is a `PartialEq`, since the choice would then be ambiguous.
        <Output<[u8; 32]> as Chosen<_>>::chosen();
        <Output<Vec<u8>> as Chosen<_>>::chosen();
        <Output<String> as Chosen<_>>::chosen();
    }
}
