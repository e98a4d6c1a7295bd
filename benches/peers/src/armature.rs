//! `armature-auth`: [`ApiKeyManager::validate`] and [`ApiKeyManager::has_scope`], over a store in memory.

use std::collections::HashMap;
use std::error::Error;
use std::hint::black_box;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use armature_auth::api_key::{ApiKey, ApiKeyError, ApiKeyManager, ApiKeyStore};
use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::{PER_MINUTE, SCOPE};

/// A key in use, with an expiry, a scope and a limit per minute.
pub(crate) struct Armature {
    manager: ApiKeyManager,
    text: String,
}

impl Armature {
    pub(crate) async fn open() -> Result<Self, Box<dyn Error>> {
        let store = Arc::new(Store::default());
        let manager = ApiKeyManager::new(Arc::clone(&store) as Arc<dyn ApiKeyStore>, [0x5a; 32])?;
        let mut issued = manager.generate("acme-inc", vec![SCOPE.to_owned()]).await?;
        issued.api_key.rate_limit = Some(PER_MINUTE);
        store.save(&issued.api_key).await?;
        Ok(Self {
            text: issued.into_secret(),
            manager,
        })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) async fn admits(&self, text: &str) -> bool {
        let verdict = black_box(self.manager.validate(text).await);
        matches!(verdict, Ok(Some(key)) if self.manager.has_scope(&key, SCOPE))
    }
}

/// The maps are indexed by the manager's look-up keys, so that no look-up has to search.
#[derive(Default)]
struct Store {
    keys: RwLock<HashMap<String, ApiKey>>,
    last_used: RwLock<HashMap<String, AtomicI64>>,
}

impl Store {
    fn find(&self, wanted: impl Fn(&ApiKey) -> bool) -> Vec<ApiKey> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.values().filter(|key| wanted(key)).cloned().collect()
    }
}

#[async_trait]
impl ApiKeyStore for Store {
    async fn save(&self, key: &ApiKey) -> Result<(), ApiKeyError> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let mut used = self
            .last_used
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        keys.insert(key.key_hash.clone(), key.clone());
        used.entry(key.id.clone()).or_default();
        Ok(())
    }

    async fn find_by_key_hash(&self, key_hash: &str) -> Result<Option<ApiKey>, ApiKeyError> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        Ok(keys.get(key_hash).cloned())
    }

    async fn find_by_id(&self, id: &str) -> Result<Option<ApiKey>, ApiKeyError> {
        Ok(self.find(|key| key.id == id).pop())
    }

    async fn list_by_user(&self, user_id: &str) -> Result<Vec<ApiKey>, ApiKeyError> {
        Ok(self.find(|key| key.user_id == user_id))
    }

    async fn revoke(&self, key_id: &str) -> Result<(), ApiKeyError> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        for key in keys.values_mut().filter(|key| key.id == key_id) {
            key.revoked = true;
        }
        Ok(())
    }

    async fn update_last_used(
        &self,
        key_id: &str,
        timestamp: DateTime<Utc>,
    ) -> Result<(), ApiKeyError> {
        let used = self
            .last_used
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(used) = used.get(key_id) {
            used.store(timestamp.timestamp(), Ordering::Relaxed);
        }
        Ok(())
    }
}
