//! One request's way through the middleware.

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{Payload, Service, ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, VARY};
use actix_web::http::{StatusCode, Uri};
use actix_web::{Error, HttpMessage as _, HttpRequest, HttpResponse};
use pin_project_lite::pin_project;

use super::body::ResponseBody;
use super::payload::bounded;
use crate::http::{Answer, Begun, Edge, Fate, Gate, Refusal, Terms, Way};

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
            Begun::Decided(decided) => return go_on(&self.gate, &*self.inner, decided, request),
            Begun::Open(values) => values,
        };
        let (gate, inner) = (self.gate.clone(), Rc::clone(&self.inner));
        let deciding = async move {
            let decided = gate.decide(request.parts_mut().0, values).await;
            go_on(&gate, &*inner, decided, request).await
        };
        ResponseFuture::of(State::Deciding {
            future: Box::pin(deciding),
        })
    }
}

/// Hands the request on, or answers it.
fn go_on<S, B>(
    gate: &Gate<HttpRequest>,
    inner: &S,
    decided: Result<Way, Box<Refusal>>,
    mut request: ServiceRequest,
) -> ResponseFuture<S::Future, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    let terms = gate.terms();
    let way = match decided {
        Ok(way) => Some(way),
        Err(refusal) if refusal.is_report_only() => None,
        Err(refusal) => return ResponseFuture::answered(request, *refusal),
    };
    if let Some(refusal) = terms.refuse_body(request.request())
        && !refusal.is_report_only()
    {
        return ResponseFuture::answered(request, *refusal);
    }
    if let Some(way) = &way {
        hide_credential(terms, &mut request);
        request.extensions_mut().insert(way.grant.clone());
    }
    if terms.bounds_requests() {
        let payload: Payload = request.take_payload();
        request.set_payload(bounded(payload, terms.max_request_bytes));
    }
    ResponseFuture::of(State::Serving {
        future: inner.call(request),
        after: way.map(|way| After {
            way,
            terms: Arc::clone(terms),
        }),
    })
}

/// Takes the credential out of a request, or marks it.
fn hide_credential(terms: &Terms<HttpRequest>, request: &mut ServiceRequest) {
    let edge = &terms.edge;
    for name in terms.credential_headers.iter() {
        let values = request.headers_mut().remove(name);
        if terms.keeps_credential {
            let values: Vec<_> = values.collect();
            for mut value in values {
                value.set_sensitive(true);
                request.headers_mut().append(name.clone(), value);
            }
        }
    }
    if !terms.keeps_credential
        && let Some(uri) = without_credential(edge, request.uri())
    {
        // The router keeps a copy of it.
        request.match_info_mut().get_mut().update(&uri);
        request.head_mut().uri = uri;
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
    terms: Arc<Terms<HttpRequest>>,
}

impl After {
    fn finish<B: MessageBody>(
        self,
        mut response: ServiceResponse<B>,
    ) -> ServiceResponse<ResponseBody<B>> {
        let Self { way, terms } = self;
        match fate(way, &terms, response.response()) {
            Ok(Fate::Granted(held)) => {
                add_headers(&terms, response.headers_mut());
                response.map_body(|_, body| ResponseBody::granted(body, held))
            }
            Ok(Fate::Passed) => response.map_body(|_, body| ResponseBody::free(body)),
            Err(refused) => response.into_response(answer(refused)),
        }
    }

    /// Some middleware says what it answers in its error.
    fn finish_error(self, error: Error) -> Error {
        let mut response = error.error_response();
        let Self { way, terms } = self;
        match fate(way, &terms, &response) {
            Ok(Fate::Granted(held)) => {
                add_headers(&terms, response.headers_mut());
                let response = response.map_body(|_, body| ResponseBody::granted(body, held));
                InternalError::from_response(error, response.map_into_boxed_body()).into()
            }
            Ok(Fate::Passed) => InternalError::from_response(error, response).into(),
            Err(refused) => {
                let response = answer::<actix_web::body::BoxBody>(refused);
                InternalError::from_response(error, response.map_into_boxed_body()).into()
            }
        }
    }
}

/// What becomes of a handler's response.
fn fate<B: MessageBody>(
    way: Way,
    terms: &Arc<Terms<HttpRequest>>,
    response: &HttpResponse<B>,
) -> Result<Fate, Answer> {
    let announced = match response.body().size() {
        BodySize::Sized(size) => size,
        BodySize::None | BodySize::Stream => 0,
    };
    way.finish(terms, response.status().as_u16(), announced)
}

/// Adds to a granted response what keeps it out of shared caches: as [`Edge::response_headers`] says, without making
/// anew what never changes.
fn add_headers(terms: &Terms<HttpRequest>, headers: &mut HeaderMap) {
    if let Some(value) = terms.edge.cache_control(headers) {
        let value = match value {
            Cow::Borrowed(value) => Ok(HeaderValue::from_static(value)),
            Cow::Owned(value) => HeaderValue::try_from(value),
        };
        if let Ok(value) = value {
            headers.insert(CACHE_CONTROL, value);
        }
    }
    if let Some(vary) = &terms.vary {
        headers.append(VARY, vary.clone());
    }
}

fn answer<B>(answer: Answer) -> HttpResponse<ResponseBody<B>> {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::with_body(status, ResponseBody::answer(answer.body));
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            let name = HeaderName::from_static(name);
            response.headers_mut().append(name, value);
        }
    }
    response
}

pin_project! {
    /// The response to come.
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
        Serving { #[pin] future: F, after: Option<After> },
    }
}

type Boxed<B> = Pin<Box<dyn Future<Output = Result<ServiceResponse<ResponseBody<B>>, Error>>>>;

impl<F, B> ResponseFuture<F, B> {
    fn of(state: State<F, B>) -> Self {
        Self { state }
    }

    fn answered(request: ServiceRequest, refusal: Refusal) -> Self {
        let response = Some(request.into_response(answer(refusal.into_answer())));
        Self::of(State::Answered { response })
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
            // Polled after its end, it never ends again.
            Stage::Answered { response } => response
                .take()
                .map_or(Poll::Pending, |response| Poll::Ready(Ok(response))),
            Stage::Deciding { future } => future.as_mut().poll(context),
            Stage::Serving { future, after } => {
                future
                    .poll(context)
                    .map(|served| match (served, after.take()) {
                        (Ok(response), Some(after)) => Ok(after.finish(response)),
                        (Ok(response), None) => {
                            Ok(response.map_body(|_, body| ResponseBody::free(body)))
                        }
                        (Err(error), Some(after)) => Err(after.finish_error(error)),
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
