//! Implements actix's `MessageBody` for response bodies.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;

use crate::http::ResponseBody;

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
            // A body without a monitor does not need another box.
            Self {
                inner: Some(inner),
                monitor: None,
                ..
            } => inner.boxed(),
            monitor => BoxBody::new(monitor),
        }
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Box<dyn Error>>>> {
        self.poll_part(context, B::poll_next, Bytes::len, |answer| answer)
    }
}
