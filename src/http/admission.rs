//! A guard's decision on a request: its admission, or its refusal.

use std::fmt;

use super::answer::Answer;
use super::edge::Edge;
#[cfg(any(feature = "actix", feature = "http"))]
use super::in_flight::Note;
use super::reason::RejectionReason;
use super::rejection::Rejection;
use crate::verifier::{Admitted, Grant, Permit};

/// A request that a guard lets through, before its handler is called: see
/// [`Edge::admit_guarded`](super::Edge::admit_guarded).
///
/// With the feature `http`, its method `enter` prepares the request for the handler.
#[must_use = "dropping the admission gives its permit back"]
pub struct Admission<'e> {
    pub(super) edge: &'e Edge,
    pub(super) passage: Passage,
}

/// How a request passes to its handler.
pub(crate) enum Passage {
    /// With this grant and permit.
    Granted {
        grant: Grant,
        permit: Permit,
        /// Whether an outer guard completes the response.
        is_inner: bool,
    },
    /// As a guest's.
    Guest {
        /// Whether the decision is left to an inner guard.
        awaits_inner_guard: bool,
    },
    /// Unchanged, since its rejection is only reported.
    Reported,
}

impl<'e> Admission<'e> {
    pub(super) fn new(edge: &'e Edge, passage: Passage) -> Self {
        Self { edge, passage }
    }

    /// Returns the grant. `None` for a guest, and if the rejection is [only reported](super::Edge::report_only).
    #[must_use]
    pub fn grant(&self) -> Option<&Grant> {
        match &self.passage {
            Passage::Granted { grant, .. } => Some(grant),
            Passage::Guest { .. } | Passage::Reported => None,
        }
    }

    /// Returns whether the request is a [guest's](crate::verifier::Requirement::or_guest).
    #[must_use]
    pub fn is_guest(&self) -> bool {
        matches!(self.passage, Passage::Guest { .. })
    }

    /// Returns the grant and the permit, for middleware that takes the next steps by itself since its framework does
    /// not use the crate `http`. `None` for a guest, and if the rejection is only reported.
    ///
    /// Take the further steps of the guide on [writing middleware](crate::manual::writing_middleware). Remove the grant
    /// of another guard from a request that passes without one: another Keyward's would make its holder the caller.
    ///
    /// # Errors
    /// [`Rejection`] (500) for a guest if the guard [leaves the decision to an inner
    /// one](crate::verifier::Requirement::checked_by_inner_guard): a guest has no grant, by which
    /// [`Edge::review`](super::Edge::review) could find that none has decided.
    pub fn into_admitted(self) -> Result<Option<Admitted>, Box<Rejection>> {
        match self.passage {
            Passage::Granted { grant, permit, .. } => Ok(Some(Admitted::from_parts(grant, permit))),
            Passage::Guest {
                awaits_inner_guard: true,
            } => Err(self.edge.reject(RejectionReason::NoInnerGuard, None)),
            Passage::Guest { .. } | Passage::Reported => Ok(None),
        }
    }
}

impl fmt::Debug for Admission<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("passage", &self.passage)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Passage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granted {
                grant, is_inner, ..
            } => f
                .debug_struct("Granted")
                .field("grant", grant)
                .field("is_inner", is_inner)
                .finish_non_exhaustive(),
            Self::Guest { .. } => f.write_str("Guest"),
            Self::Reported => f.write_str("Reported"),
        }
    }
}

/// A refused request: the answer to send.
///
/// With the feature `http`, it converts into an `http::Response`. In its extensions is a note, by which an outer guard
/// gives the cost of the request back: send this very response.
#[derive(Debug)]
#[non_exhaustive]
pub struct Refused {
    /// The answer to send.
    pub answer: Answer,
    #[cfg(any(feature = "actix", feature = "http"))]
    pub(crate) note: Option<Note>,
}

impl Refused {
    /// Refuses a request. An inner guard leaves a note for the outer one.
    pub(super) fn new(rejection: Rejection, is_inner: bool) -> Self {
        #[cfg(not(any(feature = "actix", feature = "http")))]
        let _ = is_inner;
        Self {
            #[cfg(any(feature = "actix", feature = "http"))]
            note: is_inner.then(|| Note::of_refused(&rejection.reason)),
            answer: rejection.answer,
        }
    }
}
