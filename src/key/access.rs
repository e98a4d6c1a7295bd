//! The access of a key: everything, or scopes.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::tagged::tagged_form;
use super::{NonEmpty, Scope, ScopeCatalog, ScopeSet, ValueError};

/// The access that a key grants: everything, or its scopes.
///
/// There is no default. In JSON: `{"type":"full"}`, or `{"type":"scopes","scopes":["read:editions"]}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "AccessForm", into = "AccessForm")]
pub enum Access {
    /// Every route, including routes that are added later.
    Full,
    /// These scopes, and the scopes they imply.
    Scopes(ScopeSet),
}

impl Access {
    /// Creates access by these scopes.
    ///
    /// # Errors
    /// [`ValueError`] if there are no scopes: a key without stated access cannot be issued.
    pub fn scopes(scopes: impl IntoIterator<Item = Scope>) -> Result<Self, ValueError> {
        NonEmpty::new(scopes).map(Self::Scopes)
    }

    /// Returns whether `ceiling` grants everything that `self` grants.
    pub(crate) fn within(&self, ceiling: &Self, catalog: &ScopeCatalog) -> bool {
        match (self, ceiling) {
            (_, Self::Full) => true,
            (Self::Full, Self::Scopes(_)) => false,
            (Self::Scopes(asked), Self::Scopes(ceiling)) => catalog.covers(ceiling, asked),
        }
    }

    /// Returns the access that both grant; `None` if they have no scope in common.
    pub(crate) fn common(&self, other: &Self, catalog: &ScopeCatalog) -> Option<Self> {
        let (ours, theirs) = match (self, other) {
            (_, Self::Full) => return Some(self.clone()),
            (Self::Full, Self::Scopes(_)) => return Some(other.clone()),
            (Self::Scopes(ours), Self::Scopes(theirs)) => (ours, theirs),
        };
        // An undeclared scope grants nothing now, but may be declared again.
        let grants = |set: &ScopeSet, scope: &Scope| {
            set.contains(scope) || catalog.covers(set, &ScopeSet::from(scope.clone()))
        };
        let kept = ours.iter().filter(|scope| grants(theirs, scope));
        if kept.clone().count() == ours.len() {
            return Some(self.clone());
        }
        let cut = theirs.iter().filter(|scope| grants(ours, scope));
        Self::scopes(kept.chain(cut).cloned()).ok()
    }
}

tagged_form!(
    Access, AccessForm, AccessType { Full {}, Scopes { 0 => scopes: NonEmpty<Scope> } },
    ValueError::malformed("access", r#"`{"type":"full"}` or `{"type":"scopes","scopes":[…]}`"#)
);

/// `full access`, which no list of scopes can spell because lists are sorted, or the list of scopes.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full access"),
            Self::Scopes(scopes) => scopes.fmt(f),
        }
    }
}

impl From<Scope> for Access {
    fn from(scope: Scope) -> Self {
        Self::Scopes(NonEmpty::from(scope))
    }
}

impl From<ScopeSet> for Access {
    fn from(scopes: ScopeSet) -> Self {
        Self::Scopes(scopes)
    }
}

/// An empty array does not compile.
impl<const N: usize> From<[Scope; N]> for Access {
    fn from(scopes: [Scope; N]) -> Self {
        const { assert!(N > 0, "a key needs at least one scope") };
        // The fallback is unreachable, and grants nothing: no catalog has to declare this scope.
        Self::scopes(scopes).unwrap_or(Self::Scopes(NonEmpty::from(crate::scope!("none"))))
    }
}
