//! What a host attaches to a key for itself.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A bounded JSON object that the host attaches to a key.
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
/// Untrusted: whoever may manage keys wrote it. Keyward stores it and hands it back, decides nothing by it and
/// does not escape it. Not a place for secrets: it is stored and listed in clear.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>", into = "Map<String, Value>")]
pub struct Metadata(Map<String, Value>);

impl Metadata {
    /// Most bytes of the object as compact JSON.
    pub const MAX_BYTES: usize = 4_096;

    /// Most levels of nesting, the object itself counted.
    pub const MAX_DEPTH: usize = 8;

    /// Attaches this object.
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

    /// What was attached once, as it was stored. Its size was checked then, and by whoever wrote it.
    pub(super) fn stored(object: Map<String, Value>) -> Self {
        Self(object)
    }

    /// The object.
    #[must_use]
    pub fn as_object(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The object as compact JSON.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    /// Whether nothing is attached.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Levels of arrays and objects. `serde_json` stops reading at 128, so the recursion is bounded by what a
/// host builds in memory.
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

/// Shows the size only: what hosts attach may be personal data.
impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metadata({} members)", self.0.len())
    }
}

/// Metadata cannot be attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// It is larger than 4,096 bytes.
    #[error("the metadata has {bytes} bytes, more than 4,096")]
    Size {
        /// Its size as compact JSON.
        bytes: usize,
    },
    /// It nests deeper than 8 levels.
    #[error("the metadata nests deeper than 8 levels")]
    Depth,
    /// It is not a JSON object.
    #[error("metadata is a JSON object")]
    NotAnObject,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn size_and_depth_are_bounded() {
        // {"a":"…"} is eight bytes around the text.
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
