//! A Keyward on a random source that does as a test says.

use std::sync::{Arc, Mutex};

use keyward::Keyward;
use keyward::hashing::{Hashing, Pepper};
use keyward::import::{ImportedKeys, LegacyFormat};
use keyward::key::{ApiKey, KeyId, PresentedKey, StoredKey};
use keyward::manager::{ManageError, Overlap};
use keyward::random::{OsRandom, RandomError, RandomSource};
use keyward::store::{KeyStore, ListQuery, MemoryStore, Segments};
use keyward::testkit::ManualClock;
use keyward::verifier::{Attempt, Requirement};

use super::other_tenant;
use crate::common::{actor, builder, clock, new_key, tenant};

/// A source that counts its calls, and fails or repeats itself as a test says.
#[derive(Debug, Clone, Default)]
pub(super) struct Scripted(Arc<Mutex<Script>>);

#[derive(Debug, Clone, Default)]
struct Script {
    calls: u64,
    /// The calls that fail: from the first, to the one before the second.
    failing: (u64, u64),
    /// Whether all bytes are the same.
    repeats: bool,
    /// What the next draws of 16 bytes bring.
    next_ids: Vec<KeyId>,
}

impl Scripted {
    pub(super) fn calls(&self) -> u64 {
        self.0.lock().unwrap().calls
    }

    /// Counts anew, and fails the calls from `first` to the one before `end`.
    pub(super) fn fail(&self, first: u64, end: u64) {
        *self.0.lock().unwrap() = Script {
            failing: (first, end),
            ..Script::default()
        };
    }

    pub(super) fn repeat(&self) {
        self.0.lock().unwrap().repeats = true;
    }

    pub(super) fn draw_next(&self, id: KeyId) {
        self.0.lock().unwrap().next_ids.push(id);
    }
}

impl RandomSource for Scripted {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
        let mut script = self.0.lock().unwrap();
        let call = script.calls;
        script.calls += 1;
        if (script.failing.0..script.failing.1).contains(&call) {
            buffer.fill(0);
            return Err(RandomError::new("planted by the test"));
        }
        if script.repeats {
            buffer.fill(7);
            return Ok(());
        }
        OsRandom.fill(buffer)?;
        if buffer.len() == 16
            && let Some(id) = script.next_ids.pop()
        {
            buffer.copy_from_slice(&id.to_bytes());
        }
        Ok(())
    }

    fn is_for_tests(&self) -> bool {
        true
    }
}

/// A Keyward on a scripted source, which accepts keys of the legacy format `legacy`.
pub(super) struct Source {
    pub(super) keyward: Keyward,
    pub(super) store: MemoryStore,
    pub(super) clock: ManualClock,
    pub(super) random: Scripted,
}

impl Source {
    pub(super) async fn with(hashing: Hashing) -> Self {
        let (store, clock, random) = (MemoryStore::new(), clock(), Scripted::default());
        let lookup = Pepper::new(1, (1..33).collect::<Vec<u8>>()).unwrap();
        let legacy = LegacyFormat::with_id("legacy", '.').unwrap();
        let builder = builder(store.clone(), clock.clone())
            .hashing(hashing)
            .imported_keys(ImportedKeys::under(lookup).accept(legacy))
            .random(random.clone());
        Self {
            keyward: builder.open().await.unwrap(),
            store,
            clock,
            random,
        }
    }

    pub(super) async fn issue(&self) -> (ApiKey, KeyId) {
        let issued = self.keyward.manager().issue(&actor(), new_key()).await;
        let (key, record) = issued.unwrap().into_parts();
        (key, record.id())
    }

    pub(super) async fn rotate(&self, id: KeyId, overlap: Overlap) -> Result<KeyId, ManageError> {
        let manager = self.keyward.manager();
        let rotated = manager.rotate(&actor(), &tenant(), id, overlap).await?;
        Ok(rotated.record().id())
    }

    /// All keys of both tenants as they are stored, and how many events there are.
    pub(super) async fn all(&self) -> (Vec<StoredKey>, usize) {
        let mut keys = Vec::new();
        for tenant in [tenant(), other_tenant()] {
            let query = ListQuery::of(&tenant).listing(Segments::LiveThenRevoked);
            keys.extend(self.store.list(&query.limit(1_000)).await.unwrap().items);
        }
        let events = self.store.events().unwrap().read(None, 0, 1_000).await;
        (keys, events.unwrap().len())
    }

    pub(super) async fn is_good(&self, presented: PresentedKey<'_>) -> bool {
        let any = Requirement::any_key();
        let attempt = Attempt::new(presented, &any);
        self.keyward.verifier().verify(&attempt).await.is_ok()
    }
}
