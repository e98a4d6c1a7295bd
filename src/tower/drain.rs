//! Reads on to the end of a body that nobody wants.
//!
//! A request is refused before its body has come. A server that then stops reading has to close the connection, and a
//! client that is still sending may lose the answer over it, or the request after it. So the rest is read and thrown
//! away, as far as that is no burden: what a lingering close is to web servers.

use std::pin::pin;
use std::time::Duration;

use bytes::Buf as _;
use http::{HeaderMap, header};
use http_body::Body;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Most bytes that are read.
const MOST: usize = 16 * 1024 * 1024;

/// What a frame counts at the least: one may hold nothing.
const LEAST: usize = 64;

/// Most bodies that are read so at a time. Of what comes beyond, the connection is closed.
static TURNS: Semaphore = Semaphore::const_new(256);

/// How long is read at most.
const LONGEST: Duration = Duration::from_secs(2);

/// Reads the rest of the body of a request that was refused, beside the answer.
pub(crate) fn drain<B: Body + Send + 'static>(headers: &HeaderMap, body: B) {
    // Whoever waits to be asked for the body sends none once the answer has come.
    if body.is_end_stream() || headers.contains_key(header::EXPECT) {
        return;
    }
    if let (Ok(runtime), Ok(turn)) = (Handle::try_current(), TURNS.try_acquire()) {
        runtime.spawn(async move {
            let _turn = turn;
            // Late or not, it is of no use to anybody.
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
        // One that is always ready is to leave room for others, and for the clock.
        tokio::task::consume_budget().await;
    }
}
