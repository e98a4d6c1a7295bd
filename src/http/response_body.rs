//! The body of a response, what it holds until it ends, and the limits at which it is cut.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use pin_project_lite::pin_project;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::edge::Edge;
use super::reason::RejectionReason;
use super::rejection::{Observer, RejectionEvent};
use crate::codes::codes;
use crate::sync::{Mutex, lock};
use crate::verifier::{Grant, Permit};

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

/// The body of an answer.
impl<B> From<Vec<u8>> for ResponseBody<B> {
    fn from(answer: Vec<u8>) -> Self {
        Self {
            inner: None,
            answer: Some(answer.into()).filter(|body: &Bytes| !body.is_empty()),
            monitor: None,
        }
    }
}

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

codes! {
    BodyCut;
    Self::KeyEnded => "key_ended",
    Self::TooLong => "response_too_large",
    Self::Stalled => "stalled",
}

/// Holds a request's place while its response is sent, and cuts the response at its limits.
pub(crate) struct BodyMonitor {
    place: Place,
    /// The grant that the response belongs to, if the response may turn out too long.
    grant: Option<Grant>,
    /// A future that completes when the key ends. `None` if the response is not cut then.
    ///
    /// Frameworks ask for bodies that are `Sync`, which the future is not: the mutex makes it so, and is never locked.
    ended: Option<Mutex<Ended>>,
    /// The number of bytes that may still be sent.
    left: u64,
    /// Learns that the response was cut for its length, since it can no longer be replaced by an answer.
    observer: Option<Observer>,
}

type Ended = Pin<Box<dyn Future<Output = ()> + Send>>;

impl BodyMonitor {
    /// Creates the monitor of a response. `None` if it holds no permit and has no limit.
    pub(super) fn new(edge: &Edge, grant: Option<Grant>, permit: Option<Permit>) -> Option<Self> {
        let settings = &edge.adapters;
        let is_bounded = settings.max_response_bytes < u64::MAX;
        let ended = grant.as_ref().filter(|_| settings.ends_with_key);
        let ended = ended.map(|grant| Mutex::new(Box::pin(grant.ended()) as Ended));
        if ended.is_none() && !is_bounded && permit.is_none() {
            return None;
        }
        Some(Self {
            place: Place::new(permit, settings.stall_timeout),
            grant: grant.filter(|_| is_bounded),
            ended,
            left: settings.max_response_bytes,
            observer: edge.observer().filter(|_| is_bounded).cloned(),
        })
    }

    /// Checks that the response may go on, and wakes the task when the key ends.
    fn poll_cut(&mut self, context: &mut Context<'_>) -> Result<(), BodyCut> {
        if self.place.has_stalled() {
            return Err(BodyCut::Stalled);
        }
        let ended = self.ended.as_mut();
        let ended = ended.map(|ended| ended.get_mut().unwrap_or_else(PoisonError::into_inner));
        match ended.map(|ended| ended.as_mut().poll(context)) {
            Some(Poll::Ready(())) => Err(BodyCut::KeyEnded),
            _ => Ok(()),
        }
    }

    /// Records that this many bytes are about to be sent.
    fn send(&mut self, bytes: usize) -> Result<(), BodyCut> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let Some(left) = self.left.checked_sub(bytes) else {
            if let Some(observer) = &self.observer {
                observer(&RejectionEvent {
                    reason: &RejectionReason::ResponseTooLarge,
                    client: None,
                    grant: self.grant.as_ref(),
                    near_misses: &[],
                    is_by_unlisted_proxy: false,
                    is_report_only: false,
                });
            }
            return Err(BodyCut::TooLong);
        };
        self.left = left;
        self.place.handed_out();
        Ok(())
    }
}

/// The permit of a response, and the timer that gives it back if the client stops reading.
///
/// A server polls the body for its next part once there is room to send it. If a client does not read, there is no
/// room, so the body cannot notice by itself. The timer therefore runs in a task of its own, which ends with the
/// response.
enum Place {
    /// Gives the permit back when the response ends.
    Kept {
        #[expect(dead_code, reason = "it is given back when it is dropped")]
        permit: Option<Permit>,
    },
    /// Also gives the permit back when the server has not asked for the next part for too long.
    Watched(Watched),
}

struct Watched {
    state: Arc<Mutex<State>>,
    timer: AbortHandle,
}

struct State {
    permit: Option<Permit>,
    /// The time since which the server could have asked for the next part. `None` while the handler produces it.
    idle_since: Option<Instant>,
    has_stalled: bool,
}

impl Place {
    fn new(permit: Option<Permit>, most: Option<Duration>) -> Self {
        match (permit, most, Handle::try_current()) {
            (Some(permit), Some(most), Ok(runtime)) => {
                Self::Watched(Watched::new(permit, most, &runtime))
            }
            (permit, ..) => Self::Kept { permit },
        }
    }

    /// Records that the server asks for the next part. Returns whether the permit has been given back meanwhile.
    fn has_stalled(&self) -> bool {
        let Self::Watched(watched) = self else {
            return false;
        };
        let mut state = lock(&watched.state);
        state.idle_since = None;
        state.has_stalled
    }

    /// Records that the server receives the next part.
    fn handed_out(&self) {
        if let Self::Watched(watched) = self {
            lock(&watched.state).idle_since = Some(Instant::now());
        }
    }
}

impl Watched {
    fn new(permit: Permit, most: Duration, runtime: &Handle) -> Self {
        let state = Arc::new(Mutex::new(State {
            permit: Some(permit),
            idle_since: Some(Instant::now()),
            has_stalled: false,
        }));
        let timer = runtime.spawn(watch(Arc::clone(&state), most));
        Self {
            state,
            timer: timer.abort_handle(),
        }
    }
}

/// Gives the permit back once the response has been idle for this long.
async fn watch(state: Arc<Mutex<State>>, most: Duration) {
    loop {
        let now = Instant::now();
        let due = {
            let mut state = lock(&state);
            let since = state.idle_since.unwrap_or(now);
            match since.checked_add(most) {
                Some(due) if due <= now => {
                    state.has_stalled = true;
                    drop(state.permit.take());
                    return;
                }
                Some(due) => due,
                // The bound is later than the clock can express.
                None => return,
            }
        };
        sleep_until(due).await;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.timer.abort();
        drop(lock(&self.state).permit.take());
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("monitor", &self.monitor)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for BodyMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyMonitor")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
