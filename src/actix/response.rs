//! Completes the responses of handlers, and builds the answers of rejections.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::error::InternalError;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, VARY};
use actix_web::{Error, HttpRequest, HttpResponse};
use bytes::Bytes;

use crate::http::in_flight::{Field, InFlight, Note, Outgoing, ServedGuest};
use crate::http::{Answer, BodyMonitor, Gate, Refused, ResponseBody};

/// The request to finish once the handler has responded, and the gate that finishes it.
pub(super) type After = (InFlight, Arc<Gate<HttpRequest>>);

/// Completes the handler's response. `after` is `None` if the request was let through without a decision.
pub(super) fn finish<B: MessageBody>(
    after: Option<After>,
    response: ServiceResponse<B>,
) -> ServiceResponse<ResponseBody<B>> {
    let Some((in_flight, gate)) = after else {
        return response.map_body(|_, body| ResponseBody::free(body));
    };
    let (request, response) = response.into_parts();
    ServiceResponse::new(request, finished(in_flight, &gate, response))
}

/// Completes as [`finish`] does, but keeps the body's type and only wraps a body that needs a monitor.
pub(super) fn finish_boxed(
    in_flight: InFlight,
    gate: &Gate<HttpRequest>,
    mut response: ServiceResponse,
) -> ServiceResponse {
    match monitor(in_flight, gate, response.response_mut()) {
        Ok(None) => response,
        Ok(monitor) => response.map_body(|_, body| ResponseBody::granted(body, monitor).boxed()),
        Err(refused) => {
            let (request, _) = response.into_parts();
            ServiceResponse::new(request, refuse(refused, BoxBody::new))
        }
    }
}

/// Completes the response of an error, in which some middleware carries its answer.
pub(super) fn finish_error(after: Option<After>, error: Error) -> Error {
    let Some((in_flight, gate)) = after else {
        return error;
    };
    let response = finished(in_flight, &gate, error.error_response());
    // The response of an error can be taken only once.
    InternalError::from_response(error, response.map_into_boxed_body()).into()
}

fn finished<B: MessageBody>(
    in_flight: InFlight,
    gate: &Gate<HttpRequest>,
    mut response: HttpResponse<B>,
) -> HttpResponse<ResponseBody<B>> {
    match monitor(in_flight, gate, &mut response) {
        Ok(monitor) => response.map_body(|_, body| ResponseBody::granted(body, monitor)),
        Err(refused) => refuse(refused, ResponseBody::from),
    }
}

/// Completes a response. Returns the monitor of its body, if it needs one.
///
/// # Errors
/// The answer to send instead.
fn monitor<B: MessageBody>(
    in_flight: InFlight,
    gate: &Gate<HttpRequest>,
    response: &mut HttpResponse<B>,
) -> Result<Option<BodyMonitor>, Refused> {
    let is_guest = in_flight.is_guest();
    let add_headers = |response: &mut HttpResponse<B>, fields| {
        add_headers(gate, response.headers_mut(), fields, is_guest);
    };
    in_flight.finish(&gate.edge, response, add_headers)
}

impl<B: MessageBody> Outgoing for HttpResponse<B> {
    fn status(&self) -> u16 {
        self.status().as_u16()
    }

    fn announced(&self) -> u64 {
        match self.body().size() {
            BodySize::Sized(size) => size,
            BodySize::None | BodySize::Stream => 0,
        }
    }

    fn take_note(&mut self) -> Option<Note> {
        // Most responses have no note, and to look is cheaper than to remove.
        let has_note = self.extensions().contains::<Note>();
        has_note.then(|| self.extensions_mut().remove())?
    }

    fn leave_note(&mut self, note: Note) {
        self.extensions_mut().insert(note);
    }

    fn mark_guest(&mut self) {
        self.extensions_mut().insert(ServedGuest);
    }
}

/// Adds to a response the headers of limits, and those that keep it out of shared caches. A guest's only gets `Vary`.
///
/// They are those of [`Edge::response_headers`], but values that never change are not rebuilt.
///
/// [`Edge::response_headers`]: crate::http::Edge::response_headers
fn add_headers(
    gate: &Gate<HttpRequest>,
    headers: &mut HeaderMap,
    fields: Vec<Field>,
    is_guest: bool,
) {
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    if gate.edge.may_be_cached() {
        return;
    }
    if is_guest {
        // It is the same for every guest.
    } else if !headers.contains_key(CACHE_CONTROL) {
        // Most responses have no `Cache-Control`. To append a header is cheaper than to insert one.
        headers.append(CACHE_CONTROL, const { HeaderValue::from_static("private") });
    } else if let Some(value) = gate.edge.cache_control(headers) {
        let value = match value {
            Cow::Borrowed(value) => Ok(HeaderValue::from_static(value)),
            Cow::Owned(value) => HeaderValue::try_from(value),
        };
        if let Ok(value) = value {
            headers.insert(CACHE_CONTROL, value);
        }
    }
    if let Some(vary) = &gate.vary {
        // Two guards may let a guest through, one inside of the other.
        if !is_guest || headers.get_all(VARY).all(|line| line != vary) {
            headers.append(VARY, vary.clone());
        }
    }
}

/// Builds the response of a refused request. `body` makes a body of the bytes.
pub(super) fn refuse<B>(refused: Refused, body: impl FnOnce(Vec<u8>) -> B) -> HttpResponse<B> {
    let mut response = answer(refused.answer, body);
    if let Some(note) = refused.note {
        response.extensions_mut().insert(note);
    }
    response
}

/// Builds the response of an answer. `body` makes a body of the bytes.
pub(super) fn answer<B>(answer: Answer, body: impl FnOnce(Vec<u8>) -> B) -> HttpResponse<B> {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::with_body(status, body(answer.body));
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

impl<B: MessageBody + 'static> MessageBody for ResponseBody<B> {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        match (&self.inner, &self.answer) {
            (Some(inner), _) => inner.size(),
            (None, Some(answer)) => {
                BodySize::Sized(u64::try_from(answer.len()).unwrap_or(u64::MAX))
            }
            (None, None) => BodySize::Sized(0),
        }
    }

    fn boxed(self) -> BoxBody {
        match self {
            // A body without a monitor does not need another box.
            Self {
                inner: Some(inner),
                monitor: None,
                ..
            } => inner.boxed(),
            monitor => BoxBody::new(monitor),
        }
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Box<dyn std::error::Error>>>> {
        self.poll_part(context, B::poll_next, Bytes::len, |answer| answer)
    }
}
