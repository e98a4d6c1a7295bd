//! What a secret was proven against is not what the store holds any more, and this node did not commit the change:
//! somebody edited the store, or restored a backup. The revision stays, so that the digest alone tells.

use keyward::clock::SystemClock;
use keyward::key::{ApiKey, Digest, KeyFormat, PresentedKey};
use keyward::store::{Change, ChangeId, ChangeSet, KeyStore as _};
use keyward::testkit::SeededRandom;
use keyward::verifier::{Attempt, DenialReason, KeyCache, Requirement};
use serde_json::Value;

use super::gate::{Gate, Tell};
use super::nodes::{BOUND, INSTANT, Nodes};
use crate::common::{actor, builder, clock, new_key, tenant};

/// How a node comes to read a key again.
#[derive(Debug, Clone, Copy)]
enum Again {
    Forgetting,
    LeaseEnd,
    LostHistory,
    KeepingNothing,
}

impl Nodes {
    async fn digest(&self, key: &ApiKey) -> Digest {
        let stored = self.store.store.get(key.id()).await.unwrap();
        stored.unwrap().digest
    }

    /// The digest that another secret of this key might have.
    async fn another_digest(&self, key: &ApiKey) -> Digest {
        let own = self.digest(key).await;
        let (head, _) = own.expose().rsplit_once('$').unwrap();
        Digest::new(format!(
            "{head}$nfS1n82GxobNKLTMEdb9dgZrEblflubEzinDkQCsmlM"
        ))
        .unwrap()
    }

    /// Puts another digest in the place of the key's own, past both nodes.
    async fn edit(&self, key: &ApiKey, to: &Digest) {
        let (id, from) = (key.id(), self.digest(key).await);
        let change = Change::Rehash {
            id,
            from,
            to: to.clone(),
        };
        let set = ChangeSet::one(ChangeId::generate(&SeededRandom::new(0)), change);
        self.store.store.commit(&set).await.unwrap();
        assert_eq!(self.digest(key).await, *to);
    }

    async fn read_again(&self, again: Again) {
        match again {
            Again::Forgetting => self.here.verifier().forget_all(),
            Again::LeaseEnd => self.monotonic.advance(BOUND),
            Again::LostHistory => {
                self.monotonic.advance(BOUND - INSTANT);
                self.store.tell(Tell::Lost).await;
                // The read alone vouches no longer.
                self.monotonic.advance(INSTANT);
            }
            Again::KeepingNothing => {}
        }
    }

    async fn is_wrong(&self, key: &ApiKey) -> bool {
        let denial = self.verify(key).await.unwrap_err();
        matches!(denial.reason(), DenialReason::WrongSecret)
    }
}

#[tokio::test]
async fn an_edited_digest_is_checked_again() {
    for again in [
        Again::Forgetting,
        Again::LeaseEnd,
        Again::LostHistory,
        Again::KeepingNothing,
    ] {
        let nodes = match again {
            Again::LostHistory => Nodes::following().await,
            Again::KeepingNothing => Nodes::cached(KeyCache::off()).await,
            Again::Forgetting | Again::LeaseEnd => Nodes::new().await,
        };
        let key = nodes.issue().await;
        let (own, other) = (nodes.digest(&key).await, nodes.another_digest(&key).await);
        for _ in 0..2 {
            assert!(nodes.is_granted(&key).await, "{again:?}");
            nodes.edit(&key, &other).await;
            nodes.read_again(again).await;
            for _ in 0..2 {
                assert!(nodes.is_wrong(&key).await, "{again:?}");
            }
            nodes.edit(&key, &own).await;
            nodes.read_again(again).await;
        }
        assert!(nodes.is_granted(&key).await, "{again:?}");
    }
}

#[tokio::test]
async fn edits_during_a_request_are_checked() {
    let nodes = Nodes::new().await;
    let key = nodes.issue().await;
    let other = nodes.another_digest(&key).await;
    // The read brings the digest as it was. A change by this node makes the request read once more after the hash.
    let waiting = nodes.begin_to_verify(&key).await;
    let (manager, actor, tenant) = (nodes.here.manager(), actor(), tenant());
    nodes.store.hold_no_more();
    manager.suspend(&actor, &tenant, key.id()).await.unwrap();
    manager.resume(&actor, &tenant, key.id()).await.unwrap();
    nodes.edit(&key, &other).await;
    nodes.store.let_go();
    let denial = waiting.await.unwrap().unwrap_err();
    let is_wrong = matches!(denial.reason(), DenialReason::WrongSecret);
    assert!(is_wrong, "{}", denial.reason());
    assert_eq!(nodes.reads(), 2);
}

#[tokio::test]
async fn environment_edits_are_checked_too() {
    let gate = Gate::new();
    let format = KeyFormat::new("acme").unwrap().environment("test").unwrap();
    let keyward = builder(gate.clone(), clock())
        .clock(SystemClock)
        .format(format.environment("live").unwrap())
        .open()
        .await
        .unwrap();
    let (manager, actor, tenant) = (keyward.manager(), actor(), tenant());
    let (key, _) = manager.issue(&actor, new_key()).await.unwrap().into_parts();
    let id = key.id();
    gate.hold_answers();
    let verifier = keyward.verifier().clone();
    let waiting = tokio::spawn(async move {
        // As a pair, it names no environment.
        let (any, text) = (Requirement::any_key(), id.to_string());
        let pair = PresentedKey::pair(&text, key.expose_secret());
        verifier.verify(&Attempt::new(pair, &any)).await
    });
    gate.is_holding(1).await;
    gate.hold_no_more();
    manager.suspend(&actor, &tenant, id).await.unwrap();
    manager.resume(&actor, &tenant, id).await.unwrap();
    let mut row = gate.store.get(id).await.unwrap().unwrap();
    let mut document: Value = serde_json::from_slice(&row.document).unwrap();
    document["environment"] = "live".into();
    row.document = serde_json::to_vec(&document).unwrap().into();
    let (expected, with) = (row.revision, Box::new(row));
    let change = Change::Replace { expected, with };
    let set = ChangeSet::one(ChangeId::generate(&SeededRandom::new(0)), change);
    gate.store.commit(&set).await.unwrap();
    gate.let_go();
    let denial = waiting.await.unwrap().unwrap_err();
    let is_wrong = matches!(denial.reason(), DenialReason::WrongSecret);
    assert!(is_wrong, "{}", denial.reason());
}
