//! What handlers get and answer, in all frameworks that have extractors.

use std::ops::Deref;
#[cfg(any(feature = "actix", feature = "axum"))]
use std::pin::pin;
#[cfg(any(feature = "actix", feature = "axum"))]
use std::task::{Context, Poll, Waker};

use super::in_flight::{Extensions, WithoutGrant};
use crate::verifier::Grant;
#[cfg(any(feature = "actix", feature = "axum"))]
use crate::verifier::ResourceDenied;

/// The grant of the key that the request was admitted with.
///
/// The response is 500 on a route without a guard. It is also 500 for a request that was let through without a grant, a
/// [guest's](crate::verifier::Requirement::or_guest) or one that is [only reported](crate::http::Edge::report_only):
/// take a [`Visitor`] there.
#[derive(Debug, Clone)]
pub struct Caller(pub Grant);

impl Caller {
    /// Finds the caller in the extensions of a request, for an extractor of your own. `None` for a guest, and if no
    /// guard has decided on the request: answer 500.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn find(extensions: &::http::Extensions) -> Option<Self> {
        Self::found(extensions)
    }

    pub(crate) fn found(extensions: &impl Extensions) -> Option<Self> {
        let grant = extensions.find::<Grant>();
        let decided = grant.filter(|grant| !grant.awaits_inner_guard());
        decided.cloned().map(Self)
    }
}

impl Visitor {
    /// Finds the visitor in the extensions of a request, for an extractor of your own. `None` if no guard has decided
    /// on the request: answer 500, so that a route that has lost its guard does not take everyone for a guest.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn find(extensions: &::http::Extensions) -> Option<Self> {
        Self::found(extensions)
    }

    pub(crate) fn found(extensions: &impl Extensions) -> Option<Self> {
        let mark = extensions.find::<WithoutGrant>();
        let is_without_grant = mark.is_some_and(|mark| !mark.awaits_inner_guard());
        match Caller::found(extensions) {
            None if is_without_grant && extensions.find::<Grant>().is_none() => Some(Self(None)),
            caller => caller.map(|caller| Self(Some(caller))),
        }
    }
}

impl Deref for Caller {
    type Target = Grant;

    fn deref(&self) -> &Grant {
        &self.0
    }
}

/// The caller, on a route that [guests](crate::verifier::Requirement::or_guest) may use: `None` for a guest.
///
/// The response is 500 on a route without a guard, so that a route that has lost its guard does not take everyone for a
/// guest. In axum an `Option<Caller>` is the same. In actix it is not: there an `Option` of any extractor takes every
/// error for `None`.
///
/// Requests that are [only reported](crate::http::Edge::report_only) come without a caller, too.
#[derive(Debug, Clone)]
pub struct Visitor(pub Option<Caller>);

/// An object that belongs to a resource that keys may be restricted to, as an edition belongs to its project.
#[cfg(any(feature = "actix", feature = "axum"))]
#[diagnostic::on_unimplemented(
    message = "Keyward does not know to which resource `{Self}` belongs",
    note = "implement `Belongs` for what the handler loads"
)]
pub trait Belongs {
    /// The kind of that resource, as [`checked_by_handler`](crate::verifier::Requirement::checked_by_handler) names
    /// it.
    const KIND: &'static str;

    /// Returns the resource that this belongs to.
    fn resource(&self) -> &str;
}

/// An object that the application's own extractor loaded, of a resource that the key is permitted.
///
/// It is for handlers of a route that leaves the check to them: such a handler cannot forget the check.
///
/// If the key is not permitted the resource, the answer is 403. If the extractor finds nothing, its own answer is
/// used. In both cases the handler is not called. Without a grant the answer is 500, as for a [`Caller`].
#[cfg(any(feature = "actix", feature = "axum"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permitted<T>(pub T);

#[cfg(any(feature = "actix", feature = "axum"))]
impl<T: Belongs> Permitted<T> {
    pub(crate) fn new(loaded: T, grant: &Grant) -> Result<Self, ResourceDenied> {
        grant.permits(T::KIND, loaded.resource())?;
        Ok(Self(loaded))
    }
}

/// Polls an extractor once. `None` if it has to wait.
#[cfg(any(feature = "actix", feature = "axum"))]
pub(crate) fn at_once<F: Future>(extracting: F) -> Option<F::Output> {
    match pin!(extracting).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(extracted) => Some(extracted),
        Poll::Pending => None,
    }
}
