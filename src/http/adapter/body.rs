//! The body of a response, and the resources that it holds until it ends.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use pin_project_lite::pin_project;

use super::{BodyCut, BodyMonitor};

pin_project! {
    /// The body of a response: the handler's, or the answer of a rejection.
    ///
    /// A handler's body holds the request's [`Permit`](crate::verifier::Permit) until it has ended or is dropped. It
    /// may be cut: see [`BodyCut`].
    pub struct ResponseBody<B> {
        #[pin]
        pub(crate) inner: Option<B>,
        pub(crate) answer: Option<Bytes>,
        pub(crate) monitor: Option<BodyMonitor>,
    }
}

impl<B> ResponseBody<B> {
    /// Creates a handler's body.
    pub(crate) fn granted(inner: B, monitor: Option<BodyMonitor>) -> Self {
        Self {
            inner: Some(inner),
            answer: None,
            monitor,
        }
    }

    /// Creates a body that holds no resources.
    pub(crate) fn free(inner: B) -> Self {
        Self::granted(inner, None)
    }

    pub(crate) fn answer(body: Vec<u8>) -> Self {
        Self {
            inner: None,
            answer: Some(body.into()).filter(|body: &Bytes| !body.is_empty()),
            monitor: None,
        }
    }

    /// Polls for the next part, in the framework's own types.
    ///
    /// `next` polls the handler's body, `size` returns the bytes of a part, and `whole` makes a part of an answer.
    pub(crate) fn poll_part<P, E, X>(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        next: impl FnOnce(Pin<&mut B>, &mut Context<'_>) -> Poll<Option<Result<P, E>>>,
        size: impl FnOnce(&P) -> usize,
        whole: impl FnOnce(Bytes) -> P,
    ) -> Poll<Option<Result<P, X>>>
    where
        E: Into<X>,
        X: From<BodyCut>,
    {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(this.answer.take().map(|answer| Ok(whole(answer))));
        };
        let cut = |monitor: &mut Option<BodyMonitor>, why: BodyCut| {
            *monitor = None;
            Poll::Ready(Some(Err(X::from(why))))
        };
        if let Some(Err(why)) = this
            .monitor
            .as_mut()
            .map(|monitor| monitor.poll_cut(context))
        {
            this.inner.set(None);
            return cut(this.monitor, why);
        }
        let part = match ready!(next(inner, context)) {
            Some(Ok(part)) => part,
            Some(Err(error)) => {
                *this.monitor = None;
                return Poll::Ready(Some(Err(error.into())));
            }
            None => {
                *this.monitor = None;
                return Poll::Ready(None);
            }
        };
        if let Some(Err(why)) = this
            .monitor
            .as_mut()
            .map(|monitor| monitor.send(size(&part)))
        {
            this.inner.set(None);
            return cut(this.monitor, why);
        }
        Poll::Ready(Some(Ok(part)))
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("monitor", &self.monitor)
            .finish_non_exhaustive()
    }
}
