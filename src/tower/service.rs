//! Processes one request through the layer.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Limited;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::request::{begin, decide, drain, prepare};
use crate::http::{
    Answering, BoxError, Decided, Decision, Gate, InFlight, Refused, ResponseBody, finish,
};

/// A service behind a [`KeyLayer`](super::KeyLayer).
#[derive(Debug, Clone)]
pub struct KeyService<S> {
    gate: Arc<Gate<Parts>>,
    inner: S,
}

impl<S> KeyService<S> {
    pub(super) fn new(gate: Arc<Gate<Parts>>, inner: S) -> Self {
        Self { gate, inner }
    }
}

impl<S, B, R> Service<Request<B>> for KeyService<S>
where
    S: Service<Request<Limited<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let values = match begin(&self.gate, &mut request) {
            Decision::Made(decided) => return self.go_on(decided, request),
            Decision::Pending(values) => values,
        };
        // The service that was polled ready takes this request. The clone stays and is polled ready for the next one.
        let mut ready = self.clone();
        std::mem::swap(&mut ready, self);
        ResponseFuture {
            answering: Answering::Deciding {
                deciding: Box::pin(async move {
                    let (decided, request) = decide(&ready.gate, request, values).await;
                    ready.go_on(decided, request).await
                }),
            },
        }
    }
}

impl<S> KeyService<S> {
    /// Passes the request to the inner service, or answers it.
    fn go_on<B, R>(
        &mut self,
        decided: Decided,
        mut request: Request<B>,
    ) -> ResponseFuture<S::Future, R, S::Error>
    where
        S: Service<Request<Limited<B>>, Response = Response<R>>,
        B: Body + Send + 'static,
    {
        let answering = match prepare(&self.gate, decided, &mut request) {
            Ok(in_flight) => {
                let most = self.gate.edge.request_bound().unwrap_or(u64::MAX);
                let most = usize::try_from(most).unwrap_or(usize::MAX);
                Answering::Serving {
                    serving: self
                        .inner
                        .call(request.map(|body| Limited::new(body, most))),
                    after: in_flight.map(|in_flight| (in_flight, Arc::clone(&self.gate))),
                }
            }
            Err(refused) => {
                drain(request);
                Answering::Refused {
                    refusal: Some(refused),
                }
            }
        };
        ResponseFuture { answering }
    }
}

pin_project! {
    /// The future of a response.
    pub struct ResponseFuture<F, R, E> {
        #[pin]
        answering: Answering<Box<Refused>, Deciding<R, E>, F, After>,
    }
}

/// The request to finish once the handler has responded, and the gate that finishes it.
type After = (InFlight, Arc<Gate<Parts>>);

type Deciding<R, E> = Pin<Box<dyn Future<Output = Result<Response<ResponseBody<R>>, E>> + Send>>;

impl<F, R, E> Future for ResponseFuture<F, R, E>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
{
    type Output = Result<Response<ResponseBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().answering.poll_response(
            context,
            |refused| Ok(Response::from(*refused)),
            |served, after| {
                let response = served?;
                Ok(match after {
                    None => response.map(ResponseBody::free),
                    Some((in_flight, gate)) => {
                        finish(in_flight, &gate.edge, gate.vary.as_ref(), response)
                    }
                })
            },
        )
    }
}

impl<F, R, E> fmt::Debug for ResponseFuture<F, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
