//! Every operation under a policy that allows each owner's own keys only.
//!
//! The tests catch these planted bugs: the manager asks about an operation without the owner, with the actor in the
//! owner's place, or not at all; a key that does not exist gets a different answer from another owner's key.

use super::*;
use crate::Keyward;
use crate::audit::SealedEvent;
use crate::import::ImportedKey;
use crate::key::{ApiKey, Scope};
use crate::manager::{
    Ceiling, KeyManager, KeyQuery, KeyUpdate, ManageError, NewKey, Overlap, RevokeAll, Tenants,
};
use crate::scope;
use crate::store::{KeyStore, MemoryStore};
use crate::sync::{self, Mutex};
use crate::testkit;

const READ: Scope = scope!("read");

macro_rules! kinds {
    ($($kind:ident),+) => {
        /// The kinds of operation.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Kind { $($kind),+ }

        impl Kind {
            const ALL: &[Self] = &[$(Self::$kind),+];

            /// Returns the kind of an operation. A new operation does not compile until the list below names it, and
            /// then not until [`Kind::run`] runs it.
            fn of(operation: &Operation<'_>) -> Self {
                match operation { $(Operation::$kind { .. } => Self::$kind),+ }
            }
        }
    };
}

kinds!(
    Issue,
    Get,
    List,
    ListTenants,
    Update,
    Suspend,
    Resume,
    Rotate,
    Revoke,
    RevokeAll,
    DenyIssuedBefore,
    LowerCutoff,
    Import,
    FindOwner,
    FindById,
    ReadEvents,
    ReadEventsOf,
    Purge,
    RemoveTenant,
    CutEvents,
    ExportRestrictions,
    ReplayRestrictions
);

/// Allows operations on the actor's own keys, and the first step of a look-up.
#[derive(Debug, Clone, Default)]
struct OwnKeysOnly(std::sync::Arc<Mutex<Vec<Kind>>>);

#[async_trait]
impl Policy for OwnKeysOnly {
    async fn rule(&self, actor: &Actor, operation: &Operation<'_>) -> Result<Ruling, PolicyError> {
        sync::lock(&self.0).push(Kind::of(operation));
        let is_first = matches!(
            operation,
            Operation::FindOwner { found: None } | Operation::FindById { found: None, .. }
        );
        let is_own = operation.owner() == Some(actor.principal());
        Ok(if is_own || is_first {
            Ruling::Allow
        } else {
            Ruling::Refuse
        })
    }
}

/// A store with two keys, one of them suspended, of an owner who may manage only their own keys.
struct World {
    store: MemoryStore,
    policy: OwnKeysOnly,
    keyward: Keyward,
    key: ApiKey,
    suspended: ApiKey,
}

impl World {
    async fn new() -> Self {
        let (store, policy) = (MemoryStore::new(), OwnKeysOnly::default());
        let builder = testkit::builder(store.clone(), [READ]).policy(policy.clone());
        let keyward = builder.open().await.unwrap();
        let (manager, alice) = (keyward.manager(), actor("alice"));
        let issue = async |title| manager.issue(&alice, new_key(title)).await.unwrap();
        let (key, _) = issue("key").await.into_parts();
        let (suspended, _) = issue("suspended").await.into_parts();
        let done = manager.suspend(&alice, &tenant(), suspended.id()).await;
        done.unwrap();
        Self {
            store,
            policy,
            keyward,
            key,
            suspended,
        }
    }

    async fn events(&self) -> Vec<SealedEvent> {
        let log = self.store.events().unwrap();
        log.read(None, 0, usize::MAX).await.unwrap()
    }
}

impl Kind {
    /// Returns whether the operation can name a single owner's keys.
    fn can_be_of_one_owner(self) -> bool {
        !matches!(
            self,
            Self::ListTenants
                | Self::ReadEvents
                | Self::Purge
                | Self::RemoveTenant
                | Self::CutEvents
                | Self::ExportRestrictions
                | Self::ReplayRestrictions
        )
    }

    fn is_on_one_key(self) -> bool {
        use Kind::{Get, ReadEventsOf, Resume, Revoke, Rotate, Suspend, Update};
        matches!(
            self,
            Get | ReadEventsOf | Update | Suspend | Resume | Rotate | Revoke
        )
    }

    /// Runs the operation on Alice's keys, or on the key of this id.
    async fn run(self, world: &World, by: &Actor, id: Option<KeyId>) -> Result<(), ManageError> {
        let manager: &KeyManager = world.keyward.manager();
        let (tenant, owner) = (tenant(), actor("alice").principal().clone());
        let (key, text) = (id.unwrap_or(world.key.id()), world.key.presented());
        let now = OffsetDateTime::now_utc();
        match self {
            Self::Issue => {
                let new = new_key("new").owner(owner);
                manager.issue(by, new).await.map(drop)
            }
            Self::Import => {
                let new = new_key("new").owner(owner);
                let secret = world.key.expose_secret().to_owned();
                let imported = ImportedKey::pair(KeyId::from_u128(7), secret).entropy_bits(238);
                manager.import(by, new, imported).await.map(drop)
            }
            Self::Get => manager.get(by, &tenant, key).await.map(drop),
            Self::List => {
                let query = KeyQuery::of(&tenant).owner(&owner);
                manager.list(by, &query).await.map(drop)
            }
            Self::ListTenants => manager.tenants(by, None, 9).await.map(drop),
            Self::Update => {
                let update = KeyUpdate::new().title("updated");
                manager.update(by, &tenant, key, update).await.map(drop)
            }
            Self::Suspend => manager.suspend(by, &tenant, key).await.map(drop),
            Self::Resume => {
                let key = id.unwrap_or(world.suspended.id());
                manager.resume(by, &tenant, key).await.map(drop)
            }
            Self::Rotate => {
                let rotated = manager.rotate(by, &tenant, key, Overlap::UntilRevoked);
                rotated.await.map(drop)
            }
            Self::Revoke => {
                let revoked = manager.revoke(by, &tenant, key, RevokeReason::Requested);
                revoked.await.map(drop)
            }
            Self::RevokeAll => {
                let all = RevokeAll::new(RevokeReason::Requested).owner(&owner);
                manager.revoke_all(by, &tenant, all).await.map(drop)
            }
            Self::DenyIssuedBefore => {
                let scope = CutoffScope::Owner { tenant, owner };
                manager.deny_issued_before(by, now, scope).await.map(drop)
            }
            Self::LowerCutoff => {
                let scope = CutoffScope::Owner { tenant, owner };
                manager.lower_cutoff(by, scope).await.map(drop)
            }
            Self::FindOwner => manager.find_owner(by, text).await.map(drop),
            Self::FindById => manager.find_by_id(by, key).await.map(drop),
            Self::ReadEvents => manager.events(by, &tenant, 0, 1).await.map(drop),
            Self::ReadEventsOf => {
                let read = manager.events_of(by, &tenant, key, 0, 1);
                read.await.map(drop)
            }
            Self::Purge => manager.purge(by, &tenant, now, None).await.map(drop),
            Self::RemoveTenant => manager.remove_tenant(by, &tenant).await.map(drop),
            Self::CutEvents => {
                let name = by.principal().name();
                let for_all = Actor::user(name, Tenants::All, Ceiling::Unlimited).unwrap();
                manager.cut_events(&for_all, now).await.map(drop)
            }
            Self::ExportRestrictions => {
                let exported = manager.export_restrictions(by, &tenant, None);
                exported.await.map(drop)
            }
            Self::ReplayRestrictions => {
                let reason = RevokeReason::Requested;
                let record = crate::manager::KeyBound::revoked(key, tenant, now, reason);
                manager.replay_restrictions(by, [record]).await.map(drop)
            }
        }
    }
}

fn tenant() -> TenantId {
    TenantId::new("acme-inc").unwrap()
}

fn actor(name: &str) -> Actor {
    Actor::user(name, tenant(), Ceiling::Unlimited).unwrap()
}

fn new_key(title: &str) -> NewKey {
    NewKey::new(tenant(), title, READ)
}

#[tokio::test]
async fn the_policy_gets_each_keys_owner() {
    for kind in Kind::ALL {
        let world = World::new().await;
        sync::lock(&world.policy.0).clear();
        let before = world.events().await;

        let by_another = kind.run(&world, &actor("bob"), None).await;
        let is_refused = match kind {
            // The policy allows look-ups by id, and then hides this key.
            Kind::FindById => matches!(by_another, Err(ManageError::NotFound)),
            _ => matches!(by_another, Err(ManageError::Refused)),
        };
        assert!(is_refused, "{kind:?}: {by_another:?}");
        assert_eq!(world.events().await, before, "{kind:?}");

        let by_the_owner = kind.run(&world, &actor("alice"), None).await;
        if kind.can_be_of_one_owner() {
            assert!(by_the_owner.is_ok(), "{kind:?}: {by_the_owner:?}");
        } else {
            assert!(
                matches!(by_the_owner, Err(ManageError::Refused)),
                "{kind:?}: {by_the_owner:?}"
            );
        }
        let asked = sync::lock(&world.policy.0).clone();
        assert!(asked.iter().all(|one| one == kind), "{kind:?}: {asked:?}");
        assert!(asked.len() >= 2, "{kind:?} is asked of each");
    }
}

#[tokio::test]
async fn a_refusal_hides_a_keys_existence() {
    let nobody = Some(KeyId::from_u128(1));
    for kind in Kind::ALL.iter().filter(|kind| kind.is_on_one_key()) {
        let world = World::new().await;
        for by in [actor("alice"), actor("bob")] {
            let refused = kind.run(&world, &by, nobody).await;
            assert!(
                matches!(refused, Err(ManageError::Refused)),
                "{kind:?}: {refused:?}"
            );
        }
    }
}

#[tokio::test]
async fn only_its_owner_revokes_a_leaked_key() {
    let world = World::new().await;
    let (manager, leaked) = (world.keyward.manager(), world.key.presented());
    let by_another = manager.revoke_leaked(&actor("bob"), leaked).await;
    assert!(
        matches!(by_another, Err(ManageError::Refused)),
        "{by_another:?}"
    );
    manager
        .revoke_leaked(&actor("alice"), leaked)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_owner_defaults_to_the_actor() {
    let world = World::new().await;
    let (manager, bob) = (world.keyward.manager(), actor("bob"));
    let own = manager.issue(&bob, new_key("own")).await.unwrap();
    assert_eq!(own.record().owner(), bob.principal());
}
