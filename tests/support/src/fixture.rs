//! An assembled Keyward on a clock that the test sets, and ways into its store.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::should_implement_trait,
    reason = "a test fails by panicking"
)]

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use keyward::hashing::Hashing;
use keyward::key::{
    Digest, KeyFormat, KeyId, PresentedKey, Principal, Scope, StoredKey, TenantId, Title,
};
use keyward::manager::{Actor, Issued, NewKey};
use keyward::store::{Change, ChangeId, ChangeSet, KeyStore, MemoryStore};
use keyward::testkit::{self, ManualClock, SeededRandom};
use keyward::time::OffsetDateTime;
use keyward::verifier::{Admitted, Attempt, Denial, Requirement};
use keyward::{Builder, Keyward, scope};
use serde_json::Value;

/// A scope that most keys have.
pub const READ: Scope = scope!("read:editions");
/// A scope that they lack.
pub const WRITE: Scope = scope!("write:editions");
/// A scope that implies all others.
pub const ADMIN: Scope = scope!("admin");

/// An assembled Keyward for the environment `test`, over memory.
pub type Fixture = FixtureOver<MemoryStore>;

/// An assembled Keyward for the environment `test`, over a store of this type.
#[derive(Debug)]
pub struct FixtureOver<S> {
    /// The library under test.
    pub keyward: Keyward,
    /// Its store.
    pub store: S,
    /// Its clock.
    pub clock: ManualClock,
}

impl<S: KeyStore + Clone + Default> FixtureOver<S> {
    /// With the recommended hashing.
    pub async fn new() -> Self {
        Self::with(Hashing::recommended()).await
    }

    /// With this hashing.
    pub async fn with(hashing: Hashing) -> Self {
        Self::built(|builder| builder.hashing(hashing)).await
    }

    /// With further settings of its builder.
    pub async fn built(build: impl FnOnce(Builder) -> Builder) -> Self {
        let (store, clock) = (S::default(), clock());
        let keyward = build(builder(store.clone(), clock.clone()));
        Self {
            keyward: keyward.open().await.unwrap(),
            store,
            clock,
        }
    }

    /// Issues a key.
    pub async fn issue(&self, key: NewKey) -> Issued {
        self.keyward.manager().issue(&actor(), key).await.unwrap()
    }

    /// Verifies a credential, for any key.
    pub async fn verify(&self, presented: PresentedKey<'_>) -> Result<Admitted, Denial> {
        let any = Requirement::any_key();
        self.keyward
            .verifier()
            .verify(&Attempt::new(presented, &any))
            .await
    }

    /// The key as it is stored.
    pub async fn stored(&self, id: KeyId) -> StoredKey {
        self.store.get(id).await.unwrap().unwrap()
    }

    /// Changes a key behind the manager's back.
    pub async fn tamper(&self, id: KeyId, change: impl FnOnce(&mut StoredKey)) {
        let mut stored = self.stored(id).await;
        let expected = stored.revision;
        change(&mut stored);
        let with = Box::new(stored);
        self.commit(Change::Replace { expected, with }).await;
    }

    /// Changes a field of a key's document, such as `restrictions/access`, behind the manager's back.
    pub async fn tamper_document(&self, id: KeyId, field: &str, value: Value) {
        self.tamper(id, |stored| {
            let mut document: Value = serde_json::from_slice(&stored.document).unwrap();
            let field = field.split('/');
            *field.fold(&mut document, |within, name| &mut within[name]) = value;
            stored.document = serde_json::to_vec(&document).unwrap().into();
        })
        .await;
    }

    /// Puts a digest in the place of a key's own.
    pub async fn plant_digest(&self, id: KeyId, text: &str) {
        let from = self.stored(id).await.digest;
        let to = Digest::new(text).unwrap();
        self.commit(Change::Rehash { id, from, to }).await;
    }

    async fn commit(&self, change: Change) {
        let set = ChangeSet::one(ChangeId::generate(&SeededRandom::new(0)), change);
        self.store.commit(&set).await.unwrap();
        self.keyward.verifier().forget_all();
    }
}

/// A builder over this store and clock, which allows every actor everything.
pub fn builder(store: impl KeyStore, clock: ManualClock) -> Builder {
    testkit::builder(store, [READ, WRITE])
        .scopes([ADMIN.described("All").implies_all()])
        .clock(clock)
}

/// Keys such as `acme_test_…`.
pub fn format() -> KeyFormat {
    KeyFormat::new("acme").unwrap().environment("test").unwrap()
}

/// A clock at 1,800,000,000 seconds.
pub fn clock() -> ManualClock {
    ManualClock::new(OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap())
}

/// The actor that manages keys.
pub fn actor() -> Actor {
    Actor::system("test")
}

/// The tenant of the keys.
pub fn tenant() -> TenantId {
    TenantId::new("acme-inc").unwrap()
}

/// A key as stores keep it, with the fewest fields that it can have.
pub fn stored_key(id: KeyId) -> StoredKey {
    StoredKey {
        id,
        tenant: tenant(),
        owner: Principal::user("alice").unwrap(),
        title: Title::new("title").unwrap(),
        created_at: OffsetDateTime::UNIX_EPOCH,
        revocation: None,
        expires_at: None,
        predecessor: None,
        lineage: id,
        digest: Digest::new("$digest").unwrap(),
        revision: 1,
        schema: 1,
        document: b"{}".as_slice().into(),
        cutoff: None,
    }
}

/// A small generator for tests that need very many choices.
#[derive(Debug)]
pub struct Choices(u64);

impl Choices {
    /// The choices of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64 (Steele, Lea and Flood 2014).
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below this bound.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    /// Whether it is the one of so many.
    pub fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}

/// Polls a future whenever it asks for it, this often at most, lets the time pass, and drops it: its value, if it came
/// that far.
pub async fn poll_times<T>(
    future: impl Future<Output = T>,
    polls: usize,
    pause: Duration,
) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    let ended = poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    let ended = ended.await;
    if ended.is_none() && !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    ended
}

/// Polls a future until it has come so far, lets the time pass, and drops it: its value, if it ended before.
pub async fn poll_until<T>(
    future: impl Future<Output = T>,
    mut has_come: impl FnMut() -> bool,
    pause: Duration,
) -> Option<T> {
    let come = async {
        while !has_come() {
            tokio::task::yield_now().await;
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    };
    tokio::select! {
        biased;
        value = future => Some(value),
        () = come => None,
    }
}
