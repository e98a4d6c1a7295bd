//! Every operation of the manager, and what it tells of.

use std::time::Duration;

use keyward::Keyward;
use keyward::audit::EventAction;
use keyward::import::ImportedKey;
use keyward::key::{KeyId, RevokeReason, TenantId};
use keyward::manager::{Issued, KeyQuery, KeyUpdate, ManageError, Overlap, Restriction, RevokeAll};
use keyward::store::CutoffScope;
use keyward::time::OffsetDateTime;
use sqlite_store::{actor, new_key, tenant};

pub(crate) const HOUR: Duration = Duration::from_hours(1);
const LEGACY: &str = "12.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg";
/// Two sets' worth.
pub(crate) const SWEPT: usize = 19;

/// Keys in the states that operations need.
pub(crate) struct Keys {
    pub(crate) live: Issued,
    pub(crate) suspended: Issued,
    /// Its overlap with `heir` is over, and it is not listed as revoked yet.
    pub(crate) ancestor: Issued,
    pub(crate) heir: Issued,
    /// Revocations of another tenant's keys, as they were exported before a backup was restored.
    pub(crate) kept: Vec<Restriction>,
    pub(crate) now: OffsetDateTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Issue,
    Import,
    Get,
    List,
    Update,
    Suspend,
    Resume,
    Rotate,
    RotateAway,
    Revoke,
    RevokeAll,
    DenyIssuedBefore,
    Export,
    Replay,
    Narrow,
    FindOwner,
    RevokeLeaked,
    Purge,
    RemoveTenant,
    CutEvents,
}

impl Op {
    pub(crate) const ALL: [Self; 20] = [
        Self::Issue,
        Self::Import,
        Self::Get,
        Self::List,
        Self::Update,
        Self::Suspend,
        Self::Resume,
        Self::Rotate,
        Self::RotateAway,
        Self::Revoke,
        Self::RevokeAll,
        Self::DenyIssuedBefore,
        Self::Export,
        Self::Replay,
        Self::Narrow,
        Self::FindOwner,
        Self::RevokeLeaked,
        Self::Purge,
        Self::RemoveTenant,
        Self::CutEvents,
    ];

    pub(crate) async fn run(self, keyward: &Keyward, keys: &Keys) -> Result<(), ManageError> {
        let (manager, actor, tenant) = (keyward.manager(), &actor(), &acme());
        let (live, heir) = (keys.live.record().id(), keys.heir.record().id());
        let leaked = RevokeReason::Leaked;
        let presented = keys.live.api_key().presented();
        match self {
            Self::Issue => manager.issue(actor, new_key(tenant, "new")).await.map(drop),
            Self::Import => {
                let imported = ImportedKey::text("legacy", LEGACY).entropy_bits(238);
                let imported = manager.import(actor, new_key(tenant, "imported"), imported);
                imported.await.map(drop)
            }
            Self::Get => manager.get(actor, tenant, live).await.map(drop),
            Self::List => {
                let query = KeyQuery::of(tenant).live_first();
                manager.list(actor, &query).await.map(drop)
            }
            Self::Update => {
                let update = KeyUpdate::new().title("updated");
                manager.update(actor, tenant, live, update).await.map(drop)
            }
            Self::Suspend => manager.suspend(actor, tenant, live).await.map(drop),
            Self::Resume => {
                let resumed = manager.resume(actor, tenant, keys.suspended.record().id());
                resumed.await.map(drop)
            }
            Self::Rotate => {
                let rotated = manager.rotate(actor, tenant, heir, Overlap::For(HOUR));
                rotated.await.map(drop)
            }
            Self::RotateAway => {
                let rotated = manager.rotate(actor, tenant, heir, Overlap::None);
                rotated.await.map(drop)
            }
            Self::Revoke => manager.revoke(actor, tenant, live, leaked).await.map(drop),
            Self::RevokeAll => {
                let (all, swept) = (RevokeAll::new(leaked), swept());
                manager.revoke_all(actor, &swept, all).await.map(drop)
            }
            Self::DenyIssuedBefore => {
                let scope = CutoffScope::from(&swept());
                manager
                    .deny_issued_before(actor, keys.now, scope)
                    .await
                    .map(drop)
            }
            Self::Export => {
                let exported = manager.export_restrictions(actor, tenant, None);
                exported.await.map(drop)
            }
            Self::Replay => {
                let replayed = manager.replay_restrictions(actor, keys.kept.clone());
                replayed.await.map(drop)
            }
            Self::Narrow => {
                let replayed = manager.replay_restrictions(actor, [suspended(live)]);
                replayed.await.map(drop)
            }
            Self::FindOwner => manager.find_owner(actor, presented).await.map(drop),
            Self::RevokeLeaked => manager.revoke_leaked(actor, presented).await.map(drop),
            Self::Purge => {
                let purged = manager.purge(actor, tenant, keys.now, None);
                purged.await.map(drop)
            }
            Self::RemoveTenant => manager.remove_tenant(actor, &swept()).await.map(drop),
            Self::CutEvents => manager.cut_events(actor, keys.now).await.map(drop),
        }
    }

    /// What it tells of, in this order, and after how many of these it may stop half-way. The retiring of
    /// ancestors in a rotation is not among them.
    pub(crate) fn telling(self) -> (Vec<EventAction>, &'static [usize]) {
        use EventAction as A;
        match self {
            Self::Get | Self::List | Self::Export | Self::FindOwner => (Vec::new(), &[0]),
            Self::Issue => (vec![A::KeyIssued], &[0, 1]),
            Self::Import => (vec![A::KeyImported], &[0, 1]),
            Self::Update => (vec![A::KeyUpdated], &[0, 1]),
            Self::Suspend | Self::Narrow => (vec![A::KeySuspended], &[0, 1]),
            Self::Resume => (vec![A::KeyResumed], &[0, 1]),
            Self::Rotate => (vec![A::KeyIssued, A::KeyRotated], &[0, 2]),
            Self::RotateAway => (vec![A::KeyIssued, A::KeyRotated, A::KeyRevoked], &[0, 3]),
            Self::Revoke | Self::RevokeLeaked => (vec![A::KeyRevoked], &[0, 1]),
            Self::DenyIssuedBefore => (vec![A::KeysCutOff], &[0, 1]),
            Self::Replay => (vec![A::KeyRevoked; SWEPT], &[0, 16, SWEPT]),
            Self::RevokeAll => {
                let mut all = vec![A::KeyRevoked; SWEPT + 1];
                all[0] = A::KeysCutOff;
                (all, &[0, 1, 17, SWEPT + 1])
            }
            Self::Purge => (vec![A::KeyPurged], &[0, 1]),
            Self::RemoveTenant => {
                let each = [A::KeyRevoked, A::KeyPurged].repeat(SWEPT);
                let all = [vec![A::KeysCutOff], each, vec![A::TenantRemoved]].concat();
                (all, &[0, 1, 17, 33, 2 * SWEPT + 1, 2 * SWEPT + 2])
            }
            Self::CutEvents => (vec![A::EventsCut], &[0, 1]),
        }
    }

    /// Whether this is the answer of an operation that was done before, or was not.
    pub(crate) fn is_proper(self, done: bool, again: &Result<(), ManageError>) -> bool {
        use ManageError as E;
        match self {
            Self::Import if done => matches!(again, Err(E::AlreadyImported { .. })),
            Self::Suspend if done => matches!(again, Err(E::AlreadySuspended { .. })),
            Self::Resume if done => matches!(again, Err(E::NotSuspended)),
            Self::Rotate if done => matches!(again, Err(E::AlreadyRotated { .. })),
            Self::Revoke | Self::RevokeLeaked | Self::RotateAway if done => {
                matches!(again, Err(E::AlreadyRevoked { .. }))
            }
            _ => again.is_ok(),
        }
    }
}

pub(crate) fn acme() -> TenantId {
    tenant("acme-inc").unwrap()
}

/// That a key was suspended when it was exported.
fn suspended(id: KeyId) -> Restriction {
    let record = serde_json::json!({
        "id": id, "tenant": acme(), "bound": { "limited": {
            "restrictions": {
                "access": "full", "resources": "any", "networks": "any", "quotas": [],
                "concurrency": null, "not_before": null, "expires_at": null,
            },
            "suspended_at": "2027-01-01T00:00:00Z",
        } },
    });
    serde_json::from_value(record).unwrap()
}

/// A tenant whose keys are revoked all at once.
pub(crate) fn swept() -> TenantId {
    tenant("swept-inc").unwrap()
}
