//! What is taken out of a request.

use http::{Request, Uri};
use http::header::Entry;
use http::request::Parts;

use crate::http::{Edge, Terms};

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
    if terms.keeps_credential || !edge.reads_queries() {
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
