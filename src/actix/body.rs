//! The body of a response, and what lives as long as it.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;
use pin_project_lite::pin_project;

use crate::http::{BodyCut, Held};

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

impl<B: MessageBody + 'static> MessageBody for ResponseBody<B> {
    type Error = Box<dyn Error>;

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
            // Where nothing depends on it, it is in no need of another box.
            Self {
                inner: Some(inner),
                held: None,
                ..
            } => inner.boxed(),
            held => BoxBody::new(held),
        }
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Box<dyn Error>>>> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(this.answer.take().map(Ok));
        };
        let cut = |held: &mut Option<Held>, why: BodyCut| {
            *held = None;
            Poll::Ready(Some(Err(why.into())))
        };
        if let Some(Err(why)) = this.held.as_mut().map(|held| held.poll_ended(context)) {
            this.inner.set(None);
            return cut(this.held, why);
        }
        let bytes = match ready!(inner.poll_next(context)) {
            Some(Ok(bytes)) => bytes,
            Some(Err(error)) => {
                *this.held = None;
                return Poll::Ready(Some(Err(error.into())));
            }
            None => {
                *this.held = None;
                return Poll::Ready(None);
            }
        };
        if let Some(Err(why)) = this.held.as_mut().map(|held| held.send(bytes.len())) {
            this.inner.set(None);
            return cut(this.held, why);
        }
        Poll::Ready(Some(Ok(bytes)))
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}
