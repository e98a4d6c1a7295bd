//! Typical handwritten code of applications without such a crate: a map behind a lock, a digest, and `governor`.

use std::collections::HashMap;
use std::error::Error;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{PER_MINUTE, PER_SECOND, SCOPE};

/// A secret of 256 bits: 43 base62 characters.
const SECRET: &str = "0k3JwQzX5yT8vB1nM6cR2fH7gL4pS9dA0eK3jU5iO1q";

/// Keys, found by the digest of the whole text, with limiters found by the same digest.
pub(crate) struct ByDigest {
    text: String,
    records: RwLock<HashMap<String, Arc<Record>>>,
    per_second: DefaultKeyedRateLimiter<String>,
    per_minute: DefaultKeyedRateLimiter<String>,
}

/// Keys, found by the id in their text, each with its limiters, if any.
pub(crate) struct ById {
    text: String,
    keys: RwLock<HashMap<String, Key>>,
}

struct Key {
    digest: [u8; 32],
    limits: Vec<DefaultDirectRateLimiter>,
    record: Arc<Record>,
}

/// The record that a handler gets.
struct Record {
    tenant: String,
    scopes: Vec<String>,
    expires_at: SystemTime,
    is_revoked: bool,
}

impl ByDigest {
    pub(crate) fn open() -> Result<Self, Box<dyn Error>> {
        let text = format!("acme_live_{SECRET}");
        let records =
            HashMap::from([(hex::encode(Sha256::digest(&text)), Arc::new(Record::new()))]);
        let (per_second, per_minute) = quotas()?;
        Ok(Self {
            text,
            records: RwLock::new(records),
            per_second: RateLimiter::keyed(per_second),
            per_minute: RateLimiter::keyed(per_minute),
        })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn admits(&self, text: &str) -> bool {
        black_box(self.check(text)).is_some_and(|record| !record.tenant.is_empty())
    }

    fn check(&self, text: &str) -> Option<Arc<Record>> {
        let digest = hex::encode(Sha256::digest(text));
        let record = Arc::clone(self.records.read().ok()?.get(&digest)?);
        record.check(SCOPE)?;
        self.per_second.check_key(&digest).ok()?;
        self.per_minute.check_key(&digest).ok()?;
        Some(record)
    }
}

impl ById {
    pub(crate) fn limited() -> Result<Self, Box<dyn Error>> {
        let (per_second, per_minute) = quotas()?;
        Ok(Self::with(vec![
            RateLimiter::direct(per_second),
            RateLimiter::direct(per_minute),
        ]))
    }

    pub(crate) fn unlimited() -> Self {
        Self::with(Vec::new())
    }

    fn with(limits: Vec<DefaultDirectRateLimiter>) -> Self {
        let id = "4bN8xZ1mC6vQ3wE9rT2yUi";
        let key = Key {
            digest: Sha256::digest(SECRET).into(),
            limits,
            record: Arc::new(Record::new()),
        };
        Self {
            text: format!("acme_live_{id}_{SECRET}"),
            keys: RwLock::new(HashMap::from([(id.to_owned(), key)])),
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn admits(&self, text: &str) -> bool {
        black_box(self.check(text)).is_some_and(|record| !record.tenant.is_empty())
    }

    fn check(&self, text: &str) -> Option<Arc<Record>> {
        let (id, secret) = text.strip_prefix("acme_live_")?.split_once('_')?;
        let digest: [u8; 32] = Sha256::digest(secret).into();
        let keys = self.keys.read().ok()?;
        let key = keys.get(id)?;
        if !bool::from(key.digest.ct_eq(&digest)) {
            return None;
        }
        key.record.check(SCOPE)?;
        let is_within = key.limits.iter().all(|limit| limit.check().is_ok());
        is_within.then(|| Arc::clone(&key.record))
    }
}

impl Record {
    fn new() -> Self {
        Self {
            tenant: "acme-inc".to_owned(),
            scopes: vec![SCOPE.to_owned()],
            expires_at: SystemTime::now() + Duration::from_hours(24 * 365),
            is_revoked: false,
        }
    }

    fn check(&self, scope: &str) -> Option<()> {
        let is_good = !self.is_revoked
            && SystemTime::now() < self.expires_at
            && self.scopes.iter().any(|held| held == scope);
        is_good.then_some(())
    }
}

fn quotas() -> Result<(Quota, Quota), Box<dyn Error>> {
    let limit = |limit| NonZeroU32::new(limit).ok_or("a limit of nothing");
    Ok((
        Quota::per_second(limit(PER_SECOND)?),
        Quota::per_minute(limit(PER_MINUTE)?),
    ))
}
