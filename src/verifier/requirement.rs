//! Requirements of routes.

use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};

use crate::cache::CatalogId;
use crate::codes::codes;
use crate::key::{IntoScopeRule, Quota, Resource, Rule, Scope, ScopeCatalog, ScopeRule};
use crate::limiter::{RouteQuotas, put};

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
    is_checked_inside: bool,
    serves_no_resource: bool,
    /// `None` if there are none.
    quotas: Option<RouteQuotas>,
    cost: NonZeroU32,
    is_estimate: bool,
    indexed: IndexedRule,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Needed {
    AnyKey,
    FullAccess,
    Scopes(ScopeRule),
}

/// The rule over the indices of a catalog, translated at its first use.
#[derive(Debug, Clone, Default)]
struct IndexedRule(OnceLock<(CatalogId, Rule<Option<usize>>)>);

/// The translated rule is no part of a requirement's identity.
impl PartialEq for IndexedRule {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for IndexedRule {}

/// The way in which a route settles a kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    Named,
    Filter,
    Handler,
}

impl Requirement {
    /// Quotas that a requirement can have, at most.
    const MAX_QUOTAS: usize = 16;

    /// Requires any valid key, unless it is restricted to some resources: the requirement settles no kind of these.
    ///
    /// A layer around routes with guards of their own leaves that to them, by
    /// [`checked_by_inner_guard`](Self::checked_by_inner_guard). A route that serves nothing of any resource says so,
    /// by [`serves_no_resource`](Self::serves_no_resource).
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
    pub fn scope(rule: impl IntoScopeRule) -> Self {
        Self::of(Needed::Scopes(rule.into_rule()))
    }

    fn of(access: Needed) -> Self {
        Self {
            access,
            settled: Vec::new(),
            is_checked_inside: false,
            serves_no_resource: false,
            quotas: None,
            cost: NonZeroU32::MIN,
            is_estimate: false,
            indexed: IndexedRule::default(),
        }
    }

    /// Requires that the request [names](super::Attempt::resource) resources of this kind, and that the key is
    /// permitted each.
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

    /// Leaves all kinds of resources to a guard inside of this one, which decides on the request.
    ///
    /// It is for a layer around a whole application, with middleware between it and the guards of the routes that does
    /// something for each key. The middleware finds the [`Grant`](super::Grant) in the request's extensions.
    ///
    /// A route without a guard of its own then answers 500 in place of a success, whatever the key, and its handler
    /// gets no `Caller`. Handlers that take no `Caller` have acted by then, so guard each route. Inner guards decide on
    /// guests, too.
    ///
    /// ```
    /// use keyward::verifier::Requirement;
    ///
    /// let outer = Requirement::any_key().checked_by_inner_guard();
    /// # let _ = outer;
    /// ```
    #[must_use]
    pub fn checked_by_inner_guard(mut self) -> Self {
        self.is_checked_inside = true;
        self
    }

    /// States that the route serves nothing that belongs to any resource, such as a status page or a public catalogue.
    ///
    /// Keys that are restricted to some resources then use it too, whatever the kind. Resources that the request names
    /// are checked nevertheless.
    ///
    /// ```
    /// use keyward::http::Guard;
    /// use keyward::verifier::Requirement;
    ///
    /// # struct Request;
    /// let status: Guard<Request> = Requirement::any_key().serves_no_resource().or_guest();
    /// # let _ = status;
    /// ```
    ///
    /// # Security
    /// Nothing stops the handler from serving the data of a project to a key of another one.
    #[must_use]
    pub fn serves_no_resource(mut self) -> Self {
        self.serves_no_resource = true;
        self
    }

    /// Returns whether kinds of resources may be left unsettled.
    pub(super) fn settles_all(&self) -> bool {
        self.is_checked_inside || self.serves_no_resource
    }

    /// Returns whether a guard inside of the requirement's has to decide.
    pub(crate) fn is_checked_inside(&self) -> bool {
        self.is_checked_inside
    }

    fn settle(mut self, kind: &str, settled: Settled) -> Self {
        self.settled.push((kind.into(), settled));
        self
    }

    /// Adds a quota of the route, at most 16. It replaces one of the same name.
    ///
    /// It holds together with those of the key and of the tenant's plan. Routes with a quota of the same name share its
    /// counter. A tenant's plan can put
    /// [another quota](crate::limiter::TenantPlan::route_quota) in its place.
    ///
    /// Create a requirement once, not for each request: this node keeps the counters of a key by the requirement and
    /// its clones.
    #[must_use]
    pub fn quota(mut self, quota: Quota) -> Self {
        let mut quotas = self.quotas.map_or_else(Vec::new, |quotas| quotas.to_vec());
        put(&mut quotas, quota);
        self.quotas = Some(quotas.into());
        self
    }

    /// Sets what a request takes of each quota that applies: 1 by default. A request that costs more than the whole of
    /// a quota is never admitted (403).
    ///
    /// With a guard inside another one, each takes its cost of its own route's quotas, and the outermost of the others.
    #[must_use]
    pub fn cost(mut self, cost: NonZeroU32) -> Self {
        (self.cost, self.is_estimate) = (cost, false);
        self
    }

    /// Sets what a request takes of each quota that applies until its true cost is known, such as the bytes, rows or
    /// tokens of its response.
    ///
    /// [`Grant::settle`](super::Grant::settle) sets the true cost, which may be more than a quota has left. Without
    /// that call, the estimate counts when the response has ended. An estimate above the whole of a quota is never
    /// admitted (403): quotas of keys that use such a route count in the same unit.
    #[must_use]
    pub fn estimate(mut self, cost: NonZeroU32) -> Self {
        (self.cost, self.is_estimate) = (cost, true);
        self
    }

    pub(crate) fn quotas(&self) -> Option<&RouteQuotas> {
        self.quotas.as_ref()
    }

    pub(super) fn cost_of_quotas(&self) -> NonZeroU32 {
        self.cost
    }

    pub(super) fn is_estimate(&self) -> bool {
        self.is_estimate
    }

    /// Returns lists of scopes, each of which is enough, in the order of the rule. Empty unless scopes are required.
    ///
    /// If a rule has more than 16 alternatives, these are some of them.
    pub(crate) fn sufficient_scopes(&self) -> Vec<Vec<Scope>> {
        let rule = self.scope_rule().map(|rule| rule.map(Scope::clone));
        rule.map_or_else(Vec::new, Rule::alternatives)
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
        let translate = || rule.map(|scope| catalog.index_of(scope));
        match self.indexed.0.get_or_init(|| (id, translate())) {
            (known, indexed) if *known == id => indexed.is_met(&reaches),
            // One requirement is used with several verifiers.
            _ => translate().is_met(&reaches),
        }
    }

    /// Returns the kinds of resource that the requirement settles, each with the way.
    pub(super) fn settled(&self) -> &[(Arc<str>, Settled)] {
        &self.settled
    }

    /// Returns the kinds that the handler promised to check.
    pub(crate) fn handler_checks(&self) -> impl Iterator<Item = &str> {
        self.settled
            .iter()
            .filter(|(_, settled)| *settled == Settled::Handler)
            .map(|(kind, _)| &**kind)
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
        if self
            .quotas
            .as_ref()
            .is_some_and(|quotas| quotas.len() > Self::MAX_QUOTAS)
        {
            return Err(RequirementError::TooManyQuotas);
        }
        Ok(())
    }
}

/// A rule over the indices of a catalog. An undeclared scope has no index.
impl Rule<Option<usize>> {
    fn is_met(&self, reaches: &impl Fn(usize) -> bool) -> bool {
        match self {
            Self::One(index) => index.is_some_and(reaches),
            Self::Both(a, b) => a.is_met(reaches) && b.is_met(reaches),
            Self::Either(a, b) => a.is_met(reaches) || b.is_met(reaches),
        }
    }
}

/// Maximum number of alternatives of a rule: a conjunction of disjunctions has exponentially many.
const MAX_ALTERNATIVES: usize = 16;

impl Rule<Scope> {
    /// Returns sets of scopes that meet the rule, none of which contains another.
    fn alternatives(self) -> Vec<Vec<Scope>> {
        let mut all = Vec::new();
        match self {
            Self::One(scope) => all.push(vec![scope]),
            Self::Either(a, b) => {
                let both = a.alternatives().into_iter().chain(b.alternatives());
                both.for_each(|set| add_alternative(&mut all, set));
            }
            Self::Both(a, b) => {
                let (a, b) = (a.alternatives(), b.alternatives());
                for one in &a {
                    for other in &b {
                        let mut set = one.clone();
                        let more = other.iter().filter(|scope| !one.contains(scope));
                        set.extend(more.cloned());
                        add_alternative(&mut all, set);
                    }
                }
            }
        }
        all
    }
}

/// Adds a set of scopes, unless there are enough sets or a part of it is enough.
fn add_alternative(all: &mut Vec<Vec<Scope>>, set: Vec<Scope>) {
    let is_part = |part: &[Scope], of: &[Scope]| part.iter().all(|scope| of.contains(scope));
    if all.iter().any(|known| is_part(known, &set)) {
        return;
    }
    all.retain(|known| !is_part(&set, known));
    if all.len() < MAX_ALTERNATIVES {
        all.push(set);
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
    /// The requirement has too many quotas.
    #[error("a requirement has at most {} quotas", Requirement::MAX_QUOTAS)]
    TooManyQuotas,
}

codes! {
    RequirementError;
    Self::UndeclaredScope(_) => "undeclared_scope",
    Self::Kind(_) => "invalid_kind",
    Self::TooManyQuotas => "too_many_quotas",
}

#[cfg(test)]
mod tests {
    use super::{IntoScopeRule, MAX_ALTERNATIVES, Requirement};
    use crate::key::Scope;
    use crate::scope;

    fn sufficient(rule: impl IntoScopeRule) -> Vec<String> {
        let all = Requirement::scope(rule).sufficient_scopes().into_iter();
        all.map(|set| set.iter().map(Scope::as_str).collect())
            .collect()
    }

    #[test]
    fn each_alternative_is_enough() {
        let (a, b, c) = (|| scope!("a"), || scope!("b"), || scope!("c"));
        assert_eq!(sufficient(a()), ["a"]);
        assert_eq!(sufficient(a().and(b()).or(c())), ["ab", "c"]);
        assert_eq!(sufficient(a().or(b()).and(c())), ["ac", "bc"]);
        // Not named twice, and not where less is enough.
        assert_eq!(sufficient(a().and(b()).or(a())), ["a"]);
        assert_eq!(sufficient(a().or(a().and(b()))), ["a"]);
        assert_eq!(sufficient(a().and(a())), ["a"]);
        assert!(Requirement::full_access().sufficient_scopes().is_empty());
        let two = |n: u32| {
            let scope = |side| format!("{side}{n}").parse::<Scope>().unwrap();
            scope("x").or(scope("y"))
        };
        let many = (1..40).fold(two(0), |rule, n| rule.and(two(n)));
        assert_eq!(
            Requirement::scope(many).sufficient_scopes().len(),
            MAX_ALTERNATIVES
        );
    }

    #[test]
    fn rules_are_met_as_written() {
        let rule = scope!("a").or(scope!("b")).and(scope!("c"));
        let indexed = rule.map(|scope| "abc".find(scope.as_str()));
        for (held, is_met) in [
            ("", false),
            ("a", false),
            ("c", false),
            ("ab", false),
            ("ac", true),
            ("bc", true),
        ] {
            let reaches = |index: usize| held.contains(&"abc"[index..=index]);
            assert_eq!(indexed.is_met(&reaches), is_met, "{held}");
        }
        let undeclared = rule.map(|scope| "ab".find(scope.as_str()));
        assert!(!undeclared.is_met(&|_| true));
    }
}
