//! What is taken out of a request.

use http::{Request, Uri};
use http::header::Entry;
use http::request::Parts;

use crate::http::{Begun, Edge, Gate, Terms};

/// Decides on a request, where that can be done at once. It is taken apart only for those who ask for its parts.
#[inline]
pub(crate) fn begin<B>(gate: &Gate<Parts>, request: Request<B>) -> (Begun, Request<B>) {
    match gate.begin_unasked(&request) {
        Some(begun) => (begun, request),
        None => begin_in_parts(gate, request),
    }
}

fn begin_in_parts<B>(gate: &Gate<Parts>, request: Request<B>) -> (Begun, Request<B>) {
    let (mut parts, body) = request.into_parts();
    let begun = gate.begin(&mut parts);
    (begun, Request::from_parts(parts, body))
}

/// Takes the credential out of a request, or marks it.
pub(crate) fn hide_credential<B>(terms: &Terms<Parts>, request: &mut Request<B>) {
    let edge = &terms.edge;
    for name in terms.credential_headers.iter() {
        if !terms.keeps_credential {
            request.headers_mut().remove(name);
        } else if let Entry::Occupied(mut values) = request.headers_mut().entry(name) {
            values
                .iter_mut()
                .for_each(|value| value.set_sensitive(true));
        }
    }
    if terms.keeps_credential {
        return;
    }
    if let Some(uri) = without_credential(edge, request.uri()) {
        *request.uri_mut() = uri;
    }
    #[cfg(feature = "axum")]
    if let Some(original) = request
        .extensions_mut()
        .get_mut::<axum::extract::OriginalUri>()
        && let Some(uri) = without_credential(edge, &original.0)
    {
        original.0 = uri;
    }
}

/// The target without the parameters that keys are accepted in; none if it has none of them.
fn without_credential(edge: &Edge, uri: &Uri) -> Option<Uri> {
    let target = edge.target_without_credential(uri.path(), uri.query()?)?;
    let mut parts = uri.clone().into_parts();
    // Nothing was added to a target that was one: should it be none all the same, it is not handed on.
    parts.path_and_query = target.try_into().ok();
    Some(Uri::from_parts(parts).unwrap_or_default())
}
