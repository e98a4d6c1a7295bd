//! What a key may do at all.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{EmptyError, NonEmpty, Scope, ScopeSet};

/// What a key may do: everything, or what its scopes allow. There is no default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Every route, those added later included.
    Full,
    /// What these scopes allow, and what they imply.
    Scopes(ScopeSet),
}

impl Access {
    /// Access by these scopes.
    ///
    /// # Errors
    /// [`EmptyError`] if there are none: a key without stated access cannot be issued.
    pub fn scopes(scopes: impl IntoIterator<Item = Scope>) -> Result<Self, EmptyError> {
        NonEmpty::new(scopes).map(Self::Scopes)
    }
}

/// `full access`, which no scopes can spell in their order, or what is listed.
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
        Self::Scopes(NonEmpty::one(scope))
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
        // The fallback cannot be reached, and grants nothing: no catalog need declare it.
        Self::scopes(scopes).unwrap_or(Self::Scopes(NonEmpty::one(crate::scope!("none"))))
    }
}
