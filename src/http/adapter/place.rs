//! Holds the concurrency place of a request while it is answered, and frees it if the client stops reading.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use crate::sync::{Mutex, lock};
use crate::verifier::Permit;

/// The permit of a response, and the timer that gives it back if the client stops reading.
///
/// A server polls the body for its next part once there is room to send it. If a client does not read, there is no
/// room, so the body cannot notice by itself. The timer therefore runs in a task of its own, which ends with the
/// response.
pub(super) enum Place {
    /// Gives the permit back when the response ends.
    Kept {
        #[expect(dead_code, reason = "it is given back when it is dropped")]
        permit: Option<Permit>,
    },
    /// Also gives the permit back when the server has not asked for the next part for too long.
    Watched(Watched),
}

pub(super) struct Watched {
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
    pub(super) fn new(permit: Option<Permit>, most: Option<Duration>) -> Self {
        match (permit, most, Handle::try_current()) {
            (Some(permit), Some(most), Ok(runtime)) => {
                Self::Watched(Watched::new(permit, most, &runtime))
            }
            (permit, ..) => Self::Kept { permit },
        }
    }

    /// Records that the server asks for the next part. Returns whether the permit has been given back meanwhile.
    pub(super) fn has_stalled(&self) -> bool {
        let Self::Watched(watched) = self else {
            return false;
        };
        let mut state = lock(&watched.state);
        state.idle_since = None;
        state.has_stalled
    }

    /// Records that the server receives the next part.
    pub(super) fn handed_out(&self) {
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
