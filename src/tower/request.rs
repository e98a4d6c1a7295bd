//! Decides on requests, removes their credential, and reads the bodies of refused ones.

use std::mem::swap;
use std::pin::pin;
use std::time::Duration;

use bytes::Buf as _;
use http::Request;
use http::header;
use http::request::Parts;
use http_body::Body;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::http::{Decided, Decision, Gate, InFlight, Passage, Refused, Values};

/// Decides on a request at once, if possible.
///
/// It takes the request apart only if the host's functions inspect the parts, so that most requests are moved no more
/// than without a guard.
pub(crate) fn begin<B>(gate: &Gate<Parts>, request: &mut Request<B>) -> Decision {
    if !gate.asks_requests() {
        return gate.begin_unasked(request);
    }
    let mut parts = Request::new(()).into_parts().0;
    exchange(request, &mut parts);
    let begun = gate.begin(&mut parts);
    exchange(request, &mut parts);
    begun
}

/// Swaps the parts of the request with these: all five that exist.
fn exchange<B>(request: &mut Request<B>, parts: &mut Parts) {
    swap(request.method_mut(), &mut parts.method);
    swap(request.uri_mut(), &mut parts.uri);
    swap(request.version_mut(), &mut parts.version);
    swap(request.headers_mut(), &mut parts.headers);
    swap(request.extensions_mut(), &mut parts.extensions);
}

/// Decides on a pending request.
pub(crate) async fn decide<B>(
    gate: &Gate<Parts>,
    request: Request<B>,
    values: Values,
) -> (Decided, Request<B>) {
    let (mut parts, body) = request.into_parts();
    let decided = gate.decide(&mut parts, values).await;
    (decided, Request::from_parts(parts, body))
}

/// Prepares a decided request for the handler: hides its credential and adds the grant.
///
/// # Errors
/// The answer of a refused request.
#[inline]
pub(crate) fn prepare<B>(
    gate: &Gate<Parts>,
    decided: Decided,
    request: &mut Request<B>,
) -> Result<Option<InFlight>, Box<Refused>> {
    let passage = decided?;
    if let Passage::Granted { .. } = &passage {
        hide_credential(gate, request);
    }
    Ok(passage.enter(&gate.edge, request.extensions_mut()))
}

/// Removes the credential from a request, or marks it as sensitive.
fn hide_credential<B>(gate: &Gate<Parts>, request: &mut Request<B>) {
    let (edge, names) = (&gate.edge, gate.credential_headers.iter());
    edge.hide_in_headers(names, request.headers_mut());
    if !edge.reads_parts() {
        return;
    }
    edge.hide_in_protocols(request.headers_mut());
    edge.hide_in_target(request.uri_mut());
    #[cfg(feature = "axum")]
    if let Some(original) = request
        .extensions_mut()
        .get_mut::<axum::extract::OriginalUri>()
    {
        edge.hide_in_target(&mut original.0);
    }
}

/// Maximum number of bytes read from one body.
const MOST: usize = 16 * 1024 * 1024;

/// Minimum number of bytes that a frame counts as, since a frame may be empty.
const LEAST: usize = 64;

/// Maximum number of bodies drained at a time. Bodies beyond that are dropped, and their connections are closed.
static TURNS: Semaphore = Semaphore::const_new(256);

/// Maximum time spent on one body.
const LONGEST: Duration = Duration::from_secs(2);

/// Reads and discards the rest of a refused request's body, in a task of its own while the answer is sent.
///
/// The layer refuses a request before its body has arrived. A server that then stops reading has to close the
/// connection, and a client that is still sending may lose the answer, or its next request. The layer therefore reads
/// the rest within bounds, like a web server's lingering close.
pub(crate) fn drain<B: Body + Send + 'static>(request: Request<B>) {
    // A client that waits for a go-ahead sends no body once the answer has come.
    if request.body().is_end_stream() || request.headers().contains_key(header::EXPECT) {
        return;
    }
    let body = request.into_body();
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
