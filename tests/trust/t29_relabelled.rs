//! Promise 29: a test key relabelled live (checksum recomputed, or sent as a pair) is refused; so is a key of
//! another format or of another tenant's scheme.

use keyward::key::{KeyFormat, KeyId, PresentedKey, Secret, TenantId};
use keyward::manager::{AllowAll, Issued};
use keyward::store::MemoryStore;
use keyward::verifier::{Attempt, Denial, DenialClass, DenialReason, Requirement};
use keyward::{Keyward, scope};
use serde_json::json;

use crate::common::{Fixture, actor, new_key, tenant};

async fn keyward(store: &MemoryStore, prefix: &str, environments: &[&str]) -> Keyward {
    let (first, rest) = environments.split_first().unwrap();
    let format = KeyFormat::new(prefix).unwrap().environment(first).unwrap();
    let format = rest
        .iter()
        .fold(format, |format, name| format.environment(name).unwrap());
    Keyward::builder(store.clone())
        .format(format)
        .scopes([scope!("read:editions").described("Read")])
        .policy(AllowAll)
        .open()
        .await
        .unwrap()
}

/// The key's own id and secret under another head, with the checksum that belongs to it.
fn relabelled(issued: &Issued, prefix: &str, environment: &str) -> String {
    let format = KeyFormat::new(prefix)
        .unwrap()
        .environment(environment)
        .unwrap();
    let key = issued.api_key();
    let environment = format.environments().next().unwrap();
    let secret = Secret::new(key.expose_secret()).unwrap();
    format
        .compose(environment, key.id(), &secret)
        .unwrap()
        .expose()
        .to_owned()
}

async fn refused(keyward: &Keyward, presented: PresentedKey<'_>) -> Denial {
    let any = Requirement::any_key();
    let verdict = keyward
        .verifier()
        .verify(&Attempt::new(presented, &any))
        .await;
    let denial = verdict.expect_err("a relabelled key was accepted");
    assert_eq!(denial.class(), DenialClass::Unauthenticated);
    assert_eq!(denial.to_string(), "the API key is not valid");
    denial
}

async fn admitted(keyward: &Keyward, presented: PresentedKey<'_>) -> KeyId {
    let any = Requirement::any_key();
    let verdict = keyward
        .verifier()
        .verify(&Attempt::new(presented, &any))
        .await;
    verdict.unwrap().grant().key_id()
}

#[tokio::test]
async fn a_test_key_is_refused_live() {
    let store = MemoryStore::new();
    let testing = keyward(&store, "acme", &["test"]).await;
    let live = keyward(&store, "acme", &["live"]).await;
    let both = keyward(&store, "acme", &["live", "test"]).await;
    let issued = testing.manager().issue(&actor(), new_key()).await.unwrap();
    let (id, secret) = (
        issued.api_key().id().to_string(),
        issued.api_key().expose_secret(),
    );
    let pair = PresentedKey::pair(&id, secret);
    let as_live = relabelled(&issued, "acme", "live");

    let denial = refused(&live, PresentedKey::text(&as_live)).await;
    assert!(matches!(denial.reason(), DenialReason::OtherEnvironment));
    let denial = refused(&live, pair).await;
    assert!(matches!(denial.reason(), DenialReason::OtherEnvironment));
    refused(&live, issued.api_key().presented()).await;

    // Where both are accepted, the text must still name the environment that is stored.
    refused(&both, PresentedKey::text(&as_live)).await;
    assert_eq!(
        admitted(&both, issued.api_key().presented()).await,
        issued.record().id()
    );
    assert_eq!(admitted(&both, pair).await, issued.record().id());
    assert_eq!(admitted(&testing, pair).await, issued.record().id());

    // Where both are accepted, a request may address one of them.
    let any = Requirement::any_key();
    let attempt = Attempt::new(pair, &any);
    for environment in both.format().environments() {
        let verdict = both
            .verifier()
            .verify(&attempt.environment(environment))
            .await;
        assert_eq!(verdict.is_ok(), environment.as_str() == "test");
        if let Ok(admitted) = verdict {
            assert_eq!(admitted.grant().environment(), environment);
        }
    }
}

#[tokio::test]
async fn a_rewritten_environment_is_refused() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue(new_key()).await;
    fixture
        .tamper_document(issued.record().id(), "environment", json!("live"))
        .await;
    let live = keyward(&fixture.store, "acme", &["live"]).await;
    let id = issued.api_key().id().to_string();
    let as_live = relabelled(&issued, "acme", "live");
    for presented in [
        PresentedKey::text(&as_live),
        PresentedKey::pair(&id, issued.api_key().expose_secret()),
    ] {
        let denial = refused(&live, presented).await;
        assert!(
            matches!(denial.reason(), DenialReason::WrongSecret),
            "the digest binds it"
        );
    }
}

#[tokio::test]
async fn another_formats_key_is_refused() {
    let store = MemoryStore::new();
    let acme = keyward(&store, "acme", &["live"]).await;
    let other = keyward(&store, "other", &["live"]).await;
    let issued = other.manager().issue(&actor(), new_key()).await.unwrap();
    let id = issued.api_key().id().to_string();
    let as_acme = relabelled(&issued, "acme", "live");
    refused(&acme, issued.api_key().presented()).await;
    for presented in [
        PresentedKey::text(&as_acme),
        PresentedKey::pair(&id, issued.api_key().expose_secret()),
    ] {
        let denial = refused(&acme, presented).await;
        assert!(matches!(denial.reason(), DenialReason::OtherFormat));
    }
    assert_eq!(
        admitted(&other, issued.api_key().presented()).await,
        issued.record().id()
    );
}

#[tokio::test]
async fn another_tenants_key_is_refused() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue(new_key()).await;
    let id = issued.api_key().id().to_string();
    let any = Requirement::any_key();
    let (mine, other) = (tenant(), TenantId::new("other-inc").unwrap());
    for presented in [
        issued.api_key().presented(),
        PresentedKey::pair(&id, issued.api_key().expose_secret()),
    ] {
        let verifier = fixture.keyward.verifier();
        let attempt = Attempt::new(presented, &any);
        assert!(verifier.verify(&attempt.tenant(&mine)).await.is_ok());
        let denial = verifier.verify(&attempt.tenant(&other)).await.unwrap_err();
        assert_eq!(denial.class(), DenialClass::Unauthenticated);
        assert!(matches!(denial.reason(), DenialReason::OtherTenant));
    }
}

/// Opens the store under a format that also accepts another prefix.
async fn accepting(store: &MemoryStore, prefix: &str, accepted: &str) -> Keyward {
    let format = KeyFormat::new(prefix).unwrap().environment("live").unwrap();
    Keyward::builder(store.clone())
        .format(format.accept_prefix(accepted).unwrap())
        .scopes([scope!("read:editions").described("Read")])
        .policy(AllowAll)
        .open()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_key_keeps_its_prefix() {
    let store = MemoryStore::new();
    let before = keyward(&store, "acme", &["live"]).await;
    let old = before.manager().issue(&actor(), new_key()).await.unwrap();
    let now = accepting(&store, "beta", "acme").await;
    let new = now.manager().issue(&actor(), new_key()).await.unwrap();
    assert!(new.api_key().expose().starts_with("beta_live_"));

    // Before and after the key is in memory, and as two values.
    for (issued, other) in [(&old, "beta"), (&new, "acme")] {
        let id = issued.api_key().id().to_string();
        let pair = PresentedKey::pair(&id, issued.api_key().expose_secret());
        for _ in 0..2 {
            let relabelled = relabelled(issued, other, "live");
            let denial = refused(&now, PresentedKey::text(&relabelled)).await;
            assert!(matches!(denial.reason(), DenialReason::OtherFormat));
            let key = admitted(&now, issued.api_key().presented()).await;
            assert_eq!(key, issued.record().id());
            assert_eq!(admitted(&now, pair).await, key);
        }
    }
    refused(&before, new.api_key().presented()).await;
    let first = accepting(&store, "acme", "beta").await;
    for issued in [&old, &new] {
        admitted(&first, issued.api_key().presented()).await;
    }
    let shown = old.record().display_prefix();
    assert!(shown.starts_with("acme_live_"), "{shown}");
}

#[tokio::test]
async fn an_old_prefix_names_an_environment() {
    let store = MemoryStore::new();
    let testing = keyward(&store, "acme", &["test"]).await;
    let issued = testing.manager().issue(&actor(), new_key()).await.unwrap();
    let live = accepting(&store, "beta", "acme").await;
    for prefix in ["acme", "beta"] {
        let as_live = relabelled(&issued, prefix, "live");
        let denial = refused(&live, PresentedKey::text(&as_live)).await;
        assert!(matches!(denial.reason(), DenialReason::OtherEnvironment));
    }
}

#[tokio::test]
async fn a_rotation_issues_the_new_prefix() {
    let store = MemoryStore::new();
    let before = keyward(&store, "acme", &["live"]).await;
    let old = before.manager().issue(&actor(), new_key()).await.unwrap();
    let now = accepting(&store, "beta", "acme").await;
    let (manager, id) = (now.manager(), old.record().id());
    let overlap = keyward::manager::Overlap::For(std::time::Duration::from_secs(60));
    let rotated = manager.rotate(&actor(), &tenant(), id, overlap).await;
    let successor = rotated.unwrap();
    assert!(successor.api_key().expose().starts_with("beta_live_"));
    for issued in [&old, &successor] {
        admitted(&now, issued.api_key().presented()).await;
    }
    // The list finds a key by what was shown of it, whatever its prefix.
    for issued in [&old, &successor] {
        let shown = issued.record().display_prefix();
        let query = keyward::manager::KeyQuery::of(&tenant());
        let found = manager.list(&actor(), &query.display_prefix(&shown)).await;
        let found = found.unwrap().keys;
        assert_eq!(found.len(), 1, "{shown}");
    }
}
