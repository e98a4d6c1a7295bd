//! Monitors a granted response while it is being sent.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::place::Place;
use crate::verifier::Grant;

/// The reason why the rest of a response was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyCut {
    /// The key that the request was admitted with has ended.
    #[error("the API key has ended")]
    KeyEnded,
    /// The response exceeded the maximum.
    #[error("the response body exceeds its limit")]
    TooLong,
    /// The client did not read for longer than the stall timeout.
    #[error("the client stopped reading for too long")]
    Stalled,
}

/// Holds a request's place while its response is sent, and cuts the response at its limits.
pub(crate) struct BodyMonitor {
    place: Place,
    /// The grant that the response belongs to, if the response may turn out too long.
    grant: Option<Grant>,
    /// A future that completes when the key ends. `None` if the response is not cut then.
    ended: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// The number of bytes that may still be sent.
    left: u64,
    observer: Arc<dyn Observer>,
}

/// Learns of responses that were cut for their length, which can no longer be answered with a rejection.
pub(super) trait Observer: Send + Sync {
    fn response_was_too_long(&self, grant: Option<&Grant>);
}

impl BodyMonitor {
    pub(super) fn new(
        place: Place,
        grant: Option<Grant>,
        ended: Option<impl Future<Output = ()> + Send + 'static>,
        left: u64,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let ended =
            ended.map(|ended| -> Pin<Box<dyn Future<Output = ()> + Send>> { Box::pin(ended) });
        Self {
            place,
            grant,
            ended,
            left,
            observer,
        }
    }

    /// Checks that the response may go on, and wakes the task when the key ends.
    pub(crate) fn poll_cut(&mut self, context: &mut Context<'_>) -> Result<(), BodyCut> {
        if self.place.has_stalled() {
            return Err(BodyCut::Stalled);
        }
        match self
            .ended
            .as_mut()
            .map(|ended| ended.as_mut().poll(context))
        {
            Some(Poll::Ready(())) => Err(BodyCut::KeyEnded),
            _ => Ok(()),
        }
    }

    /// Records that this many bytes are about to be sent.
    pub(crate) fn send(&mut self, bytes: usize) -> Result<(), BodyCut> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let Some(left) = self.left.checked_sub(bytes) else {
            self.observer.response_was_too_long(self.grant.as_ref());
            return Err(BodyCut::TooLong);
        };
        self.left = left;
        self.place.handed_out();
        Ok(())
    }
}

impl fmt::Debug for BodyMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyMonitor")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
