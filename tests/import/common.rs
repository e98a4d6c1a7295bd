//! What the tests share: an assembled Keyward that accepts imported keys, and ways into its store.

use std::time::{Duration, Instant};

use keyward::hashing::{Hashing, Pepper};
use keyward::import::{ImportedKey, ImportedKeys, LegacyDigest, LegacyFormat};
use keyward::key::{Digest, KeyFormat, KeyId, KeyRecord, PresentedKey, Scope, StoredKey, TenantId};
use keyward::manager::{Actor, AllowAll, ManageError, NewKey};
use keyward::store::{Change, ChangeId, ChangeSet, KeyStore, MemoryStore};
use keyward::testkit::{ManualClock, SeededRandom};
use keyward::time::OffsetDateTime;
use keyward::verifier::{Admitted, Attempt, Denial, Requirement};
use keyward::{Builder, Keyward, scope};
use serde_json::Value;

pub(crate) const READ: Scope = scope!("read:editions");
pub(crate) const WRITE: Scope = scope!("write:editions");

/// A secret of the length that the application's own format has, so that only its form keeps it out.
pub(crate) const SECRET: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg";
/// SHA-256 of [`SECRET`].
pub(crate) const SHA256: &str = "71d84b1859bad11abcb3dfd9353c8d1873aafd883ffaf6f2c9df7cbcfc3e1850";

/// An assembled Keyward for the environment `test`.
pub(crate) struct Fixture {
    pub(crate) keyward: Keyward,
    pub(crate) store: MemoryStore,
    pub(crate) clock: ManualClock,
}

impl Fixture {
    /// Accepts `legacy`: an id, a dot and a secret.
    pub(crate) async fn new() -> Self {
        Self::accepting([legacy()]).await
    }

    pub(crate) async fn accepting(formats: impl IntoIterator<Item = LegacyFormat>) -> Self {
        Self::with(Hashing::recommended(), imported(formats)).await
    }

    pub(crate) async fn with(hashing: Hashing, imported: ImportedKeys) -> Self {
        let (store, clock) = (MemoryStore::new(), clock());
        let builder = builder(&store, &clock)
            .hashing(hashing)
            .imported_keys(imported);
        Self {
            keyward: builder.open().await.unwrap(),
            store,
            clock,
        }
    }

    pub(crate) async fn import(&self, key: ImportedKey) -> KeyRecord {
        self.try_import(key).await.unwrap()
    }

    pub(crate) async fn try_import(&self, key: ImportedKey) -> Result<KeyRecord, ManageError> {
        let manager = self.keyward.manager();
        manager.import(&actor(), new_key(), key).await
    }

    pub(crate) async fn verify(&self, presented: PresentedKey<'_>) -> Result<Admitted, Denial> {
        let any = Requirement::any_key();
        let attempt = Attempt::new(presented, &any);
        self.keyward.verifier().verify(&attempt).await
    }

    /// The HTTP status that a text is answered with.
    pub(crate) async fn status(&self, text: &str) -> u16 {
        self.status_of(PresentedKey::text(text)).await
    }

    pub(crate) async fn status_of(&self, presented: PresentedKey<'_>) -> u16 {
        match self.verify(presented).await {
            Ok(_) => 200,
            Err(denial) => denial.class().status(),
        }
    }

    pub(crate) fn slow_hashes(&self) -> u64 {
        self.keyward.verifier().stats().slow_hashes
    }

    pub(crate) fn rehashed(&self) -> u64 {
        self.keyward.verifier().stats().rehashed
    }

    /// Waits until a key's digest is one of Keyward's, for which no verdict waits.
    pub(crate) async fn has_own_digest(&self, id: KeyId) {
        self.has_digest(id, |digest| digest.starts_with("$keyward-foreign$"))
            .await;
    }

    /// Waits until a key's digest was replaced.
    pub(crate) async fn has_digest(&self, id: KeyId, is_old: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        while is_old(&self.digest(id).await) {
            assert!(begun.elapsed() < Duration::from_secs(120), "not replaced");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The key as it is stored.
    pub(crate) async fn stored(&self, id: KeyId) -> StoredKey {
        self.store.get(id).await.unwrap().unwrap()
    }

    pub(crate) async fn digest(&self, id: KeyId) -> String {
        self.stored(id).await.digest.expose().to_owned()
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
        assert_eq!(self.digest(id).await, text);
    }

    async fn commit(&self, change: Change) {
        let set = ChangeSet::one(ChangeId::generate(&SeededRandom::new(0)), change);
        self.store.commit(&set).await.unwrap();
        self.keyward.verifier().forget_all();
    }
}

pub(crate) fn builder(store: &MemoryStore, clock: &ManualClock) -> Builder {
    Keyward::builder(store.clone())
        .format(format())
        .scopes([READ.described("Read"), WRITE.described("Write")])
        .policy(AllowAll)
        .clock(clock.clone())
}

pub(crate) fn format() -> KeyFormat {
    KeyFormat::new("acme").unwrap().environment("test").unwrap()
}

pub(crate) fn clock() -> ManualClock {
    ManualClock::new(OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap())
}

pub(crate) fn lookup() -> Pepper {
    pepper(1, 1)
}

pub(crate) fn pepper(version: u32, seed: u8) -> Pepper {
    Pepper::new(version, (seed..seed + 32).collect::<Vec<u8>>()).unwrap()
}

pub(crate) fn imported(formats: impl IntoIterator<Item = LegacyFormat>) -> ImportedKeys {
    let none = ImportedKeys::under(lookup());
    formats.into_iter().fold(none, ImportedKeys::accept)
}

pub(crate) fn legacy() -> LegacyFormat {
    // The samples' weakest secret has 15 characters.
    let legacy = LegacyFormat::with_id("legacy", '.').unwrap();
    legacy.secret_length(8..=200).unwrap()
}

pub(crate) fn actor() -> Actor {
    Actor::system("migration")
}

pub(crate) fn tenant() -> TenantId {
    TenantId::new("acme-inc").unwrap()
}

pub(crate) fn new_key() -> NewKey {
    NewKey::new(tenant(), "an old key", READ)
}

/// A key of `legacy` with this id, of which the SHA-256 of [`SECRET`] is known.
pub(crate) fn by_digest(id: &str) -> ImportedKey {
    let digest = LegacyDigest::sha256(SHA256).unwrap();
    ImportedKey::digest("legacy", id, digest).entropy_bits(238)
}

/// The same key, with its whole text.
pub(crate) fn by_text(id: &str) -> ImportedKey {
    ImportedKey::text("legacy", text(id)).entropy_bits(238)
}

/// What the client of that key sends.
pub(crate) fn text(id: &str) -> String {
    format!("{id}.{SECRET}")
}

/// What a wrong secret looks like at its most right: one character changed, one cut, one added.
pub(crate) fn nearly(text: &str) -> [String; 3] {
    let (rest, last) = text.split_at(text.len() - 1);
    let other = if last == "x" { "y" } else { "x" };
    [
        format!("{rest}{other}"),
        rest.to_owned(),
        format!("{text}x"),
    ]
}
