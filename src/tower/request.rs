//! What is taken out of a request.

use std::mem::swap;

use http::header::Entry;
use http::request::Parts;
use http::{Request, Uri};

use crate::http::{Begun, Edge, Gate, Rejection, Rest, Terms, Values, Way};

/// How far a request has come.
pub(crate) enum Entering {
    /// It was decided on, and is as the handler is to see it, if it was not refused.
    Decided(HandedOn),
    /// For [`Gate::decide`].
    Open(Values),
}

/// What is left to do for a request that was let through, if it was not only reported; or its rejection.
pub(crate) type HandedOn = Result<Option<Rest>, Box<Rejection>>;

/// Decides on a request, where that can be done at once. It is taken apart only where the host asks something of its
/// parts, so that most are moved about no more than without a guard.
pub(crate) fn enter<B>(gate: &Gate<Parts>, request: &mut Request<B>) -> Entering {
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
        Begun::Decided(decided) => Entering::Decided(hand_on(gate.terms(), decided, request)),
        Begun::Open(values) => Entering::Open(values),
    }
}

/// Puts the parts of each in the place of the other's: all five that there are.
fn exchange<B>(request: &mut Request<B>, parts: &mut Parts) {
    swap(request.method_mut(), &mut parts.method);
    swap(request.uri_mut(), &mut parts.uri);
    swap(request.version_mut(), &mut parts.version);
    swap(request.headers_mut(), &mut parts.headers);
    swap(request.extensions_mut(), &mut parts.extensions);
}

/// Makes of a request that was decided on what the handler is to see.
///
/// # Errors
/// The rejection to answer with.
#[inline]
pub(crate) fn hand_on<B>(
    terms: &Terms<Parts>,
    decided: Result<Way, Box<Rejection>>,
    request: &mut Request<B>,
) -> HandedOn {
    let way = terms.let_in(decided)?;
    Ok(way.map(|way| {
        let (grant, rest) = way.hand_on(terms);
        hide_credential(terms, request);
        request.extensions_mut().insert(grant);
        rest
    }))
}

/// Takes the credential out of a request, or marks it.
fn hide_credential<B>(terms: &Terms<Parts>, request: &mut Request<B>) {
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
