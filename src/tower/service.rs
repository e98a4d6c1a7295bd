//! One request's way through the layer.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::Limited;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::body::ResponseBody;
use crate::http::{Answer, Begun, BoxError, Edge, Gate, Refusal, Terms, Way};

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
    B: Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let values = match self.gate.begin(&mut parts) {
            Begun::Decided(decided) => return self.go_on(decided, parts, body),
            Begun::Open(values) => values,
        };
        // The one that is ready goes; what stays is made ready for the next request.
        let mut ready = self.clone();
        std::mem::swap(&mut ready, self);
        let deciding = async move {
            let decided = ready.gate.decide(&mut parts, values).await;
            ready.go_on(decided, parts, body).await
        };
        ResponseFuture::of(State::Deciding {
            future: Box::pin(deciding),
        })
    }
}

impl<S> KeyService<S> {
    /// Hands the request on, or answers it.
    fn go_on<B, R>(
        &mut self,
        decided: Result<Way, Box<Refusal>>,
        mut parts: Parts,
        body: B,
    ) -> ResponseFuture<S::Future, R, S::Error>
    where
        S: Service<Request<Limited<B>>, Response = Response<R>>,
    {
        let terms = self.gate.terms();
        let way = match decided {
            Ok(way) => Some(way),
            Err(refusal) if refusal.is_report_only() => None,
            Err(refusal) => return ResponseFuture::answered(*refusal),
        };
        let length = parts.headers.get(CONTENT_LENGTH);
        if let Some(refusal) = terms.refuse_body(length.map(HeaderValue::as_bytes))
            && !refusal.is_report_only()
        {
            return ResponseFuture::answered(*refusal);
        }
        if let Some(way) = &way {
            hide_credential(terms, &mut parts);
            parts.extensions.insert(way.grant.clone());
        }
        let most = usize::try_from(terms.max_request_bytes).unwrap_or(usize::MAX);
        let request = Request::from_parts(parts, Limited::new(body, most));
        ResponseFuture::of(State::Serving {
            future: self.inner.call(request),
            after: way.map(|way| After {
                way,
                terms: Arc::clone(terms),
            }),
        })
    }
}

/// Takes the credential out of a request, or marks it.
fn hide_credential(terms: &Terms<Parts>, parts: &mut Parts) {
    let edge = &terms.edge;
    for name in edge.credential_headers() {
        if !terms.keeps_credential {
            parts.headers.remove(name);
        } else if let Ok(name) = HeaderName::try_from(name)
            && let http::header::Entry::Occupied(mut values) = parts.headers.entry(name)
        {
            values
                .iter_mut()
                .for_each(|value| value.set_sensitive(true));
        }
    }
    if terms.keeps_credential {
        return;
    }
    if let Some(uri) = without_credential(edge, &parts.uri) {
        parts.uri = uri;
    }
    #[cfg(feature = "axum")]
    if let Some(original) = parts.extensions.get_mut::<axum::extract::OriginalUri>()
        && let Some(uri) = without_credential(edge, &original.0)
    {
        original.0 = uri;
    }
}

/// The target without the parameters that keys are accepted in; none if it has none of them.
fn without_credential(edge: &Edge, uri: &Uri) -> Option<Uri> {
    let target = edge.target_without_credential(uri.path(), uri.query()?)?;
    let mut parts = uri.clone().into_parts();
    // Nothing was added to a target that was one: should it be none all the same, it is not handed on.
    parts.path_and_query = target.try_into().ok();
    Some(Uri::from_parts(parts).unwrap_or_default())
}

/// What is left to do once the handler has answered.
struct After {
    way: Way,
    terms: Arc<Terms<Parts>>,
}

impl After {
    fn finish<R: Body>(self, mut response: Response<R>) -> Response<ResponseBody<R>> {
        let announced = response.body().size_hint().lower();
        let status = response.status().as_u16();
        let (held, rules) = match self.way.finish(&self.terms, status, announced) {
            Ok(Some(held)) => held,
            Ok(None) => return response.map(ResponseBody::free),
            Err(refused) => return answer(refused),
        };
        for header in rules.headers(response.headers()) {
            let Ok(value) = HeaderValue::try_from(header.value) else {
                continue;
            };
            if header.replaces {
                response.headers_mut().insert(header.name, value);
            } else {
                response.headers_mut().append(header.name, value);
            }
        }
        response.map(|body| ResponseBody::held(body, held))
    }
}

fn answer<R>(answer: Answer) -> Response<ResponseBody<R>> {
    let mut response = Response::new(ResponseBody::answer(answer.body));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

pin_project! {
    /// The response to come.
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

    fn answered(refusal: Refusal) -> Self {
        let response = Some(answer(refusal.into_answer()));
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
            // Polled after its end, it never ends again.
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
