//! Prepares decided requests for the handler, and bounds their bodies.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::dev::{Payload, ServiceRequest};
use actix_web::error::PayloadError;
use actix_web::http::header;
use actix_web::{HttpMessage as _, HttpRequest};
use bytes::Bytes;
use futures_core::Stream;
use pin_project_lite::pin_project;

use crate::http::in_flight::{InFlight, extensions};
use crate::http::{Decided, Edge, Gate, Passage, Refused};

extensions!(actix_web::dev::Extensions);

/// Prepares a decided request for the handler: hides its credential, adds the grant and bounds its body.
///
/// # Errors
/// The answer of a refused request.
pub(super) fn prepare(
    gate: &Gate<HttpRequest>,
    decided: Decided,
    request: &mut ServiceRequest,
) -> Result<Option<InFlight>, Box<Refused>> {
    let passage = decided?;
    if let Passage::Granted { .. } = &passage {
        hide_credential(gate, request);
    }
    let in_flight = passage.enter(&gate.edge, &mut *request.extensions_mut());
    if let Some(most) = gate.edge.request_bound() {
        let payload: Payload = request.take_payload();
        request.set_payload(bounded(payload, most));
    }
    Ok(in_flight)
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
    let mut lines: Vec<_> = request.headers_mut().remove(&name).collect();
    if edge.keeps_credential() {
        lines.iter_mut().for_each(|line| line.set_sensitive(true));
    } else {
        lines = edge.remaining_protocols(lines).collect();
        let uri = request.uri();
        if let Some(uri) = edge.target_without_credential(uri, uri.query()) {
            // The router keeps a copy of the URI.
            request.match_info_mut().get_mut().update(&uri);
            request.head_mut().uri = uri;
        }
    }
    for line in lines {
        request.headers_mut().append(name.clone(), line);
    }
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
