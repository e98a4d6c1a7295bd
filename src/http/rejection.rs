//! Rejects requests: reports the reason to the operator, and answers the caller.

use std::net::IpAddr;
use std::sync::Arc;

use super::answer::{self, Answer, Problem, Renderer};
use super::client::Origin;
use super::key_in::KeyIn;
use super::limits::Shown;
use super::near_miss::NearMiss;
use super::reason::RejectionReason;
use crate::key::KeyRecord;
use crate::verifier::{ClaimedKey, Grant, Requirement};

/// A rejected request: the answer to send, and the reason for the operator.
#[derive(Debug)]
#[non_exhaustive]
pub struct Rejection {
    /// The answer to send.
    pub answer: Answer,
    /// The reason, for the operator and never for the caller.
    pub reason: RejectionReason,
    /// Whether the adapter lets the request through anyway, without a grant: see
    /// [`Edge::report_only`](super::Edge::report_only).
    pub is_report_only: bool,
}

/// A rejection, as reported to an [observer](super::Edge::observe).
#[derive(Debug)]
#[non_exhaustive]
pub struct RejectionEvent<'a> {
    /// The reason.
    pub reason: &'a RejectionReason,
    /// The client's address. `None` if it is unknown, or if a response is refused or was the handler's refusal.
    pub client: Option<IpAddr>,
    /// The grant, if the request had been admitted before. `None` if it had not.
    ///
    /// The rejection has one of these causes: the request turned out to be too long or to name a missing resource,
    /// the look-up failed, the request did not meet a requirement after a look-up or at a second guard, its response is
    /// refused, or the handler itself refused a resource.
    pub grant: Option<&'a Grant>,
    /// The near misses, if the caller sent no accepted credential.
    pub near_misses: &'a [NearMiss],
    /// Whether a forwarding header came from a peer that is not a trusted proxy, so that authentications from there are
    /// not limited: see [`Proxies`](super::Proxies). It is set for credentials that are refused.
    pub is_by_unlisted_proxy: bool,
    /// Whether the request was let through anyway.
    pub is_report_only: bool,
}

impl RejectionEvent<'_> {
    /// Returns the record of the key, with its tenant, owner and title, for the operator and never for the caller.
    /// `None` if the request did not prove the key's secret.
    #[must_use]
    pub fn key(&self) -> Option<&KeyRecord> {
        match (self.grant, self.reason) {
            (Some(grant), _) => Some(grant.record()),
            (None, RejectionReason::Denied(denial)) => denial.key(),
            _ => None,
        }
    }

    /// Returns the key that the request claimed to hold and did not prove, for the operator and never for the caller.
    /// `None` if no id could be read, or the secret was proven: see [`key`](Self::key).
    #[must_use]
    pub fn claimed_key(&self) -> Option<ClaimedKey<'_>> {
        if self.grant.is_some() {
            return None;
        }
        match self.reason {
            RejectionReason::Denied(denial) => denial.claimed_key(),
            RejectionReason::InsecureTransport { claimed_key, .. }
            | RejectionReason::FromBrowser { claimed_key } => claimed_key.map(ClaimedKey::unknown),
            RejectionReason::NotFound
            | RejectionReason::LookupFailed(_)
            | RejectionReason::RequestTooLarge
            | RejectionReason::ResponseTooLarge
            | RejectionReason::NoInnerGuard
            | RejectionReason::Unchecked { .. } => None,
        }
    }
}

/// The operator's function that rejections are reported to.
pub(super) type Observer = Arc<dyn Fn(&RejectionEvent<'_>) + Send + Sync>;

/// How an edge rejects requests.
#[derive(Clone)]
pub(super) struct Rejecting {
    pub(super) realm: Box<str>,
    pub(super) renderer: Arc<dyn Renderer>,
    pub(super) observer: Option<Observer>,
    pub(super) is_report_only: bool,
}

/// Facts about a rejected request, for the observer.
#[derive(Clone, Copy, Default)]
pub(super) struct About<'a> {
    pub(super) need: Option<&'a Requirement>,
    pub(super) client: Option<IpAddr>,
    pub(super) grant: Option<&'a Grant>,
    pub(super) near_misses: &'a [NearMiss],
    pub(super) is_by_unlisted_proxy: bool,
}

impl<'a> About<'a> {
    pub(super) fn request(need: &'a Requirement, origin: Origin) -> Self {
        Self {
            need: Some(need),
            client: origin.client,
            ..Self::default()
        }
    }
}

impl Rejecting {
    /// Rejects a request or a response. Challenges ask for a key in one of these forms.
    pub(super) fn reject(
        &self,
        forms: &[KeyIn],
        reason: RejectionReason,
        about: About<'_>,
        shown: &Shown,
    ) -> Box<Rejection> {
        let is_report_only = self.is_report_only && !reason.is_of_the_handler();
        self.observe(&reason, about, is_report_only);
        let problem = Problem::of(&reason, shown.reset, about.need);
        let mut headers = answer::headers(&reason, &problem, forms, &self.realm);
        headers.extend(shown.fields.iter().cloned());
        let mut answer = Answer {
            status: problem.status,
            headers,
            body: Vec::new(),
        };
        self.renderer.render(&problem, &mut answer);
        Box::new(Rejection {
            answer,
            reason,
            is_report_only,
        })
    }
}

impl Rejecting {
    /// Calls the observer, if there is one.
    pub(super) fn observe(&self, reason: &RejectionReason, about: About<'_>, is_report_only: bool) {
        if let Some(observer) = &self.observer {
            observer(&RejectionEvent {
                reason,
                client: about.client,
                grant: about.grant,
                near_misses: about.near_misses,
                is_by_unlisted_proxy: about.is_by_unlisted_proxy,
                is_report_only,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{GrpcStatus, ProblemJson};
    use crate::key::Scope;
    use crate::scope;
    use crate::testkit::every_denial;
    use crate::verifier::{Denial, DenialClass, DenialReason};

    const READ: Scope = scope!("read:editions");

    /// Returns edges: how they reject, and the forms that they accept.
    fn edges() -> Vec<(Rejecting, Vec<KeyIn>)> {
        let rejecting = |realm: &str| Rejecting {
            realm: realm.into(),
            renderer: Arc::new(ProblemJson),
            observer: None,
            is_report_only: false,
        };
        let header = KeyIn::header("X-API-Key").unwrap();
        vec![
            (rejecting("api"), vec![]),
            (rejecting("api"), vec![KeyIn::bearer()]),
            (rejecting("reports"), vec![KeyIn::bearer(), header]),
        ]
    }

    /// Returns the answers to all denials that `is_meant` picks, with their reasons. Each denial is tried without and
    /// with the requirement and the client, as before and after the request was read.
    fn answers(
        (edge, forms): &(Rejecting, Vec<KeyIn>),
        is_meant: impl Fn(&Denial) -> bool,
    ) -> Vec<(String, Answer)> {
        let need = Requirement::scope(READ).resource("project");
        let of_request = About {
            need: Some(&need),
            client: Some([203, 0, 113, 7].into()),
            ..About::default()
        };
        let denials = [About::default(), of_request]
            .into_iter()
            .flat_map(|about| {
                let denials = every_denial().into_iter();
                denials.map(move |denial| (denial, about))
            });
        let denials = denials.filter(|(denial, _)| is_meant(denial));
        denials
            .map(|(denial, about)| {
                let why = denial.reason().to_string();
                let rejection = edge.reject(
                    forms,
                    RejectionReason::Denied(denial),
                    about,
                    &Shown::default(),
                );
                (why, rejection.answer)
            })
            .collect()
    }

    /// Returns whether the limits have refused the request. They are asked last, so the caller has proven its key and
    /// may learn of them.
    fn is_by_limits(denial: &Denial) -> bool {
        matches!(
            denial.reason(),
            DenialReason::QuotaExceeded { .. }
                | DenialReason::TooManyInFlight
                | DenialReason::CostAboveLimit { .. }
                | DenialReason::Limiter(_)
                | DenialReason::Plan(_)
        )
    }

    #[test]
    fn refusals_by_limits_say_how_to_go_on() {
        let said = |answer: &Answer| {
            let value: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            let text = |name: &str| value[name].as_str().unwrap().to_owned();
            let retry_after = answer
                .headers
                .iter()
                .find(|(name, _)| *name == "retry-after");
            let asks_for_a_key = answer
                .headers
                .iter()
                .any(|(name, _)| *name == "www-authenticate");
            let retry_after = retry_after.map(|(_, seconds)| seconds.clone());
            let policies = value["violated-policies"].to_string();
            assert!(!asks_for_a_key, "no other key would do: {answer:?}");
            let kind = text("type").rsplit('#').next().map(str::to_owned);
            (answer.status, kind, text("code"), policies, retry_after)
        };
        let told = |status: u16, kind: &str, code: &str, policies: &str, retry: Option<&str>| {
            let retry = retry.map(str::to_owned);
            let (kind, code) = (Some(kind.to_owned()), code.to_owned());
            (status, kind, code, policies.to_owned(), retry)
        };
        let (exceeded, reduced) = ("quota-exceeded", "temporary-reduced-capacity");
        let busy = "too_many_requests";
        for edge in edges() {
            let answers = answers(&edge, is_by_limits);
            let said: Vec<_> = answers.iter().map(|(_, answer)| said(answer)).collect();
            let expected = [
                told(429, exceeded, busy, r#"["concurrency"]"#, Some("1")),
                told(429, exceeded, busy, r#"["minute"]"#, Some("7")),
                told(403, "about:blank", "cost_above_limit", "null", None),
                told(503, reduced, "undecidable", "[]", Some("5")),
                told(503, reduced, "undecidable", "[]", Some("5")),
            ];
            assert_eq!(said, [expected.clone(), expected].concat());
        }
    }

    #[test]
    fn refused_credentials_look_alike() {
        for edge in edges() {
            let (mut grpc, forms) = edge.clone();
            grpc.renderer = Arc::new(GrpcStatus);
            for (edge, status) in [(edge, 401), ((grpc, forms), 200)] {
                let is_missing =
                    |denial: &Denial| matches!(denial.reason(), DenialReason::NoCredential);
                let is_refused = |denial: &Denial| {
                    denial.class() == DenialClass::Unauthenticated && !is_missing(denial)
                };
                let (missing, refused) = (answers(&edge, is_missing), answers(&edge, is_refused));
                for same in [&missing, &refused] {
                    for (why, answer) in same {
                        assert_eq!(answer, &same[0].1, "{why}");
                        assert_eq!(answer.status, status, "{why}");
                    }
                }
                assert_ne!(missing[0].1, refused[0].1);
            }
        }
    }

    #[test]
    fn answers_of_a_class_look_alike() {
        for edge in edges() {
            for class in [
                DenialClass::BadRequest,
                DenialClass::Throttled,
                DenialClass::Undecidable,
            ] {
                let is_meant = |denial: &Denial| denial.class() == class && !is_by_limits(denial);
                let same = answers(&edge, is_meant);
                for (why, answer) in &same {
                    assert_eq!(answer, &same[0].1, "{why}");
                    assert_eq!(answer.status, class.status(), "{why}");
                }
            }
        }
    }

    /// The caller has proven its key by then.
    #[test]
    fn each_kind_of_403_has_its_own_code() {
        for edge in edges() {
            let is_meant =
                |denial: &Denial| denial.class() == DenialClass::Forbidden && !is_by_limits(denial);
            let answers = answers(&edge, is_meant);
            let codes = answers.iter().map(|(_, answer)| {
                let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
                let asks = answer
                    .headers
                    .iter()
                    .any(|(name, _)| *name == "www-authenticate");
                (
                    answer.status,
                    body["code"].as_str().unwrap().to_owned(),
                    asks,
                )
            });
            let accepts_bearers = !edge.1.is_empty();
            let expected = [
                ("insufficient_scope", accepts_bearers), // a scope that keys lack
                ("insufficient_scope", accepts_bearers), // a scope that is not declared
                ("restricted_key", false),
                ("too_many_resources", false),
                ("resource_not_named", false),
                ("resource_not_permitted", false),
            ];
            let expected = expected.map(|(code, asks)| (403, code.to_owned(), asks));
            assert_eq!(
                codes.collect::<Vec<_>>(),
                [expected.clone(), expected].concat()
            );
        }
    }
}
