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

use super::drain::drain;
use super::request::{Entered, enter, prepare_request};
use super::response::{add_headers, answer};
use crate::http::{
    BoxError, Completion, Decision, FinishedResponse, Gate, GateConfig, Rejection, ResponseBody,
};

/// A service behind a [`KeyLayer`](super::KeyLayer).
#[derive(Debug, Clone)]
pub struct KeyService<S> {
    gate: Gate<Parts>,
    inner: S,
}

impl<S> KeyService<S> {
    pub(super) fn new(gate: Gate<Parts>, inner: S) -> Self {
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
        let values = match enter(&self.gate, &mut request) {
            Decision::Made(entered) => return self.go_on(entered, request),
            Decision::Pending(values) => values,
        };
        // The service that was polled ready takes this request. The clone stays and is polled ready for the next one.
        let mut ready = self.clone();
        std::mem::swap(&mut ready, self);
        let deciding = async move {
            let (mut parts, body) = request.into_parts();
            let decided = ready.gate.decide(&mut parts, values).await;
            let mut request = Request::from_parts(parts, body);
            let entered = prepare_request(ready.gate.config(), decided, &mut request);
            ready.go_on(entered, request).await
        };
        ResponseFuture::of(State::Deciding {
            future: Box::pin(deciding),
        })
    }
}

impl<S> KeyService<S> {
    /// Passes the request to the inner service, or answers it.
    fn go_on<B, R>(
        &mut self,
        entered: Entered,
        request: Request<B>,
    ) -> ResponseFuture<S::Future, R, S::Error>
    where
        S: Service<Request<Limited<B>>, Response = Response<R>>,
        B: Body + Send + 'static,
    {
        let config = self.gate.config();
        let completion = match entered {
            Ok(completion) => completion,
            Err(rejection) => {
                let (parts, body) = request.into_parts();
                drain(&parts.headers, body);
                return ResponseFuture::answered(*rejection);
            }
        };
        let most = config.request_bound().unwrap_or(u64::MAX);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let request = request.map(|body| Limited::new(body, most));
        ResponseFuture::of(State::Serving {
            future: self.inner.call(request),
            after: completion.map(|completion| After {
                completion,
                config: Arc::clone(config),
            }),
        })
    }
}

/// The work that remains once the handler has responded.
struct After {
    completion: Completion,
    config: Arc<GateConfig<Parts>>,
}

impl After {
    fn finish<R: Body>(self, mut response: Response<R>) -> Response<ResponseBody<R>> {
        let announced = response.body().size_hint().lower();
        let status = response.status().as_u16();
        let monitor = match self.completion.finish(&self.config, status, announced) {
            Ok(FinishedResponse::Nested(monitor)) => monitor,
            Ok(FinishedResponse::Granted(monitor)) => {
                add_headers(&self.config, response.headers_mut());
                monitor
            }
            Err(refused) => return answer(refused, ResponseBody::answer),
        };
        response.map(|body| ResponseBody::granted(body, monitor))
    }
}

pin_project! {
    /// The future of a response.
    pub struct ResponseFuture<F, R, E> {
        #[pin]
        state: State<F, R, E>,
    }
}

pin_project! {
    #[project = Stage]
    enum State<F, R, E> {
        Answered { response: Option<Response<ResponseBody<R>>> },
        Deciding { future: Boxed<R, E> },
        Serving { #[pin] future: F, after: Option<After> },
    }
}

type Boxed<R, E> = Pin<Box<dyn Future<Output = Result<Response<ResponseBody<R>>, E>> + Send>>;

impl<F, R, E> ResponseFuture<F, R, E> {
    fn of(state: State<F, R, E>) -> Self {
        Self { state }
    }

    fn answered(rejection: Rejection) -> Self {
        let response = Some(answer(rejection.into_answer(), ResponseBody::answer));
        Self::of(State::Answered { response })
    }
}

impl<F, R, E> Future for ResponseFuture<F, R, E>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
{
    type Output = Result<Response<ResponseBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            // If it is polled again after it has completed, it stays pending.
            Stage::Answered { response } => response
                .take()
                .map_or(Poll::Pending, |response| Poll::Ready(Ok(response))),
            Stage::Deciding { future } => future.as_mut().poll(context),
            Stage::Serving { future, after } => future.poll(context).map(|served| {
                let response = served?;
                Ok(match after.take() {
                    Some(after) => after.finish(response),
                    None => response.map(ResponseBody::free),
                })
            }),
        }
    }
}

impl<F, R, E> fmt::Debug for ResponseFuture<F, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
