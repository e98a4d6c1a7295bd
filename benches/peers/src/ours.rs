//! Keyward's own checks.

use std::error::Error;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Duration;

use keyward::Keyward;
use keyward::hashing::Hashing;
use keyward::key::{KeyFormat, PresentedKey, Quota, Scope, TenantId};
use keyward::manager::{Actor, AllowAll, NewKey};
use keyward::store::MemoryStore;
use keyward::verifier::{Attempt, Requirement};
use tokio::runtime::Handle;

use crate::{PER_MINUTE, PER_SECOND, SCOPE};

/// A key in use, with an expiry and a scope.
pub(crate) struct Ours {
    keyward: Keyward,
    text: String,
    need: Requirement,
}

/// The limits of the key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limits {
    /// No limit.
    None,
    /// Two quotas that are never used up.
    Quotas,
}

impl Ours {
    pub(crate) async fn open(hashing: Hashing, limits: Limits) -> Result<Self, Box<dyn Error>> {
        let scope: Scope = SCOPE.parse()?;
        let keyward = Keyward::builder(MemoryStore::new())
            .format(KeyFormat::new("acme")?.environment("live")?)
            .scopes([scope.clone().described("Read editions")])
            .policy(AllowAll)
            .hashing(hashing)
            .open()
            .await?;
        tokio::spawn(keyward.background());
        let tenant = TenantId::new("acme-inc")?;
        let year = Duration::from_hours(24 * 365);
        let mut key = NewKey::new(tenant, "measured", scope.clone()).expires_in(year);
        if let Limits::Quotas = limits {
            let most = |limit| NonZeroU32::new(limit).ok_or("a limit of nothing");
            let second = Quota::new("second", most(PER_SECOND)?, Duration::from_secs(1))?;
            let minute = Quota::new("minute", most(PER_MINUTE)?, Duration::from_secs(60))?;
            key = key.quota(second).quota(minute);
        }
        let issued = keyward
            .manager()
            .issue(&Actor::system("bench"), key)
            .await?;
        let ours = Self {
            text: issued.api_key().expose().to_owned(),
            need: Requirement::scope(scope),
            keyward,
        };
        // The first verification reads the store and computes any slow hash.
        if !ours.admits_awaited(&ours.text).await {
            return Err("the key that was issued is refused".into());
        }
        Ok(ours)
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Verifies a key as a warm request does: decides at once if possible, and waits otherwise.
    pub(crate) fn admits(&self, text: &str) -> bool {
        let attempt = Attempt::new(PresentedKey::text(text), &self.need);
        match self.keyward.verifier().try_verify(&attempt) {
            Some(verdict) => black_box(verdict).is_ok(),
            None => Handle::current().block_on(self.admits_awaited(text)),
        }
    }

    /// Verifies a key in the way that most handlers will.
    pub(crate) async fn admits_awaited(&self, text: &str) -> bool {
        let attempt = Attempt::new(PresentedKey::text(text), &self.need);
        black_box(self.keyward.verifier().verify(&attempt).await).is_ok()
    }
}
