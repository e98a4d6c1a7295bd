//! A node whose slow hashes are held up, so that who waits for them, and who does not, is counted and not timed.

use std::future::{Future, ready};
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use keyward::hashing::{Argon2Params, Hashing};
use keyward::key::{KeyId, PresentedKey};
use keyward::verifier::{Admitted, Attempt, Denial, Requirement};
use keyward::{Builder, Keyward};

use crate::common::{Fixture, actor, builder, new_key};

/// A node of one thread for slow hashes, which is held up until it is released.
pub(crate) struct HeldUp {
    pub(crate) node: Keyward,
    /// A key under a slow hash.
    pub(crate) holder: KeyId,
    gate: Arc<Gate>,
}

impl HeldUp {
    /// A further node over the fixture's store. It has computed one slow hash.
    pub(crate) async fn over(fixture: &Fixture, build: impl FnOnce(Builder) -> Builder) -> Self {
        let node = || builder(fixture.store.clone(), fixture.clock.clone()).hashing(slow());
        let issuing = node().open().await.unwrap();
        let held = issuing.manager().issue(&actor(), new_key()).await.unwrap();
        let holder = held.record().id();
        let node = build(node()).open().await.unwrap();
        let gate = Arc::new(Gate::default());
        {
            let waker = Waker::from(Arc::clone(&gate));
            let mut guess = Box::pin(guess(&node, holder, usize::MAX));
            let asked = guess.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(asked.is_pending());
            while !gate.has_come.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Self { node, holder, gate }
    }

    pub(crate) fn release(&self) {
        *self.gate.is_open.lock().unwrap() = true;
        self.gate.opened.notify_all();
    }

    pub(crate) fn slow_hashes(&self) -> u64 {
        self.node.verifier().stats().slow_hashes - 1
    }
}

/// Otherwise a test that fails would leave the thread held up, and never end.
impl Drop for HeldUp {
    fn drop(&mut self) {
        self.release();
    }
}

/// A waker that holds up the thread which calls it.
#[derive(Default)]
struct Gate {
    has_come: AtomicBool,
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        self.has_come.store(true, Ordering::SeqCst);
        let mut is_open = self.is_open.lock().unwrap();
        while !*is_open {
            is_open = self.opened.wait(is_open).unwrap();
        }
    }
}

/// One slow hash at a time for every key, as cheap as is accepted.
pub(crate) fn slow() -> Hashing {
    let cheap = Argon2Params::new(7 * 1024, 5, 1).unwrap();
    Hashing::argon2id(cheap).max_concurrent_slow_hashes(NonZeroUsize::MIN)
}

/// Presents a wrong secret.
pub(crate) async fn guess(node: &Keyward, id: KeyId, number: usize) -> Result<Admitted, Denial> {
    let (id, secret) = (id.to_string(), format!("{number:043}"));
    verify(node, PresentedKey::pair(&id, &secret)).await
}

pub(crate) async fn verify(
    node: &Keyward,
    presented: PresentedKey<'_>,
) -> Result<Admitted, Denial> {
    let any = Requirement::any_key();
    let attempt = Attempt::new(presented, &any);
    node.verifier().verify(&attempt).await
}

pub(crate) type Asked<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Asks, as far as that goes without the slow hash.
pub(crate) fn ask<'a, T: 'a>(future: impl Future<Output = T> + 'a) -> Asked<'a, T> {
    let mut future: Asked<'a, T> = Box::pin(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => Box::pin(ready(value)),
        Poll::Pending => future,
    }
}

/// Asks for what cannot be had without the slow hash.
pub(crate) fn waiting<'a, T: 'a>(future: impl Future<Output = T> + 'a) -> Asked<'a, T> {
    let mut future: Asked<'a, T> = Box::pin(future);
    let asked = future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    assert!(asked.is_pending(), "it waits for a slow hash");
    future
}
