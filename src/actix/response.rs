//! Completes a handler's response.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::error::InternalError;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, VARY};
use actix_web::{Error, HttpRequest, HttpResponse};

use crate::http::{Answer, BodyMonitor, Completion, FinishedResponse, GateConfig, ResponseBody};

/// Completes the response of a handler that was called with an admitted request.
pub(super) fn finish<B: MessageBody>(
    completion: Completion,
    config: &Arc<GateConfig<HttpRequest>>,
    response: ServiceResponse<B>,
) -> ServiceResponse<ResponseBody<B>> {
    let (request, response) = response.into_parts();
    ServiceResponse::new(request, finished(completion, config, response))
}

/// Completes as [`finish`] does, but keeps the body's type and only wraps a body that needs a monitor.
pub(super) fn finish_boxed(
    completion: Completion,
    config: &Arc<GateConfig<HttpRequest>>,
    mut response: ServiceResponse,
) -> ServiceResponse {
    match monitored(completion, config, response.response_mut()) {
        Ok(None) => response,
        Ok(monitor) => response.map_body(|_, body| ResponseBody::granted(body, monitor).boxed()),
        Err(refused) => {
            let (request, _) = response.into_parts();
            ServiceResponse::new(request, answer(refused, BoxBody::new))
        }
    }
}

/// Completes the response of an error, in which some middleware carries its answer.
pub(super) fn finish_error(
    completion: Completion,
    config: &Arc<GateConfig<HttpRequest>>,
    error: Error,
) -> Error {
    let response = finished(completion, config, error.error_response());
    // The response of an error can be taken only once.
    InternalError::from_response(error, response.map_into_boxed_body()).into()
}

fn finished<B: MessageBody>(
    completion: Completion,
    config: &Arc<GateConfig<HttpRequest>>,
    mut response: HttpResponse<B>,
) -> HttpResponse<ResponseBody<B>> {
    match monitored(completion, config, &mut response) {
        Ok(monitor) => response.map_body(|_, body| ResponseBody::granted(body, monitor)),
        Err(refused) => answer(refused, ResponseBody::answer),
    }
}

/// Adds the headers of granted responses and returns the monitor of the body, if it needs one.
///
/// # Errors
/// The answer to send instead.
fn monitored<B: MessageBody>(
    completion: Completion,
    config: &Arc<GateConfig<HttpRequest>>,
    response: &mut HttpResponse<B>,
) -> Result<Option<BodyMonitor>, Answer> {
    let announced = match response.body().size() {
        BodySize::Sized(size) => size,
        BodySize::None | BodySize::Stream => 0,
    };
    Ok(
        match completion.finish(config, response.status().as_u16(), announced)? {
            FinishedResponse::Nested(monitor) => monitor,
            FinishedResponse::Granted(monitor) => {
                add_headers(config, response.headers_mut());
                monitor
            }
        },
    )
}

/// Adds to a granted response the headers that keep it out of shared caches.
///
/// They are those of [`Edge::response_headers`], but values that never change are not rebuilt.
fn add_headers(config: &GateConfig<HttpRequest>, headers: &mut HeaderMap) {
    if config.edge.may_be_cached() {
        return;
    }
    if !headers.contains_key(CACHE_CONTROL) {
        // Most responses have no `Cache-Control`. To append a header is cheaper than to insert one.
        headers.append(CACHE_CONTROL, const { HeaderValue::from_static("private") });
    } else if let Some(value) = config.edge.cache_control(headers) {
        let value = match value {
            Cow::Borrowed(value) => Ok(HeaderValue::from_static(value)),
            Cow::Owned(value) => HeaderValue::try_from(value),
        };
        if let Ok(value) = value {
            headers.insert(CACHE_CONTROL, value);
        }
    }
    if let Some(vary) = &config.vary {
        headers.append(VARY, vary.clone());
    }
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
