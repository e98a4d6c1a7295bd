//! Builds the answers of rejections and adds headers to granted responses.

use std::borrow::Cow;

use http::header::{CACHE_CONTROL, Entry, HeaderMap, HeaderName, HeaderValue, VARY};
use http::request::Parts;
use http::{Response, StatusCode};

use crate::http::{Answer, GateConfig};

/// Builds the answer of a rejection. `body` makes a body of the bytes.
pub(crate) fn answer<B>(answer: Answer, body: impl FnOnce(Vec<u8>) -> B) -> Response<B> {
    let mut response = Response::new(body(answer.body));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// Adds to a granted response the headers that keep it out of shared caches.
///
/// They are those of [`Edge::response_headers`], but values that never change are not rebuilt.
///
/// [`Edge::response_headers`]: crate::http::Edge::response_headers
pub(crate) fn add_headers(config: &GateConfig<Parts>, headers: &mut HeaderMap) {
    if config.edge.may_be_cached() {
        return;
    }
    // Most responses have no `Cache-Control`.
    if let Entry::Vacant(none) = headers.entry(CACHE_CONTROL) {
        none.insert(const { HeaderValue::from_static("private") });
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
