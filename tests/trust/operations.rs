//! Every operation of the manager, the keys that it takes, and how to see from outside what it did.

mod world;

use std::time::Duration;

use keyward::Keyward;
use keyward::audit::EventAction;
use keyward::import::ImportedKey;
use keyward::key::{KeyId, KeyRecord, RevokeReason, TenantId};
use keyward::manager::{
    FoundKey, Issued, KeyBound, KeyList, KeyQuery, KeyUpdate, ManageError, NewKey, Overlap, Purged,
    Replayed, RestrictionPage, RevokeAll, Revoked, RevokedAll,
};
use keyward::store::CutoffScope;

pub(crate) use self::world::{World, assemble};
use crate::common::{READ, actor, tenant};
pub(crate) use test_support::fixture::{poll_times, poll_until};

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
const LEGACY: &str = "12.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg";
/// Two sets' worth.
const SWEPT: usize = 19;

/// What can be asked of a manager.
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
    FindById,
    RevokeLeaked,
    Purge,
    RemoveTenant,
    CutEvents,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Done {
    Issued(Box<Issued>),
    Record(Box<KeyRecord>),
    Listed(KeyList),
    Revoked(Revoked),
    Swept(RevokedAll),
    CutOff,
    Exported(RestrictionPage),
    Replayed(Replayed),
    Narrowed(Replayed),
    Found(Box<FoundKey>),
    Purged(Purged),
    Removed(u64),
    EventsCut(u64),
}

impl Op {
    pub(crate) const ALL: [Self; 21] = [
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
        Self::FindById,
        Self::RevokeLeaked,
        Self::Purge,
        Self::RemoveTenant,
        Self::CutEvents,
    ];

    /// Whether the rules of the tenant have a say in it.
    pub(crate) fn gives_power(self) -> bool {
        use Op::{Import, Issue, Resume, Rotate, RotateAway, Update};
        matches!(self, Issue | Import | Update | Resume | Rotate | RotateAway)
    }

    /// Whether the policy is asked about the key's owner, which is read before.
    pub(crate) fn is_on_one_key(self) -> bool {
        use Op::{Get, Resume, Revoke, Rotate, RotateAway, Suspend, Update};
        matches!(
            self,
            Get | Update | Suspend | Resume | Rotate | RotateAway | Revoke
        )
    }

    pub(crate) async fn run(self, keyward: &Keyward, world: &World) -> Result<Done, ManageError> {
        let (manager, actor, tenant) = (keyward.manager(), &actor(), &tenant());
        let key = |issued: &Issued| issued.record().id();
        let (live, heir) = (key(&world.live), key(&world.heir));
        let issued = |issued| Done::Issued(Box::new(issued));
        let record = |record| Done::Record(Box::new(record));
        let leaked = RevokeReason::Leaked;
        match self {
            Self::Issue => manager.issue(actor, new_key("new")).await.map(issued),
            Self::Import => {
                let imported = ImportedKey::text("legacy", LEGACY).entropy_bits(238);
                let imported = manager.import(actor, new_key("imported"), imported);
                imported.await.map(record)
            }
            Self::Get => manager.get(actor, tenant, live).await.map(record),
            Self::List => {
                let query = KeyQuery::of(tenant).live_first();
                manager.list(actor, &query).await.map(Done::Listed)
            }
            Self::Update => {
                let update = KeyUpdate::new().title("updated");
                let updated = manager.update(actor, tenant, live, update);
                updated.await.map(record)
            }
            Self::Suspend => manager.suspend(actor, tenant, live).await.map(record),
            Self::Resume => {
                let resumed = manager.resume(actor, tenant, key(&world.suspended));
                resumed.await.map(record)
            }
            Self::Rotate => {
                let rotated = manager.rotate(actor, tenant, heir, Overlap::For(HOUR));
                rotated.await.map(issued)
            }
            Self::RotateAway => {
                let rotated = manager.rotate(actor, tenant, heir, Overlap::None);
                rotated.await.map(issued)
            }
            Self::Revoke => {
                let revoked = manager.revoke(actor, tenant, live, leaked);
                revoked.await.map(Done::Revoked)
            }
            Self::RevokeAll => {
                let all = RevokeAll::new(leaked);
                let swept = swept();
                let revoked = manager.revoke_all(actor, &swept, all);
                revoked.await.map(Done::Swept)
            }
            Self::DenyIssuedBefore => {
                let scope = CutoffScope::from(&swept());
                let denied = manager.deny_issued_before(actor, world.now, scope);
                denied.await.map(|_| Done::CutOff)
            }
            Self::Export => {
                let exported = manager.export_restrictions(actor, tenant, None);
                exported.await.map(Done::Exported)
            }
            Self::Replay => {
                let replayed = manager.replay_restrictions(actor, world.kept.clone());
                replayed.await.map(Done::Replayed)
            }
            Self::Narrow => {
                let suspended = [suspended(live)];
                let replayed = manager.replay_restrictions(actor, suspended);
                replayed.await.map(Done::Narrowed)
            }
            Self::FindOwner => {
                let found = manager.find_owner(actor, world.live.api_key().presented());
                found.await.map(|found| Done::Found(Box::new(found)))
            }
            Self::FindById => manager.find_by_id(actor, live).await.map(record),
            Self::RevokeLeaked => {
                let revoked = manager.revoke_leaked(actor, world.live.api_key().presented());
                revoked.await.map(Done::Revoked)
            }
            Self::Purge => {
                let purged = manager.purge(actor, tenant, world.now, None);
                purged.await.map(Done::Purged)
            }
            Self::RemoveTenant => {
                let removed = manager.remove_tenant(actor, &swept()).await;
                removed.map(Done::Removed)
            }
            Self::CutEvents => {
                let cut = manager.cut_events(actor, world.now).await;
                cut.map(Done::EventsCut)
            }
        }
    }

    /// What it tells of, in this order, and after how many of these it may stop half-way. The retiring of ancestors
    /// in a rotation is not among them.
    pub(crate) fn telling(self) -> (Vec<EventAction>, &'static [usize]) {
        use EventAction as A;
        match self {
            Self::Get | Self::List | Self::Export | Self::FindOwner | Self::FindById => {
                (Vec::new(), &[0])
            }
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
}

pub(crate) fn new_key(title: &str) -> NewKey {
    NewKey::new(tenant(), title, READ)
}

/// That a key was suspended when it was exported.
fn suspended(id: KeyId) -> KeyBound {
    let record = serde_json::json!({
        "id": id, "tenant": tenant(), "bound": {
            "type": "limited",
            "restrictions": {
                "access": { "type": "full" }, "resources": { "type": "any" }, "networks": { "type": "any" },
                "quotas": [], "concurrency": null, "not_before": null, "expires_at": null,
            },
            "suspended_at": "2027-01-01T00:00:00Z",
        },
    });
    serde_json::from_value(record).unwrap()
}

/// A tenant whose keys are revoked all at once.
pub(crate) fn swept() -> TenantId {
    TenantId::new("swept-inc").unwrap()
}
