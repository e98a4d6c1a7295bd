//! The body of a response, and what lives as long as it.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::http::{Edge, Reason};
use crate::verifier::Permit;

/// What a body fails with.
pub type BoxError = Box<dyn Error + Send + Sync>;

pin_project! {
    /// The body of a response: the handler's, or the answer of a refusal.
    ///
    /// A handler's body holds the request's [`Permit`] until it has ended or is dropped. It may be cut: see
    /// [`BodyCut`].
    pub struct ResponseBody<B> {
        #[pin]
        inner: Option<B>,
        answer: Option<Bytes>,
        held: Option<Held>,
    }
}

/// What a granted response holds.
pub(super) struct Held {
    #[expect(dead_code, reason = "it is given back when it is dropped")]
    pub(super) permit: Permit,
    /// Ends when the key does; none if the response is not to be cut then.
    pub(super) ended: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// How many bytes may still come.
    pub(super) left: u64,
    pub(super) edge: Arc<Edge>,
}

/// The rest of a response was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyCut {
    /// The key that it was granted to has ended.
    #[error("the API key has ended")]
    KeyEnded,
    /// It was longer than responses may be.
    #[error("the response is longer than it may be")]
    TooLong,
}

impl<B> ResponseBody<B> {
    /// A body that nothing depends on.
    pub(super) fn free(inner: B) -> Self {
        Self {
            inner: Some(inner),
            answer: None,
            held: None,
        }
    }

    pub(super) fn held(inner: B, held: Held) -> Self {
        Self {
            inner: Some(inner),
            answer: None,
            held: Some(held),
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
        let is_over = this.held.as_mut().and_then(|held| held.ended.as_mut());
        if is_over.is_some_and(|ended| ended.as_mut().poll(context).is_ready()) {
            this.inner.set(None);
            return cut(this.held, BodyCut::KeyEnded);
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
        if let Some(held) = this.held.as_mut() {
            let size = frame.data_ref().map_or(0, |data| data.remaining());
            let size = u64::try_from(size).unwrap_or(u64::MAX);
            match held.left.checked_sub(size) {
                Some(left) => held.left = left,
                None => {
                    // It has begun: there is nothing to answer any more.
                    drop(held.edge.refuse(Reason::ResponseTooLarge));
                    this.inner.set(None);
                    return cut(this.held, BodyCut::TooLong);
                }
            }
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
            .field("is_held", &self.held.is_some())
            .finish_non_exhaustive()
    }
}
