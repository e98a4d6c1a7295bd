//! Reads and discards the rest of a refused request's body.
//!
//! The layer refuses a request before its body has arrived. A server that then stops reading has to close the
//! connection, and a client that is still sending may lose the answer, or its next request. The layer therefore reads
//! and discards the rest within bounds, like a web server's lingering close.

use std::pin::pin;
use std::time::Duration;

use bytes::Buf as _;
use http::{HeaderMap, header};
use http_body::Body;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Maximum number of bytes read from one body.
const MOST: usize = 16 * 1024 * 1024;

/// Minimum number of bytes that a frame counts as, since a frame may be empty.
const LEAST: usize = 64;

/// Maximum number of bodies drained at a time. Bodies beyond that are dropped, and their connections are closed.
static TURNS: Semaphore = Semaphore::const_new(256);

/// Maximum time spent on one body.
const LONGEST: Duration = Duration::from_secs(2);

/// Reads the rest of a refused request's body in a task of its own, while the answer is sent.
pub(crate) fn drain<B: Body + Send + 'static>(headers: &HeaderMap, body: B) {
    // A client that waits for a go-ahead sends no body once the answer has come.
    if body.is_end_stream() || headers.contains_key(header::EXPECT) {
        return;
    }
    if let (Ok(runtime), Ok(turn)) = (Handle::try_current(), TURNS.try_acquire()) {
        runtime.spawn(async move {
            let _turn = turn;
            // The result does not matter, even if the time is over.
            let _ = timeout(LONGEST, read(body)).await;
        });
    }
}

async fn read<B: Body>(body: B) {
    let mut body = pin!(body);
    let mut left = MOST;
    loop {
        let next = std::future::poll_fn(|context| body.as_mut().poll_frame(context));
        let read = match next.await {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.remaining()),
            _ => return,
        };
        match left.checked_sub(read.max(LEAST)) {
            Some(rest) => left = rest,
            None => return,
        }
        // A body that is always ready must yield to other tasks and to the timer.
        tokio::task::consume_budget().await;
    }
}
