//! The map from ids to slots.

use super::slot::Slot;
use crate::key::KeyId;
use crate::sync::{Mutex, lock};

pub(crate) use self::imp::SlotMap;

/// An id as a key of the map. Ids are random, so that half of one is as good a hash as any. The hasher's seed decides
/// how the halves mix, against an attacker who can choose ids.
#[derive(Clone, Copy, PartialEq, Eq)]
struct SlotKey([u64; 2]);

impl SlotKey {
    fn of(id: KeyId) -> Self {
        let (high, low) = (id.as_u128() >> 64, id.as_u128());
        #[expect(clippy::cast_possible_truncation, reason = "each is one half")]
        Self([high as u64, low as u64])
    }

    fn id(self) -> KeyId {
        let [high, low] = self.0.map(u128::from);
        KeyId::from_u128(high << 64 | low)
    }
}

impl std::hash::Hash for SlotKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let [high, low] = self.0.map(u128::from);
        state.write_u128(high << 64 | low);
    }
}

impl SlotMap {
    /// Visits the key's slot; `None` if it has no slot. `prepare` runs before the slot is locked, and only if there is
    /// one.
    #[inline]
    pub(crate) fn find<P, T>(
        &self,
        id: KeyId,
        prepare: impl FnOnce() -> P,
        visit: impl FnOnce(P, &mut Slot) -> T,
    ) -> Option<T> {
        self.get(id, |slot| {
            let prepared = prepare();
            let mut slot = lock(slot);
            (!slot.is_dead).then(|| visit(prepared, &mut slot))
        })?
    }

    /// Visits the key's slot, and creates it if it has none.
    pub(crate) fn with<T>(&self, id: KeyId, mut visit: impl FnMut(&mut Slot) -> T) -> T {
        loop {
            let seen = self.get_or_insert(id, |slot| {
                let mut slot = lock(slot);
                (!slot.is_dead).then(|| visit(&mut slot))
            });
            if let Some(seen) = seen {
                return seen;
            }
            // Another thread is about to remove it.
            self.remove_dead(id);
        }
    }
}

#[cfg(not(keyward_shuttle))]
mod imp {
    use std::borrow::Borrow;
    use std::hash::{Hash, Hasher};

    use super::{KeyId, Mutex, Slot, SlotKey};

    /// A map with reads that take no lock.
    ///
    /// It grows in one step: insertions wait for it, and reads do not. When it grows step by step (papaya 0.2.5),
    /// `get_or_insert_with` never takes the steps: at a million keys a lookup then takes eleven times as long.
    ///
    /// The map stores a key and its value side by side. The slots are therefore part of its keys: each begins at a
    /// cache line, and with many keys a verification reads one line less.
    pub(crate) struct SlotMap(papaya::HashMap<Place, (), foldhash::fast::RandomState>);

    /// A slot beside its key in the map.
    #[repr(align(64))]
    struct Place {
        key: SlotKey,
        slot: Mutex<Slot>,
    }

    // The size of four cache lines.
    const _: () = assert!(size_of::<Place>() <= 256, "a slot takes a line more");

    impl Borrow<SlotKey> for Place {
        fn borrow(&self) -> &SlotKey {
            &self.key
        }
    }

    impl PartialEq for Place {
        fn eq(&self, other: &Self) -> bool {
            self.key == other.key
        }
    }

    impl Eq for Place {}

    impl Hash for Place {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.key.hash(state);
        }
    }

    impl SlotMap {
        pub(in crate::cache) fn new() -> Self {
            let map = papaya::HashMap::builder().hasher(foldhash::fast::RandomState::default());
            Self(map.resize_mode(papaya::ResizeMode::Blocking).build())
        }

        #[inline]
        pub(in crate::cache) fn get<T>(
            &self,
            id: KeyId,
            visit: impl FnOnce(&Mutex<Slot>) -> T,
        ) -> Option<T> {
            let places = self.0.pin();
            let found = places.get_key_value(&SlotKey::of(id));
            found.map(|(place, ())| visit(&place.slot))
        }

        pub(in crate::cache) fn get_or_insert<T>(
            &self,
            id: KeyId,
            visit: impl FnOnce(&Mutex<Slot>) -> T,
        ) -> T {
            let (places, key) = (self.0.pin(), SlotKey::of(id));
            loop {
                if let Some((place, ())) = places.get_key_value(&key) {
                    return visit(&place.slot);
                }
                // Keeps a slot that another thread has inserted first.
                let slot = Mutex::default();
                let _ = places.try_insert(Place { key, slot }, ());
            }
        }

        pub(in crate::cache) fn remove_dead(&self, id: KeyId) {
            let is_dead = |place: &Place, (): &()| crate::sync::lock(&place.slot).is_dead;
            let _ = self.0.pin().remove_if(&SlotKey::of(id), is_dead);
        }

        pub(crate) fn for_each(&self, mut visit: impl FnMut(KeyId, &Mutex<Slot>)) {
            for (place, ()) in &self.0.pin() {
                visit(place.key.id(), &place.slot);
            }
        }
    }
}

/// The same map by simpler means: the exploration does not cover the library's own steps.
#[cfg(keyward_shuttle)]
mod imp {
    use std::collections::HashMap;
    use std::sync::Arc;

    use std::sync::{MutexGuard, PoisonError};

    use super::{KeyId, Mutex, Slot, SlotKey};
    use crate::sync::{AtomicU32, Ordering, lock};

    type Shared = HashMap<[u64; 2], Arc<Mutex<Slot>>>;

    #[derive(Default)]
    pub(crate) struct SlotMap {
        slots: std::sync::Mutex<Shared>,
        /// Read before each step, since shuttle switches threads at that point.
        step: AtomicU32,
    }

    impl SlotMap {
        pub(in crate::cache) fn new() -> Self {
            Self::default()
        }

        fn step(&self) -> MutexGuard<'_, Shared> {
            self.step.load(Ordering::SeqCst);
            self.slots.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn shared(&self, id: KeyId) -> Option<Arc<Mutex<Slot>>> {
            self.step().get(&SlotKey::of(id).0).cloned()
        }

        pub(in crate::cache) fn get<T>(
            &self,
            id: KeyId,
            visit: impl FnOnce(&Mutex<Slot>) -> T,
        ) -> Option<T> {
            self.shared(id).map(|slot| visit(&slot))
        }

        pub(in crate::cache) fn get_or_insert<T>(
            &self,
            id: KeyId,
            visit: impl FnOnce(&Mutex<Slot>) -> T,
        ) -> T {
            let slot = Arc::clone(self.step().entry(SlotKey::of(id).0).or_default());
            visit(&slot)
        }

        pub(in crate::cache) fn remove_dead(&self, id: KeyId) {
            let dead = self.shared(id).filter(|slot| lock(slot).is_dead);
            if let Some(slot) = dead {
                let mut slots = self.step();
                if slots
                    .get(&SlotKey::of(id).0)
                    .is_some_and(|found| Arc::ptr_eq(found, &slot))
                {
                    slots.remove(&SlotKey::of(id).0);
                }
            }
        }

        pub(crate) fn for_each(&self, mut visit: impl FnMut(KeyId, &Mutex<Slot>)) {
            let slots: Vec<_> = self
                .step()
                .iter()
                .map(|(key, slot)| (*key, Arc::clone(slot)))
                .collect();
            for (key, slot) in slots {
                visit(SlotKey(key).id(), &slot);
            }
        }
    }
}
