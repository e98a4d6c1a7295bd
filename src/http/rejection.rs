//! Why a request was rejected, and what to answer.

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

    /// What to answer.
    #[must_use]
    pub fn answer(&self) -> &Answer {
        &self.answer
    }

    /// What to answer.
    #[must_use]
    pub fn into_answer(self) -> Answer {
        self.answer
    }

    /// Why. For the operator, never for the caller.
    #[must_use]
    pub fn reason(&self) -> &RejectionReason {
        &self.reason
    }

    /// Whether the request is to be let through all the same, without a grant: see
    /// [`Edge::report_only`](super::Edge::report_only).
    #[must_use]
    pub fn is_report_only(&self) -> bool {
        self.is_report_only
    }
}

/// Why a request was rejected. For operators; contains no secret.
#[derive(Debug)]
#[non_exhaustive]
pub enum RejectionReason {
    /// The verifier denied it.
    Denied(Denial),
    /// It came over an insecure transport, without TLS, where TLS is required.
    InsecureTransport {
        /// The id of the key that it carried, if one could be read: anyone who listened has the whole key, so rotate
        /// it. Whether there is such a key was not looked up.
        key: Option<KeyId>,
        /// Whether it carried a credential of any kind: no id can be read from another system's keys.
        credential_sent: bool,
    },
    /// Its body is longer than requests may be.
    RequestTooLarge,
    /// What the request names does not exist, as the application's look-up says.
    NotFound,
    /// Looking up what the request names failed.
    LookupFailed(Box<dyn Error + Send + Sync>),
    /// The response was longer than responses may be.
    ResponseTooLarge,
    /// The handler answered without the check that it had promised. A mistake of the application's, whatever the key.
    Unchecked {
        /// The kind of resource that it never asked about.
        kind: Box<str>,
    },
}

impl RejectionReason {
    /// Whether it is no fault of the caller's, so that there is nothing to let through.
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
            Self::NotFound => f.write_str("what the request names does not exist"),
            Self::LookupFailed(error) => {
                write!(f, "looking up what the request names failed: {error}")
            }
            Self::RequestTooLarge => f.write_str("the request is longer than it may be"),
            Self::ResponseTooLarge => f.write_str("the response is longer than it may be"),
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
    /// Why.
    pub reason: &'a RejectionReason,
    /// Where the request came from, if that is known. It is not where a response is refused.
    pub client: Option<IpAddr>,
    /// What had been granted before, and so whose key it was and what people call it: to a request that turned out to
    /// be too long, or to name what is not there, or did not meet what was asked after a look-up or by a second guard;
    /// or one whose response is refused. `None` if nothing had been granted.
    pub grant: Option<&'a Grant>,
    /// What the caller probably meant, where it sent no credential that is accepted.
    pub near_misses: &'a [NearMiss],
    /// Whether it was let through all the same.
    pub is_report_only: bool,
}

impl RejectionEvent<'_> {
    /// The id of the key that was presented, where one could be read. Anyone can present any id, unless there is a
    /// [grant](Self::grant).
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
