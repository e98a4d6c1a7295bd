//! Decides on requests, for every adapter alike.

use std::fmt;
use std::sync::Arc;

use super::admission::Admission;
use super::edge::Edge;
use super::guard::{Guard, Values};
use super::head::{Connection, Head, HeaderSource};
use super::reason::RejectionReason;
use super::rejection::Rejection;
use crate::verifier::{Grant, Permit, Requirement};

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

/// A guard in front of a route, and its edge.
pub(crate) struct Gate<R: Incoming> {
    pub(crate) edge: Edge,
    /// The headers that credentials are read from.
    pub(crate) credential_headers: Arc<[R::HeaderName]>,
    /// The `Vary` header of granted responses.
    pub(crate) vary: Option<R::HeaderValue>,
    /// The host's function. `None`: the request itself states its connection.
    connection: Option<Arc<ConnectionOf<R>>>,
    guard: Guard<R>,
}

type ConnectionOf<R> = dyn Fn(&R) -> Connection + Send + Sync;

/// A gate's decision on a request.
pub(crate) enum Decision {
    /// It was made at once.
    Made(Decided),
    /// [`Gate::decide`] has to make it, with the resources that the request itself names.
    Pending(Values),
}

/// The grant for the handler, and the admission to finish afterwards. `None` if a rejection is only reported.
pub(crate) type Decided = Result<Option<(Grant, Admission)>, Box<Rejection>>;

/// The grant, and its permit. `None` if an outer guard holds it.
type Granted = Result<(Grant, Option<Permit>), Box<Rejection>>;

impl<R: Incoming> Gate<R> {
    /// Creates a gate that admits any key.
    pub(crate) fn new(edge: Edge) -> Arc<Self> {
        // Both consist of valid header names.
        let names = edge.credential_headers();
        let names = names.filter_map(|name| R::HeaderName::try_from(name).ok());
        let names: Arc<[R::HeaderName]> = names.collect();
        let vary = edge.vary().and_then(|vary| match &*names {
            // A known name owns no text, so cloning it for each response does not update a reference count.
            [only] => Some(only.clone().into()),
            _ => R::HeaderValue::try_from(vary).ok(),
        });
        Arc::new(Self {
            credential_headers: names,
            vary,
            edge,
            connection: None,
            guard: Requirement::any_key().into(),
        })
    }

    /// Returns the gate with this guard.
    pub(crate) fn require(&self, guard: Guard<R>) -> Arc<Self> {
        let connection = self.connection.clone();
        self.with(connection, guard)
    }

    /// Returns the gate with this function for the connections of requests.
    pub(crate) fn connection(
        &self,
        connection: impl Fn(&R) -> Connection + Send + Sync + 'static,
    ) -> Arc<Self> {
        self.with(Some(Arc::new(connection)), self.guard.clone())
    }

    fn with(&self, connection: Option<Arc<ConnectionOf<R>>>, guard: Guard<R>) -> Arc<Self> {
        Arc::new(Self {
            edge: self.edge.clone(),
            credential_headers: Arc::clone(&self.credential_headers),
            vary: self.vary.clone(),
            connection,
            guard,
        })
    }

    /// Decides at once, if that requires neither the store, nor a slow hash, nor a look-up.
    pub(crate) fn begin(&self, request: &mut R) -> Decision {
        let values = self.guard.named(request);
        if self.guard.looks_up() {
            return Decision::Pending(values);
        }
        self.begin_on(request, self.connection_of(request), values)
    }

    /// Whether a function of the host has to inspect requests.
    #[cfg(feature = "tower")]
    pub(crate) fn asks_requests(&self) -> bool {
        self.connection.is_some() || self.guard.reads_requests()
    }

    /// Decides as [`begin`](Self::begin) does, on a request of another type than the host's
    /// [functions](Self::asks_requests) take.
    #[inline]
    #[cfg(feature = "tower")]
    pub(crate) fn begin_unasked<W>(&self, request: &W) -> Decision
    where
        W: Incoming<Headers = R::Headers>,
    {
        self.begin_on(request, request.connection(), Values::default())
    }

    #[inline]
    fn begin_on<W>(&self, request: &W, connection: Connection, values: Values) -> Decision
    where
        W: Incoming<Headers = R::Headers>,
    {
        let head = head(request, connection);
        let attempt = || self.guard.first_attempt(&values);
        let granted = match self.check_again(request, &head, &values) {
            Some(granted) => granted,
            None => match self.edge.try_admit(&head, attempt) {
                Some(decided) => decided.map(|admitted| {
                    let (grant, permit) = admitted.into_parts();
                    (grant, Some(permit))
                }),
                None => return Decision::Pending(values),
            },
        };
        Decision::Made(self.settle(granted, || head))
    }

    /// Decides a pending request.
    pub(crate) async fn decide(&self, request: &mut R, values: Values) -> Decided {
        let granted = self.wait(request, values).await;
        self.settle(granted, || head(request, self.connection_of(request)))
    }

    async fn wait(&self, request: &mut R, mut values: Values) -> Granted {
        let head = head(request, self.connection_of(request));
        let (mut grant, permit) = match self.check_again(request, &head, &values) {
            Some(granted) => granted?,
            None => {
                let attempt = self.guard.first_attempt(&values);
                let (grant, permit) = self.edge.admit(&head, attempt).await?.into_parts();
                (grant, Some(permit))
            }
        };
        if self.guard.looks_up() {
            let looked_up = self.guard.look_up(request, &grant, &mut values).await;
            let head = self::head(request, self.connection_of(request));
            if let Err(reason) = looked_up {
                return Err(self.edge.reject_request(&head, reason, Some(&grant)));
            }
            let attempt = self.guard.last_attempt(&values);
            // The key may have ended during the look-up.
            grant = self.edge.reverify(&head, &grant, attempt).await?;
        }
        Ok((grant, permit))
    }

    /// Decides on a request that an outer guard has admitted. `None` if there is no such guard.
    #[inline]
    fn check_again<W>(
        &self,
        request: &W,
        head: &Head<'_, R::Headers>,
        values: &Values,
    ) -> Option<Granted>
    where
        W: Incoming<Headers = R::Headers>,
    {
        let grant = request.admitted()?;
        let grant = self.edge.has_admitted(&grant).then_some(grant)?;
        let attempt = self.guard.first_attempt(values);
        let again = self.edge.check_requirement(head, &grant, attempt);
        Some(again.map(|grant| (grant, None)))
    }

    fn connection_of(&self, request: &R) -> Connection {
        match &self.connection {
            Some(connection) => connection(request),
            None => request.connection(),
        }
    }

    /// Completes a decision: refuses a request that would pass, but announces a body beyond the bound.
    #[inline]
    fn settle<'h>(&self, granted: Granted, head: impl FnOnce() -> Head<'h, R::Headers>) -> Decided
    where
        R::Headers: 'h,
    {
        let granted = match granted {
            Ok(granted) => Some(granted),
            Err(rejection) if rejection.is_report_only => None,
            Err(rejection) => return Err(rejection),
        };
        if self.edge.adapters.max_request_bytes < u64::MAX {
            self.check_length(&head(), granted.as_ref().map(|(grant, _)| grant))?;
        }
        Ok(granted.map(|(grant, permit)| {
            let admission = Admission::new(&self.edge, &grant, permit);
            (grant, admission)
        }))
    }

    fn check_length(
        &self,
        head: &Head<'_, R::Headers>,
        grant: Option<&Grant>,
    ) -> Result<(), Box<Rejection>> {
        let length = head.headers.values("content-length").next();
        let length = length.and_then(|length| std::str::from_utf8(length).ok());
        let announced: Option<u64> = length.and_then(|length| length.parse().ok());
        if announced.is_none_or(|announced| announced <= self.edge.adapters.max_request_bytes) {
            return Ok(());
        }
        let reason = RejectionReason::RequestTooLarge;
        let rejection = self.edge.reject_request(head, reason, grant);
        if rejection.is_report_only {
            Ok(())
        } else {
            Err(rejection)
        }
    }
}

fn head<R: Incoming>(request: &R, connection: Connection) -> Head<'_, R::Headers> {
    Head {
        headers: request.headers(),
        connection,
        query: request.query(),
    }
}

impl<R: Incoming> fmt::Debug for Gate<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("edge", &self.edge)
            .field("guard", &self.guard)
            .finish_non_exhaustive()
    }
}
