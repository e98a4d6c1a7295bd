//! The scopes that an application declares, with their implications.

use std::fmt;

use super::{Scope, ScopeSet};

use crate::codes::codes;

/// The declaration of a scope: its text, its description for people, and its implications.
///
/// A scope that is not declared can be neither issued nor held. At most 256 can be declared.
///
/// ```
/// use keyward::scope;
///
/// let read = scope!("read:editions").described("Read editions");
/// let write = scope!("write:editions").described("Write editions").implies([scope!("read:editions")]);
/// let admin = scope!("admin").described("Everything").implies_all();
/// assert_eq!(admin.description(), "Everything");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeDeclaration {
    scope: Scope,
    description: String,
    implies: Implied,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Implied {
    These(Vec<Scope>),
    All,
}

impl ScopeDeclaration {
    pub(super) fn new(scope: Scope, description: String) -> Self {
        Self {
            scope,
            description,
            implies: Implied::These(Vec::new()),
        }
    }

    /// Lets holders of this scope also hold these scopes, with everything they imply in turn.
    #[must_use]
    pub fn implies(mut self, scopes: impl IntoIterator<Item = Scope>) -> Self {
        if let Implied::These(these) = &mut self.implies {
            these.extend(scopes);
        }
        self
    }

    /// Lets holders of this scope hold every declared scope, including scopes that are declared later.
    ///
    /// This is not [full access](super::Access::Full): a route that needs full access refuses it.
    #[must_use]
    pub fn implies_all(mut self) -> Self {
        self.implies = Implied::All;
        self
    }

    /// Returns the declared scope.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Returns the description that people see when they choose the scope.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }
}

/// The scopes that an application declares.
#[derive(Clone, Default)]
pub(crate) struct ScopeCatalog {
    /// Sorted by scope, each with the closure of its implications, itself included.
    declared: Vec<(ScopeDeclaration, Bits)>,
}

impl ScopeCatalog {
    /// Most scopes that can be declared.
    pub(crate) const MAX_SCOPES: usize = 256;

    /// Creates a catalog of these declarations.
    ///
    /// # Errors
    /// [`CatalogError`] if a scope is declared twice, if an implied scope is not declared, or if there are more than
    /// [`MAX_SCOPES`](Self::MAX_SCOPES).
    pub(crate) fn new(
        declarations: impl IntoIterator<Item = ScopeDeclaration>,
    ) -> Result<Self, CatalogError> {
        let mut declarations: Vec<_> = declarations.into_iter().collect();
        if declarations.len() > Self::MAX_SCOPES {
            return Err(CatalogError::TooMany {
                declared: declarations.len(),
            });
        }
        declarations.sort_by(|a, b| a.scope.cmp(&b.scope));
        for (one, next) in declarations.iter().zip(declarations.iter().skip(1)) {
            if one.scope == next.scope {
                return Err(CatalogError::Repeated(one.scope.clone()));
            }
        }
        let direct = declarations
            .iter()
            .enumerate()
            .map(|(index, declaration)| directly_implied(&declarations, index, declaration))
            .collect::<Result<Vec<_>, _>>()?;
        let closures = closures(direct);
        Ok(Self {
            declared: declarations.into_iter().zip(closures).collect(),
        })
    }

    /// Iterates over the declarations in the order of their scopes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &ScopeDeclaration> {
        self.declared.iter().map(|(declaration, _)| declaration)
    }

    /// Returns whether the scope is declared.
    pub(crate) fn declares(&self, scope: &Scope) -> bool {
        self.find(scope).is_some()
    }

    /// Returns all scopes that `held` grants.
    pub(crate) fn reach(&self, held: &ScopeSet) -> Bits {
        let mut reach = Bits::default();
        let held = held.iter().filter_map(|scope| self.find(scope));
        for (_, (_, closure)) in held {
            reach.join(closure);
        }
        reach
    }

    /// Returns the scope's index in every [reach](Self::reach); `None` if the scope is not declared.
    pub(crate) fn index_of(&self, scope: &Scope) -> Option<usize> {
        self.find(scope).map(|(index, _)| index)
    }

    /// Returns whether `held` grants each of the scopes in `asked`. A scope that is not declared is never granted.
    pub(crate) fn covers(&self, held: &ScopeSet, asked: &ScopeSet) -> bool {
        let reach = self.reach(held);
        let mut asked = asked.iter().map(|scope| self.index_of(scope));
        asked.all(|index| index.is_some_and(|index| reach.contains(index)))
    }

    fn find(&self, scope: &Scope) -> Option<(usize, &(ScopeDeclaration, Bits))> {
        let index = self
            .declared
            .binary_search_by(|(declaration, _)| declaration.scope.cmp(scope))
            .ok()?;
        self.declared.get(index).map(|entry| (index, entry))
    }
}

impl fmt::Debug for ScopeCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.iter().map(ScopeDeclaration::scope))
            .finish()
    }
}

/// Why a scope catalog is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// A scope is declared twice.
    #[error("the scope `{0}` is declared twice")]
    Repeated(Scope),
    /// A scope implies one that is not declared.
    #[error("`{scope}` implies `{implied}`, which is not declared")]
    Undeclared {
        /// The declared scope.
        scope: Scope,
        /// The implied scope that is not declared.
        implied: Scope,
    },
    /// There are too many scopes.
    #[error("{declared} scopes are declared, more than 256")]
    TooMany {
        /// The number of declared scopes.
        declared: usize,
    },
}

codes! {
    CatalogError;
    Self::Repeated(_) => "repeated_scope",
    Self::Undeclared { .. } => "undeclared_scope",
    Self::TooMany { .. } => "too_many_scopes",
}

/// A set of indices below [`ScopeCatalog::MAX_SCOPES`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bits([u64; ScopeCatalog::MAX_SCOPES / 64]);

impl Bits {
    fn insert(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }

    pub(crate) fn contains(&self, index: usize) -> bool {
        let word = self.0.get(index / 64).copied().unwrap_or_default();
        word & (1 << (index % 64)) != 0
    }

    /// Returns the first word of the set; `None` if the set has indices of 64 or more.
    pub(crate) fn as_first_word(&self) -> Option<u64> {
        match self.0 {
            [first, 0, 0, 0] => Some(first),
            _ => None,
        }
    }

    fn join(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word |= more;
        }
    }
}

fn directly_implied(
    declarations: &[ScopeDeclaration],
    index: usize,
    declaration: &ScopeDeclaration,
) -> Result<Bits, CatalogError> {
    let mut bits = Bits::default();
    bits.insert(index);
    match &declaration.implies {
        Implied::All => (0..declarations.len()).for_each(|index| bits.insert(index)),
        Implied::These(implied) => {
            for implied in implied {
                let at = declarations
                    .binary_search_by(|other| other.scope.cmp(implied))
                    .map_err(|_| CatalogError::Undeclared {
                        scope: declaration.scope.clone(),
                        implied: implied.clone(),
                    })?;
                bits.insert(at);
            }
        }
    }
    Ok(bits)
}

/// Follows implications until no set grows; cycles end by themselves.
fn closures(mut sets: Vec<Bits>) -> Vec<Bits> {
    loop {
        let before = sets.clone();
        for set in &mut sets {
            for (index, other) in before.iter().enumerate() {
                if set.contains(index) {
                    set.join(other);
                }
            }
        }
        if sets == before {
            return sets;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope;

    fn held(scope: Scope) -> ScopeSet {
        ScopeSet::from(scope)
    }

    #[test]
    fn implications_are_transitive() {
        let catalog = ScopeCatalog::new([
            scope!("a").described("").implies([scope!("b")]),
            scope!("b").described("").implies([scope!("c")]),
            scope!("c").described("").implies([scope!("a")]),
            scope!("d").described(""),
            scope!("root").described("").implies_all(),
        ])
        .unwrap();
        assert!(catalog.covers(&held(scope!("a")), &held(scope!("c"))));
        assert!(catalog.covers(&held(scope!("c")), &held(scope!("b"))));
        assert!(!catalog.covers(&held(scope!("a")), &held(scope!("d"))));
        assert!(catalog.covers(&held(scope!("root")), &held(scope!("d"))));
        assert!(!catalog.covers(&held(scope!("d")), &held(scope!("root"))));
    }

    #[test]
    fn undeclared_scopes_grant_nothing() {
        let catalog = ScopeCatalog::new([scope!("root").described("").implies_all()]).unwrap();
        let gone = scope!("gone");
        assert!(!catalog.covers(&held(gone.clone()), &held(gone.clone())));
        assert!(!catalog.covers(&held(scope!("root")), &held(gone)));
    }

    #[test]
    fn mistakes_are_found() {
        assert_eq!(
            ScopeCatalog::new([scope!("a").described(""), scope!("a").described("")]).unwrap_err(),
            CatalogError::Repeated(scope!("a"))
        );
        assert_eq!(
            ScopeCatalog::new([scope!("a").described("").implies([scope!("b")])]).unwrap_err(),
            CatalogError::Undeclared {
                scope: scope!("a"),
                implied: scope!("b")
            }
        );
        let many = |n: usize| {
            ScopeCatalog::new(
                (0..n).map(|i| format!("s{i}").parse::<Scope>().unwrap().described("")),
            )
        };
        assert_eq!(
            many(257).unwrap_err(),
            CatalogError::TooMany { declared: 257 }
        );
        let full = many(256).unwrap();
        for i in 0..256 {
            let scope: Scope = format!("s{i}").parse().unwrap();
            assert!(full.covers(&held(scope.clone()), &held(scope)));
        }
    }
}
