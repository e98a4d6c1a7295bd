//! Reads on to the end of a body that nobody wants.
//!
//! A request is refused before its body has come. A server that then stops reading has to close the connection, and a client that is
//! still sending may lose the answer over it, or the request after it. So the rest is read and thrown away, as far as that is no
//! burden: what a lingering close is to web servers.

use std::pin::pin;
use std::time::Duration;

use bytes::Buf as _;
use http::{HeaderMap, header};
use http_body::Body;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// Most bytes that are read.
const MOST: usize = 16 * 1024 * 1024;

/// How long is read at most.
const LONGEST: Duration = Duration::from_secs(2);

/// Reads the rest of the body of a request that was refused, beside the answer.
pub(crate) fn drain<B: Body + Send + 'static>(headers: &HeaderMap, body: B) {
    // Whoever waits to be asked for the body sends none once the answer has come.
    if body.is_end_stream() || headers.contains_key(header::EXPECT) {
        return;
    }
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async {
            // Late or not, it is of no use to anybody.
            let _ = timeout(LONGEST, read(body)).await;
        });
    }
}

async fn read<B: Body>(body: B) {
    let mut body = pin!(body);
    let mut left = MOST;
    let mut next = async || std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await;
    while let Some(Ok(frame)) = next().await {
        let read = frame.data_ref().map_or(0, |data| data.remaining());
        match left.checked_sub(read) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
