//! Refusing: the operator is told why, and the caller gets its answer.

use std::net::IpAddr;

use super::{Edge, Head};
use crate::http::answer::{self, Answer, Problem};
use crate::http::client::Origin;
use crate::http::{HeaderSource, NearMiss, Reason, Refusal, Refused};
use crate::verifier::{Grant, Requirement};

/// What is known of a request that is refused.
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
    /// The refusal of a response, by an adapter itself, or of a request of which nothing else is at hand. The observer is told,
    /// and learns what had been granted before.
    #[must_use]
    pub fn refuse(&self, reason: Reason, grant: Option<&Grant>) -> Box<Refusal> {
        let unknown = About::default();
        self.refusal(reason, About { grant, ..unknown })
    }

    /// As [`refuse`](Self::refuse), of a request that came like this: the observer is told from where.
    #[must_use]
    pub fn refuse_request<H: HeaderSource + ?Sized>(
        &self,
        head: &Head<'_, H>,
        reason: Reason,
        grant: Option<&Grant>,
    ) -> Box<Refusal> {
        let client = self.proxies.origin(head.connection, head.headers).client;
        let unknown = About::default();
        let about = About {
            client,
            grant,
            ..unknown
        };
        self.refusal(reason, about)
    }

    pub(super) fn refusal(&self, reason: Reason, about: About<'_>) -> Box<Refusal> {
        let is_report_only = self.is_report_only && !reason.is_of_the_handler();
        if let Some(observer) = &self.observer {
            observer(&Refused {
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
        Box::new(Refusal::new(answer, reason, is_report_only))
    }
}
