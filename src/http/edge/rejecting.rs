//! Rejects requests: reports the reason to the operator and creates the answer for the caller.

use std::net::IpAddr;

use super::{Edge, Head};
use crate::http::answer::{self, Answer, Problem};
use crate::http::client::Origin;
use crate::http::{HeaderSource, NearMiss, Rejection, RejectionEvent, RejectionReason};
use crate::verifier::{Grant, Requirement};

/// Facts about a rejected request, for the observer.
#[derive(Clone, Copy, Default)]
pub(super) struct About<'a> {
    pub(super) need: Option<&'a Requirement>,
    pub(super) client: Option<IpAddr>,
    pub(super) grant: Option<&'a Grant>,
    pub(super) near_misses: &'a [NearMiss],
}

impl<'a> About<'a> {
    pub(super) fn request(need: &'a Requirement, origin: Origin) -> Self {
        Self {
            need: Some(need),
            client: origin.client,
            ..Self::default()
        }
    }

    pub(super) fn granted(self, grant: &'a Grant) -> Self {
        Self {
            grant: Some(grant),
            ..self
        }
    }
}

impl Edge {
    /// Creates the rejection of a response, or of a request without its head at hand.
    ///
    /// Adapters use it for rejections of their own. The observer is called, with the grant if there was one.
    #[must_use]
    pub fn reject(&self, reason: RejectionReason, grant: Option<&Grant>) -> Box<Rejection> {
        let unknown = About::default();
        self.rejection(reason, About { grant, ..unknown })
    }

    /// Rejects as [`reject`](Self::reject) does, for a request with this head: the observer also gets the client's
    /// address.
    #[must_use]
    pub fn reject_request<H: HeaderSource + ?Sized>(
        &self,
        head: &Head<'_, H>,
        reason: RejectionReason,
        grant: Option<&Grant>,
    ) -> Box<Rejection> {
        let client = self.proxies.origin(head.connection, head.headers).client;
        let unknown = About::default();
        let about = About {
            client,
            grant,
            ..unknown
        };
        self.rejection(reason, about)
    }

    pub(super) fn rejection(&self, reason: RejectionReason, about: About<'_>) -> Box<Rejection> {
        let is_report_only = self.is_report_only && !reason.is_of_the_handler();
        if let Some(observer) = &self.observer {
            observer(&RejectionEvent {
                reason: &reason,
                client: about.client,
                grant: about.grant,
                near_misses: about.near_misses,
                is_report_only,
            });
        }
        let problem = Problem::of(&reason);
        let mut answer = Answer {
            status: problem.status,
            headers: answer::headers(&reason, &self.forms, &self.realm, about.need),
            body: Vec::new(),
        };
        self.renderer.render(&problem, &mut answer);
        Box::new(Rejection::new(answer, reason, is_report_only))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{GrpcStatus, KeyIn, ProblemJson};
    use crate::key::Scope;
    use crate::scope;
    use crate::testkit::{every_denial, keyward_with_key};
    use crate::verifier::{Denial, DenialClass, DenialReason};

    const READ: Scope = scope!("read:editions");

    async fn edges() -> Vec<Edge> {
        let (keyward, _) = keyward_with_key([READ]).await;
        let header = KeyIn::header("X-API-Key").unwrap();
        let bearer = || Edge::new(&keyward).accept(KeyIn::bearer());
        vec![
            Edge::new(&keyward),
            bearer(),
            bearer().accept(header).realm("reports"),
        ]
    }

    /// Returns the answers to all denials that `is_meant` picks, with their reasons. Each denial is tried without and
    /// with the requirement and the client, as before and after the request was read.
    fn answers(edge: &Edge, is_meant: impl Fn(&Denial) -> bool) -> Vec<(String, Answer)> {
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
                let rejection = edge.rejection(RejectionReason::Denied(denial), about);
                (why, rejection.into_answer())
            })
            .collect()
    }

    #[tokio::test]
    async fn refused_credentials_look_alike() {
        for edge in edges().await {
            for (edge, status) in [
                (edge.clone().renderer(ProblemJson), 401),
                (edge.renderer(GrpcStatus), 200),
            ] {
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

    #[tokio::test]
    async fn answers_of_a_class_look_alike() {
        for edge in edges().await {
            for class in [
                DenialClass::BadRequest,
                DenialClass::Throttled,
                DenialClass::Undecidable,
            ] {
                let same = answers(&edge, |denial| denial.class() == class);
                for (why, answer) in &same {
                    assert_eq!(answer, &same[0].1, "{why}");
                    assert_eq!(answer.status, class.status(), "{why}");
                }
            }
            // The required scopes depend on the route.
            let mut forbidden = answers(&edge, |denial| denial.class() == DenialClass::Forbidden);
            for (_, answer) in &mut forbidden {
                answer
                    .headers
                    .retain(|(name, _)| *name != "www-authenticate");
            }
            for (why, answer) in &forbidden {
                assert_eq!(answer, &forbidden[0].1, "{why}");
                assert_eq!(answer.status, 403, "{why}");
            }
        }
    }
}
