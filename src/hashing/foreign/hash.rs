//! Compares a presented credential with a digest that another library made.

use argon2::{Argon2, Version};
use hmac::{Hmac, Mac};
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq;

use super::digest::{ForeignDigest, Scheme};
use super::schemes::read_argon2;
use crate::hashing::{Argon2Params, HashingError, argon2id};

impl ForeignDigest {
    /// Whether it was made of these bytes, told in time that does not depend on where they differ.
    ///
    /// The parameters were bounded when it was read.
    pub(in crate::hashing) fn is_of(
        &self,
        presented: &[u8],
        mac: Option<Hmac<Sha256>>,
        most: Argon2Params,
        memory: &argon2id::Memory,
    ) -> Result<bool, HashingError> {
        Ok(match &self.0 {
            Scheme::Sha256(output) => are_equal(&Sha256::digest(presented), output),
            Scheme::Sha512(output) => are_equal(&Sha512::digest(presented), output),
            Scheme::HmacSha256 { output, .. } => {
                let mut mac = mac.ok_or(HashingError::UnknownAlgorithm)?;
                mac.update(presented);
                are_equal(&mac.finalize().into_bytes(), output)
            }
            Scheme::Argon2(text) => argon2(text, presented, most, memory)?,
            #[cfg(feature = "foreign-digests")]
            Scheme::Bcrypt(text) => bcrypt(text, presented)?,
            #[cfg(feature = "foreign-digests")]
            Scheme::BcryptSha256(text) => {
                let hashed = super::digest::hex(&Sha256::digest(presented));
                bcrypt(text, hashed.as_bytes())?
            }
            #[cfg(feature = "foreign-digests")]
            Scheme::Pbkdf2(text) => pbkdf2(text, presented)?,
            #[cfg(feature = "foreign-digests")]
            Scheme::Scrypt(text) => scrypt(text, presented)?,
        })
    }
}

fn are_equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

fn argon2(
    text: &str,
    presented: &[u8],
    most: Argon2Params,
    memory: &argon2id::Memory,
) -> Result<bool, HashingError> {
    let parts = read_argon2(text, most)?;
    let params = argon2id::plain_params(parts.params, parts.output.len())?;
    let argon2 = Argon2::new(parts.algorithm, Version::V0x13, params);
    let mut output = vec![0; parts.output.len()];
    let hashed = memory.with(argon2.params().block_count(), |blocks| {
        argon2.hash_password_into_with_memory(presented, &parts.salt, &mut output, blocks)
    });
    hashed
        .ok_or(HashingError::Unfinished)?
        .map_err(|_| HashingError::Unfinished)?;
    Ok(are_equal(&output, &parts.output))
}

#[cfg(feature = "foreign-digests")]
fn bcrypt(text: &str, presented: &[u8]) -> Result<bool, HashingError> {
    /// What bcrypt looks at: two longer secrets that begin alike would be one.
    const MOST_BYTES: usize = 72;
    if presented.len() > MOST_BYTES {
        return Ok(false);
    }
    bcrypt::verify(presented, text).map_err(|_| HashingError::Malformed)
}

#[cfg(feature = "foreign-digests")]
fn pbkdf2(text: &str, presented: &[u8]) -> Result<bool, HashingError> {
    let read = super::schemes::Pbkdf2::read(text).map_err(|_| HashingError::Malformed)?;
    let mut output = vec![0; read.output.len()];
    if read.is_sha1 {
        pbkdf2::pbkdf2_hmac::<sha1::Sha1>(presented, &read.salt, read.iterations, &mut output);
    } else {
        pbkdf2::pbkdf2_hmac::<Sha256>(presented, &read.salt, read.iterations, &mut output);
    }
    Ok(are_equal(&output, &read.output))
}

#[cfg(feature = "foreign-digests")]
fn scrypt(text: &str, presented: &[u8]) -> Result<bool, HashingError> {
    let read = super::schemes::Scrypt::read(text).map_err(|_| HashingError::Malformed)?;
    let params =
        scrypt::Params::new(read.log_n, read.r, read.p).map_err(|_| HashingError::Malformed)?;
    let mut output = vec![0; read.output.len()];
    scrypt::scrypt(presented, &read.salt, &params, &mut output)
        .map_err(|_| HashingError::Unfinished)?;
    Ok(are_equal(&output, &read.output))
}
