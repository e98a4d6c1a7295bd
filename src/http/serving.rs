//! Serving an admitted request of the crate [`http`](::http): its head before the handler, its response after it.

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::http::header::{
    self, AsHeaderName, CACHE_CONTROL, Entry, HeaderMap, HeaderName, HeaderValue, VARY,
};
use ::http::{Extensions, Response, Uri};
use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame, SizeHint};

use super::admission::{Admission, Passage, Refused};
use super::edge::Edge;
use super::guard::BoxError;
use super::in_flight::{Field, InFlight, Note, Outgoing, ServedGuest, extensions};
use super::response_body::{BodyMonitor, ResponseBody};

extensions!(Extensions);

/// A request in the hands of its handler: see [`Admission::enter`].
#[must_use = "the handler's response is to be finished"]
pub struct Serving<'e> {
    edge: &'e Edge,
    /// `None` if the rejection of the request is only reported.
    in_flight: Option<InFlight>,
}

impl<'e> Admission<'e> {
    /// Prepares the request for its handler. Call it at once, and the handler with this very request.
    ///
    /// It removes the credential, unless the edge [keeps](Edge::keep_credential) it, and puts the
    /// [`Grant`](crate::verifier::Grant) into the extensions, where the handler and guards inside of this one find it.
    /// A request that passes without a grant is marked as such, and the grant of another Keyward is removed from it.
    ///
    /// The three functions return parts of the request: they are methods of most frameworks' requests.
    ///
    /// ```
    /// # use keyward::http::{Admission, Serving};
    /// use http::Request;
    ///
    /// fn enter<'e, B>(admission: Admission<'e>, request: &mut Request<B>) -> Serving<'e> {
    ///     admission.enter(request, Request::headers_mut, Request::uri_mut, Request::extensions_mut)
    /// }
    /// ```
    pub fn enter<R>(
        self,
        request: &mut R,
        headers: impl FnOnce(&mut R) -> &mut HeaderMap,
        uri: impl FnOnce(&mut R) -> &mut Uri,
        extensions: impl FnOnce(&mut R) -> &mut Extensions,
    ) -> Serving<'e> {
        let Self { edge, passage } = self;
        if let Passage::Granted { .. } = &passage {
            let headers = headers(request);
            edge.hide_in_headers(edge.credential_headers(), headers);
            if edge.reads_parts() {
                edge.hide_in_protocols(headers);
                edge.hide_in_target(uri(request));
            }
        }
        let in_flight = passage.enter(edge, extensions(request));
        Serving { edge, in_flight }
    }
}

impl Serving<'_> {
    /// Finishes the handler's response.
    ///
    /// - It [reviews](Edge::review) the response, and replaces it if the handler forgot a check that it promised, if no
    ///   inner guard has decided, or if the response announces more than
    ///   [`max_response_bytes`](Edge::max_response_bytes).
    /// - It adds the headers that keep the response out of shared caches, and those of limits and of the key's end. Of
    ///   nested guards, the outermost adds them, for all.
    /// - If a guard inside has refused the request, it gives the cost of the request back.
    ///
    /// The body holds the [`Permit`](crate::verifier::Permit) until it has ended or is dropped, and may be
    /// [cut](super::BodyCut). Pass it on as it is: around it, keep `size_hint`, `is_end_stream` and the trailers.
    ///
    /// Inner guards leave notes in the extensions of responses. Whatever is between two guards has to pass these on.
    #[must_use]
    pub fn finish<B: Body>(self, response: Response<B>) -> Response<ResponseBody<B>> {
        let Some(in_flight) = self.in_flight else {
            return response.map(ResponseBody::free);
        };
        let vary = self.edge.vary();
        let vary = vary.and_then(|vary| HeaderValue::try_from(vary).ok());
        finish(in_flight, self.edge, vary.as_ref(), response)
    }
}

impl Edge {
    /// Removes the headers of these names, which hold nothing but a credential, or marks them as sensitive.
    #[inline]
    pub(crate) fn hide_in_headers<N: AsHeaderName>(
        &self,
        names: impl Iterator<Item = N>,
        headers: &mut HeaderMap,
    ) {
        for name in names {
            if self.keeps_credential() {
                mark_sensitive(headers, name);
            } else {
                headers.remove(name);
            }
        }
    }

    /// Removes the credential from the list of sub-protocols, or marks the list as sensitive.
    pub(crate) fn hide_in_protocols(&self, headers: &mut HeaderMap) {
        let name = header::SEC_WEBSOCKET_PROTOCOL;
        if self.keeps_credential() {
            mark_sensitive(headers, name);
        } else if let Entry::Occupied(lines) = headers.entry(&name) {
            let lines: Vec<_> = lines.remove_entry_mult().1.collect();
            for line in self.remaining_protocols(lines) {
                headers.append(&name, line);
            }
        }
    }

    /// Removes the credential from the target of a request, unless it is kept.
    pub(crate) fn hide_in_target(&self, uri: &mut Uri) {
        if !self.keeps_credential() {
            if let Some(without) = self.uri_without_credential(uri) {
                *uri = without;
            }
        }
    }

    /// Removes the parameters that keys are accepted in from a target. `None` if it has no such parameter.
    ///
    /// [`Admission::enter`] does so with the request's own. Apply it to each copy that your framework keeps of the
    /// target, such as the one before routing.
    #[must_use]
    pub fn uri_without_credential(&self, uri: &Uri) -> Option<Uri> {
        self.target_without_credential(uri, uri.query())
    }
}

fn mark_sensitive<N: AsHeaderName>(headers: &mut HeaderMap, name: N) {
    if let Ok(Entry::Occupied(mut values)) = headers.try_entry(name) {
        values
            .iter_mut()
            .for_each(|value| value.set_sensitive(true));
    }
}

/// Finishes a handler's response. `vary` is the header of granted responses.
pub(crate) fn finish<B: Body>(
    in_flight: InFlight,
    edge: &Edge,
    vary: Option<&HeaderValue>,
    mut response: Response<B>,
) -> Response<ResponseBody<B>> {
    match monitor(in_flight, edge, vary, &mut response) {
        Ok(monitor) => response.map(|body| ResponseBody::granted(body, monitor)),
        Err(refused) => refused.into(),
    }
}

/// Completes a handler's response as [`finish`] does, but returns the monitor of its body, if it needs one.
///
/// # Errors
/// The answer to send instead.
pub(crate) fn monitor<B: Body>(
    in_flight: InFlight,
    edge: &Edge,
    vary: Option<&HeaderValue>,
    response: &mut Response<B>,
) -> Result<Option<BodyMonitor>, Refused> {
    let is_guest = in_flight.is_guest();
    let add_headers = |response: &mut Response<B>, fields| {
        add_headers(edge, vary, response.headers_mut(), fields, is_guest);
    };
    in_flight.finish(edge, response, add_headers)
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

    fn mark_guest(&mut self) {
        self.extensions_mut().insert(ServedGuest);
    }
}

/// The response to send, with a note for an outer guard in its extensions.
impl<B: From<Vec<u8>>> From<Refused> for Response<B> {
    fn from(refused: Refused) -> Self {
        let mut response = Self::from(refused.answer);
        if let Some(note) = refused.note {
            response.extensions_mut().insert(note);
        }
        response
    }
}

/// Adds to a response the headers of limits, and those that keep it out of shared caches. A guest's only gets `Vary`.
///
/// They are those of [`Edge::response_headers`], but values that never change are not rebuilt.
fn add_headers(
    edge: &Edge,
    vary: Option<&HeaderValue>,
    headers: &mut HeaderMap,
    fields: Vec<Field>,
    is_guest: bool,
) {
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    if edge.may_be_cached() {
        return;
    }
    if is_guest {
        // It is the same for every guest.
    } else if let Entry::Vacant(none) = headers.entry(CACHE_CONTROL) {
        // Most responses have no `Cache-Control`.
        none.insert(const { HeaderValue::from_static("private") });
    } else if let Some(value) = edge.cache_control(headers) {
        let value = match value {
            Cow::Borrowed(value) => Ok(HeaderValue::from_static(value)),
            Cow::Owned(value) => HeaderValue::try_from(value),
        };
        if let Ok(value) = value {
            headers.insert(CACHE_CONTROL, value);
        }
    }
    if let Some(vary) = vary {
        // Two guards may let a guest through, one inside of the other.
        if !is_guest || !has_vary(headers, vary) {
            headers.append(VARY, vary.clone());
        }
    }
}

#[cold]
fn has_vary(headers: &HeaderMap, vary: &HeaderValue) -> bool {
    headers.get_all(VARY).iter().any(|line| line == vary)
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

impl fmt::Debug for Serving<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving")
            .field("is_in_flight", &self.in_flight.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeaderSource as _, KeyIn};
    use crate::key::Access;
    use crate::testkit::keyward_with_key;

    /// poem and salvo ask for it.
    #[test]
    fn a_body_is_sync() {
        fn assert_sync<T: Send + Sync + 'static>() {}
        assert_sync::<ResponseBody<String>>();
    }

    #[tokio::test]
    async fn a_credential_is_removed_from_a_request() {
        let (keyward, key) = keyward_with_key([], Access::Full).await;
        let key = key.text();
        let edge = Edge::new(&keyward)
            .accept(KeyIn::bearer())
            .accept(KeyIn::header("X-API-Key").unwrap())
            .accept(KeyIn::query_parameter("api_key").unwrap())
            .accept(KeyIn::web_socket_protocol("acme.key.").unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", format!("Bearer {key}")),
            ("x-api-key", key.to_owned()),
            ("sec-websocket-protocol", format!("acme.v1, acme.key.{key}")),
            ("sec-websocket-protocol", "acme.v2".to_owned()),
            ("accept", "text/html".to_owned()),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        let mut uri: Uri = format!("/v1/editions?a=b&api_key={key}&c=d")
            .parse()
            .unwrap();
        edge.hide_in_headers(edge.credential_headers(), &mut headers);
        edge.hide_in_protocols(&mut headers);
        edge.hide_in_target(&mut uri);
        assert_eq!(uri, "/v1/editions?a=b&c=d");
        let left: Vec<_> = headers.all().collect();
        let expected = [
            ("accept", b"text/html".as_slice()),
            ("sec-websocket-protocol", b"acme.v1"),
            ("sec-websocket-protocol", b"acme.v2"),
        ];
        assert_eq!(left.len(), expected.len(), "{left:?}");
        assert!(expected.iter().all(|line| left.contains(line)), "{left:?}");
    }
}
