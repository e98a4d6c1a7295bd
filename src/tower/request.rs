//! Decides on requests and removes their credential.

use std::mem::swap;

use http::header::Entry;
use http::request::Parts;
use http::{Request, Uri};

use crate::http::{Completion, Decision, Edge, Gate, GateAdmission, GateConfig, Rejection, Values};

/// The work that remains after the handler of an admitted request. `None` if a rejection is only reported.
pub(crate) type Entered = Result<Option<Completion>, Box<Rejection>>;

/// Decides on a request at once, if possible, and prepares it for the handler.
///
/// It takes the request apart only if the host's functions inspect the parts, so that most requests are moved no more
/// than without a guard.
pub(crate) fn enter<B>(gate: &Gate<Parts>, request: &mut Request<B>) -> Decision<Entered, Values> {
    let begun = if gate.asks_requests() {
        let mut parts = Request::new(()).into_parts().0;
        exchange(request, &mut parts);
        let begun = gate.begin(&mut parts);
        exchange(request, &mut parts);
        begun
    } else {
        gate.begin_unasked(request)
    };
    match begun {
        Decision::Made(decided) => Decision::Made(prepare_request(gate.config(), decided, request)),
        Decision::Pending(values) => Decision::Pending(values),
    }
}

/// Swaps the parts of the request with these: all five that exist.
fn exchange<B>(request: &mut Request<B>, parts: &mut Parts) {
    swap(request.method_mut(), &mut parts.method);
    swap(request.uri_mut(), &mut parts.uri);
    swap(request.version_mut(), &mut parts.version);
    swap(request.headers_mut(), &mut parts.headers);
    swap(request.extensions_mut(), &mut parts.extensions);
}

/// Prepares a decided request for the handler: hides its credential and adds the grant.
///
/// # Errors
/// The rejection to answer with.
#[inline]
pub(crate) fn prepare_request<B>(
    config: &GateConfig<Parts>,
    decided: Result<GateAdmission, Box<Rejection>>,
    request: &mut Request<B>,
) -> Entered {
    let admission = config.admission(decided)?;
    Ok(admission.map(|admission| {
        let (grant, completion) = admission.split(config);
        hide_credential(config, request);
        request.extensions_mut().insert(grant);
        completion
    }))
}

/// Removes the credential from a request, or marks it as sensitive.
fn hide_credential<B>(config: &GateConfig<Parts>, request: &mut Request<B>) {
    let edge = &config.edge;
    for name in config.credential_headers.iter() {
        if !config.keeps_credential {
            request.headers_mut().remove(name);
        } else if let Entry::Occupied(mut values) = request.headers_mut().entry(name) {
            values
                .iter_mut()
                .for_each(|value| value.set_sensitive(true));
        }
    }
    if config.keeps_credential || !edge.reads_queries() {
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
