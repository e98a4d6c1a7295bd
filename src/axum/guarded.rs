//! A handler behind a guard.
//!
//! A layer around a route would do the same, but it would cost as much again as the decision: for each request, axum
//! boxes each service that has layers, and each body of a type other than its own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::handler::Handler;
use axum::response::Response;
use http::request::Parts;
use http_body_util::Limited;
use pin_project_lite::pin_project;

use crate::http::{Answering, Decided, Decision, Gate, InFlight, Refused, ResponseBody, monitor};
use crate::tower::{begin, decide, drain, prepare};

/// A handler that is called only for requests that its guard lets through.
#[derive(Clone)]
pub(super) struct Guarded<H> {
    gate: Arc<Gate<Parts>>,
    handler: H,
}

impl<H> Guarded<H> {
    pub(super) fn new(gate: Arc<Gate<Parts>>, handler: H) -> Self {
        Self { gate, handler }
    }

    /// Passes the request to the handler, or answers it.
    #[inline]
    fn go_on<T, S>(
        self,
        decided: Decided,
        mut request: Request,
        state: S,
    ) -> GuardedFuture<H::Future>
    where
        H: Handler<T, S>,
    {
        let answering = match prepare(&self.gate, decided, &mut request) {
            Ok(in_flight) => {
                if let Some(most) = self.gate.edge.request_bound() {
                    let most = usize::try_from(most).unwrap_or(usize::MAX);
                    let body = std::mem::take(request.body_mut());
                    *request.body_mut() = Body::new(Limited::new(body, most));
                }
                Answering::Serving {
                    serving: self.handler.call(request, state),
                    after: in_flight.map(|in_flight| (in_flight, self.gate)),
                }
            }
            Err(refused) => {
                drain(request);
                Answering::Refused {
                    refusal: Some(refused),
                }
            }
        };
        GuardedFuture { answering }
    }
}

impl<H, T, S> Handler<T, S> for Guarded<H>
where
    H: Handler<T, S>,
    T: 'static,
    S: Send + 'static,
{
    type Future = GuardedFuture<H::Future>;

    fn call(self, mut request: Request, state: S) -> Self::Future {
        let values = match begin(&self.gate, &mut request) {
            Decision::Made(decided) => return self.go_on(decided, request, state),
            Decision::Pending(values) => values,
        };
        GuardedFuture {
            answering: Answering::Deciding {
                deciding: Box::pin(async move {
                    let (decided, request) = decide(&self.gate, request, values).await;
                    self.go_on(decided, request, state).await
                }),
            },
        }
    }
}

pin_project! {
    /// The future of a response.
    pub(super) struct GuardedFuture<F> {
        #[pin]
        answering: Answering<Box<Refused>, Deciding, F, After>,
    }
}

/// The request to finish once the handler has responded, and the gate that finishes it.
type After = (InFlight, Arc<Gate<Parts>>);

type Deciding = Pin<Box<dyn Future<Output = Response> + Send>>;

impl<F: Future<Output = Response>> Future for GuardedFuture<F> {
    type Output = Response;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Response> {
        self.project().answering.poll_response(
            context,
            |refused| Response::from(*refused),
            |mut response, after| {
                let Some((in_flight, gate)) = after else {
                    return response;
                };
                match monitor(in_flight, &gate.edge, gate.vary.as_ref(), &mut response) {
                    Ok(None) => response,
                    Ok(monitor) => {
                        response.map(|body| Body::new(ResponseBody::granted(body, monitor)))
                    }
                    Err(refused) => refused.into(),
                }
            },
        )
    }
}
