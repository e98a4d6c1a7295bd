//! A Keyward that accepts imported keys, and access to its store.

use std::ops::Deref;
use std::time::{Duration, Instant};

use keyward::Builder;
use keyward::hashing::{Hashing, Pepper};
use keyward::import::{ImportedKey, ImportedKeys, LegacyDigest, LegacyFormat};
use keyward::key::{KeyId, KeyRecord, PresentedKey};
use keyward::manager::{Actor, ManageError, NewKey};
use keyward::store::MemoryStore;
use keyward::testkit::ManualClock;
use test_support::fixture;
pub(crate) use test_support::fixture::{READ, WRITE, clock, format, tenant};

/// A secret as long as those of the application's own format, so that only its form excludes it.
pub(crate) const SECRET: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg";
/// SHA-256 of [`SECRET`].
pub(crate) const SHA256: &str = "71d84b1859bad11abcb3dfd9353c8d1873aafd883ffaf6f2c9df7cbcfc3e1850";

/// An assembled Keyward that accepts imported keys.
pub(crate) struct Fixture(pub(crate) fixture::Fixture);

impl Deref for Fixture {
    type Target = fixture::Fixture;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
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
        let build = |builder: Builder| builder.hashing(hashing).imported_keys(imported);
        Self(fixture::Fixture::built(build).await)
    }

    /// The same keys in another configuration, as on another node or after a restart.
    pub(crate) async fn reopened(&self, build: impl FnOnce(Builder) -> Builder) -> Self {
        let builder = build(builder(&self.store, &self.clock));
        Self(fixture::Fixture {
            keyward: builder.open().await.unwrap(),
            store: self.store.clone(),
            clock: self.clock.clone(),
        })
    }

    pub(crate) async fn import(&self, key: ImportedKey) -> KeyRecord {
        self.try_import(key).await.unwrap()
    }

    pub(crate) async fn try_import(&self, key: ImportedKey) -> Result<KeyRecord, ManageError> {
        let manager = self.keyward.manager();
        manager.import(&actor(), new_key(), key).await
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

    /// Waits until a key's digest is one of Keyward's. Verdicts do not wait for that.
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

    pub(crate) async fn digest(&self, id: KeyId) -> String {
        self.stored(id).await.digest.expose().to_owned()
    }
}

pub(crate) fn builder(store: &MemoryStore, clock: &ManualClock) -> Builder {
    fixture::builder(store.clone(), clock.clone())
}

pub(crate) fn lookup() -> Pepper {
    pepper(1, 1)
}

pub(crate) fn pepper(version: u32, seed: u8) -> Pepper {
    Pepper::new(version, (seed..seed + 32).collect::<Vec<u8>>()).unwrap()
}

pub(crate) fn imported(formats: impl IntoIterator<Item = LegacyFormat>) -> ImportedKeys {
    let under = ImportedKeys::under(lookup());
    formats.into_iter().fold(under, ImportedKeys::accept)
}

pub(crate) fn legacy() -> LegacyFormat {
    // The samples' weakest secret has 15 characters.
    let legacy = LegacyFormat::with_id("legacy", '.').unwrap();
    legacy.secret_length(8..=200).unwrap()
}

pub(crate) fn actor() -> Actor {
    Actor::system("migration")
}

pub(crate) fn new_key() -> NewKey {
    NewKey::new(tenant(), "an old key", READ)
}

/// The SHA-256 of [`SECRET`].
pub(crate) fn sha256() -> LegacyDigest {
    LegacyDigest::sha256(SHA256).unwrap()
}

/// A key of `legacy` with this id, of which the SHA-256 of [`SECRET`] is known.
pub(crate) fn by_digest(id: &str) -> ImportedKey {
    ImportedKey::digest("legacy", id, sha256()).entropy_bits(238)
}

/// The same key, with its whole text.
pub(crate) fn by_text(id: &str) -> ImportedKey {
    ImportedKey::text("legacy", text(id)).entropy_bits(238)
}

/// The text that the client of that key sends.
pub(crate) fn text(id: &str) -> String {
    format!("{id}.{SECRET}")
}

/// The wrong secrets that are nearest to a right one: one character changed, cut or added.
pub(crate) fn nearly(text: &str) -> [String; 3] {
    let (rest, last) = text.split_at(text.len() - 1);
    let other = if last == "x" { "y" } else { "x" };
    [
        format!("{rest}{other}"),
        rest.to_owned(),
        format!("{text}x"),
    ]
}
