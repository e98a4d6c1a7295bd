//! The reasons for which a request is rejected.

use std::error::Error;
use std::fmt;

use crate::codes::codes;
use crate::key::KeyId;
use crate::verifier::{Denial, DenialClass, KeyUse};

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
        claimed_key: Option<KeyId>,
        /// Whether the request carried a credential of any kind. No id can be read from keys of another system.
        credential_sent: bool,
    },
    /// The credential came from a web browser, and the edge [refuses these](super::Edge::refuse_browsers).
    FromBrowser {
        /// The id of the key that the request carried, if it could be read. Everyone who can open the page probably has
        /// the whole key, so rotate it. The edge did not look up whether this key exists.
        claimed_key: Option<KeyId>,
    },
    /// The request body exceeds the maximum.
    RequestTooLarge,
    /// The application's look-up found no resource with the name in the request.
    NotFound,
    /// The look-up of a resource that the request names failed.
    LookupFailed(Box<dyn Error + Send + Sync>),
    /// The response exceeded the maximum.
    ResponseTooLarge,
    /// The outer guard leaves the decision to [an inner
    /// one](crate::verifier::Requirement::checked_by_inner_guard), and none has decided. This is a mistake of the
    /// application, whatever the key.
    NoInnerGuard,
    /// The handler responded without a check that it had promised. This is a mistake of the application, whatever the
    /// key.
    Unchecked {
        /// The kind of resource that the handler never checked.
        kind: Box<str>,
    },
}

codes! {
    RejectionReason;
    Self::InsecureTransport { .. } => "https_required",
    Self::FromBrowser { .. } => "from_browser",
    Self::RequestTooLarge => "request_too_large",
    Self::NotFound => "not_found",
    Self::LookupFailed(_) => "lookup_failed",
    Self::ResponseTooLarge => "response_too_large",
    Self::NoInnerGuard => "no_inner_guard",
    Self::Unchecked { .. } => "unchecked_resource",
    @ Self::Denied(denial) => denial.reason().code(), of crate::verifier::DenialReason::codes(),
}

impl RejectionReason {
    /// Whether the answer shows no limits, because the credential is refused.
    pub(super) fn hides_limits(&self) -> bool {
        let is_refused = |denial: &Denial| {
            let class = denial.class();
            matches!(
                class,
                DenialClass::BadRequest | DenialClass::Unauthenticated
            )
        };
        matches!(self, Self::Denied(denial) if is_refused(denial))
    }

    /// Returns how a request that is rejected for this reason used the key that it proved to hold. `None` if it did
    /// not.
    pub(super) fn key_use(&self) -> Option<KeyUse> {
        match self {
            Self::Denied(denial) => KeyUse::of_denied(denial.class()),
            Self::LookupFailed(_) => None,
            _ => Some(KeyUse::Refused),
        }
    }

    /// Whether the caller is not at fault, so that report-only mode does not apply.
    pub(super) fn is_of_the_handler(&self) -> bool {
        matches!(
            self,
            Self::NotFound
                | Self::LookupFailed(_)
                | Self::NoInnerGuard
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
            Self::NoInnerGuard => f.write_str("the route has no guard inside of the outer one"),
            Self::Unchecked { kind } => {
                write!(
                    f,
                    "the handler never asked whether the key is permitted the `{kind}`"
                )
            }
            Self::FromBrowser { claimed_key: None } => {
                f.write_str("a credential came from a web browser: if it is a key, rotate it")
            }
            Self::FromBrowser {
                claimed_key: Some(id),
            } => write!(f, "the key {id} came from a web browser: rotate it"),
            Self::InsecureTransport {
                credential_sent: false,
                ..
            } => f.write_str("the request came without TLS"),
            Self::InsecureTransport {
                claimed_key: None, ..
            } => f.write_str("a credential came without TLS: if it is a key, rotate it"),
            Self::InsecureTransport {
                claimed_key: Some(id),
                ..
            } => {
                write!(f, "the key {id} came without TLS: rotate it")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Problem;
    use crate::testkit::every_denial;

    /// An answer names the reason by its own code, or by one that covers several reasons.
    #[test]
    fn answers_and_reasons_share_codes() {
        let of_the_edge = [
            RejectionReason::InsecureTransport {
                claimed_key: None,
                credential_sent: false,
            },
            RejectionReason::FromBrowser { claimed_key: None },
            RejectionReason::RequestTooLarge,
            RejectionReason::NotFound,
            RejectionReason::LookupFailed("planted".into()),
            RejectionReason::ResponseTooLarge,
            RejectionReason::NoInnerGuard,
            RejectionReason::Unchecked {
                kind: "project".into(),
            },
        ];
        let denied = every_denial().into_iter().map(RejectionReason::Denied);
        for reason in denied.chain(of_the_edge) {
            let (shown, code) = (Problem::of(&reason, 0, None).code, reason.code());
            let covers = match shown {
                "insufficient_scope" => code == "undeclared_scope",
                shown => [
                    "invalid_credential",
                    "too_many_requests",
                    "undecidable",
                    "unavailable",
                    "internal",
                ]
                .contains(&shown),
            };
            assert!(shown == code || covers, "{shown} for {code}");
        }
    }
}
