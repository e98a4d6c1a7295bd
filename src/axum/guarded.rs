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

use crate::http::{Begun, Fate, Gate, Refusal, Rest, Terms, Way};
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
    #[inline]
    fn go_on<T, S>(
        self,
        decided: Result<Way, Box<Refusal>>,
        mut request: Request,
        state: S,
    ) -> Answering<H::Future>
    where
        H: Handler<T, S>,
    {
        let terms = self.gate.into_terms();
        let way = match terms.let_in(request.headers(), decided) {
            Ok(way) => way,
            Err(refusal) => return Answering::answered(*refusal),
        };
        let rest = way.map(|way| {
            let (grant, rest) = way.hand_on(&terms);
            hide_credential(&terms, &mut request);
            request.extensions_mut().insert(grant);
            rest
        });
        if let Some(most) = terms.request_bound() {
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let body = std::mem::take(request.body_mut());
            *request.body_mut() = Body::new(Limited::new(body, most));
        }
        Answering::Serving {
            future: self.handler.call(request, state),
            after: rest.map(|rest| (rest, terms)),
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
        let begun = match self.gate.begin_unasked(&request) {
            Some(begun) => begun,
            None => {
                let (mut parts, body) = request.into_parts();
                let begun = self.gate.begin(&mut parts);
                request = Request::from_parts(parts, body);
                begun
            }
        };
        let values = match begun {
            Begun::Decided(decided) => return self.go_on(decided, request, state),
            Begun::Open(values) => values,
        };
        Answering::Deciding {
            future: Box::pin(async move {
                let (mut parts, body) = request.into_parts();
                let decided = self.gate.decide(&mut parts, values).await;
                let request = Request::from_parts(parts, body);
                self.go_on(decided, request, state).await
            }),
        }
    }
}

pin_project! {
    /// The response to come.
    #[project = Stage]
    pub(super) enum Answering<F> {
        Answered { response: Option<Box<Response>> },
        Deciding { future: Pin<Box<dyn Future<Output = Response> + Send>> },
        Serving { #[pin] future: F, after: Option<(Rest, Arc<Terms<Parts>>)> },
    }
}

impl<F> Answering<F> {
    fn answered(refusal: Refusal) -> Self {
        // In a box, since most requests are granted: all that is made for them would be as large.
        let response = Box::new(answer(refusal.into_answer(), Body::from));
        Self::Answered {
            response: Some(response),
        }
    }
}

impl<F: Future<Output = Response>> Future for Answering<F> {
    type Output = Response;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Response> {
        match self.project() {
            // Polled after its end, it never ends again.
            Stage::Answered { response } => response
                .take()
                .map_or(Poll::Pending, |response| Poll::Ready(*response)),
            Stage::Deciding { future } => future.as_mut().poll(context),
            Stage::Serving { future, after } => {
                future.poll(context).map(|response| match after.take() {
                    Some((rest, terms)) => finish(rest, &terms, response),
                    None => response,
                })
            }
        }
    }
}

/// What is left to do once the handler has answered.
fn finish(rest: Rest, terms: &Arc<Terms<Parts>>, mut response: Response) -> Response {
    let announced = response.body().size_hint().lower();
    let held = match rest.finish(terms, response.status().as_u16(), announced) {
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
