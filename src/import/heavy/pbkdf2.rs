//! PBKDF2 (RFC 8018), as Django, passlib and Werkzeug write it.

use pbkdf2::pbkdf2_hmac;
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};

use super::super::LegacyError;
use super::super::digest::is_salt;
use super::super::encoding::{from_adapted_base64, from_base64, from_hex};
use super::{Writer, fields, number};
use crate::hashing::Output;

/// The hash functions with which these libraries use PBKDF2.
#[derive(Clone, Copy)]
enum Function {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Function {
    fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// The parts of a PBKDF2 digest.
pub(super) struct Pbkdf2 {
    function: Function,
    iterations: u32,
    salt: Vec<u8>,
    output: Output<Vec<u8>>,
}

const MALFORMED: LegacyError = LegacyError::MalformedDigest {
    expected: "PBKDF2 with 1 or more iterations, a salt of 1 to 64 bytes and an output as long as its hash",
};

impl Pbkdf2 {
    const MOST_ITERATIONS: u32 = 4_000_000;

    pub(super) fn read(writer: Writer, text: &str) -> Result<Self, LegacyError> {
        let (function, iterations, salt, output) = match writer {
            Writer::Django => django(text)?,
            Writer::Passlib => passlib(text)?,
            Writer::Werkzeug => werkzeug(text)?,
        };
        let iterations = number(iterations).ok_or(MALFORMED)?;
        if iterations > Self::MOST_ITERATIONS {
            return Err(LegacyError::ExcessiveDigest {
                limit: "4,000,000 iterations of PBKDF2",
            });
        }
        let output = output.filter(|output| output.len() == function.length());
        if iterations == 0 || !(1..=64).contains(&salt.len()) {
            return Err(MALFORMED);
        }
        Ok(Self {
            function,
            iterations,
            salt,
            output: Output::new(output.ok_or(MALFORMED)?),
        })
    }

    pub(super) fn is_of(&self, presented: &[u8]) -> bool {
        let mut output = vec![0; self.output.expose().len()];
        let (salt, iterations) = (&self.salt, self.iterations);
        match self.function {
            Function::Sha1 => pbkdf2_hmac::<Sha1>(presented, salt, iterations, &mut output),
            Function::Sha256 => pbkdf2_hmac::<Sha256>(presented, salt, iterations, &mut output),
            Function::Sha384 => pbkdf2_hmac::<Sha384>(presented, salt, iterations, &mut output),
            Function::Sha512 => pbkdf2_hmac::<Sha512>(presented, salt, iterations, &mut output),
        }
        self.output.is(&output)
    }
}

type Parts<'a> = (Function, &'a str, Vec<u8>, Option<Vec<u8>>);

/// `pbkdf2_sha256$iterations$salt$base64`, the salt as text.
fn django(text: &str) -> Result<Parts<'_>, LegacyError> {
    let [algorithm, iterations, salt, output] = fields(text, '$').ok_or(MALFORMED)?;
    let function = match algorithm {
        "pbkdf2_sha1" => Function::Sha1,
        "pbkdf2_sha256" => Function::Sha256,
        _ => return Err(MALFORMED),
    };
    is_salt(salt)?;
    Ok((function, iterations, salt.into(), from_base64(output)))
}

/// `$pbkdf2-sha256$rounds$salt$output`, both in passlib's base64.
fn passlib(text: &str) -> Result<Parts<'_>, LegacyError> {
    let ["", algorithm, rounds, salt, output] = fields(text, '$').ok_or(MALFORMED)? else {
        return Err(MALFORMED);
    };
    let function = match algorithm {
        "pbkdf2" => Function::Sha1,
        "pbkdf2-sha256" => Function::Sha256,
        "pbkdf2-sha512" => Function::Sha512,
        _ => return Err(MALFORMED),
    };
    let salt = from_adapted_base64(salt).ok_or(MALFORMED)?;
    Ok((function, rounds, salt, from_adapted_base64(output)))
}

/// `pbkdf2:sha256:iterations$salt$hex`, the salt as text.
fn werkzeug(text: &str) -> Result<Parts<'_>, LegacyError> {
    let [method, salt, output] = fields(text, '$').ok_or(MALFORMED)?;
    let ["pbkdf2", hash, iterations] = fields(method, ':').ok_or(MALFORMED)? else {
        return Err(MALFORMED);
    };
    let function = match hash {
        "sha1" => Function::Sha1,
        "sha256" => Function::Sha256,
        "sha384" => Function::Sha384,
        "sha512" => Function::Sha512,
        _ => return Err(MALFORMED),
    };
    is_salt(salt)?;
    Ok((function, iterations, salt.into(), from_hex(output)))
}
