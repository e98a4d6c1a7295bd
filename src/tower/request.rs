//! Decides on requests, removes their credential, and reads the bodies of refused ones.

use std::mem::swap;
use std::pin::pin;
use std::time::Duration;

use bytes::Buf as _;
use http::header::{self, Entry};
use http::request::Parts;
use http::{HeaderValue, Request, Uri};
use http_body::Body;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::http::{
    Admission, Decided, Decision, Edge, Gate, Passage, Refused, Values, WithoutGrant,
};
use crate::verifier::Grant;

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
) -> Result<Option<Admission>, Box<Refused>> {
    match decided? {
        Passage::Granted(grant, admission) => {
            hide_credential(gate, request);
            request.extensions_mut().insert(grant);
            Ok(Some(admission))
        }
        Passage::Guest(admission) => {
            // That of another Keyward would make the guest its caller.
            request.extensions_mut().remove::<Grant>();
            request.extensions_mut().insert(WithoutGrant);
            Ok(Some(admission))
        }
        Passage::Reported => {
            request.extensions_mut().insert(WithoutGrant);
            Ok(None)
        }
    }
}

/// Removes the credential from a request, or marks it as sensitive.
fn hide_credential<B>(gate: &Gate<Parts>, request: &mut Request<B>) {
    for name in gate.credential_headers.iter() {
        if !gate.edge.keeps_credential() {
            request.headers_mut().remove(name);
        } else if let Entry::Occupied(mut values) = request.headers_mut().entry(name) {
            values
                .iter_mut()
                .for_each(|value| value.set_sensitive(true));
        }
    }
    if gate.edge.reads_parts() {
        hide_parts(&gate.edge, request);
    }
}

/// Removes the credential from a list of sub-protocols and from the target, or marks the list as sensitive.
fn hide_parts<B>(edge: &Edge, request: &mut Request<B>) {
    let name = header::SEC_WEBSOCKET_PROTOCOL;
    let mut lines: Vec<_> = request.headers().get_all(&name).iter().cloned().collect();
    request.headers_mut().remove(&name);
    for line in &mut lines {
        if edge.keeps_credential() {
            line.set_sensitive(true);
        } else if let Some(rest) = edge.protocols_without_credential(line.as_bytes()) {
            // A line that cannot be written again is dropped: the credential must not pass.
            *line = HeaderValue::from_bytes(&rest).unwrap_or(HeaderValue::from_static(""));
        }
        if !line.is_empty() {
            request.headers_mut().append(&name, line.clone());
        }
    }
    if edge.keeps_credential() {
        return;
    }
    if let Some(uri) = without_credential(edge, request.uri()) {
        *request.uri_mut() = uri;
    }
    #[cfg(feature = "axum")]
    if let Some(original) = request
        .extensions_mut()
        .get_mut::<axum::extract::OriginalUri>()
    {
        if let Some(uri) = without_credential(edge, &original.0) {
            original.0 = uri;
        }
    }
}

/// Removes the parameters that keys are accepted in from the target. `None` if it has no such parameter.
fn without_credential(edge: &Edge, uri: &Uri) -> Option<Uri> {
    let target = edge.target_without_credential(uri.path(), uri.query()?)?;
    let mut parts = uri.clone().into_parts();
    // Removing parameters should leave a valid target. If it does not, drop it: the credential must not pass.
    parts.path_and_query = target.try_into().ok();
    Some(Uri::from_parts(parts).unwrap_or_default())
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
