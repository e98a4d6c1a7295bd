//! Decides on requests, for every adapter alike.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::edge::{Decided, Edge};
use super::guard::{Guard, Values};
use super::head::{Connection, Head, HeaderSource};
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

impl<R: Incoming> Gate<R> {
    /// Creates a gate that admits any key.
    pub(crate) fn new(edge: Edge) -> Arc<Self> {
        // Both consist of valid header names.
        let names = edge.credential_headers();
        let names = names.filter_map(|name| R::HeaderName::try_from(name).ok());
        let names: Arc<[R::HeaderName]> = names.collect();
        let vary = edge.vary().and_then(|vary| match &*names {
            // A known name owns no text, so cloning it for each response does not update a reference count.
            [only] if !vary.contains(',') => Some(only.clone().into()),
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
        let is_too_large = self.edge.is_too_large(&head);
        let attempt = || {
            let attempt = self.guard.first_attempt(&values);
            if is_too_large {
                attempt.count_nothing()
            } else {
                attempt
            }
        };
        let outer = self.admitted_outside(request);
        let granted = match &outer {
            Some(outer) => match self.edge.check_requirement(&head, outer, attempt()) {
                // Its route's quotas are counted.
                Ok(_) if self.guard.has_quotas() => return Decision::Pending(values),
                again => again.map(|grant| Some((grant, Permit::empty()))),
            },
            None => {
                let admits_guests = self.guard.admits_guests();
                match self.edge.try_admit(&head, admits_guests, attempt) {
                    Some(decided) => decided,
                    None => return Decision::Pending(values),
                }
            }
        };
        let (guard, outer) = (&self.guard, outer.as_ref());
        Decision::Made(self.edge.settle(guard, granted, outer, || head))
    }

    /// Decides a pending request.
    pub(crate) async fn decide(&self, request: &mut R, values: Values) -> Decided {
        let outer = self.admitted_outside(request);
        let (guard, outer) = (&self.guard, outer.as_ref());
        let deciding = self
            .edge
            .decide(guard, request, values, outer, |request| self.head(request));
        deciding.await
    }

    /// Returns the grant of an outer guard of the same Keyward. `None` if there is no such guard.
    #[inline]
    fn admitted_outside<W: Incoming>(&self, request: &W) -> Option<Grant> {
        let grant = request.admitted()?;
        self.edge.has_admitted(&grant).then_some(grant)
    }

    fn head<'r>(&self, request: &'r R) -> Head<'r, R::Headers> {
        head(request, self.connection_of(request))
    }

    fn connection_of(&self, request: &R) -> Connection {
        match &self.connection {
            Some(connection) => connection(request),
            None => request.connection(),
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

pin_project! {
    /// The future of a guarded response: it is refused, or still being decided on, or in the hands of the handler.
    #[project = Stage]
    pub(crate) enum Answering<X, D, F, A> {
        Refused { refusal: Option<X> },
        Deciding { deciding: D },
        // `after` finishes the response. It is `None` if the request was let through without a decision.
        Serving { #[pin] serving: F, after: Option<A> },
    }
}

impl<X, D, F: Future, A> Answering<X, D, F, A> {
    /// Polls for the response. `refuse` answers a refused request, and `finish` completes the handler's response.
    pub(crate) fn poll_response<O>(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        refuse: impl FnOnce(X) -> O,
        finish: impl FnOnce(F::Output, Option<A>) -> O,
    ) -> Poll<O>
    where
        D: Future<Output = O> + Unpin,
    {
        match self.project() {
            // If it is polled again after it has completed, it stays pending.
            Stage::Refused { refusal } => match refusal.take() {
                Some(refusal) => Poll::Ready(refuse(refusal)),
                None => Poll::Pending,
            },
            Stage::Deciding { deciding } => Pin::new(deciding).poll(context),
            Stage::Serving { serving, after } => serving
                .poll(context)
                .map(|served| finish(served, after.take())),
        }
    }
}
