//! The headers of a rejection: when to try again, and the challenges that say how to send a key.

use std::borrow::Cow;

use super::{Problem, joined};
use crate::http::key_in::{AuthScheme, KeyIn, Location};
use crate::http::reason::RejectionReason;
use crate::verifier::{DenialClass, DenialReason};

/// Returns the headers of a rejection, except those of its body.
pub(in crate::http) fn headers(
    reason: &RejectionReason,
    problem: &Problem,
    forms: &[KeyIn],
    realm: &str,
) -> Vec<(&'static str, String)> {
    let mut headers = vec![("cache-control", "no-store".to_owned())];
    if let Some(seconds) = problem.retry_after {
        headers.push(("retry-after", seconds.to_string()));
    }
    let RejectionReason::Denied(denial) = reason else {
        return headers;
    };
    let bearer_error = match (denial.class(), denial.reason()) {
        (DenialClass::Unauthenticated, DenialReason::NoCredential) => Some(Cow::Borrowed("")),
        (DenialClass::Unauthenticated, _) => Some(Cow::Borrowed(r#", error="invalid_token""#)),
        (DenialClass::BadRequest, _) => Some(Cow::Borrowed(r#", error="invalid_request""#)),
        (
            DenialClass::Forbidden,
            DenialReason::MissingAccess | DenialReason::UndeclaredScope(_),
        ) => Some(Cow::Owned(insufficient_scope(problem))),
        // Other scopes would change nothing (RFC 6750 §3.1).
        (DenialClass::Forbidden, _) => None,
        (DenialClass::Throttled | DenialClass::Undecidable, _) => None,
    };
    let Some(bearer_error) = bearer_error else {
        return headers;
    };
    let is_unauthenticated = denial.class() == DenialClass::Unauthenticated;
    if forms.is_empty() && is_unauthenticated {
        // A 401 carries a challenge (RFC 9110 §15.5.2), even if the edge accepts no form of key.
        headers.push(("www-authenticate", format!(r#"ApiKey realm="{realm}""#)));
    }
    for form in forms {
        let is_bearer = form.auth_scheme() == Some(&AuthScheme::Bearer);
        // RFC 6750 defines the errors for Bearer. Other schemes define none, so their challenge can only ask for a
        // key.
        if is_bearer || is_unauthenticated {
            let error = if is_bearer { &bearer_error } else { "" };
            headers.push(("www-authenticate", challenge(form, realm, error)));
        }
    }
    headers
}

/// Formats the error of RFC 6750 §3.1, with scopes that would do, if any would.
///
/// The scopes of a challenge are needed together, so it names one alternative: the first.
fn insufficient_scope(problem: &Problem) -> String {
    let mut error = r#", error="insufficient_scope""#.to_owned();
    let mut alternatives = problem.sufficient_scopes.iter().flatten();
    if let Some(scopes) = alternatives.next() {
        error.push_str(&format!(r#", scope="{}""#, joined(scopes)));
    }
    error
}

/// Formats the challenge for one form of sending a key (RFC 9110 §11.6.1).
///
/// For a key outside `Authorization`, the scheme `ApiKey` says where, in parameters named as OpenAPI names them.
fn challenge(form: &KeyIn, realm: &str, error: &str) -> String {
    match &form.0 {
        Location::Scheme(AuthScheme::Bearer) => format!(r#"Bearer realm="{realm}"{error}"#),
        Location::Scheme(AuthScheme::ApiKey) => format!(r#"ApiKey realm="{realm}""#),
        Location::Scheme(AuthScheme::Basic) => format!(r#"Basic realm="{realm}", charset="UTF-8""#),
        Location::Scheme(AuthScheme::Other(name)) => format!(r#"{} realm="{realm}""#, name.written),
        Location::Scheme(AuthScheme::Bare) => {
            format!(r#"ApiKey realm="{realm}", in="header", name="Authorization""#)
        }
        Location::SubProtocol(_) => {
            format!(r#"ApiKey realm="{realm}", in="header", name="Sec-WebSocket-Protocol""#)
        }
        Location::Header(name) => {
            format!(
                r#"ApiKey realm="{realm}", in="header", name="{}""#,
                name.written
            )
        }
        Location::Pair { id, secret } => format!(
            r#"ApiKey realm="{realm}", in="header", name="{} {}""#,
            id.written, secret.written
        ),
        Location::Query(name) => format!(r#"ApiKey realm="{realm}", in="query", name="{name}""#),
    }
}
