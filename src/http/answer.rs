//! Answers to callers, in standard formats.
//!
//! An answer depends on the class of a denial, and on its reason only where the caller may know it: no credential came,
//! or a caller that has proven its key lacks a scope or a resource, or has reached a limit. `http/rejection.rs` builds
//! it and reports the reason to the operator. An admitted request is answered by its handler; `http/management`
//! has the answers of endpoints that manage keys.

mod challenge;
mod grpc;

use std::fmt;
use std::sync::Arc;

pub(super) use self::challenge::headers;
pub use self::grpc::GrpcStatus;
use super::limits::seconds_up;
use super::reason::RejectionReason;
use crate::key::{Quota, Scope};
use crate::verifier::{Denial, DenialClass, DenialReason, Limited, Requirement, ResourceDenied};

/// An answer ready to be sent: everything about it that the caller may see.
///
/// `Debug` leaves out the body, which may contain a [new key](crate::manager::Issued).
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
    /// Lists of scopes: a key with all scopes of any one list would do. Empty if only a key with full access would do.
    /// `None` unless the key lacks a scope.
    ///
    /// There are at most 16 lists. A rule that more lists would meet names the first ones.
    pub sufficient_scopes: Option<Vec<Vec<Scope>>>,
    /// A kind of resource that the key is restricted in, if no key restricted in this kind is accepted.
    pub resource_kind: Option<Arc<str>>,
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

/// The code and the detail of a 403 for a resource.
pub(super) const RESOURCE_NOT_PERMITTED: (&str, &str) = (
    "resource_not_permitted",
    "The API key does not permit this resource.",
);

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
/// `violated-policies`. A 403 for a missing scope has `sufficient_scopes`, lists of scopes as in
/// `[["read:editions","read:projects"],["admin"]]`: a key with all scopes of one list would do. A 403 for a key that
/// is restricted to some resources, where no such key is accepted, has the kind of these as `resource_kind`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProblemJson;

impl Renderer for ProblemJson {
    fn render(&self, problem: &Problem, answer: &mut Answer) {
        answer.body = problem.to_json();
        let content_type = "application/problem+json".to_owned();
        answer.headers.push(("content-type", content_type));
    }
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
            405 => "Method Not Allowed",
            409 => "Conflict",
            413 => "Content Too Large",
            415 => "Unsupported Media Type",
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
            sufficient_scopes: None,
            resource_kind: None,
            retry_after: None,
        }
    }

    /// Serializes the problem as RFC 9457 specifies.
    fn to_json(&self) -> Vec<u8> {
        // These texts are constants without quotes, and names of limits, scopes and kinds have none: nothing has to be
        // escaped.
        let title = self.title();
        let Self {
            status,
            code,
            detail,
            type_uri,
            violated_policies,
            sufficient_scopes,
            resource_kind,
            ..
        } = self;
        let mut text = format!(
            r#"{{"type":"{type_uri}","title":"{title}","status":{status},"detail":"{detail}","code":"{code}""#
        );
        if let Some(names) = violated_policies {
            let names = json_list(names.iter().map(|name| format!(r#""{name}""#)));
            text.push_str(&format!(r#","violated-policies":{names}"#));
        }
        if let Some(alternatives) = sufficient_scopes {
            let list =
                |scopes: &Vec<Scope>| json_list(scopes.iter().map(|scope| format!(r#""{scope}""#)));
            let alternatives = json_list(alternatives.iter().map(list));
            text.push_str(&format!(r#","sufficient_scopes":{alternatives}"#));
        }
        if let Some(kind) = resource_kind {
            text.push_str(&format!(r#","resource_kind":"{kind}""#));
        }
        text.push('}');
        text.into_bytes()
    }

    /// Returns the problem for a rejection: everything that the caller learns about it.
    ///
    /// `reset` is in how many seconds the quotas that have refused the request reset, and `need` is the route's
    /// requirement, if it is known.
    pub(super) fn of(reason: &RejectionReason, reset: u64, need: Option<&Requirement>) -> Self {
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
            DenialReason::MissingAccess | DenialReason::UndeclaredScope(_) => {
                problem.insufficient_scope(need)
            }
            DenialReason::ResourceUnsettled { kind } => Self {
                resource_kind: Some(Arc::clone(kind)),
                ..problem
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

    /// Adds the scopes that would do.
    fn insufficient_scope(self, need: Option<&Requirement>) -> Self {
        let sufficient_scopes = need.map(Requirement::sufficient_scopes);
        let detail = match sufficient_scopes.as_deref() {
            Some([]) => "This needs an API key with full access.",
            _ => self.detail,
        };
        Self {
            sufficient_scopes,
            detail,
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
                (DenialClass::Forbidden, reason) => forbidden(reason),
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
            RejectionReason::FromBrowser { .. } => (
                403,
                "from_browser",
                "API keys are not accepted from web browsers. Send them from a server.",
            ),
            RejectionReason::NotFound => (404, "not_found", "There is no such thing."),
            RejectionReason::LookupFailed(_) => (503, "unavailable", "Try again later."),
            RejectionReason::RequestTooLarge => {
                (413, "request_too_large", "The request is too large.")
            }
            // The caller can do nothing about these, and need not know the reason.
            RejectionReason::ResponseTooLarge
            | RejectionReason::NoInnerGuard
            | RejectionReason::Unchecked { .. } => {
                (500, "internal", "The request could not be served.")
            }
        };
        Self::plain(status, code, detail)
    }
}

/// Returns the answer to a proven key that may not do this.
fn forbidden(reason: &DenialReason) -> (u16, &'static str, &'static str) {
    let (code, detail) = match reason {
        DenialReason::CostAboveLimit { .. } => (
            "cost_above_limit",
            "The request costs more than a quota's whole limit. It will not be accepted later.",
        ),
        DenialReason::ResourceUnsettled { .. } => (
            "restricted_key",
            "An API key that is restricted to some resources cannot be used for this.",
        ),
        DenialReason::ResourceUnbound { .. } => (
            "resource_not_named",
            "The request names no resource that the API key could be checked for.",
        ),
        DenialReason::TooManyResources => (
            "too_many_resources",
            "The request names too many resources.",
        ),
        DenialReason::ResourceRefused { .. } => RESOURCE_NOT_PERMITTED,
        _ => (
            "insufficient_scope",
            "The API key lacks a scope that this needs.",
        ),
    };
    (403, code, detail)
}

/// Writes a list of values that are JSON already.
fn json_list(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(","))
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

/// The 403 of a handler that refuses a resource by itself, in problem details.
impl From<&ResourceDenied> for Answer {
    fn from(_: &ResourceDenied) -> Self {
        let (code, detail) = RESOURCE_NOT_PERMITTED;
        let problem = Problem::plain(403, code, detail);
        let mut answer = Self {
            status: 403,
            headers: vec![("cache-control", "no-store".to_owned())],
            body: Vec::new(),
        };
        ProblemJson.render(&problem, &mut answer);
        answer
    }
}

/// Joins scopes that are needed together, as RFC 6749 §3.3 writes them.
fn joined(scopes: &[Scope]) -> String {
    let scopes: Vec<_> = scopes.iter().map(Scope::as_str).collect();
    scopes.join(" ")
}
