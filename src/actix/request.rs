//! What becomes of a request that was decided on.

use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::Uri;
use actix_web::{HttpMessage as _, HttpRequest};

use super::payload::bounded;
use super::response::answer;
use crate::http::{Edge, Rejection, ResponseBody, Rest, Terms, Way};

/// What is left to do for a request that was let through, if it was not only reported, and what the handler is to see
/// of it; or its answer.
pub(super) type HandedOn<B> =
    Result<(Option<Rest>, ServiceRequest), Box<ServiceResponse<ResponseBody<B>>>>;

/// The request as the handler is to see it, or its answer.
pub(super) fn hand_on<B>(
    terms: &Terms<HttpRequest>,
    decided: Result<Way, Box<Rejection>>,
    mut request: ServiceRequest,
) -> HandedOn<B> {
    let way = match terms.let_in(decided) {
        Ok(way) => way,
        Err(rejection) => return Err(answered(request, *rejection)),
    };
    let rest = way.map(|way| {
        let (grant, rest) = way.hand_on(terms);
        hide_credential(terms, &mut request);
        request.extensions_mut().insert(grant);
        rest
    });
    if let Some(most) = terms.request_bound() {
        let payload: Payload = request.take_payload();
        request.set_payload(bounded(payload, most));
    }
    Ok((rest, request))
}

fn answered<B>(
    request: ServiceRequest,
    rejection: Rejection,
) -> Box<ServiceResponse<ResponseBody<B>>> {
    Box::new(request.into_response(answer(rejection.into_answer(), ResponseBody::answer)))
}

/// Takes the credential out of a request, or marks it.
fn hide_credential(terms: &Terms<HttpRequest>, request: &mut ServiceRequest) {
    let edge = &terms.edge;
    for name in terms.credential_headers.iter() {
        if !terms.keeps_credential {
            request.headers_mut().remove(name);
        } else {
            let values: Vec<_> = request.headers_mut().remove(name).collect();
            for mut value in values {
                value.set_sensitive(true);
                request.headers_mut().append(name.clone(), value);
            }
        }
    }
    if !terms.keeps_credential
        && edge.reads_queries()
        && let Some(uri) = without_credential(edge, request.uri())
    {
        // The router keeps a copy of it.
        request.match_info_mut().get_mut().update(&uri);
        request.head_mut().uri = uri;
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
