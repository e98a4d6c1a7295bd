//! What handlers ask for, in every framework that has an adapter.

use std::ops::Deref;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::verifier::{Grant, ResourceDenied};

/// The grant of the key that a request was admitted with. The answer is 500 on a route without a guard, and with
/// [`report_only`](crate::http::Edge::report_only) where there is none: take an `Option<Caller>` there.
#[derive(Debug, Clone)]
pub struct Caller(pub Grant);

impl Deref for Caller {
    type Target = Grant;

    fn deref(&self) -> &Grant {
        &self.0
    }
}

/// A handler asks for a [`Caller`], and no guard let the request through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the route is not guarded")]
pub struct Unguarded;

/// What belongs to a resource that keys may be restricted to, as an edition belongs to its project.
#[diagnostic::on_unimplemented(
    message = "Keyward does not know to which resource `{Self}` belongs",
    note = "implement `Belongs` for what the handler loads"
)]
pub trait Belongs {
    /// The kind of that resource, as [`checked_by_handler`](crate::verifier::Requirement::checked_by_handler) names it.
    const KIND: &'static str;

    /// The resource that this belongs to.
    fn resource(&self) -> &str;
}

/// What a handler is about, loaded by an extractor of the application's own, of a resource that the key is permitted:
/// for handlers of a route that leaves the check to them, which then cannot forget it.
///
/// The answer is 403 if the key is not permitted the resource, and what the extractor answers if it finds nothing;
/// the handler is not called. Without a guard it is 500, as for a [`Caller`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permitted<T>(pub T);

impl<T: Belongs> Permitted<T> {
    pub(crate) fn new(loaded: T, grant: &Grant) -> Result<Self, ResourceDenied> {
        grant.permits(T::KIND, loaded.resource())?;
        Ok(Self(loaded))
    }
}

/// What an extractor extracts that need not wait; none if it wants to.
pub(crate) fn at_once<F: Future>(extracting: F) -> Option<F::Output> {
    match pin!(extracting).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(extracted) => Some(extracted),
        Poll::Pending => None,
    }
}
