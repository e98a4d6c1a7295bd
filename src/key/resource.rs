//! The application's resources that a key may access.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::tagged::tagged_form;
use super::value_error::text_form;
use super::{NonEmpty, ValueError};

const KIND: ValueError = ValueError::malformed(
    "resource kind",
    "1 to 32 lower-case letters, digits and `_`",
);
const VALUE: ValueError =
    ValueError::malformed("resource value", "1 to 128 visible ASCII characters");

/// A resource of the application: a kind and a value, such as `project` and `p-17`.
///
/// The kind is 1 to 32 lower-case ASCII letters, digits and `_`; the value is 1 to 128 visible ASCII characters. A
/// resource is written `kind:value`.
///
/// ```
/// use keyward::key::Resource;
///
/// let resource: Resource = "project:p-17".parse()?;
/// assert_eq!((resource.kind(), resource.value()), ("project", "p-17"));
/// # Ok::<(), keyward::key::ValueError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Resource {
    /// Shared, so that a denial can name it without allocating.
    kind: Arc<str>,
    value: Box<str>,
}

impl Resource {
    /// Creates a resource of this kind and value.
    ///
    /// # Errors
    /// [`ValueError`] if either is malformed.
    pub fn new(kind: &str, value: &str) -> Result<Self, ValueError> {
        if !is_kind(kind) {
            return Err(KIND);
        }
        if !(1..=128).contains(&value.len()) || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(VALUE);
        }
        Ok(Self {
            kind: kind.into(),
            value: value.into(),
        })
    }

    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Returns the kind for a caller that keeps it, without allocating.
    pub(crate) fn shared_kind(&self) -> Arc<str> {
        Arc::clone(&self.kind)
    }

    /// Returns the value, which identifies the resource within its kind.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

fn is_kind(kind: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=32).contains(&kind.len()) && kind.bytes().all(allowed)
}

impl FromStr for Resource {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, value) = text.split_once(':').ok_or(KIND)?;
        Self::new(kind, value)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.value)
    }
}

text_form!(Resource);

/// The resources that a key may access: any, or in each listed kind only the listed ones.
///
/// A key restricted to projects is not restricted in any other kind. In JSON: `{"type":"any"}`, or
/// `{"type":"only","resources":["project:p-17"]}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "ResourcesForm", into = "ResourcesForm")]
pub enum Resources {
    /// No restriction in any kind.
    #[default]
    Any,
    /// In each kind that is listed, only the listed resources.
    Only(NonEmpty<Resource>),
}

impl Resources {
    /// Most resources a key may be restricted to.
    pub(crate) const MAX: usize = 1_000;

    /// Creates a restriction to these resources.
    ///
    /// # Errors
    /// [`ValueError`] if there are no resources: an empty list never means everything.
    pub fn only(resources: impl IntoIterator<Item = Resource>) -> Result<Self, ValueError> {
        NonEmpty::new(resources).map(Self::Only)
    }

    /// Returns whether the key is restricted in this kind.
    #[must_use]
    pub(crate) fn restricts(&self, kind: &str) -> bool {
        !self.values(kind).is_empty()
    }

    /// Returns whether the key may access this resource.
    #[must_use]
    pub(crate) fn permit(&self, kind: &str, value: &str) -> bool {
        let of_kind = self.values(kind);
        of_kind.is_empty()
            || of_kind
                .binary_search_by(|resource| resource.value().cmp(value))
                .is_ok()
    }

    /// Returns the listed resources of this kind in ascending order; empty if the key is not restricted in it.
    #[must_use]
    pub(crate) fn values(&self, kind: &str) -> &[Resource] {
        let list = self.listed();
        let start = list.partition_point(|resource| resource.kind() < kind);
        let end = list.partition_point(|resource| resource.kind() <= kind);
        list.get(start..end).unwrap_or_default()
    }

    /// Iterates over the kinds in which the key is restricted, each once.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = &str> {
        self.first_of_each_kind().map(Resource::kind)
    }

    fn listed(&self) -> &[Resource] {
        match self {
            Self::Any => &[],
            Self::Only(list) => list,
        }
    }

    pub(crate) fn first_of_each_kind(&self) -> impl Iterator<Item = &Resource> {
        self.listed()
            .chunk_by(|a, b| a.kind() == b.kind())
            .filter_map(<[_]>::first)
    }

    /// Returns the resources that both permit; `None` if they have no resource in common in some kind, or more than a
    /// key may be restricted to.
    pub(crate) fn common(&self, other: &Self) -> Option<Self> {
        if self.within(other) {
            return Some(self.clone());
        }
        let kept = self.listed().iter().chain(other.listed());
        let kept = kept.filter(|one| {
            let (kind, value) = (one.kind(), one.value());
            self.permit(kind, value) && other.permit(kind, value)
        });
        let both = Self::only(kept.cloned()).ok()?;
        let mut kinds = self.kinds().chain(other.kinds());
        let is_restricted = kinds.all(|kind| both.restricts(kind));
        (is_restricted && both.listed().len() <= Self::MAX).then_some(both)
    }

    /// Returns whether `ceiling` permits everything that `self` permits.
    pub(crate) fn within(&self, ceiling: &Self) -> bool {
        ceiling.kinds().all(|kind| {
            self.restricts(kind)
                && self
                    .values(kind)
                    .iter()
                    .all(|resource| ceiling.permit(kind, resource.value()))
        })
    }
}

tagged_form!(
    Resources, ResourcesForm, ResourcesType { Any {}, Only { 0 => resources: NonEmpty<Resource> } },
    ValueError::malformed("resources", r#"`{"type":"any"}` or `{"type":"only","resources":[…]}`"#)
);

/// A restriction to this one resource.
impl From<Resource> for Resources {
    fn from(resource: Resource) -> Self {
        Self::Only(NonEmpty::from(resource))
    }
}

/// `any`, or the list of resources.
impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Only(list) => list.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(list: &[&str]) -> Resources {
        Resources::only(list.iter().map(|text| text.parse().unwrap())).unwrap()
    }

    #[test]
    fn a_restriction_binds_its_kinds_only() {
        let resources = only(&["project:b", "project:a", "client:x"]);
        assert_eq!(resources.kinds().collect::<Vec<_>>(), ["client", "project"]);
        assert!(resources.permit("project", "a"));
        assert!(!resources.permit("project", "c"));
        assert!(!resources.permit("client", "a"));
        assert!(resources.permit("region", "anything"));
        assert!(!resources.restricts("region"));
        assert!(!resources.restricts("proj"));
        assert!(Resources::Any.permit("project", "a"));
    }

    #[test]
    fn within_holds_kind_by_kind() {
        let ceiling = only(&["project:a", "project:b"]);
        assert!(only(&["project:a"]).within(&ceiling));
        assert!(only(&["project:a", "client:x"]).within(&ceiling));
        assert!(!only(&["project:a", "project:c"]).within(&ceiling));
        assert!(
            !only(&["client:x"]).within(&ceiling),
            "projects would be free"
        );
        assert!(!Resources::Any.within(&ceiling));
        assert!(ceiling.within(&Resources::Any));
    }

    #[test]
    fn malformed_resources_are_refused() {
        for bad in [
            "",
            "project",
            "project:",
            ":a",
            "Project:a",
            "pro ject:a",
            "project:a b",
            "project:é",
        ] {
            assert!(bad.parse::<Resource>().is_err(), "{bad}");
        }
        assert_eq!("project:a:b".parse::<Resource>().unwrap().value(), "a:b");
        assert!(Resources::only([]).is_err());
    }
}
