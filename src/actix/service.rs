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

use super::request::prepare_request;
use super::response::{finish, finish_error};
use crate::http::{Completion, Decision, Gate, GateAdmission, GateConfig, Rejection, ResponseBody};

/// A service behind a [`KeyMiddleware`](super::KeyMiddleware).
pub struct KeyService<S> {
    gate: Gate<HttpRequest>,
    inner: Rc<S>,
}

impl<S> KeyService<S> {
    pub(super) fn new(gate: Gate<HttpRequest>, inner: Rc<S>) -> Self {
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
            Decision::Made(decided) => {
                return ResponseFuture::of(go_on(&self.gate, &*self.inner, decided, request));
            }
            Decision::Pending(values) => values,
        };
        let (gate, inner) = (self.gate.clone(), Rc::clone(&self.inner));
        let deciding = async move {
            let decided = gate.decide(request.parts_mut().0, values).await;
            ResponseFuture::of(go_on(&gate, &*inner, decided, request)).await
        };
        ResponseFuture::of(State::Deciding {
            future: Box::pin(deciding),
        })
    }
}

/// Passes the request to the inner service, or answers it.
fn go_on<S, B>(
    gate: &Gate<HttpRequest>,
    inner: &S,
    decided: Result<GateAdmission, Box<Rejection>>,
    request: ServiceRequest,
) -> State<S::Future, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    match prepare_request(gate.config(), decided, request) {
        Ok((completion, request)) => State::Serving {
            future: inner.call(request),
            after: completion.map(|completion| (completion, Arc::clone(gate.config()))),
        },
        Err(response) => State::Answered {
            response: Some(*response),
        },
    }
}

pin_project! {
    /// The future of a response.
    pub struct ResponseFuture<F, B> {
        #[pin]
        state: State<F, B>,
    }
}

pin_project! {
    #[project = Stage]
    enum State<F, B> {
        Answered { response: Option<ServiceResponse<ResponseBody<B>>> },
        Deciding { future: Boxed<B> },
        Serving { #[pin] future: F, after: Option<(Completion, Arc<GateConfig<HttpRequest>>)> },
    }
}

type Boxed<B> = Pin<Box<dyn Future<Output = Result<ServiceResponse<ResponseBody<B>>, Error>>>>;

impl<F, B> ResponseFuture<F, B> {
    fn of(state: State<F, B>) -> Self {
        Self { state }
    }
}

impl<F, B> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
    B: MessageBody + 'static,
{
    type Output = Result<ServiceResponse<ResponseBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            // If it is polled again after it has completed, it stays pending.
            Stage::Answered { response } => response
                .take()
                .map_or(Poll::Pending, |response| Poll::Ready(Ok(response))),
            Stage::Deciding { future } => future.as_mut().poll(context),
            Stage::Serving { future, after } => {
                future
                    .poll(context)
                    .map(|served| match (served, after.take()) {
                        (Ok(response), Some((completion, config))) => {
                            Ok(finish(completion, &config, response))
                        }
                        (Ok(response), None) => {
                            Ok(response.map_body(|_, body| ResponseBody::free(body)))
                        }
                        (Err(error), Some((completion, config))) => {
                            Err(finish_error(completion, &config, error))
                        }
                        (Err(error), None) => Err(error),
                    })
            }
        }
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
