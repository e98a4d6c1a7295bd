//! One request's way through the layer.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::Limited;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::body::{BoxError, Held, ResponseBody};
use super::guard::From;
use super::{KeyLayer, Shared};
use crate::http::{Answer, Head, Passage, Reason, Refusal, ResponseRules};
use crate::verifier::{Attempt, Grant, Permit, Requirement};

/// A service behind a [`KeyLayer`].
#[derive(Debug, Clone)]
pub struct KeyService<S> {
    layer: KeyLayer,
    inner: S,
}

impl<S> KeyService<S> {
    pub(super) fn new(layer: KeyLayer, inner: S) -> Self {
        Self { layer, inner }
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
        let layer = &self.layer;
        let values = layer.values(&mut parts);
        if !layer.guard.looks_up() {
            let decided = layer.decide_again(&parts, &values).or_else(|| {
                let (head, attempt) = (layer.head(&parts), layer.attempt(&values));
                let decided = layer.shared.edge.try_admit(&head, attempt)?;
                Some(decided.map(Way::of))
            });
            if let Some(decided) = decided {
                return self.go_on(decided, parts, body);
            }
        }
        // The one that is ready goes; what stays is made ready for the next request.
        let mut ready = self.clone();
        std::mem::swap(&mut ready, self);
        let deciding = async move {
            let decided = ready.layer.decide(&mut parts, values).await;
            ready.go_on(decided, parts, body).await
        };
        ResponseFuture::of(State::Deciding {
            future: Box::pin(deciding),
        })
    }
}

/// How a request was let through.
struct Way {
    grant: Grant,
    /// None if a guard around this one holds it, and sees to the response.
    own: Option<(Permit, ResponseRules)>,
}

impl Way {
    fn of(passage: Passage) -> Self {
        let (grant, permit, rules) = passage.into_parts();
        Self {
            grant,
            own: Some((permit, rules)),
        }
    }
}

impl KeyLayer {
    fn head<'a>(&self, parts: &'a Parts) -> Head<'a, HeaderMap> {
        Head {
            headers: &parts.headers,
            connection: (self.shared.connection)(&parts.extensions),
            query: parts.uri.query(),
        }
    }

    /// The resources that the request itself names: kinds and values.
    fn values(&self, parts: &mut Parts) -> Values {
        let mut values = Vec::new();
        for (kind, source) in &self.guard.sources {
            if let From::Request(read) = &source.0
                && let Some(value) = read(parts)
            {
                values.push((Arc::clone(kind), value));
            }
        }
        values
    }

    /// Looks up what else it names, for whoever has been let through so far.
    async fn looked_up(&self, parts: &mut Parts, values: &mut Values) -> Result<(), Box<Refusal>> {
        let edge = &self.shared.edge;
        for (kind, source) in &self.guard.sources {
            let From::Lookup(read, look) = &source.0 else {
                continue;
            };
            // Without a name there is nothing to look up: the requirement refuses.
            let Some(name) = read(parts) else {
                continue;
            };
            match look(name).await {
                Ok(Some(value)) => values.push((Arc::clone(kind), value)),
                Ok(None) => return Err(edge.refuse(Reason::NotFound)),
                Err(error) => return Err(edge.refuse(Reason::LookupFailed(error))),
            }
        }
        Ok(())
    }

    /// The decision, where it takes time.
    async fn decide(&self, parts: &mut Parts, mut values: Values) -> Result<Way, Box<Refusal>> {
        let edge = &self.shared.edge;
        let mut way = match self.decide_again(parts, &values) {
            Some(decided) => decided?,
            None => {
                let (head, attempt) = (self.head(parts), self.attempt(&values));
                Way::of(edge.admit(&head, attempt).await?)
            }
        };
        if self.guard.looks_up() {
            self.looked_up(parts, &mut values).await?;
            let attempt = with(&self.guard.then, &values);
            way.grant = edge.admit_again(&self.head(parts), &way.grant, attempt)?;
        }
        Ok(way)
    }

    fn attempt<'a>(&'a self, values: &'a [(Arc<str>, String)]) -> Attempt<'a> {
        with(&self.guard.first, values)
    }

    /// Decides on a request that a guard around this one has let through; none if there is no such guard.
    fn decide_again(
        &self,
        parts: &Parts,
        values: &[(Arc<str>, String)],
    ) -> Option<Result<Way, Box<Refusal>>> {
        let edge = &self.shared.edge;
        let grant = parts.extensions.get::<Grant>()?;
        let grant = edge.has_admitted(grant).then_some(grant)?;
        let again = edge.admit_again(&self.head(parts), grant, self.attempt(values));
        Some(again.map(|grant| Way { grant, own: None }))
    }
}

/// Kinds and values.
type Values = Vec<(Arc<str>, String)>;

fn with<'a>(need: &'a Requirement, values: &'a [(Arc<str>, String)]) -> Attempt<'a> {
    let attempt = Attempt::of(need);
    values.iter().fold(attempt, |attempt, (kind, value)| {
        attempt.resource(kind, value)
    })
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
        let shared = &self.layer.shared;
        let way = match decided {
            Ok(way) => Some(way),
            Err(refusal) if refusal.is_report_only() => None,
            Err(refusal) => return ResponseFuture::answered(*refusal),
        };
        if announces_more(&parts, shared.most_request_bytes) {
            let refusal = shared.edge.refuse(Reason::RequestTooLarge);
            if !refusal.is_report_only() {
                return ResponseFuture::answered(*refusal);
            }
        }
        if let Some(way) = &way {
            shared.hide_credential(&mut parts);
            parts.extensions.insert(way.grant.clone());
        }
        let most = usize::try_from(shared.most_request_bytes).unwrap_or(usize::MAX);
        let request = Request::from_parts(parts, Limited::new(body, most));
        ResponseFuture::of(State::Serving {
            future: self.inner.call(request),
            after: way.map(|way| After {
                way,
                shared: Arc::clone(shared),
            }),
        })
    }
}

/// Whether the request says itself that its body is longer.
fn announces_more(parts: &Parts, most: u64) -> bool {
    let length = parts.headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    length.is_some_and(|length| length > most)
}

impl Shared {
    fn hide_credential(&self, parts: &mut Parts) {
        for name in self.edge.credential_headers() {
            if !self.keeps_credential {
                parts.headers.remove(name);
            } else if let Ok(name) = HeaderName::try_from(name)
                && let http::header::Entry::Occupied(mut values) = parts.headers.entry(name)
            {
                values
                    .iter_mut()
                    .for_each(|value| value.set_sensitive(true));
            }
        }
        if self.keeps_credential {
            return;
        }
        if let Some(uri) = self.without_credential(&parts.uri) {
            parts.uri = uri;
        }
        #[cfg(feature = "axum")]
        if let Some(original) = parts.extensions.get_mut::<axum::extract::OriginalUri>()
            && let Some(uri) = self.without_credential(&original.0)
        {
            original.0 = uri;
        }
    }

    /// The target without the parameters that keys are accepted in; none if it has none of them.
    fn without_credential(&self, uri: &Uri) -> Option<Uri> {
        let query = self.edge.query_without_credential(uri.query()?)?;
        let path = uri.path();
        let target = if query.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{query}")
        };
        let mut parts = uri.clone().into_parts();
        // Nothing was added to a target that was one: should it be none all the same, it is not handed on.
        parts.path_and_query = target.try_into().ok();
        Some(Uri::from_parts(parts).unwrap_or_default())
    }
}

/// What is left to do once the handler has answered.
struct After {
    way: Way,
    shared: Arc<Shared>,
}

impl After {
    fn finish<R: Body>(self, mut response: Response<R>) -> Response<ResponseBody<R>> {
        let Self { way, shared } = self;
        if let Err(refusal) = shared.edge.review(&way.grant, response.status().as_u16()) {
            return answer(refusal.into_answer());
        }
        let Some((permit, rules)) = way.own else {
            return response.map(ResponseBody::free);
        };
        let announced = response.body().size_hint();
        if announced.lower() > shared.most_response_bytes {
            return answer(shared.edge.refuse(Reason::ResponseTooLarge).into_answer());
        }
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
        let held = Held {
            permit,
            ended: if shared.ends_with_key {
                Some(Box::pin(way.grant.ended()))
            } else {
                None
            },
            left: shared.most_response_bytes,
            edge: Arc::clone(&shared.edge),
        };
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
