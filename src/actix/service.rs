//! Processes one request through the middleware.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::{Error, HttpRequest};
use pin_project_lite::pin_project;

use super::request::prepare;
use super::response::{After, finish, finish_error, refuse};
use crate::http::{Answering, Decided, Decision, Gate, Refused, ResponseBody};

/// A service behind a [`KeyMiddleware`](super::KeyMiddleware).
pub struct KeyService<S> {
    gate: Arc<Gate<HttpRequest>>,
    inner: Rc<S>,
}

impl<S> KeyService<S> {
    pub(super) fn new(gate: Arc<Gate<HttpRequest>>, inner: Rc<S>) -> Self {
        Self { gate, inner }
    }
}

impl<S, B> Service<ServiceRequest> for KeyService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<ResponseBody<B>>;
    type Error = Error;
    type Future = ResponseFuture<S::Future, B>;

    actix_web::dev::forward_ready!(inner);

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        let values = match self.gate.begin(request.parts_mut().0) {
            Decision::Made(decided) => return go_on(&self.gate, &*self.inner, decided, request),
            Decision::Pending(values) => values,
        };
        let (gate, inner) = (Arc::clone(&self.gate), Rc::clone(&self.inner));
        ResponseFuture {
            answering: Answering::Deciding {
                deciding: Box::pin(async move {
                    let decided = gate.decide(request.parts_mut().0, values).await;
                    go_on(&gate, &*inner, decided, request).await
                }),
            },
        }
    }
}

/// Passes the request to the inner service, or answers it.
fn go_on<S, B>(
    gate: &Arc<Gate<HttpRequest>>,
    inner: &S,
    decided: Decided,
    mut request: ServiceRequest,
) -> ResponseFuture<S::Future, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    let answering = match prepare(gate, decided, &mut request) {
        Ok(in_flight) => Answering::Serving {
            serving: inner.call(request),
            after: in_flight.map(|in_flight| (in_flight, Arc::clone(gate))),
        },
        Err(refused) => Answering::Refused {
            refusal: Some((request, refused)),
        },
    };
    ResponseFuture { answering }
}

pin_project! {
    /// The future of a response.
    pub struct ResponseFuture<F, B> {
        #[pin]
        answering: Answering<(ServiceRequest, Box<Refused>), Deciding<B>, F, After>,
    }
}

type Deciding<B> = Pin<Box<dyn Future<Output = Result<ServiceResponse<ResponseBody<B>>, Error>>>>;

impl<F, B> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
    B: MessageBody + 'static,
{
    type Output = Result<ServiceResponse<ResponseBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().answering.poll_response(
            context,
            |(request, refused)| {
                let response = refuse(*refused, ResponseBody::from);
                Ok(request.into_response(response))
            },
            |served, after| match served {
                Ok(response) => Ok(finish(after, response)),
                Err(error) => Err(finish_error(after, error)),
            },
        )
    }
}

impl<S> fmt::Debug for KeyService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyService")
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}

impl<F, B> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
