//! A handler behind a guard.
//!
//! A layer around a route would do the same, and cost as much again as the decision: axum boxes each service with
//! layers for each request, and each body of another type than its own.

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

use crate::http::{Begun, Fate, Gate, Refusal, Terms, Way};
use crate::tower::{ResponseBody, add_headers, answer, hide_credential};

/// A handler that is called with what its guard lets through.
#[derive(Clone)]
pub(super) struct Guarded<H> {
    gate: Gate<Parts>,
    handler: H,
}

impl<H> Guarded<H> {
    pub(super) fn new(gate: Gate<Parts>, handler: H) -> Self {
        Self { gate, handler }
    }

    /// Hands the request on, or answers it.
    fn go_on<T, S>(
        self,
        decided: Result<Way, Box<Refusal>>,
        mut parts: Parts,
        body: Body,
        state: S,
    ) -> Answering<H::Future>
    where
        H: Handler<T, S>,
    {
        let terms = self.gate.into_terms();
        let way = match terms.let_in(&parts, decided) {
            Ok(way) => way,
            Err(refusal) => return Answering::answered(*refusal),
        };
        if let Some(way) = &way {
            hide_credential(&terms, &mut parts);
            parts.extensions.insert(way.grant.clone());
        }
        let body = match terms.request_bound() {
            Some(most) => {
                let most = usize::try_from(most).unwrap_or(usize::MAX);
                Body::new(Limited::new(body, most))
            }
            None => body,
        };
        Answering::Serving {
            future: self.handler.call(Request::from_parts(parts, body), state),
            after: way.map(|way| (way, terms)),
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

    fn call(self, request: Request, state: S) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let values = match self.gate.begin(&mut parts) {
            Begun::Decided(decided) => return self.go_on(decided, parts, body, state),
            Begun::Open(values) => values,
        };
        Answering::Deciding {
            future: Box::pin(async move {
                let decided = self.gate.decide(&mut parts, values).await;
                self.go_on(decided, parts, body, state).await
            }),
        }
    }
}

pin_project! {
    /// The response to come.
    #[project = Stage]
    pub(super) enum Answering<F> {
        Answered { response: Option<Response> },
        Deciding { future: Pin<Box<dyn Future<Output = Response> + Send>> },
        Serving { #[pin] future: F, after: Option<(Way, Arc<Terms<Parts>>)> },
    }
}

impl<F> Answering<F> {
    fn answered(refusal: Refusal) -> Self {
        let response = Some(answer(refusal.into_answer(), Body::from));
        Self::Answered { response }
    }
}

impl<F: Future<Output = Response>> Future for Answering<F> {
    type Output = Response;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Response> {
        match self.project() {
            // Polled after its end, it never ends again.
            Stage::Answered { response } => response.take().map_or(Poll::Pending, Poll::Ready),
            Stage::Deciding { future } => future.as_mut().poll(context),
            Stage::Serving { future, after } => {
                future.poll(context).map(|response| match after.take() {
                    Some((way, terms)) => finish(way, &terms, response),
                    None => response,
                })
            }
        }
    }
}

/// What is left to do once the handler has answered.
fn finish(way: Way, terms: &Arc<Terms<Parts>>, mut response: Response) -> Response {
    let announced = response.body().size_hint().lower();
    let held = match way.finish(terms, response.status().as_u16(), announced) {
        Ok(Fate::Passed(held)) => held,
        Ok(Fate::Granted(held)) => {
            add_headers(terms, response.headers_mut());
            held
        }
        Err(refused) => return answer(refused, Body::from),
    };
    match held {
        Some(held) => response.map(|body| Body::new(ResponseBody::granted(body, Some(held)))),
        None => response,
    }
}
