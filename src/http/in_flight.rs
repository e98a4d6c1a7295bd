//! The response of an admitted request: it is reviewed, kept out of caches, limited and monitored until it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::admission::{Passage, Refused};
use super::edge::Edge;
use super::reason::RejectionReason;
use super::rejection::Rejection;
use super::response_body::BodyMonitor;
use crate::verifier::{Grant, Limited, Permit, Verifier};

/// An admitted request, until its handler has responded.
pub(crate) struct InFlight {
    /// The grant. `None` if the response does not depend on it.
    grant: Option<Grant>,
    /// The permit. `None` if no limit applies.
    permit: Option<Permit>,
    is_inner: bool,
    /// The mark of a guest's request. `None` for a holder's.
    guest: Option<WithoutGrant>,
}

/// The values that guards leave in a request for each other and for handlers.
pub(crate) trait Extensions {
    fn leave<T: Clone + Send + Sync + 'static>(&mut self, value: T) -> Option<T>;

    fn find<T: Send + Sync + 'static>(&self) -> Option<&T>;

    fn take<T: Send + Sync + 'static>(&mut self) -> Option<T>;
}

/// Implements [`Extensions`] for a framework's type.
macro_rules! extensions {
    ($type:ty) => {
        impl $crate::http::in_flight::Extensions for $type {
            #[inline]
            fn leave<T: Clone + Send + Sync + 'static>(&mut self, value: T) -> Option<T> {
                self.insert(value)
            }

            #[inline]
            fn find<T: Send + Sync + 'static>(&self) -> Option<&T> {
                self.get()
            }

            #[inline]
            fn take<T: Send + Sync + 'static>(&mut self) -> Option<T> {
                self.remove()
            }
        }
    };
}
pub(crate) use extensions;

impl Passage {
    /// Leaves in the request whether it passes with a grant. An outer guard that let it through as a guest's learns
    /// that this guard has decided. `None` if the response is not finished.
    ///
    /// The grant of another Keyward would make its holder the caller of a request that this guard has let through
    /// without one: it is removed.
    #[inline]
    pub(crate) fn enter(self, edge: &Edge, extensions: &mut impl Extensions) -> Option<InFlight> {
        match self {
            Self::Granted {
                grant,
                permit,
                is_inner,
            } => {
                let in_flight = InFlight::new(edge, &grant, permit, is_inner);
                extensions.leave(grant);
                if let Some(outer) = extensions.find::<WithoutGrant>() {
                    outer.inner_guard_decided(edge);
                }
                Some(in_flight)
            }
            Self::Guest { awaits_inner_guard } => {
                let mark = WithoutGrant::new(edge, awaits_inner_guard);
                extensions.take::<Grant>();
                pass_without_grant(edge, extensions, mark.clone());
                Some(InFlight::guest(mark))
            }
            Self::Reported => {
                let outer = extensions.find::<Grant>();
                if !outer.is_some_and(|outer| edge.has_admitted(outer)) {
                    extensions.take::<Grant>();
                }
                pass_without_grant(edge, extensions, WithoutGrant::default());
                None
            }
        }
    }
}

fn pass_without_grant(edge: &Edge, extensions: &mut impl Extensions, mut mark: WithoutGrant) {
    if let Some(outer) = extensions.take::<WithoutGrant>() {
        outer.inner_guard_decided(edge);
        // Guards of other Keywards wait on.
        mark.awaiting.extend(outer.awaiting);
    }
    extensions.leave(mark);
}

/// Marks a request that a guard has let through without a grant.
#[derive(Debug, Clone, Default)]
pub(crate) struct WithoutGrant {
    /// The guards that leave the decision to an inner one, which a [`Grant`] knows of its own.
    awaiting: Vec<Awaiting>,
}

/// A guard that leaves the decision on a guest to an inner guard of the same Keyward.
#[derive(Debug, Clone)]
struct Awaiting {
    verifier: Verifier,
    is_decided: Arc<AtomicBool>,
}

impl WithoutGrant {
    fn new(edge: &Edge, awaits_inner_guard: bool) -> Self {
        let awaiting = awaits_inner_guard.then(|| Awaiting {
            verifier: edge.verifier().clone(),
            is_decided: Arc::default(),
        });
        Self {
            awaiting: awaiting.into_iter().collect(),
        }
    }

    /// Returns whether an inner guard is still to decide on the request.
    pub(crate) fn awaits_inner_guard(&self) -> bool {
        let mut awaiting = self.awaiting.iter();
        awaiting.any(|outer| !outer.is_decided.load(Ordering::Acquire))
    }

    /// Records that a guard behind this edge has decided on the request.
    fn inner_guard_decided(&self, edge: &Edge) {
        let is_of_edge = |outer: &&Awaiting| outer.verifier.is_clone_of(edge.verifier());
        for outer in self.awaiting.iter().filter(is_of_edge) {
            outer.is_decided.store(true, Ordering::Release);
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

    /// Marks the response as a guest's.
    fn mark_guest(&mut self);
}

/// Marks the response to a request that a guard has let through as a guest's.
#[derive(Debug, Clone)]
pub(crate) struct ServedGuest;

/// The note of an inner guard in its response, for the outer guard, which completes the response.
#[derive(Debug, Clone, Default)]
pub(crate) struct Note {
    /// Whether it has refused the request, so that the request uses nothing.
    is_refused: bool,
    /// Whether the response shows no limits.
    hides_limits: bool,
    /// Further limits that apply to the request.
    limits: Vec<Limited>,
}

impl Note {
    pub(super) fn of_refused(reason: &RejectionReason) -> Self {
        let limited = match reason {
            RejectionReason::Denied(denial) => denial.limited().cloned(),
            _ => None,
        };
        Self {
            is_refused: true,
            hides_limits: reason.hides_limits(),
            limits: limited.into_iter().collect(),
        }
    }
}

/// A header field of an answer.
pub(crate) type Field = (&'static str, String);

impl InFlight {
    /// Puts an admitted request in flight. `is_inner` is whether an outer guard completes the response.
    #[inline]
    fn new(edge: &Edge, grant: &Grant, permit: Permit, is_inner: bool) -> Self {
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

    /// Puts a guest's request in flight.
    fn guest(mark: WithoutGrant) -> Self {
        Self {
            grant: None,
            permit: None,
            is_inner: false,
            guest: Some(mark),
        }
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
        let note = note.filter(|_| self.is_inner);
        if let Some(Rejection { mut answer, .. }) = replaced.map(|rejection| *rejection) {
            answer.headers.extend(fields);
            return Err(Refused { answer, note });
        }
        if let Some(note) = note {
            response.leave_note(note);
        }
        if self.is_guest() {
            response.mark_guest();
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

#[cfg(all(test, feature = "http"))]
mod tests {
    use super::*;
    use crate::http::{Caller, Visitor};
    use crate::key::Access;
    use crate::testkit::keyward_with_key;

    #[tokio::test]
    async fn guests_wait_for_a_guard_of_the_same_keyward() {
        let (one, _) = keyward_with_key([], Access::Full).await;
        let (other, _) = keyward_with_key([], Access::Full).await;
        let (one, other) = (Edge::new(&one), Edge::new(&other));
        let guest = |awaits_inner_guard| Passage::Guest { awaits_inner_guard };
        let mut extensions = ::http::Extensions::new();
        assert!(Visitor::find(&extensions).is_none(), "no guard");
        for passage in [guest(false), Passage::Reported] {
            let outer = guest(true).enter(&one, &mut extensions);
            assert!(Visitor::find(&extensions).is_none(), "no inner guard");
            passage.enter(&other, &mut extensions);
            assert!(Visitor::find(&extensions).is_none(), "another's");
            guest(false).enter(&one, &mut extensions);
            let visitor = Visitor::find(&extensions);
            assert!(visitor.is_some_and(|visitor| visitor.0.is_none()));
            assert!(Caller::find(&extensions).is_none());
            drop(outer);
            extensions.clear();
        }
    }
}
