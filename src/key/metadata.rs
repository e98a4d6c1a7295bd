//! Data that a host attaches to a key for its own use.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A bounded JSON object that a host attaches to a key.
///
/// ```
/// use keyward::key::Metadata;
/// use serde_json::json;
///
/// let metadata = Metadata::try_from(json!({ "ticket": "OPS-7" }))?;
/// assert!(Metadata::try_from(json!({ "notes": "x".repeat(5_000) })).is_err());
/// # Ok::<(), keyward::key::MetadataError>(())
/// ```
///
/// The content is untrusted: any actor who may manage keys can write it. Keyward stores it and returns it, decides
/// nothing by it and does not escape it. Do not put secrets into it: it is stored and listed in clear.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>", into = "Map<String, Value>")]
pub struct Metadata(Map<String, Value>);

impl Metadata {
    /// Most bytes of the object as compact JSON.
    pub const MAX_BYTES: usize = 4_096;

    /// Most levels of nesting, including the object itself.
    pub const MAX_DEPTH: usize = 8;

    /// Creates metadata from this object.
    ///
    /// # Errors
    /// [`MetadataError`] past [`MAX_BYTES`](Self::MAX_BYTES) or [`MAX_DEPTH`](Self::MAX_DEPTH).
    pub fn new(object: Map<String, Value>) -> Result<Self, MetadataError> {
        if object.values().any(|value| depth(value) >= Self::MAX_DEPTH) {
            return Err(MetadataError::Depth);
        }
        let bytes = serde_json::to_vec(&object).map_err(|_| MetadataError::NotAnObject)?;
        if bytes.len() > Self::MAX_BYTES {
            return Err(MetadataError::Size { bytes: bytes.len() });
        }
        Ok(Self(object))
    }

    /// Wraps an object that was read from the store. The process that wrote it checked its size then.
    pub(super) fn stored(object: Map<String, Value>) -> Self {
        Self(object)
    }

    /// Returns the object.
    #[must_use]
    pub fn as_object(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Returns the object as compact JSON.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    /// Returns whether nothing is attached.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Returns the number of levels of arrays and objects. `serde_json` stops reading at 128, so the recursion is bounded
/// unless a host builds a deeper value in memory.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(elements) => 1 + elements.iter().map(depth).max().unwrap_or_default(),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

impl TryFrom<Map<String, Value>> for Metadata {
    type Error = MetadataError;

    fn try_from(object: Map<String, Value>) -> Result<Self, Self::Error> {
        Self::new(object)
    }
}

impl TryFrom<Value> for Metadata {
    type Error = MetadataError;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        match value {
            Value::Object(object) => Self::new(object),
            _ => Err(MetadataError::NotAnObject),
        }
    }
}

impl From<Metadata> for Map<String, Value> {
    fn from(metadata: Metadata) -> Self {
        metadata.0
    }
}

/// Shows the size only, since hosts may attach personal data.
impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metadata({} members)", self.0.len())
    }
}

/// Why an object cannot be attached to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// The object is larger than 4,096 bytes.
    #[error("the metadata has {bytes} bytes, more than 4,096")]
    Size {
        /// The object's size as compact JSON, in bytes.
        bytes: usize,
    },
    /// The object nests deeper than 8 levels.
    #[error("the metadata nests deeper than 8 levels")]
    Depth,
    /// The value is not a JSON object.
    #[error("metadata is a JSON object")]
    NotAnObject,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn size_and_depth_are_bounded() {
        // `{"a":"…"}` adds eight bytes to the text.
        assert!(Metadata::try_from(json!({"a": "x".repeat(4_088)})).is_ok());
        assert_eq!(
            Metadata::try_from(json!({"a": "x".repeat(4_089)})),
            Err(MetadataError::Size { bytes: 4_097 })
        );
        assert!(Metadata::try_from(json!({"a": [[[[[[[1]]]]]]]})).is_ok());
        assert_eq!(
            Metadata::try_from(json!({"a": [[[[[[[[1]]]]]]]]})),
            Err(MetadataError::Depth)
        );
        for other in [json!([]), json!(null), json!("a"), json!(1)] {
            assert_eq!(Metadata::try_from(other), Err(MetadataError::NotAnObject));
        }
    }
}
