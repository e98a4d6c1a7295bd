//! What the tests share.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use keyward::manager::NewKey;
use keyward::verifier::{Admitted, Denial, DenialClass};
pub(crate) use test_support::fixture::{
    ADMIN, Choices, READ, WRITE, actor, builder, clock, format, tenant,
};

pub(crate) type Fixture = test_support::fixture::FixtureOver<crate::store::Store>;

pub(crate) fn new_key() -> NewKey {
    NewKey::new(tenant(), "a key", READ)
}

pub(crate) fn class(verdict: Result<Admitted, Denial>) -> Option<DenialClass> {
    verdict.err().map(|denial| denial.class())
}

/// The value of a future that never has to wait, such as a verification over memory with a fast hash.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the future has to wait"),
    }
}
