//! The response of an admitted request: it is reviewed, kept out of caches, limited and monitored until it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::answer::Answer;
use super::edge::Edge;
use super::reason::RejectionReason;
use super::rejection::Rejection;
use super::response_body::BodyMonitor;
use crate::verifier::{Grant, Limited, Permit};

/// An admitted request, until its handler has responded.
pub(crate) struct Admission {
    /// The grant. `None` if the response does not depend on it.
    grant: Option<Grant>,
    /// The permit. `None` if no limit applies.
    permit: Option<Permit>,
    is_inner: bool,
    /// The mark of a guest's request. `None` for a holder's.
    guest: Option<WithoutGrant>,
}

/// Marks a request that a guard has let through without a grant.
#[derive(Debug, Clone, Default)]
pub(crate) struct WithoutGrant {
    /// Whether an inner guard is still to decide on it, which a [`Grant`] knows of its own. `None` if none has to.
    awaits_inner_guard: Option<Arc<AtomicBool>>,
}

impl WithoutGrant {
    fn awaiting() -> Self {
        Self {
            awaits_inner_guard: Some(Arc::new(AtomicBool::new(true))),
        }
    }

    /// Returns whether an inner guard is still to decide on the request.
    pub(crate) fn awaits_inner_guard(&self) -> bool {
        let awaits = self.awaits_inner_guard.as_ref();
        awaits.is_some_and(|awaits| awaits.load(Ordering::Acquire))
    }

    /// Records that an inner guard has decided on the request.
    pub(super) fn inner_guard_decided(&self) {
        if let Some(awaits) = &self.awaits_inner_guard {
            awaits.store(false, Ordering::Release);
        }
    }
}

/// A response, as an adapter represents it.
pub(crate) trait Outgoing {
    fn status(&self) -> u16;

    /// Returns the minimum number of bytes that the body will have.
    fn announced(&self) -> u64;

    /// Removes the note of an inner guard.
    fn take_note(&mut self) -> Option<Note>;

    /// Leaves a note for the outer guard.
    fn leave_note(&mut self, note: Note);
}

/// The note of an inner guard in its response, for the outer guard, which completes the response.
#[derive(Debug, Clone, Default)]
pub(crate) struct Note {
    /// Whether it has refused the request, so that the request uses nothing.
    is_refused: bool,
    /// Whether the response shows no limits.
    hides_limits: bool,
    /// Further limits that apply to the request.
    limits: Vec<Limited>,
    /// Whether a guest was served.
    is_of_guest: bool,
}

impl Note {
    /// Whether a guard has let the request through as a guest's.
    #[allow(dead_code, reason = "the testkit asks")]
    pub(crate) fn is_of_guest(&self) -> bool {
        self.is_of_guest
    }

    pub(super) fn of_refused(reason: &RejectionReason) -> Self {
        let limited = match reason {
            RejectionReason::Denied(denial) => denial.limited().cloned(),
            _ => None,
        };
        Self {
            is_refused: true,
            hides_limits: reason.hides_limits(),
            limits: limited.into_iter().collect(),
            is_of_guest: false,
        }
    }
}

/// A refused request: the answer, and the note for an outer guard.
pub(crate) struct Refused {
    pub(crate) answer: Answer,
    pub(crate) note: Option<Note>,
}

/// A header field of an answer.
pub(crate) type Field = (&'static str, String);

impl Admission {
    /// Creates the admission of a request. `is_inner` is whether an outer guard completes the response.
    #[inline]
    pub(super) fn new(edge: &Edge, grant: &Grant, permit: Permit, is_inner: bool) -> Self {
        let settings = &edge.adapters;
        let is_bounded = settings.max_response_bytes < u64::MAX;
        let is_shown = edge.shows_expiry() && !is_inner;
        let is_checked = grant.unchecked().is_some() || grant.awaits_inner_guard();
        let is_needed = settings.ends_with_key || is_bounded || is_shown || is_checked;
        Self {
            grant: is_needed.then(|| grant.clone()),
            is_inner,
            guest: None,
            permit: Some(permit).filter(Permit::is_limited),
        }
    }

    /// Creates the admission of a guest's request.
    pub(super) fn guest(awaits_inner_guard: bool) -> Self {
        Self {
            grant: None,
            permit: None,
            is_inner: false,
            guest: Some(if awaits_inner_guard {
                WithoutGrant::awaiting()
            } else {
                WithoutGrant::default()
            }),
        }
    }

    /// Returns the mark of a guest's request. `None` for a holder's.
    pub(super) fn guest_mark(&self) -> Option<&WithoutGrant> {
        self.guest.as_ref()
    }

    /// Whether the response is a guest's, which caches may keep.
    pub(crate) fn is_guest(&self) -> bool {
        self.guest.is_some()
    }

    /// Completes the handler's response. Returns the monitor of its body, if it needs one.
    ///
    /// `add_headers` adds the headers of granted responses, with these fields of limits in place of the handler's,
    /// unless an outer guard does.
    ///
    /// # Errors
    /// The answer to send instead.
    pub(crate) fn finish<O: Outgoing>(
        mut self,
        edge: &Edge,
        response: &mut O,
        add_headers: impl FnOnce(&mut O, Vec<Field>),
    ) -> Result<Option<BodyMonitor>, Refused> {
        let mut note = response.take_note();
        let is_refused = note.as_ref().is_some_and(|note| note.is_refused);
        if let Some(permit) = self.permit.as_mut().filter(|_| is_refused) {
            permit.refund();
        }
        let replaced = self.replace(edge, response, is_refused);
        let is_unauthenticated = replaced.is_none() && response.status() == 401;
        if let Some(limited) = self.permit.as_ref().and_then(Permit::limited) {
            note.get_or_insert_default().limits.insert(0, limited);
        }
        // No 401 shows limits, and neither does a handler's own.
        let hides = is_unauthenticated || note.as_ref().is_some_and(|note| note.hides_limits);
        let mut fields = match &mut note {
            Some(note) if !self.is_inner && !hides => edge.show(note.limits.drain(..)).fields,
            _ => Vec::new(),
        };
        let mut note = note.filter(|_| self.is_inner);
        if self.is_guest() {
            note.get_or_insert_default().is_of_guest = true;
        }
        if let Some(Rejection { mut answer, .. }) = replaced.map(|rejection| *rejection) {
            answer.headers.extend(fields);
            return Err(Refused { answer, note });
        }
        if let Some(note) = note {
            response.leave_note(note);
        }
        if !self.is_inner {
            if let Some(grant) = self.grant.as_ref().filter(|_| !hides) {
                fields.extend(edge.expiry_of(grant.record()));
            }
            add_headers(response, fields);
        }
        let permit = self.permit.filter(Permit::is_held);
        if self.grant.is_none() && permit.is_none() && self.guest.is_none() {
            return Ok(None);
        }
        Ok(BodyMonitor::new(edge, self.grant, permit))
    }

    /// Returns the rejection to send in place of the handler's response. `None` if there is none.
    fn replace(
        &self,
        edge: &Edge,
        response: &impl Outgoing,
        is_refused: bool,
    ) -> Option<Box<Rejection>> {
        // A request that an inner guard has refused did not reach the handler.
        if let Some(grant) = self.grant.as_ref().filter(|_| !is_refused) {
            let reviewed = edge.review(grant, response.status());
            if let Err(rejection) = reviewed {
                return Some(rejection);
            }
        }
        let guest = self.guest.as_ref();
        let is_open = guest.is_some_and(WithoutGrant::awaits_inner_guard);
        if is_open && !(400..600).contains(&response.status()) {
            return Some(edge.reject(RejectionReason::NoInnerGuard, None));
        }
        let is_too_large = response.announced() > edge.adapters.max_response_bytes;
        is_too_large.then(|| edge.reject(RejectionReason::ResponseTooLarge, self.grant.as_ref()))
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
