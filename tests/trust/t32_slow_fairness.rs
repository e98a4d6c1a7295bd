//! Promise 32, for slow hashes: guesses at one customer's keys stop no other customer's first use, issue or revocation.
//!
//! The only thread for slow hashes is held up, so that who has a place before it is counted, not timed.

use keyward::Keyward;
use keyward::hashing::{HashingError, Pepper};
use keyward::import::{ImportedKey, ImportedKeys, LegacyDigest, LegacyFormat};
use keyward::key::{PresentedKey, TenantId};
use keyward::manager::{Issued, NewKey};
use keyward::verifier::{Admitted, Denial, DenialReason};

use crate::common::{Fixture, READ, actor};
use crate::held_up::{Asked, HeldUp, ask, guess, slow, verify};

/// Places in the queue, and one more in the hands of the thread.
const PLACES: usize = 64 + 1;

fn imported_keys() -> ImportedKeys {
    // Ids that anybody can count through.
    let numbered = LegacyFormat::with_id("numbered", '|').unwrap();
    let pepper = Pepper::new(1, (0..32).collect::<Vec<u8>>()).unwrap();
    ImportedKeys::under(pepper).accept(numbered)
}

fn key_of(tenant: &str) -> NewKey {
    NewKey::new(TenantId::new(tenant).unwrap(), "a key", READ)
}

async fn issue(fixture: &Fixture, tenant: &str, count: usize) -> Vec<Issued> {
    let mut issued = Vec::new();
    for _ in 0..count {
        issued.push(fixture.issue(key_of(tenant)).await);
    }
    issued
}

fn use_all<'a>(node: &'a Keyward, keys: &'a [Issued]) -> Vec<Asked<'a, Result<Admitted, Denial>>> {
    let keys = keys.iter().map(|key| key.api_key().presented());
    keys.map(|key| ask(verify(node, key))).collect()
}

/// How many guesses had a place.
async fn places(guesses: Vec<Asked<'_, Result<Admitted, Denial>>>) -> usize {
    let mut places = 0;
    for guess in guesses {
        match guess.await.unwrap_err().reason() {
            DenialReason::WrongSecret => places += 1,
            DenialReason::Hashing(HashingError::Saturated) => {}
            other => panic!("{other:?}"),
        }
    }
    places
}

#[tokio::test]
async fn guesses_at_one_key_stop_no_other() {
    let fixture = Fixture::built(|builder| builder.hashing(slow())).await;
    let target = fixture.issue(key_of("a")).await.record().id();
    // Of other tenants, and of the same.
    let mut used = issue(&fixture, "b", 20).await;
    used.extend(issue(&fixture, "a", 19).await);
    let leaked = issue(&fixture, "a", 8).await;

    let held = HeldUp::over(&fixture, |builder| builder).await;
    let (node, manager) = (&held.node, held.node.manager());
    let guesses = (0..128).map(|number| ask(guess(node, target, number)));
    let guesses: Vec<_> = guesses.collect();
    let uses = use_all(node, &used);
    let actor = actor();
    let issues: Vec<_> = (0..8)
        .map(|_| ask(manager.issue(&actor, key_of("a"))))
        .collect();
    let revocations: Vec<_> = leaked
        .iter()
        .map(|key| ask(manager.revoke_leaked(&actor, key.api_key().presented())))
        .collect();
    held.release();

    for used in uses {
        used.await.unwrap();
    }
    for issued in issues {
        issued.await.unwrap();
    }
    for revoked in revocations {
        revoked.await.unwrap();
    }
    assert_eq!(places(guesses).await, PLACES - 39 - 16);
}

#[tokio::test]
async fn one_tenants_guesses_stop_no_other() {
    let fixture =
        Fixture::built(|builder| builder.hashing(slow()).imported_keys(imported_keys())).await;
    let digest =
        "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let mut imported = Vec::new();
    for number in 0..100 {
        let digest = LegacyDigest::argon2(digest).unwrap();
        let key = ImportedKey::digest("numbered", &number.to_string(), digest);
        let manager = fixture.keyward.manager();
        manager.import(&actor(), key_of("a"), key).await.unwrap();
        imported.push(format!("{number}|{:043}", 0));
    }
    let mut used = issue(&fixture, "b", 10).await;
    used.extend(issue(&fixture, "c", 10).await);

    let held = HeldUp::over(&fixture, |builder| builder.imported_keys(imported_keys())).await;
    let (node, manager, actor) = (&held.node, held.node.manager(), actor());
    let guesses = imported.iter().map(PresentedKey::text);
    let guesses: Vec<_> = guesses.map(|text| ask(verify(node, text))).collect();
    let uses = use_all(node, &used);
    // Management is shared by tenants likewise.
    let many: Vec<_> = (0..32)
        .map(|_| ask(manager.issue(&actor, key_of("a"))))
        .collect();
    let few: Vec<_> = (0..4)
        .map(|_| ask(manager.issue(&actor, key_of("b"))))
        .collect();
    held.release();

    for used in uses {
        used.await.unwrap();
    }
    for issued in few {
        issued.await.unwrap();
    }
    let mut issued = 0;
    for one in many {
        issued += usize::from(one.await.is_ok());
    }
    assert_eq!(issued, 16 - 4, "of management's share");
    assert_eq!(places(guesses).await, PLACES - 20 - 16);
}
