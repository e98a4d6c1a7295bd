//! What handlers ask for, in every framework that has an adapter.

use std::ops::Deref;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::verifier::Grant;

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

/// What an extractor extracts that need not wait; none if it wants to.
pub(crate) fn at_once<F: Future>(extracting: F) -> Option<F::Output> {
    match pin!(extracting).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(extracted) => Some(extracted),
        Poll::Pending => None,
    }
}
