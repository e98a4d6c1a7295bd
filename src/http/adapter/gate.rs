//! Decides on a request and determines how its response is sent, for every adapter alike.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::guard::SourceKind;
use super::place::Place;
use super::{BodyMonitor, Guard, body_monitor};
use crate::http::{
    Admission, Answer, Connection, Decision, Edge, Head, HeaderSource, Rejection, RejectionReason,
};
use crate::verifier::{Attempt, Grant, Permit, Requirement};

/// A request, as an adapter represents it.
pub(crate) trait Incoming {
    type Headers: HeaderSource;
    /// The types of header names and values.
    type HeaderName: for<'a> TryFrom<&'a str> + Clone + Send + Sync;
    type HeaderValue: for<'a> TryFrom<&'a str> + From<Self::HeaderName> + Clone + Send + Sync;

    fn headers(&self) -> &Self::Headers;

    /// Returns the query as sent.
    fn query(&self) -> Option<&str>;

    /// Returns the connection, unless the host provides it by a function of its own.
    fn connection(&self) -> Connection;

    /// Returns the grant of an outer guard.
    fn admitted(&self) -> Option<Grant>;
}

/// The gate in front of a route. Cheap to clone, since frameworks clone it for each request.
pub(crate) struct Gate<R: Incoming> {
    config: Arc<GateConfig<R>>,
}

/// The configuration of a gate: its edge, its guard, and the bounds on requests and responses.
pub(crate) struct GateConfig<R: Incoming> {
    pub(crate) edge: Edge,
    /// The headers that credentials are read from.
    pub(crate) credential_headers: Arc<[R::HeaderName]>,
    /// The `Vary` header of granted responses.
    pub(crate) vary: Option<R::HeaderValue>,
    /// The host's function. `None`: the request itself states its connection.
    connection: Option<Arc<ConnectionOf<R>>>,
    pub(crate) max_request_bytes: u64,
    pub(crate) max_response_bytes: u64,
    /// How long a client may stop reading. `None`: there is no bound.
    pub(crate) stall_timeout: Option<Duration>,
    pub(crate) ends_with_key: bool,
    pub(crate) keeps_credential: bool,
    guard: Guard<R>,
}

type ConnectionOf<R> = dyn Fn(&R) -> Connection + Send + Sync;

/// A request that a gate has admitted.
pub(crate) struct GateAdmission {
    grant: Grant,
    /// The permit. `None` if an outer guard holds it and completes the response.
    own: Option<Permit>,
}

/// The work that remains once the handler has responded.
pub(crate) struct Completion {
    /// The grant. `None` if the response does not depend on it.
    grant: Option<Grant>,
    /// The permit. `None` if the key's concurrent requests are not counted.
    permit: Option<Permit>,
    is_own: bool,
}

/// How to send a handler's response.
pub(crate) enum FinishedResponse {
    /// Without more headers, which an outer guard adds; perhaps monitored.
    Nested(Option<BodyMonitor>),
    /// With the headers of granted responses; perhaps monitored.
    Granted(Option<BodyMonitor>),
}

/// A gate's decision on a request. If pending, it has the resources that the request itself names, for
/// [`Gate::decide`].
pub(crate) type GateDecision = Decision<Result<GateAdmission, Box<Rejection>>, Values>;

/// The resources that a request names, as kinds with a value. `None` if the request names no resource of the kind.
#[derive(Default)]
pub(crate) struct Values(Vec<(Arc<str>, Option<String>)>);

impl Values {
    fn push(&mut self, kind: &Arc<str>, value: Option<String>) {
        self.0.push((Arc::clone(kind), value));
    }

    /// Returns the attempt with these resources.
    ///
    /// If a route names a kind in two places and the request fills only one, the kind counts as not named. Otherwise
    /// the caller could choose which of the two is checked.
    #[inline]
    fn attempt<'a>(&'a self, need: &'a Requirement) -> Attempt<'a> {
        if self.0.is_empty() {
            return Attempt::of(need);
        }
        let named = self.0.iter().filter_map(|(kind, value)| {
            let is_whole =
                |(other, value): &(Arc<str>, Option<String>)| other != kind || value.is_some();
            let value = value.as_deref()?;
            self.0.iter().all(is_whole).then_some((kind, value))
        });
        named.fold(Attempt::of(need), |attempt, (kind, value)| {
            attempt.resource(kind, value)
        })
    }
}

impl<R: Incoming + 'static> Gate<R> {
    pub(crate) fn new(edge: Edge) -> Self {
        // Both consist of valid header names.
        let names = edge.credential_headers();
        let names = names.filter_map(|name| R::HeaderName::try_from(name).ok());
        let names: Arc<[R::HeaderName]> = names.collect();
        let vary = edge.vary().and_then(|vary| match &*names {
            // A known name owns no text, so cloning it for each response does not update a reference count.
            [only] => Some(only.clone().into()),
            _ => R::HeaderValue::try_from(vary).ok(),
        });
        Self {
            config: Arc::new(GateConfig {
                credential_headers: names,
                vary,
                edge,
                connection: None,
                max_request_bytes: u64::MAX,
                max_response_bytes: u64::MAX,
                stall_timeout: None,
                ends_with_key: false,
                keeps_credential: false,
                guard: Requirement::any_key().into(),
            }),
        }
    }

    pub(crate) fn config(&self) -> &Arc<GateConfig<R>> {
        &self.config
    }

    #[cfg(feature = "axum")]
    pub(crate) fn into_config(self) -> Arc<GateConfig<R>> {
        self.config
    }

    pub(crate) fn require(&self, guard: Guard<R>) -> Self {
        self.clone().with(|config| config.guard = guard)
    }

    /// Returns the gate with a changed configuration.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut GateConfig<R>)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }

    pub(crate) fn connection(
        self,
        connection: impl Fn(&R) -> Connection + Send + Sync + 'static,
    ) -> Self {
        self.with(|config| config.connection = Some(Arc::new(connection)))
    }

    /// Decides at once, if that requires neither the store, nor a slow hash, nor a look-up.
    pub(crate) fn begin(&self, request: &mut R) -> GateDecision {
        let values = self.values(request);
        if self.looks_up() {
            return Decision::Pending(values);
        }
        match self.begin_on(request, self.connection_of(request), &values) {
            Some(decided) => Decision::Made(decided),
            None => Decision::Pending(values),
        }
    }

    /// Whether a function of the host has to inspect requests.
    #[cfg(feature = "tower")]
    pub(crate) fn asks_requests(&self) -> bool {
        self.config.connection.is_some() || !self.config.guard.sources.is_empty()
    }

    /// Decides as [`begin`](Self::begin) does, on a request of another type than the host's
    /// [functions](Self::asks_requests) take.
    #[inline]
    #[cfg(feature = "tower")]
    pub(crate) fn begin_unasked<W>(&self, request: &W) -> GateDecision
    where
        W: Incoming<Headers = R::Headers>,
    {
        let values = Values::default();
        match self.begin_on(request, request.connection(), &values) {
            Some(decided) => Decision::Made(decided),
            None => Decision::Pending(values),
        }
    }

    #[inline]
    fn begin_on<W>(
        &self,
        request: &W,
        connection: Connection,
        values: &Values,
    ) -> Option<Result<GateAdmission, Box<Rejection>>>
    where
        W: Incoming<Headers = R::Headers>,
    {
        let head = head(request, connection);
        let decided = match self.decide_again(request, &head, values) {
            Some(decided) => decided,
            None => {
                let attempt = || values.attempt(&self.config.guard.first);
                let decided = self.config.edge.try_admit_of(&head, attempt)?;
                decided.map(GateAdmission::of)
            }
        };
        Some(self.config.bound(decided, || head))
    }

    /// Decides a pending request.
    pub(crate) async fn decide(
        &self,
        request: &mut R,
        values: Values,
    ) -> Result<GateAdmission, Box<Rejection>> {
        let decided = self.wait(request, values).await;
        let head = || head(request, self.connection_of(request));
        self.config.bound(decided, head)
    }

    async fn wait(
        &self,
        request: &mut R,
        mut values: Values,
    ) -> Result<GateAdmission, Box<Rejection>> {
        let edge = &self.config.edge;
        let head = head(request, self.connection_of(request));
        let mut admission = match self.decide_again(request, &head, &values) {
            Some(decided) => decided?,
            None => {
                let attempt = values.attempt(&self.config.guard.first);
                GateAdmission::of(edge.admit(&head, attempt).await?)
            }
        };
        if self.looks_up() {
            self.look_up(request, &admission.grant, &mut values).await?;
            let attempt = values.attempt(&self.config.guard.then);
            let head = self::head(request, self.connection_of(request));
            // The key may have ended during the look-up.
            admission.grant = edge.reverify(&head, &admission.grant, attempt).await?;
        }
        Ok(admission)
    }

    /// Decides on a request that an outer guard has admitted. `None` if there is no such guard.
    #[inline]
    fn decide_again<W>(
        &self,
        request: &W,
        head: &Head<'_, R::Headers>,
        values: &Values,
    ) -> Option<Result<GateAdmission, Box<Rejection>>>
    where
        W: Incoming<Headers = R::Headers>,
    {
        let edge = &self.config.edge;
        let grant = request.admitted()?;
        let grant = edge.has_admitted(&grant).then_some(grant)?;
        let attempt = values.attempt(&self.config.guard.first);
        let again = edge.check_requirement(head, &grant, attempt);
        Some(again.map(|grant| GateAdmission { grant, own: None }))
    }

    fn connection_of(&self, request: &R) -> Connection {
        match &self.config.connection {
            Some(connection) => connection(request),
            None => request.connection(),
        }
    }

    fn looks_up(&self) -> bool {
        let mut sources = self.config.guard.sources.iter();
        sources.any(|(_, source)| matches!(source.0, SourceKind::Lookup(..)))
    }

    /// Returns the resources that the request itself names.
    fn values(&self, request: &mut R) -> Values {
        let mut values = Values::default();
        for (kind, source) in &self.config.guard.sources {
            if let SourceKind::Request(read) = &source.0 {
                values.push(kind, read(request));
            }
        }
        values
    }

    /// Looks up the remaining resources, once the request is admitted so far.
    async fn look_up(
        &self,
        request: &mut R,
        grant: &Grant,
        values: &mut Values,
    ) -> Result<(), Box<Rejection>> {
        let edge = &self.config.edge;
        for (kind, source) in &self.config.guard.sources {
            let SourceKind::Lookup(read, look) = &source.0 else {
                continue;
            };
            // Without a name there is nothing to look up, and the requirement refuses the request.
            let Some(name) = read(request) else {
                values.push(kind, None);
                continue;
            };
            let reason = match look(grant, name).await {
                Ok(value @ Some(_)) => {
                    values.push(kind, value);
                    continue;
                }
                Ok(None) => RejectionReason::NotFound,
                Err(error) => RejectionReason::LookupFailed(error),
            };
            let head = head(request, self.connection_of(request));
            return Err(edge.reject_request(&head, reason, Some(grant)));
        }
        Ok(())
    }
}

fn head<R: Incoming>(request: &R, connection: Connection) -> Head<'_, R::Headers> {
    Head {
        headers: request.headers(),
        connection,
        query: request.query(),
    }
}

impl<R: Incoming> GateConfig<R> {
    /// Returns the maximum bytes of a request body. `None` if there is no bound, or a violation would only be
    /// reported.
    pub(crate) fn request_bound(&self) -> Option<u64> {
        let is_bounded = self.max_request_bytes < u64::MAX && !self.edge.only_reports();
        is_bounded.then_some(self.max_request_bytes)
    }

    /// Returns the admission of a decided request. `None` if its rejection is only reported.
    ///
    /// # Errors
    /// The rejection to answer with.
    #[inline]
    pub(crate) fn admission(
        &self,
        decided: Result<GateAdmission, Box<Rejection>>,
    ) -> Result<Option<GateAdmission>, Box<Rejection>> {
        match decided {
            Ok(admission) => Ok(Some(admission)),
            Err(rejection) if rejection.is_report_only() => Ok(None),
            Err(rejection) => Err(rejection),
        }
    }

    /// Returns the decision on a request, or a rejection if the request would pass and its announced length exceeds
    /// the bound.
    #[inline]
    fn bound<'h>(
        &self,
        decided: Result<GateAdmission, Box<Rejection>>,
        head: impl FnOnce() -> Head<'h, R::Headers>,
    ) -> Result<GateAdmission, Box<Rejection>>
    where
        R::Headers: 'h,
    {
        let grant = match &decided {
            _ if self.max_request_bytes == u64::MAX => return decided,
            Ok(admission) => Some(&admission.grant),
            Err(rejection) if rejection.is_report_only() => None,
            Err(_) => return decided,
        };
        let head = head();
        if !self.is_too_long(head.headers) {
            return decided;
        }
        let rejection = (self.edge).reject_request(&head, RejectionReason::RequestTooLarge, grant);
        if rejection.is_report_only() {
            decided
        } else {
            Err(rejection)
        }
    }

    fn is_too_long(&self, headers: &R::Headers) -> bool {
        let length = headers.values("content-length").next();
        let length = length.and_then(|length| std::str::from_utf8(length).ok());
        let announced: Option<u64> = length.and_then(|length| length.parse().ok());
        announced.is_some_and(|announced| announced > self.max_request_bytes)
    }
}

impl GateAdmission {
    fn of(admission: Admission) -> Self {
        let (grant, permit) = admission.into_parts();
        Self {
            grant,
            own: Some(permit),
        }
    }

    /// Splits the admission into the grant, for the handler, and the work that remains after it.
    #[inline]
    pub(crate) fn split<R: Incoming>(self, config: &GateConfig<R>) -> (Grant, Completion) {
        let is_bounded = config.max_response_bytes < u64::MAX;
        let is_needed = config.ends_with_key || is_bounded || self.grant.unchecked().is_some();
        let completion = Completion {
            grant: is_needed.then(|| self.grant.clone()),
            is_own: self.own.is_some(),
            permit: self.own.filter(Permit::is_counted),
        };
        (self.grant, completion)
    }
}

impl Completion {
    /// Completes the handler's response.
    ///
    /// `announced` is the minimum number of bytes that the response will have.
    ///
    /// # Errors
    /// The answer to send instead.
    pub(crate) fn finish<R: Incoming + 'static>(
        self,
        config: &Arc<GateConfig<R>>,
        status: u16,
        announced: u64,
    ) -> Result<FinishedResponse, Answer> {
        let edge = &config.edge;
        if let Some(grant) = &self.grant {
            edge.review(grant, status)
                .map_err(|rejection| rejection.into_answer())?;
        }
        if announced > config.max_response_bytes {
            let rejection = edge.reject(RejectionReason::ResponseTooLarge, self.grant.as_ref());
            return Err(rejection.into_answer());
        }
        let ended = self.grant.as_ref().filter(|_| config.ends_with_key);
        let ended = ended.map(Grant::ended);
        let is_bounded = config.max_response_bytes < u64::MAX;
        let monitor = if ended.is_some() || is_bounded || self.permit.is_some() {
            let observer: Arc<dyn body_monitor::Observer> = Arc::clone(config) as _;
            let most = config.max_response_bytes;
            let grant = self.grant.filter(|_| is_bounded);
            let place = Place::new(self.permit, config.stall_timeout);
            Some(BodyMonitor::new(place, grant, ended, most, observer))
        } else {
            None
        };
        Ok(if self.is_own {
            FinishedResponse::Granted(monitor)
        } else {
            FinishedResponse::Nested(monitor)
        })
    }
}

impl<R: Incoming> body_monitor::Observer for GateConfig<R> {
    fn response_was_too_long(&self, grant: Option<&Grant>) {
        drop(self.edge.reject(RejectionReason::ResponseTooLarge, grant));
    }
}

impl<R: Incoming> Clone for Gate<R> {
    fn clone(&self) -> Self {
        let config = Arc::clone(&self.config);
        Self { config }
    }
}

impl<R: Incoming> Clone for GateConfig<R> {
    fn clone(&self) -> Self {
        Self {
            edge: self.edge.clone(),
            credential_headers: Arc::clone(&self.credential_headers),
            vary: self.vary.clone(),
            connection: self.connection.clone(),
            guard: self.guard.clone(),
            ..*self
        }
    }
}

impl<R: Incoming> fmt::Debug for Gate<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("edge", &self.config.edge)
            .field("guard", &self.config.guard)
            .finish_non_exhaustive()
    }
}
