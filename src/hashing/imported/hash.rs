//! Comparison of a presented credential with another library's digest.

use argon2::{Argon2, Version};
use hmac::{Hmac, Mac};
use sha2::{Digest as _, Sha256, Sha512};

use super::digest::{LegacyDigest, LegacyScheme};
use super::schemes::read_argon2;
use crate::hashing::{Argon2Params, HashingError, argon2id};

impl LegacyDigest {
    /// Returns whether the digest was made from these bytes, in time that does not depend on where they differ.
    ///
    /// The parameters were bounded when the digest was parsed.
    pub(in crate::hashing) fn is_of(
        &self,
        presented: &[u8],
        mac: Option<Hmac<Sha256>>,
        most: Argon2Params,
        memory: &mut argon2id::Memory,
    ) -> Result<bool, HashingError> {
        Ok(match &self.0 {
            LegacyScheme::Sha256(output) => output.is(&Sha256::digest(presented)),
            LegacyScheme::Sha512(output) => output.is(&Sha512::digest(presented)),
            LegacyScheme::HmacSha256 { output, .. } => {
                let mut mac = mac.ok_or(HashingError::UnknownAlgorithm)?;
                mac.update(presented);
                output.is(&mac.finalize().into_bytes())
            }
            LegacyScheme::Argon2(text) => argon2(text, presented, most, memory)?,
            #[cfg(feature = "legacy-digests")]
            LegacyScheme::Bcrypt(text) => bcrypt(text, presented)?,
            #[cfg(feature = "legacy-digests")]
            LegacyScheme::BcryptSha256(text) => {
                let hashed = super::digest::hex(&Sha256::digest(presented));
                bcrypt(text, hashed.as_bytes())?
            }
            #[cfg(feature = "legacy-digests")]
            LegacyScheme::Pbkdf2(text) => pbkdf2(text, presented)?,
            #[cfg(feature = "legacy-digests")]
            LegacyScheme::Scrypt(text) => scrypt(text, presented, memory)?,
        })
    }
}

fn argon2(
    text: &str,
    presented: &[u8],
    most: Argon2Params,
    memory: &mut argon2id::Memory,
) -> Result<bool, HashingError> {
    let parts = read_argon2(text, most)?;
    let params = argon2id::plain_params(parts.params, parts.output.expose().len())?;
    let argon2 = Argon2::new(parts.algorithm, Version::V0x13, params);
    let mut output = vec![0; parts.output.expose().len()];
    argon2id::fill(&argon2, presented, &parts.salt, &mut output, memory)?;
    Ok(parts.output.is(&output))
}

#[cfg(feature = "legacy-digests")]
fn bcrypt(text: &str, presented: &[u8]) -> Result<bool, HashingError> {
    /// Number of bytes that bcrypt reads: two longer secrets with the same beginning would match.
    const MOST_BYTES: usize = 72;
    if presented.len() > MOST_BYTES {
        return Ok(false);
    }
    bcrypt::verify(presented, text).map_err(|_| HashingError::Malformed)
}

#[cfg(feature = "legacy-digests")]
fn pbkdf2(text: &str, presented: &[u8]) -> Result<bool, HashingError> {
    let read = super::schemes::Pbkdf2::read(text).map_err(|_| HashingError::Malformed)?;
    let mut output = vec![0; read.output.expose().len()];
    if read.is_sha1 {
        pbkdf2::pbkdf2_hmac::<sha1::Sha1>(presented, &read.salt, read.iterations, &mut output);
    } else {
        pbkdf2::pbkdf2_hmac::<Sha256>(presented, &read.salt, read.iterations, &mut output);
    }
    Ok(read.output.is(&output))
}

#[cfg(feature = "legacy-digests")]
fn scrypt(
    text: &str,
    presented: &[u8],
    memory: &mut argon2id::Memory,
) -> Result<bool, HashingError> {
    let read = super::schemes::Scrypt::read(text).map_err(|_| HashingError::Malformed)?;
    let mut output = vec![0; read.output.expose().len()];
    super::scrypt::fill(&read, presented, &mut output, memory)?;
    Ok(read.output.is(&output))
}
