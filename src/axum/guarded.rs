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
use http_body::Body as _;
use http_body_util::Limited;
use pin_project_lite::pin_project;

use crate::http::{Completion, Decision, FinishedResponse, Gate, GateConfig, Rejection};
use crate::tower::{Entered, ResponseBody, add_headers, answer, drain, enter, prepare_request};

/// A handler that is called only for requests that its guard lets through.
#[derive(Clone)]
pub(super) struct Guarded<H> {
    gate: Gate<Parts>,
    handler: H,
}

impl<H> Guarded<H> {
    pub(super) fn new(gate: Gate<Parts>, handler: H) -> Self {
        Self { gate, handler }
    }

    /// Passes the request to the handler, or answers it.
    #[inline]
    fn go_on<T, S>(self, entered: Entered, mut request: Request, state: S) -> Answering<H::Future>
    where
        H: Handler<T, S>,
    {
        let config = self.gate.into_config();
        let completion = match entered {
            Ok(completion) => completion,
            Err(rejection) => {
                let (parts, body) = request.into_parts();
                drain(&parts.headers, body);
                return Answering::answered(*rejection);
            }
        };
        if let Some(most) = config.request_bound() {
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let body = std::mem::take(request.body_mut());
            *request.body_mut() = Body::new(Limited::new(body, most));
        }
        Answering::Serving {
            future: self.handler.call(request, state),
            after: completion.map(|completion| (completion, config)),
        }
    }
}

impl<H, T, S> Handler<T, S> for Guarded<H>
where
    H: Handler<T, S>,
    T: 'static,
    S: Send + 'static,
{
    type Future = Answering<H::Future>;

    fn call(self, mut request: Request, state: S) -> Self::Future {
        let values = match enter(&self.gate, &mut request) {
            Decision::Made(entered) => return self.go_on(entered, request, state),
            Decision::Pending(values) => values,
        };
        Answering::Deciding {
            future: Box::pin(async move {
                let (mut parts, body) = request.into_parts();
                let decided = self.gate.decide(&mut parts, values).await;
                let mut request = Request::from_parts(parts, body);
                let entered = prepare_request(self.gate.config(), decided, &mut request);
                self.go_on(entered, request, state).await
            }),
        }
    }
}

pin_project! {
    /// The future of a response.
    #[project = Stage]
    pub(super) enum Answering<F> {
        Answered { response: Option<Box<Response>> },
        Deciding { future: Pin<Box<dyn Future<Output = Response> + Send>> },
        Serving { #[pin] future: F, after: Option<(Completion, Arc<GateConfig<Parts>>)> },
    }
}

impl<F> Answering<F> {
    fn answered(rejection: Rejection) -> Self {
        // Boxed: most requests are granted, and otherwise their futures would be as large as a response.
        let response = Box::new(answer(rejection.into_answer(), Body::from));
        Self::Answered {
            response: Some(response),
        }
    }
}

impl<F: Future<Output = Response>> Future for Answering<F> {
    type Output = Response;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Response> {
        match self.project() {
            // If it is polled again after it has completed, it stays pending.
            Stage::Answered { response } => response
                .take()
                .map_or(Poll::Pending, |response| Poll::Ready(*response)),
            Stage::Deciding { future } => future.as_mut().poll(context),
            Stage::Serving { future, after } => future.poll(context).map(|mut response| {
                if let Some((completion, config)) = after.take() {
                    finish(completion, &config, &mut response);
                }
                response
            }),
        }
    }
}

/// Completes the response once the handler has responded.
fn finish(completion: Completion, config: &Arc<GateConfig<Parts>>, response: &mut Response) {
    let announced = response.body().size_hint().lower();
    let monitor = match completion.finish(config, response.status().as_u16(), announced) {
        Ok(FinishedResponse::Nested(monitor)) => monitor,
        Ok(FinishedResponse::Granted(monitor)) => {
            add_headers(config, response.headers_mut());
            monitor
        }
        Err(refused) => {
            *response = answer(refused, Body::from);
            return;
        }
    };
    if monitor.is_some() {
        let body = std::mem::take(response.body_mut());
        *response.body_mut() = Body::new(ResponseBody::granted(body, monitor));
    }
}
