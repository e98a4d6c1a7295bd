//! Completes the responses of handlers, and builds the answers of rejections.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use http::Response;
use http::header::{CACHE_CONTROL, Entry, HeaderMap, HeaderName, HeaderValue, VARY};
use http::request::Parts;
use http_body::{Body, Frame, SizeHint};

use crate::http::{
    Admission, BodyMonitor, BoxError, Field, Gate, Note, Outgoing, Refused, ResponseBody,
};

/// The admission to finish once the handler has responded, and the gate that finishes it.
pub(crate) type After = (Admission, Arc<Gate<Parts>>);

/// Completes a handler's response. Returns the monitor of its body, if it needs one.
///
/// # Errors
/// The answer to send instead.
pub(crate) fn monitor<B: Body>(
    (admission, gate): After,
    response: &mut Response<B>,
) -> Result<Option<BodyMonitor>, Refused> {
    let is_guest = admission.is_guest();
    let add_headers = |response: &mut Response<B>, fields| {
        add_headers(&gate, response.headers_mut(), fields, is_guest);
    };
    admission.finish(&gate.edge, response, add_headers)
}

impl<B: Body> Outgoing for Response<B> {
    fn status(&self) -> u16 {
        self.status().as_u16()
    }

    fn announced(&self) -> u64 {
        self.body().size_hint().lower()
    }

    fn take_note(&mut self) -> Option<Note> {
        self.extensions_mut().remove()
    }

    fn leave_note(&mut self, note: Note) {
        self.extensions_mut().insert(note);
    }
}

/// Builds the answer of a refused request. `body` makes a body of the bytes.
pub(crate) fn refuse<B>(refused: Refused, body: impl FnOnce(Vec<u8>) -> B) -> Response<B> {
    let mut response = Response::from(refused.answer).map(body);
    if let Some(note) = refused.note {
        response.extensions_mut().insert(note);
    }
    response
}

/// Adds to a response the headers of limits, and those that keep it out of shared caches. A guest's only gets `Vary`.
///
/// They are those of [`Edge::response_headers`], but values that never change are not rebuilt.
///
/// [`Edge::response_headers`]: crate::http::Edge::response_headers
fn add_headers(gate: &Gate<Parts>, headers: &mut HeaderMap, fields: Vec<Field>, is_guest: bool) {
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
    } else if let Entry::Vacant(none) = headers.entry(CACHE_CONTROL) {
        // Most responses have no `Cache-Control`.
        none.insert(const { HeaderValue::from_static("private") });
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
        headers.append(VARY, vary.clone());
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let size = |frame: &Frame<Bytes>| frame.data_ref().map_or(0, |data| data.remaining());
        self.poll_part(context, B::poll_frame, size, Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Some(inner) => inner.is_end_stream(),
            None => self.answer.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.inner, &self.answer) {
            (Some(inner), _) => inner.size_hint(),
            (None, Some(answer)) => {
                SizeHint::with_exact(u64::try_from(answer.len()).unwrap_or(u64::MAX))
            }
            (None, None) => SizeHint::with_exact(0),
        }
    }
}
