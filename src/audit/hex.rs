//! Hashes as lower-case hex.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// Returns the hash as 64 digits.
pub(super) fn text(hash: &[u8; 32]) -> String {
    base16ct::lower::encode_string(hash)
}

/// Returns the hash of these 64 digits. `None` if the text is not one.
pub(super) fn read(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    let decoded = base16ct::lower::decode(text, &mut hash).ok()?;
    (decoded.len() == 32).then_some(hash)
}

pub(super) fn serialize<S: Serializer>(hash: &[u8; 32], target: S) -> Result<S::Ok, S::Error> {
    target.serialize_str(&text(hash))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(source: D) -> Result<[u8; 32], D::Error> {
    let text = String::deserialize(source)?;
    read(&text).ok_or_else(|| D::Error::custom("a hash must be 64 lower-case hexadecimal digits"))
}
