//! What the scenarios share: nodes over one store, and a key.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use keyward::key::{KeyFormat, KeyId, PresentedKey, RevokeReason, Scope, StoredKey, TenantId};
use keyward::manager::{Actor, AllowAll, ManageError, NewKey, Revoked};
use keyward::store::{Change, ChangeId, ChangeSet, Cursor, KeyStore, MemoryStore};
use keyward::testkit::{ManualClock, SeededRandom};
use keyward::time::OffsetDateTime;
use keyward::verifier::{Attempt, DenialClass, DenialReason, KeyCache, Requirement};
use keyward::{Keyward, scope};
use shuttle::future::block_on;

use crate::stage::{Commits, Feed, Monotonic, Stage, at_once, poll_times};

const READ: Scope = scope!("read:editions");

/// The bound of the lease.
pub(crate) const BOUND: Duration = Duration::from_secs(5);

/// What is known of a key when a race begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Warm,
    Lapsed,
    Cold,
}

/// What ends a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Revoke,
    CutOff,
    Suspend,
}

/// What a verification said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    Granted,
    /// The key has ended.
    Ended,
    /// It is not the key's secret.
    Wrong,
    /// It cannot be told.
    Undecidable,
}

/// A store, a clock, and a key.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) store: Stage,
    pub(crate) monotonic: Monotonic,
    wall: ManualClock,
    text: &'static str,
    pub(crate) id: KeyId,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Commits::Here, Feed::Whole)
    }

    pub(crate) fn with(commits: Commits, feed: Feed) -> Self {
        let (inner, wall, (text, row)) = (MemoryStore::new(), wall(), key());
        let change = Change::Insert(Box::new(row.clone()));
        let set = ChangeSet::one(ChangeId::generate(&SeededRandom::new(0)), change);
        at_once(inner.commit(&set)).unwrap();
        wall.advance(Duration::from_millis(1));
        Self {
            store: Stage::over(inner, commits, feed),
            monotonic: Monotonic::default(),
            wall,
            text,
            id: row.id,
        }
    }

    /// A node; each has its own number.
    pub(crate) fn node(&self, number: u64) -> Node {
        Node {
            keyward: open(self.store.clone(), &self.wall, &self.monotonic, number),
            world: self.clone(),
        }
    }

    /// Whether the key has ended as it is stored.
    pub(crate) fn has_ended(&self) -> bool {
        let row = at_once(self.store.inner.get(self.id)).unwrap().unwrap();
        row.cutoff.is_some() || row.revision != key().1.revision
    }
}

/// A key's text, and its row. Issued once, since that is most of what a short schedule takes.
fn key() -> &'static (&'static str, StoredKey) {
    static KEY: OnceLock<(&'static str, StoredKey)> = OnceLock::new();
    KEY.get_or_init(|| {
        let (inner, issued) = (MemoryStore::new(), Arc::new(OnceLock::new()));
        let (store, told) = (inner.clone(), Arc::clone(&issued));
        shuttle::check_random(
            move || {
                let keyward = open(store.clone(), &wall(), &Monotonic::default(), 0);
                let key = NewKey::new(tenant(), "raced", READ);
                let issued = at_once(keyward.manager().issue(&actor(), key)).unwrap();
                told.set(issued).unwrap();
            },
            1,
        );
        let issued = issued.get().unwrap();
        let row = at_once(inner.get(issued.record().id())).unwrap().unwrap();
        (String::from(issued.api_key().expose()).leak(), row)
    })
}

/// Issues the key before the first schedule: a schedule cannot be begun within another.
pub(crate) fn prepare() {
    let _ = key();
}

fn wall() -> ManualClock {
    ManualClock::new(issued_at())
}

fn issued_at() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
}

/// A Keyward over the world's store.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) keyward: Keyward,
    world: World,
}

impl Node {
    pub(crate) fn begin(&self, start: Start) {
        if start != Start::Cold {
            assert_eq!(self.verify(), Said::Granted);
        }
        if start == Start::Lapsed {
            self.world.monotonic.advance(BOUND);
        }
    }

    pub(crate) fn verify(&self) -> Said {
        let text = PresentedKey::text(self.world.text);
        self.verifying(text, |verifying| block_on(verifying))
    }

    /// Verifies, and gives up after so many polls.
    pub(crate) fn verify_for(&self, polls: usize) -> Option<Said> {
        let text = PresentedKey::text(self.world.text);
        self.verifying(text, |verifying| poll_times(verifying, polls))
    }

    /// Verifies the key's id with a secret that is not its own, and gives up after so many polls.
    pub(crate) fn guess_for(&self, polls: usize) -> Option<Said> {
        let (id, secret) = (self.world.id.to_string(), "x".repeat(43));
        let pair = PresentedKey::pair(&id, &secret);
        self.verifying(pair, |verifying| poll_times(verifying, polls))
    }

    fn verifying<T>(
        &self,
        presented: PresentedKey<'_>,
        run: impl FnOnce(std::pin::Pin<&mut (dyn Future<Output = Said> + '_)>) -> T,
    ) -> T {
        let any = Requirement::any_key();
        let attempt = Attempt::new(presented, &any);
        let verifying = async {
            match self.keyward.verifier().verify(&attempt).await {
                Ok(_) => Said::Granted,
                Err(denial) => match (denial.class(), denial.reason()) {
                    (DenialClass::Undecidable, _) => Said::Undecidable,
                    (
                        _,
                        DenialReason::Revoked { .. }
                        | DenialReason::CutOff
                        | DenialReason::Suspended,
                    ) => Said::Ended,
                    (_, DenialReason::WrongSecret) => Said::Wrong,
                    (_, reason) => panic!("{reason}"),
                },
            }
        };
        run(std::pin::pin!(verifying))
    }

    pub(crate) async fn revoke(&self) -> Result<Revoked, ManageError> {
        let manager = self.keyward.manager();
        let reason = RevokeReason::Leaked;
        manager
            .revoke(&actor(), &tenant(), self.world.id, reason)
            .await
    }

    /// Ends the key.
    pub(crate) fn end(&self, ending: Ending) {
        let (manager, actor, tenant) = (self.keyward.manager(), actor(), tenant());
        block_on(async {
            match ending {
                Ending::Revoke => self.revoke().await.map(drop),
                Ending::CutOff => {
                    let before = issued_at() + Duration::from_millis(1);
                    manager
                        .deny_issued_before(&actor, before, &tenant)
                        .await
                        .map(drop)
                }
                Ending::Suspend => manager
                    .suspend(&actor, &tenant, self.world.id)
                    .await
                    .map(drop),
            }
        })
        .unwrap();
    }

    /// Something else happens, which is told before what comes later.
    pub(crate) fn distract(&self) {
        let manager = self.keyward.manager();
        let other = NewKey::new(tenant(), "another", READ);
        block_on(manager.issue(&actor(), other)).unwrap();
    }

    /// Follows the news until there are no more.
    pub(crate) fn follow(&self, cursor: &mut Option<Cursor>) {
        while block_on(self.keyward.verifier().explore_round(cursor)).unwrap() {}
    }
}

fn open(store: impl KeyStore, wall: &ManualClock, monotonic: &Monotonic, number: u64) -> Keyward {
    let opening = Keyward::builder(store)
        .format(KeyFormat::new("acme").unwrap().environment("test").unwrap())
        .scopes([READ.described("Read")])
        .policy(AllowAll)
        .clock(wall.clone())
        .monotonic_clock(monotonic.clone())
        .random(SeededRandom::new(number))
        .cache(KeyCache::new().lease(BOUND))
        .open();
    at_once(opening).unwrap()
}

fn actor() -> Actor {
    Actor::system("test")
}

fn tenant() -> TenantId {
    TenantId::new("acme-inc").unwrap()
}
