//! The body of a response, and what lives as long as it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::http::{BodyCut, BoxError, Held};

pin_project! {
    /// The body of a response: the handler's, or the answer of a refusal.
    ///
    /// A handler's body holds the request's [`Permit`](crate::verifier::Permit) until it has ended or is dropped. It
    /// may be cut: see [`BodyCut`].
    pub struct ResponseBody<B> {
        #[pin]
        inner: Option<B>,
        answer: Option<Bytes>,
        held: Option<Held>,
    }
}

impl<B> ResponseBody<B> {
    /// A body that nothing depends on.
    pub(super) fn free(inner: B) -> Self {
        Self::granted(inner, None)
    }

    /// A handler's body.
    pub(crate) fn granted(inner: B, held: Option<Held>) -> Self {
        Self {
            inner: Some(inner),
            answer: None,
            held,
        }
    }

    pub(super) fn answer(body: Vec<u8>) -> Self {
        Self {
            inner: None,
            answer: Some(body.into()).filter(|body: &Bytes| !body.is_empty()),
            held: None,
        }
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
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            let answer = this.answer.take();
            return Poll::Ready(answer.map(|answer| Ok(Frame::data(answer))));
        };
        let cut = |held: &mut Option<Held>, why: BodyCut| {
            *held = None;
            Poll::Ready(Some(Err(BoxError::from(why))))
        };
        if let Some(Err(why)) = this.held.as_mut().map(|held| held.poll_ended(context)) {
            this.inner.set(None);
            return cut(this.held, why);
        }
        let frame = match ready!(inner.poll_frame(context)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                *this.held = None;
                return Poll::Ready(Some(Err(error.into())));
            }
            None => {
                *this.held = None;
                return Poll::Ready(None);
            }
        };
        let size = frame.data_ref().map_or(0, |data| data.remaining());
        if let Some(Err(why)) = this.held.as_mut().map(|held| held.send(size)) {
            this.inner.set(None);
            return cut(this.held, why);
        }
        Poll::Ready(Some(Ok(frame)))
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

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}
