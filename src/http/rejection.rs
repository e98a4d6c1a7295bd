//! A rejected request: the reason and the answer.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;

use super::{Answer, NearMiss};
use crate::key::KeyId;
use crate::verifier::{Denial, Grant};

/// A rejected request: the answer to send, and the reason for the operator.
#[derive(Debug)]
pub struct Rejection {
    answer: Answer,
    reason: RejectionReason,
    is_report_only: bool,
}

impl Rejection {
    pub(super) fn new(answer: Answer, reason: RejectionReason, is_report_only: bool) -> Self {
        Self {
            answer,
            reason,
            is_report_only,
        }
    }

    /// Returns the answer to send.
    #[must_use]
    pub fn answer(&self) -> &Answer {
        &self.answer
    }

    /// Consumes the rejection and returns the answer to send.
    #[must_use]
    pub fn into_answer(self) -> Answer {
        self.answer
    }

    /// Returns the reason, for the operator and never for the caller.
    #[must_use]
    pub fn reason(&self) -> &RejectionReason {
        &self.reason
    }

    /// Whether the adapter lets the request through anyway, without a grant: see
    /// [`Edge::report_only`](super::Edge::report_only).
    #[must_use]
    pub fn is_report_only(&self) -> bool {
        self.is_report_only
    }
}

/// The reason for a rejection. For operators; contains no secret.
#[derive(Debug)]
#[non_exhaustive]
pub enum RejectionReason {
    /// The verifier denied the request.
    Denied(Denial),
    /// The request came without TLS, and TLS is required.
    InsecureTransport {
        /// The id of the key that the request carried, if it could be read. An eavesdropper has the whole key, so
        /// rotate it. The edge did not look up whether this key exists.
        key: Option<KeyId>,
        /// Whether the request carried a credential of any kind. No id can be read from keys of another system.
        credential_sent: bool,
    },
    /// The request body exceeds the maximum.
    RequestTooLarge,
    /// The application's look-up found no resource with the name in the request.
    NotFound,
    /// The look-up of a resource that the request names failed.
    LookupFailed(Box<dyn Error + Send + Sync>),
    /// The response exceeded the maximum.
    ResponseTooLarge,
    /// The handler responded without a check that it had promised. This is a mistake of the application, whatever the
    /// key.
    Unchecked {
        /// The kind of resource that the handler never checked.
        kind: Box<str>,
    },
}

impl RejectionReason {
    /// Whether the caller is not at fault, so that report-only mode does not apply.
    pub(super) fn is_of_the_handler(&self) -> bool {
        matches!(
            self,
            Self::NotFound
                | Self::LookupFailed(_)
                | Self::Unchecked { .. }
                | Self::ResponseTooLarge
        )
    }
}

impl fmt::Display for RejectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(denial) => fmt::Display::fmt(denial.reason(), f),
            Self::NotFound => f.write_str("the requested resource does not exist"),
            Self::LookupFailed(error) => {
                write!(f, "looking up the requested resource failed: {error}")
            }
            Self::RequestTooLarge => f.write_str("the request body exceeds its limit"),
            Self::ResponseTooLarge => f.write_str("the response body exceeds its limit"),
            Self::Unchecked { kind } => {
                write!(
                    f,
                    "the handler never asked whether the key is permitted the `{kind}`"
                )
            }
            Self::InsecureTransport {
                credential_sent: false,
                ..
            } => f.write_str("the request came without TLS"),
            Self::InsecureTransport { key: None, .. } => {
                f.write_str("a credential came without TLS: if it is a key, rotate it")
            }
            Self::InsecureTransport { key: Some(key), .. } => {
                write!(f, "the key {key} came without TLS: rotate it")
            }
        }
    }
}

/// A rejection, as reported to an [observer](super::Edge::observe).
#[derive(Debug)]
#[non_exhaustive]
pub struct RejectionEvent<'a> {
    /// The reason.
    pub reason: &'a RejectionReason,
    /// The client's address. `None` if it is unknown, or if a response is refused.
    pub client: Option<IpAddr>,
    /// The grant, and so the key's owner and title, if the request had been admitted before. `None` if it had not.
    ///
    /// The rejection has one of these causes: the request turned out to be too long or to name a missing resource,
    /// the look-up failed, the request did not meet a requirement after a look-up or at a second guard, or its
    /// response is refused.
    pub grant: Option<&'a Grant>,
    /// The near misses, if the caller sent no accepted credential.
    pub near_misses: &'a [NearMiss],
    /// Whether the request was let through anyway.
    pub is_report_only: bool,
}

impl RejectionEvent<'_> {
    /// Returns the id of the presented key. `None` if no id could be read.
    ///
    /// A caller can present any id, unless there is a [grant](Self::grant).
    #[must_use]
    pub fn key_id(&self) -> Option<KeyId> {
        if let Some(grant) = self.grant {
            return Some(grant.key_id());
        }
        match self.reason {
            RejectionReason::Denied(denial) => denial.key_id(),
            RejectionReason::InsecureTransport { key, .. } => *key,
            RejectionReason::NotFound
            | RejectionReason::LookupFailed(_)
            | RejectionReason::RequestTooLarge
            | RejectionReason::ResponseTooLarge
            | RejectionReason::Unchecked { .. } => None,
        }
    }
}
