//! Prepares decided requests for the handler.

use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::Uri;
use actix_web::{HttpMessage as _, HttpRequest};

use super::payload::bounded;
use super::response::answer;
use crate::http::{Completion, Edge, GateAdmission, GateConfig, Rejection, ResponseBody};

/// The work that remains after the handler, and the request as the handler sees it. Or the answer, if the request is
/// rejected.
///
/// The work is `None` if a rejection is only reported.
pub(super) type Entered<B> =
    Result<(Option<Completion>, ServiceRequest), Box<ServiceResponse<ResponseBody<B>>>>;

/// Prepares a decided request for the handler: hides its credential and adds the grant.
pub(super) fn prepare_request<B>(
    config: &GateConfig<HttpRequest>,
    decided: Result<GateAdmission, Box<Rejection>>,
    mut request: ServiceRequest,
) -> Entered<B> {
    let admission = match config.admission(decided) {
        Ok(admission) => admission,
        Err(rejection) => return Err(answered(request, *rejection)),
    };
    let completion = admission.map(|admission| {
        let (grant, completion) = admission.split(config);
        hide_credential(config, &mut request);
        request.extensions_mut().insert(grant);
        completion
    });
    if let Some(most) = config.request_bound() {
        let payload: Payload = request.take_payload();
        request.set_payload(bounded(payload, most));
    }
    Ok((completion, request))
}

fn answered<B>(
    request: ServiceRequest,
    rejection: Rejection,
) -> Box<ServiceResponse<ResponseBody<B>>> {
    Box::new(request.into_response(answer(rejection.into_answer(), ResponseBody::answer)))
}

/// Removes the credential from a request, or marks it as sensitive.
fn hide_credential(config: &GateConfig<HttpRequest>, request: &mut ServiceRequest) {
    let edge = &config.edge;
    for name in config.credential_headers.iter() {
        if !config.keeps_credential {
            request.headers_mut().remove(name);
        } else {
            let values: Vec<_> = request.headers_mut().remove(name).collect();
            for mut value in values {
                value.set_sensitive(true);
                request.headers_mut().append(name.clone(), value);
            }
        }
    }
    if !config.keeps_credential && edge.reads_queries() {
        if let Some(uri) = without_credential(edge, request.uri()) {
            // The router keeps a copy of the URI.
            request.match_info_mut().get_mut().update(&uri);
            request.head_mut().uri = uri;
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
