//! Answers to callers, in standard formats.
//!
//! An answer depends on the class of a denial, and on its reason only where the caller may know it: no credential came,
//! or a caller that has proven its key lacks scopes or has reached a limit. `http/rejection.rs` builds it and reports
//! the reason to the operator. An admitted request is answered by its handler; `http/managing.rs` has the answers of
//! endpoints that manage keys.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base64ct::{Base64Unpadded, Encoding as _};

use super::key_in::{AuthScheme, KeyIn, Location};
use super::limits::seconds_up;
use super::reason::RejectionReason;
use crate::key::{Quota, Scope};
use crate::verifier::{Denial, DenialClass, DenialReason, Limited, Requirement};

/// An answer ready to be sent: everything about it that the caller may see.
///
/// `Debug` leaves out the body, which may contain a [new key](crate::manager::Revealed).
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers: names in lower case, with their values.
    pub headers: Vec<(&'static str, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A description of the failure, in words that the caller may read. It is the same for all requests that are refused
/// alike.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// A short stable name, for programs.
    pub code: &'static str,
    /// One sentence or two, for people.
    pub detail: &'static str,
    /// The URI of the problem's type (RFC 9457 §3.1.1).
    pub type_uri: &'static str,
    /// The names of the limits that the request would exceed. `None` if the problem's type has no such list.
    pub violated_policies: Option<Vec<Arc<str>>>,
    /// Seconds after which the caller may try again, as in `Retry-After`. `None` if the answer has no such header.
    pub retry_after: Option<u64>,
}

/// The type of a problem that the status says all about.
const ABOUT_BLANK: &str = "about:blank";

/// The type of a refusal by limits (draft-ietf-httpapi-ratelimit-headers §5.1).
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// The type of an answer while limits are not known (draft-ietf-httpapi-ratelimit-headers §5.2).
const TEMPORARY_REDUCED_CAPACITY: &str =
    "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";

/// The type of a refusal for how the client behaves (draft-ietf-httpapi-ratelimit-headers §5.3).
const ABNORMAL_USAGE_DETECTED: &str =
    "https://iana.org/assignments/http-problem-types#abnormal-usage-detected";

/// The code and the detail of a 403.
pub(super) const FORBIDDEN: (&str, &str) =
    ("insufficient_access", "The API key does not permit this.");

/// Writes problems in the format that the host application's callers expect.
pub trait Renderer: fmt::Debug + Send + Sync + 'static {
    /// Completes an answer that already has its status and headers.
    ///
    /// It may change both, but must not reveal more about the reason than the problem does: answers that differ tell
    /// a caller something that it must not know.
    fn render(&self, problem: &Problem, answer: &mut Answer);
}

/// Problem details (RFC 9457), with the problem's name as the member `code`.
///
/// A refusal by limits has a type of draft-ietf-httpapi-ratelimit-headers, with the names of the exceeded limits as
/// `violated-policies`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProblemJson;

impl Renderer for ProblemJson {
    fn render(&self, problem: &Problem, answer: &mut Answer) {
        answer.body = problem.to_json();
        let content_type = "application/problem+json".to_owned();
        answer.headers.push(("content-type", content_type));
    }
}

/// Answers for gRPC clients: status 200, with the failure in `grpc-status` and `grpc-message`.
///
/// The gRPC protocol calls this a response of trailers alone. Where a caller may try again later, as over its limits,
/// `grpc-status-details-bin` says when, in a `google.rpc.RetryInfo`.
///
/// Over gRPC every response of a handler has status 200, including its errors. A handler that [promised a
/// check](crate::verifier::Requirement::checked_by_handler) therefore has to make the check before it answers with an
/// error. Looking the resource up before the handler is called is the better way.
#[derive(Debug, Clone, Copy, Default)]
pub struct GrpcStatus;

impl Renderer for GrpcStatus {
    fn render(&self, problem: &Problem, answer: &mut Answer) {
        let code: u8 = match problem.status {
            400 => 3,       // INVALID_ARGUMENT
            401 => 16,      // UNAUTHENTICATED
            403 => 7,       // PERMISSION_DENIED
            404 => 5,       // NOT_FOUND
            413 | 429 => 8, // RESOURCE_EXHAUSTED
            503 => 14,      // UNAVAILABLE
            _ => 13,        // INTERNAL
        };
        answer.status = 200;
        answer
            .headers
            .push(("content-type", "application/grpc".to_owned()));
        answer.headers.push(("grpc-status", code.to_string()));
        answer
            .headers
            .push(("grpc-message", problem.detail.to_owned()));
        if let Some(seconds) = problem.retry_after {
            let details = grpc_details(code, problem.detail, seconds);
            let details = Base64Unpadded::encode_string(&details);
            answer.headers.push(("grpc-status-details-bin", details));
        }
    }
}

/// Encodes a `google.rpc.Status` with a `google.rpc.RetryInfo`.
fn grpc_details(code: u8, message: &str, seconds: u64) -> Vec<u8> {
    let mut duration = vec![0x08]; // Duration.seconds
    varint(&mut duration, seconds);
    let mut retry_info = Vec::new();
    field(&mut retry_info, 1, &duration); // RetryInfo.retry_delay
    let mut any = Vec::new();
    let type_url = b"type.googleapis.com/google.rpc.RetryInfo";
    field(&mut any, 1, type_url); // Any.type_url
    field(&mut any, 2, &retry_info); // Any.value
    let mut status = vec![0x08]; // Status.code
    varint(&mut status, code.into());
    field(&mut status, 2, message.as_bytes()); // Status.message
    field(&mut status, 3, &any); // Status.details
    status
}

/// Appends a field of bytes, in the encoding of protocol buffers.
fn field(message: &mut Vec<u8>, number: u8, value: &[u8]) {
    message.push(number << 3 | 2);
    varint(message, u64::try_from(value.len()).unwrap_or(u64::MAX));
    message.extend_from_slice(value);
}

/// Appends an integer, in the encoding of protocol buffers.
fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    message.push(value.to_le_bytes()[0]);
}

impl Problem {
    /// Returns the title of the problem's type: for `about:blank`, the reason phrase of the status (RFC 9110 §15, RFC
    /// 6585).
    #[must_use]
    pub fn title(&self) -> &'static str {
        match self.type_uri {
            QUOTA_EXCEEDED => return "Quota Exceeded",
            TEMPORARY_REDUCED_CAPACITY => return "Temporary Reduced Capacity",
            ABNORMAL_USAGE_DETECTED => return "Abnormal Usage Detected",
            _ => {}
        }
        match self.status {
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            409 => "Conflict",
            413 => "Content Too Large",
            422 => "Unprocessable Content",
            429 => "Too Many Requests",
            501 => "Not Implemented",
            503 => "Service Unavailable",
            _ => "Internal Server Error",
        }
    }

    /// Creates a problem that its status says all about.
    pub(super) fn plain(status: u16, code: &'static str, detail: &'static str) -> Self {
        Self {
            status,
            code,
            detail,
            type_uri: ABOUT_BLANK,
            violated_policies: None,
            retry_after: None,
        }
    }

    /// Serializes the problem as RFC 9457 specifies.
    fn to_json(&self) -> Vec<u8> {
        // These texts are constants without quotes, and a limit's name has none, so nothing has to be escaped.
        let title = self.title();
        let Self {
            status,
            code,
            detail,
            type_uri,
            violated_policies,
            ..
        } = self;
        let mut text = format!(
            r#"{{"type":"{type_uri}","title":"{title}","status":{status},"detail":"{detail}","code":"{code}""#
        );
        if let Some(names) = violated_policies {
            let names: Vec<_> = names.iter().map(|name| format!(r#""{name}""#)).collect();
            let names = names.join(",");
            text.push_str(&format!(r#","violated-policies":[{names}]"#));
        }
        text.push('}');
        text.into_bytes()
    }

    /// Returns the problem for a rejection: everything that the caller learns about it.
    ///
    /// `reset` is in how many seconds the quotas that have refused the request reset.
    pub(super) fn of(reason: &RejectionReason, reset: u64) -> Self {
        let problem = Self::without_limits(reason);
        let denial = match reason {
            RejectionReason::Denied(denial) => denial,
            RejectionReason::LookupFailed(_) => {
                return problem.retry_after(RETRY_WHEN_UNDECIDABLE);
            }
            _ => return problem,
        };
        match denial.reason() {
            DenialReason::QuotaExceeded { quota, retry_after } => Self {
                type_uri: QUOTA_EXCEEDED,
                violated_policies: Some(exceeded(denial, quota)),
                ..problem.retry_after(seconds_up(*retry_after).max(reset).max(1))
            },
            DenialReason::TooManyInFlight => Self {
                type_uri: QUOTA_EXCEEDED,
                violated_policies: Some(exceeded(denial, &Quota::CONCURRENCY.into())),
                ..problem.retry_after(RETRY_WHEN_BUSY)
            },
            DenialReason::TooManyFailures { retry_after } => Self {
                type_uri: ABNORMAL_USAGE_DETECTED,
                // A limit that clients do not see.
                violated_policies: Some(Vec::new()),
                ..problem.retry_after(seconds_up(*retry_after).max(1))
            },
            DenialReason::Limiter(_) | DenialReason::Plan(_) => Self {
                type_uri: TEMPORARY_REDUCED_CAPACITY,
                // It is not known which limits the request would exceed.
                violated_policies: Some(Vec::new()),
                ..problem.retry_after(RETRY_WHEN_UNDECIDABLE)
            },
            _ => match denial.class() {
                DenialClass::Throttled => problem.retry_after(RETRY_WHEN_BUSY),
                DenialClass::Undecidable => problem.retry_after(RETRY_WHEN_UNDECIDABLE),
                _ => problem,
            },
        }
    }

    fn retry_after(self, seconds: u64) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }

    fn without_limits(reason: &RejectionReason) -> Self {
        let (status, code, detail) = match reason {
            RejectionReason::Denied(denial) => match (denial.class(), denial.reason()) {
                (DenialClass::BadRequest, _) => {
                    (400, "several_credentials", "Send one API key, once.")
                }
                (DenialClass::Unauthenticated, DenialReason::NoCredential) => {
                    (401, "missing_credential", "An API key is required.")
                }
                (DenialClass::Unauthenticated, _) => {
                    (401, "invalid_credential", "The API key is not valid.")
                }
                (DenialClass::Forbidden, DenialReason::CostAboveLimit { .. }) => (
                    403,
                    "cost_above_limit",
                    "The request costs more than a quota's whole limit. It will not be accepted later.",
                ),
                (DenialClass::Forbidden, _) => (403, FORBIDDEN.0, FORBIDDEN.1),
                (DenialClass::Throttled, DenialReason::TooManyFailures { .. }) => (
                    429,
                    "too_many_failures",
                    "Too many API keys from this address were not valid.",
                ),
                (DenialClass::Throttled, _) => (
                    429,
                    "too_many_requests",
                    "Too many requests with this API key.",
                ),
                (DenialClass::Undecidable, _) => (
                    503,
                    "undecidable",
                    "The API key cannot be checked now. Try again.",
                ),
            },
            RejectionReason::InsecureTransport { .. } => (403, "https_required", "Use HTTPS."),
            RejectionReason::NotFound => (404, "not_found", "There is no such thing."),
            RejectionReason::LookupFailed(_) => (503, "unavailable", "Try again later."),
            RejectionReason::RequestTooLarge => (413, "too_large", "The request is too large."),
            // The caller can do nothing about these, and need not know the reason.
            RejectionReason::ResponseTooLarge | RejectionReason::Unchecked { .. } => {
                (500, "internal", "The request could not be served.")
            }
        };
        Self::plain(status, code, detail)
    }
}

/// Returns the names of the limits that a request would exceed, each once; `name` if the denial does not list them.
fn exceeded(denial: &Denial, name: &Arc<str>) -> Vec<Arc<str>> {
    let limits = denial.limited().into_iter().flat_map(Limited::exceeded);
    let mut names: Vec<Arc<str>> = Vec::new();
    for limit in limits {
        if names.iter().all(|known| **known != *limit.name()) {
            names.push(limit.name().into());
        }
    }
    if names.is_empty() {
        names.push(Arc::clone(name));
    }
    names
}

/// Seconds until a caller over its limit of concurrent requests may retry.
const RETRY_WHEN_BUSY: u64 = 1;

/// Seconds until a caller may retry a request that could not be decided.
const RETRY_WHEN_UNDECIDABLE: u64 = 5;

/// Returns the headers of a rejection, except those of its body.
pub(super) fn headers(
    reason: &RejectionReason,
    problem: &Problem,
    forms: &[KeyIn],
    realm: &str,
    requirement: Option<&Requirement>,
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
        // Names the required scopes only if scopes are missing, declared or not.
        (
            DenialClass::Forbidden,
            DenialReason::MissingAccess | DenialReason::UndeclaredScope(_),
        ) => Some(Cow::Owned(insufficient_scope(requirement))),
        // No other key would do.
        (DenialClass::Forbidden, DenialReason::CostAboveLimit { .. }) => None,
        (DenialClass::Forbidden, _) => Some(Cow::Owned(insufficient_scope(None))),
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
        let is_bearer = form.scheme() == Some(AuthScheme::Bearer);
        // RFC 6750 defines the errors for Bearer. Other schemes define none, so their challenge can only ask for a
        // key.
        if is_bearer || is_unauthenticated {
            let error = if is_bearer { &bearer_error } else { "" };
            headers.push(("www-authenticate", challenge(form, realm, error)));
        }
    }
    headers
}

/// Formats the error of RFC 6750 §3.1, with the required scopes if the requirement names any.
fn insufficient_scope(requirement: Option<&Requirement>) -> String {
    let mut error = r#", error="insufficient_scope""#.to_owned();
    let scopes = requirement.into_iter().flat_map(Requirement::scopes);
    let scopes: Vec<_> = scopes.map(Scope::as_str).collect();
    let scopes = scopes.join(" ");
    if !scopes.is_empty() {
        error.push_str(&format!(r#", scope="{scopes}""#));
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
