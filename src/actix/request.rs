//! Prepares decided requests for the handler, and bounds their bodies.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::dev::{Payload, ServiceRequest};
use actix_web::error::PayloadError;
use actix_web::http::Uri;
use actix_web::http::header;
use actix_web::{HttpMessage as _, HttpRequest};
use bytes::Bytes;
use futures_core::Stream;
use pin_project_lite::pin_project;

use crate::http::{Admission, Decided, Edge, Gate, Passage, Refused, extensions};

extensions!(actix_web::dev::Extensions);

/// Prepares a decided request for the handler: hides its credential, adds the grant and bounds its body.
///
/// # Errors
/// The answer of a refused request.
pub(super) fn prepare(
    gate: &Gate<HttpRequest>,
    decided: Decided,
    request: &mut ServiceRequest,
) -> Result<Option<Admission>, Box<Refused>> {
    let passage = decided?;
    if let Passage::Granted(..) = &passage {
        hide_credential(gate, request);
    }
    let admission = passage.enter(&gate.edge, &mut *request.extensions_mut());
    if let Some(most) = gate.edge.request_bound() {
        let payload: Payload = request.take_payload();
        request.set_payload(bounded(payload, most));
    }
    Ok(admission)
}

/// Removes the credential from a request, or marks it as sensitive.
fn hide_credential(gate: &Gate<HttpRequest>, request: &mut ServiceRequest) {
    for name in gate.credential_headers.iter() {
        if !gate.edge.keeps_credential() {
            request.headers_mut().remove(name);
        } else {
            let values: Vec<_> = request.headers_mut().remove(name).collect();
            for mut value in values {
                value.set_sensitive(true);
                request.headers_mut().append(name.clone(), value);
            }
        }
    }
    if gate.edge.reads_parts() {
        hide_parts(&gate.edge, request);
    }
}

/// Removes the credential from a list of sub-protocols and from the target, or marks the list as sensitive.
fn hide_parts(edge: &Edge, request: &mut ServiceRequest) {
    let name = header::SEC_WEBSOCKET_PROTOCOL;
    let lines: Vec<_> = request.headers_mut().remove(&name).collect();
    for mut line in lines {
        let left = if edge.keeps_credential() {
            line.set_sensitive(true);
            Some(line)
        } else {
            edge.remaining_protocols(line)
        };
        if let Some(line) = left {
            request.headers_mut().append(name.clone(), line);
        }
    }
    if edge.keeps_credential() {
        return;
    }
    if let Some(uri) = without_credential(edge, request.uri()) {
        // The router keeps a copy of the URI.
        request.match_info_mut().get_mut().update(&uri);
        request.head_mut().uri = uri;
    }
}

/// Removes the parameters that keys are accepted in from the target. `None` if it has no such parameter.
fn without_credential(edge: &Edge, uri: &Uri) -> Option<Uri> {
    let target = edge.target_without_credential(uri.path(), uri.query()?)?;
    let mut parts = uri.clone().into_parts();
    // Removing parameters should leave a valid target. If it does not, drop it: the credential must not pass.
    parts.path_and_query = target.try_into().ok();
    Some(Uri::from_parts(parts).unwrap_or_default())
}

pin_project! {
    /// Yields up to this many bytes. If there are more, it yields an error that extractors answer with 413.
    struct Bounded {
        #[pin]
        inner: Payload,
        left: u64,
    }
}

/// Returns the body, limited to this many bytes.
fn bounded(inner: Payload, max: u64) -> Payload {
    match inner {
        Payload::None => Payload::None,
        inner => Payload::Stream {
            payload: Box::pin(Bounded { inner, left: max }),
        },
    }
}

impl Stream for Bounded {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        let Some(read) = ready!(this.inner.as_mut().poll_next(context)) else {
            return Poll::Ready(None);
        };
        let within = read.and_then(|bytes| {
            let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            *this.left = this.left.checked_sub(size).ok_or(PayloadError::Overflow)?;
            Ok(bytes)
        });
        if within.is_err() {
            // Ends the body, so that a reader that goes on does not get one with a gap.
            this.inner.set(Payload::None);
        }
        Poll::Ready(Some(within))
    }
}
