//! Connects a framework to the verifier: takes the head of a request and returns an admission or a rejection.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use self::rejecting::About;
use super::answer::{ProblemJson, Renderer};
use super::caching;
use super::client::{Connection, Origin, Proxies};
use super::credentials::{self, Found};
use super::key_in::KeyIn;
use super::near_miss::{self, NearMiss};
use super::{Admission, HeaderSource, Rejection, RejectionEvent, RejectionReason, ResponseHeader};
use crate::Keyward;
use crate::key::KeyTextError;
use crate::verifier::{
    Admitted, Attempt, Denial, DenialReason, Grant, Requirement, RequirementError, Verifier,
};

/// The part of a request that an adapter passes to the edge.
///
/// `Debug` shows neither the headers nor the query, since both may contain a key.
pub struct Head<'a, H: ?Sized> {
    /// The headers.
    pub headers: &'a H,
    /// The connection that the request came over, as the server sees it.
    pub connection: Connection,
    /// The query as sent, without the question mark. `None` if the target has no query.
    pub query: Option<&'a str>,
}

/// Reads credentials from requests, asks the [`Verifier`] and answers as the standards require.
///
/// An edge accepts no credential until [`accept`](Self::accept) names a form.
///
/// ```
/// use keyward::Keyward;
/// use keyward::http::{Edge, KeyIn, KeyInError};
///
/// fn edge(keyward: &Keyward) -> Result<Edge, KeyInError> {
///     let edge = Edge::new(keyward)
///         .accept(KeyIn::bearer())
///         .accept(KeyIn::header("X-API-Key")?);
///     // For the operator's log: the reason, and what the caller probably meant.
///     Ok(edge.observe(|event| eprintln!("{} {:?}", event.reason, event.near_misses)))
/// }
/// ```
#[derive(Clone)]
pub struct Edge {
    verifier: Verifier,
    forms: Vec<KeyIn>,
    proxies: Proxies,
    realm: Box<str>,
    renderer: Arc<dyn Renderer>,
    observer: Option<Observer>,
    requires_tls: bool,
    is_report_only: bool,
    may_be_cached: bool,
    vary: Box<str>,
}

type Observer = Arc<dyn Fn(&RejectionEvent<'_>) + Send + Sync>;

impl Edge {
    /// Creates an edge in front of this Keyward's verifier.
    #[must_use]
    pub fn new(keyward: &Keyward) -> Self {
        Self {
            verifier: keyward.verifier().clone(),
            forms: Vec::new(),
            proxies: Proxies::none(),
            realm: "api".into(),
            renderer: Arc::new(ProblemJson),
            observer: None,
            requires_tls: false,
            is_report_only: false,
            may_be_cached: false,
            vary: Box::default(),
        }
    }

    /// Also accepts keys in this form. Challenges name the forms in the order in which they were added.
    #[must_use]
    pub fn accept(mut self, form: KeyIn) -> Self {
        if !self.forms.contains(&form) {
            self.forms.push(form);
            let headers: Vec<_> = self.credential_headers().collect();
            self.vary = headers.join(", ").into();
        }
        self
    }

    /// Trusts these proxies to report where requests come from. By default no proxy is trusted.
    #[must_use]
    pub fn trust_proxies(mut self, proxies: Proxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// Refuses requests that came without TLS (403).
    ///
    /// The edge never redirects them: a client that is redirected sends its key in clear each time.
    #[must_use]
    pub fn require_tls(mut self) -> Self {
        self.requires_tls = true;
        self
    }

    /// Sets the name of the protected space in challenges (RFC 9110 §11.5). The default is `api`.
    ///
    /// Characters that would have to be quoted are left out.
    #[must_use]
    pub fn realm(mut self, realm: &str) -> Self {
        let is_plain = |c: &char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
        self.realm = realm.chars().filter(is_plain).collect();
        self
    }

    /// Answers in a format other than [problem details](ProblemJson).
    #[must_use]
    pub fn renderer(mut self, renderer: impl Renderer) -> Self {
        self.renderer = Arc::new(renderer);
        self
    }

    /// Calls this function with every rejection, for the operator's log.
    ///
    /// The edge calls it before the answer is sent, so it must not block.
    ///
    /// It is also called for rejections that are [only reported](Self::report_only). It is not called if a request
    /// body turns out to be too long while a handler reads it, since the handler answers that.
    #[must_use]
    pub fn observe(
        mut self,
        observer: impl Fn(&RejectionEvent<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Marks rejections as [only reported](Rejection::is_report_only), so that the host can see which requests would
    /// be refused before any is.
    ///
    /// Adapters then let the request pass.
    ///
    /// # Security
    /// **Every caller gets in**, without a key and without a grant, and the request is passed on unchanged,
    /// credential included. Use it in the weeks before an API is closed.
    #[must_use]
    pub fn report_only(mut self) -> Self {
        self.is_report_only = true;
        self
    }

    /// Adds no cache headers: the application sets `Cache-Control` and `Vary` of granted responses.
    ///
    /// # Security
    /// A shared cache in between may then serve one key's response to the next client.
    #[must_use]
    pub fn without_cache_headers(mut self) -> Self {
        self.may_be_cached = true;
        self
    }

    /// Decides on a request.
    ///
    /// If neither the store nor a slow hash is needed, it decides at once, even if the future is never polled. The
    /// credential and the address in the attempt are replaced by those of the head.
    ///
    /// # Errors
    /// [`Rejection`] contains the answer to send. Do not process the request further, unless the rejection [is only
    /// reported](Rejection::is_report_only): then let the request through, without a grant.
    pub fn admit<'a, 'h, H: HeaderSource + ?Sized>(
        &'a self,
        head: &Head<'h, H>,
        attempt: Attempt<'a>,
    ) -> impl Future<Output = Result<Admission, Box<Rejection>>> + use<'a, 'h, H> {
        let begun = self.begin(head, || attempt);
        async move {
            match begun {
                Decision::Made(decided) => decided,
                Decision::Pending((found, origin)) => {
                    let mut attempt = attempt;
                    attempt.present(found.presented(), origin.client);
                    let decided = self.verifier.verify(&attempt).await;
                    self.admission(decided, attempt.requirement, origin, Vec::new)
                }
            }
        }
    }

    /// Decides at once, if that requires neither the store nor a slow hash. `None`: [`admit`](Self::admit) must
    /// decide.
    ///
    /// This is for adapters that avoid creating a future unless one is needed.
    #[must_use]
    pub fn try_admit<H: HeaderSource + ?Sized>(
        &self,
        head: &Head<'_, H>,
        attempt: Attempt<'_>,
    ) -> Option<Result<Admission, Box<Rejection>>> {
        self.try_admit_of(head, || attempt)
    }

    /// Decides as [`try_admit`](Self::try_admit) does, but creates the attempt in its final place, since moving it is
    /// costly.
    #[inline]
    pub(crate) fn try_admit_of<'a, H: HeaderSource + ?Sized>(
        &self,
        head: &Head<'_, H>,
        attempt: impl FnOnce() -> Attempt<'a>,
    ) -> Option<Result<Admission, Box<Rejection>>> {
        match self.begin(head, attempt) {
            Decision::Made(decided) => Some(decided),
            Decision::Pending(_) => None,
        }
    }

    /// Checks at start that a requirement can be met, and returns it: see [`Verifier::prepare`].
    ///
    /// # Errors
    /// [`RequirementError`] if it names a scope that is not declared, or a malformed kind of resource.
    pub fn prepare(&self, requirement: Requirement) -> Result<Requirement, RequirementError> {
        self.verifier.prepare(requirement)
    }

    /// Whether the Keyward behind this edge issued this grant.
    #[must_use]
    pub fn has_admitted(&self, grant: &Grant) -> bool {
        self.verifier.has_admitted(grant)
    }

    /// Decides on a request that an outer guard has already admitted.
    ///
    /// It checks that the grant meets the attempt's requirement, that it is for the tenant and environment that the
    /// attempt addresses, and that the request came over TLS if this edge [requires it](Self::require_tls). See
    /// [`Verifier::check_requirement`].
    ///
    /// # Errors
    /// As for [`admit`](Self::admit).
    pub fn check_requirement<H: HeaderSource + ?Sized>(
        &self,
        head: &Head<'_, H>,
        grant: &Grant,
        attempt: Attempt<'_>,
    ) -> Result<Grant, Box<Rejection>> {
        let need = attempt.requirement;
        let origin = self.origin_again(head, grant, need)?;
        let about = About::request(need, origin).granted(grant);
        let denied = |denial| self.rejection(RejectionReason::Denied(denial), about);
        self.verifier
            .check_requirement(grant, &attempt)
            .map_err(denied)
    }

    /// Decides as [`check_requirement`](Self::check_requirement) does, for a request that has waited since it was
    /// admitted.
    ///
    /// A look-up of a resource that the request names is such a wait. If the key has ended meanwhile, the request is
    /// refused. See [`Verifier::reverify`].
    ///
    /// # Errors
    /// As for [`admit`](Self::admit).
    pub async fn reverify<H: HeaderSource + ?Sized>(
        &self,
        head: &Head<'_, H>,
        grant: &Grant,
        attempt: Attempt<'_>,
    ) -> Result<Grant, Box<Rejection>> {
        let need = attempt.requirement;
        let origin = self.origin_again(head, grant, need)?;
        let about = About::request(need, origin).granted(grant);
        let denied = |denial| self.rejection(RejectionReason::Denied(denial), about);
        let decided = self.verifier.reverify(grant, &attempt).await;
        decided.map_err(denied)
    }

    /// Reviews a handler's response.
    ///
    /// # Errors
    /// [`Rejection`] to send instead, if the response is not a failure (4xx or 5xx) and the handler never made a
    /// check that it promised: see [`checked_by_handler`](crate::verifier::Requirement::checked_by_handler). It is
    /// never [only reported](Self::report_only): reporting is for callers, and this is the handler's mistake.
    pub fn review(&self, grant: &Grant, status: u16) -> Result<(), Box<Rejection>> {
        match grant.unchecked() {
            // Switching protocols (101) counts as a success too.
            Some(kind) if !(400..600).contains(&status) => {
                let kind = kind.into();
                Err(self.reject(RejectionReason::Unchecked { kind }, Some(grant)))
            }
            _ => Ok(()),
        }
    }

    /// Returns the headers to add to a granted response with these headers, so that no cache serves it to another
    /// client.
    ///
    /// They are `Cache-Control` with `private` in it, and `Vary` with the headers that credentials are read from.
    /// Headers that an application addresses to its own CDN, `CDN-Cache-Control` (RFC 9213) or `Surrogate-Control`,
    /// are left unchanged.
    pub fn response_headers<'a, H: HeaderSource + ?Sized>(
        &'a self,
        response: &H,
    ) -> impl Iterator<Item = ResponseHeader<'a>> + use<'a, H> {
        let cache_control = self.cache_control(response).map(|value| ResponseHeader {
            name: "cache-control",
            value,
            replaces: true,
        });
        let vary = self.vary().map(|value| ResponseHeader {
            name: "vary",
            value: value.into(),
            replaces: false,
        });
        cache_control.into_iter().chain(vary)
    }

    /// Whether credentials are also read from queries.
    #[cfg(any(feature = "actix", feature = "tower"))]
    pub(crate) fn reads_queries(&self) -> bool {
        self.forms.iter().any(KeyIn::is_in_query)
    }

    /// Whether cache headers are left to the application.
    #[cfg(any(feature = "actix", feature = "tower"))]
    pub(crate) fn may_be_cached(&self) -> bool {
        self.may_be_cached
    }

    /// Returns the new `Cache-Control` for a granted response with these headers. `None` if it need not change.
    pub(crate) fn cache_control<H: HeaderSource + ?Sized>(
        &self,
        response: &H,
    ) -> Option<Cow<'static, str>> {
        if self.may_be_cached {
            return None;
        }
        caching::private(response)
    }

    /// Returns the `Vary` header of granted responses. `None` if they have no such header.
    pub(crate) fn vary(&self) -> Option<&str> {
        Some(&*self.vary).filter(|vary| !vary.is_empty() && !self.may_be_cached)
    }

    /// Returns the headers that credentials are read from, in lower case.
    ///
    /// An adapter removes them from the request before the handler sees it, so that neither the handler nor a log
    /// behind it holds a key.
    pub fn credential_headers(&self) -> impl Iterator<Item = &str> {
        let is_any_scheme = self.forms.iter().any(|form| form.scheme().is_some());
        let headers = self.forms.iter().flat_map(KeyIn::headers);
        is_any_scheme
            .then_some("authorization")
            .into_iter()
            .chain(headers.map(|name| &*name.lower))
    }

    /// Removes the parameters that credentials are read from. `None` if the query has no such parameter.
    #[must_use]
    pub fn query_without_credential(&self, query: &str) -> Option<String> {
        credentials::without_parameters(&self.forms, query)
    }

    #[cfg(any(feature = "actix", feature = "tower"))]
    pub(crate) fn only_reports(&self) -> bool {
        self.is_report_only
    }

    /// Removes the credential as [`query_without_credential`](Self::query_without_credential) does, with the path
    /// before it.
    #[cfg(any(feature = "actix", feature = "tower"))]
    pub(crate) fn target_without_credential(&self, path: &str, query: &str) -> Option<String> {
        let query = self.query_without_credential(query)?;
        Some(if query.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{query}")
        })
    }

    /// Determines the origin of a request that was already admitted. A rejection if it came without TLS and TLS is
    /// required.
    fn origin_again<H: HeaderSource + ?Sized>(
        &self,
        head: &Head<'_, H>,
        grant: &Grant,
        need: &Requirement,
    ) -> Result<Origin, Box<Rejection>> {
        let origin = self.proxies.origin(head.connection, head.headers);
        if !self.requires_tls || origin.is_tls {
            return Ok(origin);
        }
        // The outer guard has removed the credential, but it did come in clear.
        let reason = RejectionReason::InsecureTransport {
            key: Some(grant.key_id()),
            credential_sent: true,
        };
        Err(self.rejection(reason, About::request(need, origin).granted(grant)))
    }

    #[inline]
    fn begin<'h, 'a, H: HeaderSource + ?Sized>(
        &self,
        head: &Head<'h, H>,
        attempt: impl FnOnce() -> Attempt<'a>,
    ) -> EdgeDecision<'h> {
        let found = credentials::read(&self.forms, head);
        let origin = self.proxies.origin(head.connection, head.headers);
        let mut attempt = attempt();
        if let Some(rejection) = self.in_clear(&found, origin, attempt.requirement) {
            return Decision::Made(Err(rejection));
        }
        attempt.present(found.presented(), origin.client);
        let Some(decided) = self.verifier.try_verify(&attempt) else {
            return Decision::Pending((found, origin));
        };
        let near_misses = || near_miss::find(&self.forms, self.verifier.format(), head);
        Decision::Made(self.admission(decided, attempt.requirement, origin, near_misses))
    }

    /// Returns the rejection of a request without TLS, if the edge requires TLS.
    #[inline]
    fn in_clear(
        &self,
        found: &Found<'_>,
        origin: Origin,
        need: &Requirement,
    ) -> Option<Box<Rejection>> {
        if !self.requires_tls || origin.is_tls {
            return None;
        }
        let parsed = self.verifier.format().parse_presented(found.presented());
        let reason = RejectionReason::InsecureTransport {
            key: parsed.ok().map(|parsed| parsed.id()),
            credential_sent: !matches!(found, Found::Nothing),
        };
        Some(self.rejection(reason, About::request(need, origin)))
    }

    #[inline]
    fn admission(
        &self,
        decided: Result<Admitted, Denial>,
        need: &Requirement,
        origin: Origin,
        near_misses: impl FnOnce() -> Vec<NearMiss>,
    ) -> Result<Admission, Box<Rejection>> {
        match decided {
            Ok(admitted) => Ok(Admission::new(admitted)),
            Err(denial) => {
                let names_no_key = matches!(
                    denial.reason(),
                    DenialReason::NoCredential | DenialReason::Malformed(KeyTextError::HalfPair)
                );
                let near_misses = if names_no_key && self.observer.is_some() {
                    near_misses()
                } else {
                    Vec::new()
                };
                let about = About {
                    near_misses: &near_misses,
                    ..About::request(need, origin)
                };
                Err(self.rejection(RejectionReason::Denied(denial), about))
            }
        }
    }
}

/// A decision made at once, or the data needed to make it later.
pub(crate) enum Decision<T, P> {
    Made(T),
    Pending(P),
}

/// An edge's decision on a request. If pending, it has the credential and the origin.
type EdgeDecision<'a> = Decision<Result<Admission, Box<Rejection>>, (Found<'a>, Origin)>;

// Below `impl Edge`, so that the page of `Edge` begins with its constructor.
mod rejecting;

impl<H: ?Sized> fmt::Debug for Head<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge")
            .field("forms", &self.forms)
            .field("proxies", &self.proxies)
            .field("realm", &self.realm)
            .field("renderer", &self.renderer)
            .field("requires_tls", &self.requires_tls)
            .field("is_report_only", &self.is_report_only)
            .finish_non_exhaustive()
    }
}
