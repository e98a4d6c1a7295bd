//! Decides on requests, for every adapter alike.

use std::fmt;
use std::sync::Arc;

use super::admission::{Admission, Note, Refused, WithoutGrant};
use super::edge::{Edge, Granted};
use super::guard::{Guard, Values};
use super::head::{Connection, Head, HeaderSource};
use super::reason::RejectionReason;
use super::rejection::Rejection;
use crate::verifier::{Admitted, Grant, Permit, Requirement};

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

pub(crate) type Decided = Result<Passage, Box<Refused>>;

/// How a request passes to the handler.
pub(crate) enum Passage {
    /// With this grant. The admission is finished afterwards.
    Granted(Grant, Admission),
    /// As a guest's.
    Guest(Admission),
    /// Unchanged, since its rejection is only reported.
    Reported,
}

/// The values that guards leave in a request for each other and for handlers.
pub(crate) trait Extensions {
    fn leave<T: Clone + Send + Sync + 'static>(&mut self, value: T) -> Option<T>;

    fn find<T: Send + Sync + 'static>(&self) -> Option<&T>;

    fn take<T: Send + Sync + 'static>(&mut self) -> Option<T>;
}

/// Implements [`Extensions`] for a framework's type.
macro_rules! extensions {
    ($type:ty) => {
        impl $crate::http::Extensions for $type {
            #[inline]
            fn leave<T: Clone + Send + Sync + 'static>(&mut self, value: T) -> Option<T> {
                self.insert(value)
            }

            #[inline]
            fn find<T: Send + Sync + 'static>(&self) -> Option<&T> {
                self.get()
            }

            #[inline]
            fn take<T: Send + Sync + 'static>(&mut self) -> Option<T> {
                self.remove()
            }
        }
    };
}
pub(crate) use extensions;

impl Passage {
    /// Leaves in the request whether it passes with a grant. An outer guard that let it through as a guest's learns
    /// that this guard has decided.
    ///
    /// The grant of another Keyward would make its holder the caller of a request that this guard has let through
    /// without one: it is removed.
    #[inline]
    pub(crate) fn enter(self, edge: &Edge, extensions: &mut impl Extensions) -> Option<Admission> {
        match self {
            Self::Granted(grant, admission) => {
                extensions.leave(grant);
                if let Some(outer) = extensions.find::<WithoutGrant>() {
                    outer.inner_guard_decided();
                }
                Some(admission)
            }
            Self::Guest(admission) => {
                extensions.take::<Grant>();
                pass_without_grant(extensions, admission.guest_mark().cloned());
                Some(admission)
            }
            Self::Reported => {
                match extensions.find::<Grant>() {
                    // This guard has decided, even if only to report.
                    Some(outer) if edge.has_admitted(outer) => outer.inner_guard_decided(),
                    _ => drop(extensions.take::<Grant>()),
                }
                pass_without_grant(extensions, None);
                None
            }
        }
    }
}

fn pass_without_grant(extensions: &mut impl Extensions, mark: Option<WithoutGrant>) {
    let outer = extensions.leave(mark.unwrap_or_default());
    if let Some(outer) = outer {
        outer.inner_guard_decided();
    }
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
        let connection = self.connection_of(request);
        if let Some(guest) = self.admit_guest(request, connection) {
            return Decision::Made(guest);
        }
        let values = self.guard.named(request);
        if self.guard.looks_up() {
            return Decision::Pending(values);
        }
        self.begin_on(request, connection, values)
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
        let connection = request.connection();
        if let Some(guest) = self.admit_guest(request, connection) {
            return Decision::Made(guest);
        }
        self.begin_on(request, connection, Values::default())
    }

    /// Lets a guest's request through, if the route is for guests. `None`: the request needs a key.
    #[inline]
    fn admit_guest<W>(&self, request: &W, connection: Connection) -> Option<Decided>
    where
        W: Incoming<Headers = R::Headers>,
    {
        if !self.guard.admits_guests() || self.admitted_outside(request).is_some() {
            return None;
        }
        let head = head(request, connection);
        self.edge.is_guest(&head).then(|| {
            let checked = self.check_length(&head, None);
            checked.map_err(|rejection| refused(*rejection, false))?;
            let awaits_inner_guard = self.guard.is_checked_inside();
            Ok(Passage::Guest(Admission::guest(awaits_inner_guard)))
        })
    }

    #[inline]
    fn begin_on<W>(&self, request: &W, connection: Connection, values: Values) -> Decision
    where
        W: Incoming<Headers = R::Headers>,
    {
        let head = head(request, connection);
        let is_too_large = self.is_too_large(&head);
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
                again => again.map(|grant| (grant, Permit::empty())),
            },
            None => match self.edge.try_admit(&head, attempt) {
                Some(decided) => decided.map(Admitted::into_parts),
                None => return Decision::Pending(values),
            },
        };
        Decision::Made(self.settle(granted, outer.as_ref(), || head))
    }

    /// Decides a pending request.
    pub(crate) async fn decide(&self, request: &mut R, values: Values) -> Decided {
        let outer = self.admitted_outside(request);
        let is_too_large = self.is_too_large(&self.head(request));
        let (edge, guard) = (&self.edge, &self.guard);
        let outer_grant = outer.as_ref();
        let deciding = edge.decide(
            guard,
            request,
            values,
            outer_grant,
            is_too_large,
            |request| self.head(request),
        );
        let granted = deciding.await;
        self.settle(granted, outer.as_ref(), || self.head(request))
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

    /// Completes a decision: refuses a request that would pass, but announces a body beyond the bound.
    #[inline]
    fn settle<'h>(
        &self,
        granted: Granted,
        outer: Option<&Grant>,
        head: impl FnOnce() -> Head<'h, R::Headers>,
    ) -> Decided
    where
        R::Headers: 'h,
    {
        let is_inner = outer.is_some();
        let granted = match granted {
            Ok(granted) => Some(granted),
            Err(rejection) if rejection.is_report_only => None,
            Err(rejection) => return Err(refused(*rejection, is_inner)),
        };
        if self.edge.adapters.max_request_bytes < u64::MAX {
            let checked = self.check_length(&head(), granted.as_ref());
            checked.map_err(|rejection| refused(*rejection, is_inner))?;
        }
        Ok(match granted {
            Some((grant, permit)) => {
                let admission = Admission::new(&self.edge, &grant, permit, is_inner);
                Passage::Granted(grant, admission)
            }
            None => Passage::Reported,
        })
    }

    fn check_length(
        &self,
        head: &Head<'_, R::Headers>,
        granted: Option<&(Grant, Permit)>,
    ) -> Result<(), Box<Rejection>> {
        if !announces_more(head, self.edge.adapters.max_request_bytes) {
            return Ok(());
        }
        let reason = RejectionReason::RequestTooLarge;
        let grant = granted.map(|(grant, _)| grant);
        let rejection = self.edge.reject_request(head, reason, grant);
        match granted {
            _ if rejection.is_report_only => Ok(()),
            Some((_, permit)) => Err(self.edge.with_limits(rejection, permit)),
            None => Err(rejection),
        }
    }

    /// Returns whether the request will be refused for the length of its body, so that it is not counted.
    #[inline]
    fn is_too_large(&self, head: &Head<'_, R::Headers>) -> bool {
        let bound = self.edge.request_bound();
        bound.is_some_and(|most| announces_more(head, most))
    }
}

/// Returns whether a request announces a body of more bytes than these.
fn announces_more<H: HeaderSource>(head: &Head<'_, H>, most: u64) -> bool {
    let length = head.headers.values("content-length").next();
    let length = length.and_then(|length| std::str::from_utf8(length).ok());
    let announced: Option<u64> = length.and_then(|length| length.parse().ok());
    announced.is_some_and(|announced| announced > most)
}

/// Refuses a request. An inner guard leaves a note for the outer one.
fn refused(rejection: Rejection, is_inner: bool) -> Box<Refused> {
    let note = is_inner.then(|| Note::of_refused(&rejection.reason));
    Box::new(Refused {
        answer: rejection.answer,
        note,
    })
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
