//! What the tests share: an assembled Keyward on a clock that they set, and ways into its store.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use keyward::hashing::Hashing;
use keyward::key::{Digest, KeyFormat, KeyId, PresentedKey, Scope, StoredKey, TenantId};
use keyward::manager::{Actor, AllowAll, Issued, NewKey};
use keyward::store::{Change, ChangeId, ChangeSet, KeyStore, MemoryStore};
use keyward::testkit::{ManualClock, SeededRandom};
use keyward::time::OffsetDateTime;
use keyward::verifier::{Admitted, Attempt, Denial, DenialClass, Requirement};
use keyward::{Builder, Keyward, scope};
use serde_json::Value;

pub(crate) const READ: Scope = scope!("read:editions");
pub(crate) const WRITE: Scope = scope!("write:editions");
pub(crate) const ADMIN: Scope = scope!("admin");

/// An assembled Keyward for the environment `test`.
pub(crate) struct Fixture {
    pub(crate) keyward: Keyward,
    pub(crate) store: MemoryStore,
    pub(crate) clock: ManualClock,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with(Hashing::recommended()).await
    }

    pub(crate) async fn with(hashing: Hashing) -> Self {
        Self::built(|builder| builder.hashing(hashing)).await
    }

    pub(crate) async fn built(build: impl FnOnce(Builder) -> Builder) -> Self {
        let (store, clock) = (MemoryStore::new(), clock());
        let keyward = build(builder(store.clone(), clock.clone()));
        Self {
            keyward: keyward.open().await.unwrap(),
            store,
            clock,
        }
    }

    pub(crate) async fn issue(&self, key: NewKey) -> Issued {
        self.keyward.manager().issue(&actor(), key).await.unwrap()
    }

    pub(crate) async fn verify(&self, presented: PresentedKey<'_>) -> Result<Admitted, Denial> {
        let any = Requirement::any_key();
        self.keyward
            .verifier()
            .verify(&Attempt::new(presented, &any))
            .await
    }

    /// The key as it is stored.
    pub(crate) async fn stored(&self, id: KeyId) -> StoredKey {
        self.store.get(id).await.unwrap().unwrap()
    }

    /// Changes a key behind the manager's back.
    pub(crate) async fn tamper(&self, id: KeyId, change: impl FnOnce(&mut StoredKey)) {
        let mut stored = self.stored(id).await;
        let expected = stored.revision;
        change(&mut stored);
        let with = Box::new(stored);
        self.commit(Change::Replace { expected, with }).await;
    }

    /// Changes a field of a key's document behind the manager's back.
    pub(crate) async fn tamper_document(&self, id: KeyId, field: &str, value: Value) {
        self.tamper(id, |stored| {
            let mut document: Value = serde_json::from_slice(&stored.document).unwrap();
            document[field] = value;
            stored.document = serde_json::to_vec(&document).unwrap().into();
        })
        .await;
    }

    /// Puts a digest in the place of a key's own.
    pub(crate) async fn plant_digest(&self, id: KeyId, text: &str) {
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

pub(crate) fn builder(store: impl KeyStore, clock: ManualClock) -> Builder {
    Keyward::builder(store)
        .format(format())
        .scopes([
            READ.described("Read"),
            WRITE.described("Write"),
            ADMIN.described("All").implies_all(),
        ])
        .policy(AllowAll)
        .clock(clock)
}

pub(crate) fn format() -> KeyFormat {
    KeyFormat::new("acme").unwrap().environment("test").unwrap()
}

pub(crate) fn clock() -> ManualClock {
    ManualClock::new(OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap())
}

pub(crate) fn actor() -> Actor {
    Actor::system("test")
}

pub(crate) fn tenant() -> TenantId {
    TenantId::new("acme-inc").unwrap()
}

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

/// A small generator for tests that need very many choices.
pub(crate) struct Choices(u64);

impl Choices {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64 (Steele, Lea and Flood 2014).
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    pub(crate) fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}
