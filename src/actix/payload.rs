//! Bounds the body of a request.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use bytes::Bytes;
use futures_core::Stream;
use pin_project_lite::pin_project;

pin_project! {
    /// Yields up to this many bytes. If there are more, it yields an error that extractors answer with 413.
    struct Bounded {
        #[pin]
        inner: Payload,
        left: u64,
    }
}

/// Returns the body, limited to this many bytes.
pub(super) fn bounded(inner: Payload, max: u64) -> Payload {
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
