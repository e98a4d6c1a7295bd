//! Why a request to the endpoints was refused or failed.

use std::error::Error;
use std::fmt;

use super::answers;
use crate::http::{Answer, ManagementApi};
use crate::key::{KeyId, Principal, TenantId};
use crate::manager::ManageError;

/// Why a request to the [endpoints](super::ManagementApi) was refused or failed, for the host's log.
///
/// In axum, the response's extensions contain it as an `Arc<ManagementFailure>`. In actix, it is the
/// [`error`](https://docs.rs/actix-web/4/actix_web/struct.HttpResponse.html#method.error) of the response.
///
/// It contains no key of the application's format, and of the request's texts only the names of scopes and quotas.
#[derive(Debug)]
pub struct ManagementFailure {
    reason: Reason,
    principal: Principal,
    tenant: TenantId,
    key: Option<KeyId>,
}

#[derive(Debug)]
pub(crate) enum Reason {
    /// The manager was not asked.
    Refusal(Refusal),
    Manage(ManageError),
}

/// Why a request was refused before the manager was asked.
#[derive(Debug)]
pub(crate) enum Refusal {
    UnknownEndpoint,
    MethodNotAllowed {
        allowed: &'static str,
    },
    CrossOrigin,
    TooLarge,
    MediaType,
    #[cfg_attr(
        not(any(feature = "actix", feature = "axum")),
        allow(dead_code, reason = "adapters read bodies")
    )]
    Unread,
    MalformedJson(String),
    Body(String),
    Query(String),
    IdempotencyKey,
}

impl Refusal {
    /// Returns the status of the answer and the code.
    fn status_and_code(&self) -> (u16, &'static str) {
        match self {
            Self::Unread => (400, "unreadable_body"),
            Self::MalformedJson(_) => (400, "malformed_json"),
            Self::Query(_) => (400, "invalid_query"),
            Self::IdempotencyKey => (400, "invalid_idempotency_key"),
            Self::CrossOrigin => (403, "cross_origin"),
            Self::UnknownEndpoint => (404, "unknown_endpoint"),
            Self::MethodNotAllowed { .. } => (405, "method_not_allowed"),
            Self::TooLarge => (413, "request_too_large"),
            Self::MediaType => (415, "unsupported_media_type"),
            Self::Body(_) => (422, "invalid_body"),
        }
    }
}

impl ManagementFailure {
    pub(super) fn new(
        reason: Reason,
        principal: Principal,
        tenant: TenantId,
        key: Option<KeyId>,
    ) -> Self {
        Self {
            reason,
            principal,
            tenant,
            key,
        }
    }

    /// Returns a stable code in snake case, for logs, metrics and answers: that of the key manager's error, if it has
    /// one.
    ///
    /// A released code never changes. [Operations](crate::manual::operations#which-codes-are-there) lists all codes.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match &self.reason {
            Reason::Refusal(refusal) => refusal.status_and_code().1,
            Reason::Manage(error) => error.code(),
        }
    }

    /// Returns the codes that are not those of a [`ManageError`].
    #[cfg(test)]
    pub(crate) fn codes() -> Vec<String> {
        let refusals = [
            Refusal::Unread,
            Refusal::MalformedJson(String::new()),
            Refusal::Query(String::new()),
            Refusal::IdempotencyKey,
            Refusal::CrossOrigin,
            Refusal::UnknownEndpoint,
            Refusal::MethodNotAllowed { allowed: "" },
            Refusal::TooLarge,
            Refusal::MediaType,
            Refusal::Body(String::new()),
        ];
        let codes = refusals.iter().map(|refusal| refusal.status_and_code().1);
        codes.map(str::to_owned).collect()
    }

    /// Returns the error of the key manager. `None` if the request was refused before the manager was asked.
    #[must_use]
    pub fn error(&self) -> Option<&ManageError> {
        match &self.reason {
            Reason::Refusal(_) => None,
            Reason::Manage(error) => Some(error),
        }
    }

    /// Returns the principal of the session.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Returns the tenant of the session.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Returns the id that the path names, whether or not the tenant has such a key. `None` for the list, a new key,
    /// and a text that is no id.
    #[must_use]
    pub fn key(&self) -> Option<KeyId> {
        self.key
    }
}

impl From<&ManagementFailure> for Answer {
    fn from(failure: &ManagementFailure) -> Self {
        let refusal = match &failure.reason {
            Reason::Refusal(refusal) => refusal,
            Reason::Manage(error) => return error.into(),
        };
        let (status, code) = refusal.status_and_code();
        let mut answer = answers::problem(status, code, &refusal.to_string(), None);
        match refusal {
            Refusal::MethodNotAllowed { allowed } => {
                answer.headers.push(("allow", (*allowed).to_owned()));
            }
            // RFC 9110 §15.5.16
            Refusal::MediaType => answer
                .headers
                .push(("accept", "application/json".to_owned())),
            _ => {}
        }
        answer
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownEndpoint => f.write_str("there is no such endpoint"),
            Self::MethodNotAllowed { allowed } => write!(f, "the endpoint has {allowed}"),
            Self::CrossOrigin => f.write_str("a web page of another origin made the request"),
            Self::TooLarge => {
                let most = ManagementApi::MAX_BODY_BYTES;
                write!(f, "the body has more than {most} bytes")
            }
            Self::MediaType => f.write_str("the body must be declared as application/json"),
            Self::Unread => f.write_str("the body could not be read to its end"),
            Self::MalformedJson(words) => write!(f, "the body is not JSON: {words}"),
            Self::Body(words) | Self::Query(words) => f.write_str(words),
            Self::IdempotencyKey => f.write_str(
                "the header Idempotency-Key must come once, with 1 to 255 visible ASCII characters",
            ),
        }
    }
}

impl fmt::Display for ManagementFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Reason::Refusal(refusal) => refusal.fmt(f),
            Reason::Manage(error) => error.fmt(f),
        }
    }
}

impl Error for ManagementFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error().and_then(Error::source)
    }
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl From<ManageError> for Reason {
    fn from(error: ManageError) -> Self {
        Self::Manage(error)
    }
}
