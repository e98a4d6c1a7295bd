//! Requirements of routes.

use std::sync::{Arc, OnceLock};

use super::{Attempt, DenialReason};
use crate::key::{Resource, Resources, Rule, Scope, ScopeCatalog, ScopeRule};

/// A route's requirement: access, and the way to settle each kind of resource that keys may be restricted in.
///
/// A key that is restricted in a kind is refused on a route that does not settle that kind, so that a route that forgot
/// the restriction denies.
///
/// ```
/// use keyward::{scope, verifier::Requirement};
///
/// let either = Requirement::scope(scope!("read:editions").or(scope!("admin"))).filters("project");
/// # let _ = either;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    access: Needed,
    /// In the order of the calls. A kind may be settled in several ways; each must hold.
    settled: Vec<(Arc<str>, Settled)>,
    compiled: CompiledRule,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Needed {
    AnyKey,
    FullAccess,
    Scopes(ScopeRule),
}

/// The rule over the indices of a catalog, compiled at its first use.
#[derive(Debug, Clone, Default)]
struct CompiledRule(OnceLock<(CatalogId, Rule<Option<usize>>)>);

/// The compiled rule is no part of a requirement's identity.
impl PartialEq for CompiledRule {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for CompiledRule {}

/// Distinguishes catalogs in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CatalogId(pub(super) u64);

/// The way in which a route settles a kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    Named,
    Filter,
    Handler,
}

impl Requirement {
    /// Requires any valid key.
    #[must_use]
    pub fn any_key() -> Self {
        Self::of(Needed::AnyKey)
    }

    /// Requires a key with full access; no scope is enough.
    #[must_use]
    pub fn full_access() -> Self {
        Self::of(Needed::FullAccess)
    }

    /// Requires a scope, or scopes combined: `Requirement::scope(READ.or(WRITE))`.
    #[must_use]
    pub fn scope(rule: impl Into<ScopeRule>) -> Self {
        Self::of(Needed::Scopes(rule.into()))
    }

    fn of(access: Needed) -> Self {
        Self {
            access,
            settled: Vec::new(),
            compiled: CompiledRule::default(),
        }
    }

    /// Requires that the request names resources of this kind ([`Attempt::resource`]), and that the key is permitted
    /// each.
    ///
    /// A request that names no resource of the kind is refused, whatever the key: the route was not bound to its
    /// resource.
    #[must_use]
    pub fn resource(self, kind: &str) -> Self {
        self.settle(kind, Settled::Named)
    }

    /// Leaves a kind to the handler's list, which shows no more than [`Grant::only`](super::Grant::only) allows.
    #[must_use]
    pub fn filters(self, kind: &str) -> Self {
        self.settle(kind, Settled::Filter)
    }

    /// Leaves a kind to the handler, which asks [`Grant::permits`](super::Grant::permits) once it knows the resource
    /// and before it answers.
    ///
    /// It is for routes that only read: a handler's writes are not undone. The code that calls the handler asks
    /// [`Grant::unchecked`](super::Grant::unchecked) when it is done, and replaces the answer of a handler that forgot.
    #[must_use]
    pub fn checked_by_handler(self, kind: &str) -> Self {
        self.settle(kind, Settled::Handler)
    }

    fn settle(mut self, kind: &str, settled: Settled) -> Self {
        self.settled.push((kind.into(), settled));
        self
    }

    /// Returns the scopes that the requirement names, in the order of the rule.
    pub fn scopes(&self) -> impl Iterator<Item = &Scope> {
        self.scope_rule().into_iter().flat_map(|rule| rule.scopes())
    }

    pub(crate) fn scope_rule(&self) -> Option<&ScopeRule> {
        match &self.access {
            Needed::Scopes(rule) => Some(rule),
            Needed::AnyKey | Needed::FullAccess => None,
        }
    }

    /// Returns whether a key has the required scopes; `reaches` says whether it reaches the scope with an index.
    pub(crate) fn is_met(
        &self,
        id: CatalogId,
        catalog: &ScopeCatalog,
        reaches: impl Fn(usize) -> bool,
    ) -> bool {
        let rule = match &self.access {
            Needed::AnyKey => return true,
            Needed::FullAccess => return false,
            Needed::Scopes(rule) => rule,
        };
        let compile = || rule.map(|scope| catalog.index_of(scope));
        let mut holds = |index: &Option<usize>| index.is_some_and(&reaches);
        match self.compiled.0.get_or_init(|| (id, compile())) {
            (known, compiled) if *known == id => compiled.is_met(&mut holds),
            // One requirement is used with several verifiers.
            _ => compile().is_met(&mut holds),
        }
    }

    /// Returns whether the requirement settles any kind of resource.
    pub(crate) fn settles_any(&self) -> bool {
        !self.settled.is_empty()
    }

    /// Returns the kinds that the handler promised to check.
    pub(crate) fn handler_checks(&self) -> impl Iterator<Item = &str> {
        self.settled
            .iter()
            .filter(|(_, settled)| *settled == Settled::Handler)
            .map(|(kind, _)| &**kind)
    }

    pub(crate) fn check_resources(
        &self,
        resources: &Resources,
        attempt: &Attempt<'_>,
    ) -> Result<(), DenialReason> {
        for first in resources.first_of_each_kind() {
            let mut settled = self.settled.iter();
            if !settled.any(|(settled, _)| **settled == *first.kind()) {
                let kind = first.shared_kind();
                return Err(DenialReason::ResourceUnsettled { kind });
            }
        }
        if attempt.names_too_many() {
            return Err(DenialReason::TooManyResources);
        }
        for (kind, settled) in &self.settled {
            let mut named = attempt.named_resources().map(|(named, _)| named);
            if *settled == Settled::Named && !named.any(|named| named == &**kind) {
                let kind = Arc::clone(kind);
                return Err(DenialReason::ResourceUnbound { kind });
            }
        }
        // Each named resource must be permitted, whatever settles its kind.
        for (kind, value) in attempt.named_resources() {
            if !resources.permit(kind, value) {
                let of_kind = resources.values(kind).first();
                let kind = of_kind.map_or_else(|| kind.into(), Resource::shared_kind);
                return Err(DenialReason::ResourceRefused { kind });
            }
        }
        Ok(())
    }

    /// Returns a scope that the requirement names and that is not declared: no key can have it.
    pub(crate) fn undeclared(&self, catalog: &ScopeCatalog) -> Option<&Scope> {
        self.scope_rule()?.find(|scope| !catalog.declares(scope))
    }

    pub(crate) fn check(&self, catalog: &ScopeCatalog) -> Result<(), RequirementError> {
        if let Some(scope) = self.undeclared(catalog) {
            return Err(RequirementError::UndeclaredScope(scope.clone()));
        }
        for (kind, _) in &self.settled {
            if Resource::new(kind, "any").is_err() {
                return Err(RequirementError::Kind((**kind).into()));
            }
        }
        Ok(())
    }
}

/// Error for a requirement that no key can meet as intended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequirementError {
    /// The requirement names a scope that is not declared: only keys with full access would ever pass.
    #[error("the scope `{0}` is not declared")]
    UndeclaredScope(Scope),
    /// The requirement names a kind that is not a valid kind of resource.
    #[error("`{0}` is not a kind of resource")]
    Kind(Box<str>),
}
