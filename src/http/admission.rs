//! The response of an admitted request: it is reviewed, kept out of caches, limited and monitored until it ends.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::answer::Answer;
use super::edge::Edge;
use super::reason::RejectionReason;
use super::response_body::BodyMonitor;
use crate::verifier::{Grant, Permit};

/// An admitted request, until its handler has responded.
pub(crate) struct Admission {
    /// The grant. `None` if the response does not depend on it.
    grant: Option<Grant>,
    /// The permit. `None` if the key's concurrent requests are not counted.
    permit: Option<Permit>,
    is_outermost: bool,
}

impl Admission {
    /// Creates the admission of a request. `permit` is `None` if an outer guard holds it and completes the response.
    #[inline]
    pub(super) fn new(edge: &Edge, grant: &Grant, permit: Option<Permit>) -> Self {
        let settings = &edge.adapters;
        let is_bounded = settings.max_response_bytes < u64::MAX;
        let is_needed = settings.ends_with_key || is_bounded || grant.unchecked().is_some();
        Self {
            grant: is_needed.then(|| grant.clone()),
            is_outermost: permit.is_some(),
            permit: permit.filter(Permit::is_held),
        }
    }

    /// Completes the handler's response. Returns the monitor of its body, if it needs one.
    ///
    /// `announced` is the minimum number of bytes that the response will have. `add_headers` adds the headers of
    /// granted responses, unless an outer guard does.
    ///
    /// # Errors
    /// The answer to send instead.
    pub(crate) fn finish(
        self,
        edge: &Edge,
        status: u16,
        announced: u64,
        add_headers: impl FnOnce(),
    ) -> Result<Option<BodyMonitor>, Answer> {
        if let Some(grant) = &self.grant {
            edge.review(grant, status)
                .map_err(|rejection| rejection.answer)?;
        }
        if announced > edge.adapters.max_response_bytes {
            let rejection = edge.reject(RejectionReason::ResponseTooLarge, self.grant.as_ref());
            return Err(rejection.answer);
        }
        if self.is_outermost {
            add_headers();
        }
        if self.grant.is_none() && self.permit.is_none() {
            return Ok(None);
        }
        Ok(BodyMonitor::new(edge, self.grant, self.permit))
    }
}

pin_project! {
    /// The future of a guarded response: it is refused, or still being decided on, or in the hands of the handler.
    #[project = Stage]
    pub(crate) enum Answering<X, D, F, A> {
        Refused { refusal: Option<X> },
        Deciding { deciding: D },
        // The admission is `None` if the request was let through without one.
        Serving { #[pin] serving: F, admission: Option<A> },
    }
}

impl<X, D, F: Future, A> Answering<X, D, F, A> {
    /// Polls for the response. `refuse` answers a refused request, and `finish` completes the handler's response.
    pub(crate) fn poll_response<O>(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        refuse: impl FnOnce(X) -> O,
        finish: impl FnOnce(F::Output, Option<A>) -> O,
    ) -> Poll<O>
    where
        D: Future<Output = O> + Unpin,
    {
        match self.project() {
            // If it is polled again after it has completed, it stays pending.
            Stage::Refused { refusal } => match refusal.take() {
                Some(refusal) => Poll::Ready(refuse(refusal)),
                None => Poll::Pending,
            },
            Stage::Deciding { deciding } => Pin::new(deciding).poll(context),
            Stage::Serving { serving, admission } => serving
                .poll(context)
                .map(|served| finish(served, admission.take())),
        }
    }
}
