//! Data that a host attaches to a key for its own use.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ValueError;

const TOO_LARGE: ValueError = ValueError::TooLarge {
    value: "metadata",
    limit: Metadata::MAX_BYTES,
    unit: "bytes of compact JSON",
};
const TOO_DEEP: ValueError = ValueError::TooLarge {
    value: "metadata",
    limit: Metadata::MAX_DEPTH,
    unit: "levels of nesting",
};
const NOT_AN_OBJECT: ValueError = ValueError::malformed("metadata", "a JSON object");

/// A bounded JSON object that a host attaches to a key.
///
/// ```
/// use keyward::key::Metadata;
/// use serde_json::json;
///
/// let metadata = Metadata::try_from(json!({ "ticket": "OPS-7" }))?;
/// assert!(Metadata::try_from(json!({ "notes": "x".repeat(5_000) })).is_err());
/// # Ok::<(), keyward::key::ValueError>(())
/// ```
///
/// The content is untrusted: any actor who may manage keys can write it. Keyward stores it and returns it, decides
/// nothing by it and does not escape it. Do not put secrets into it: it is stored and listed in clear.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>", into = "Map<String, Value>")]
pub struct Metadata(Map<String, Value>);

impl Metadata {
    /// Most bytes of the object as compact JSON.
    pub(crate) const MAX_BYTES: usize = 4_096;

    /// Most levels of nesting, including the object itself.
    pub(crate) const MAX_DEPTH: usize = 8;

    /// Creates metadata from this object.
    ///
    /// # Errors
    /// [`ValueError`] past 4,096 bytes of compact JSON or 8 levels.
    pub fn new(object: Map<String, Value>) -> Result<Self, ValueError> {
        if object.values().any(|value| depth(value) >= Self::MAX_DEPTH) {
            return Err(TOO_DEEP);
        }
        let bytes = serde_json::to_vec(&object).map_err(|_| NOT_AN_OBJECT)?;
        if bytes.len() > Self::MAX_BYTES {
            return Err(TOO_LARGE);
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
    type Error = ValueError;

    fn try_from(object: Map<String, Value>) -> Result<Self, Self::Error> {
        Self::new(object)
    }
}

impl TryFrom<Value> for Metadata {
    type Error = ValueError;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        match value {
            Value::Object(object) => Self::new(object),
            _ => Err(NOT_AN_OBJECT),
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
            Err(TOO_LARGE)
        );
        assert!(Metadata::try_from(json!({"a": [[[[[[[1]]]]]]]})).is_ok());
        assert_eq!(
            Metadata::try_from(json!({"a": [[[[[[[[1]]]]]]]]})),
            Err(TOO_DEEP)
        );
        for other in [json!([]), json!(null), json!("a"), json!(1)] {
            assert_eq!(Metadata::try_from(other), Err(NOT_AN_OBJECT));
        }
    }
}
