//! Promise 20: a canary secret is in nothing that the crate writes. This version writes no log and no metrics:
//! what is left are Debug, Display, serde, errors, panics, events and the store.

mod operators;

use std::error::Error;
use std::fmt::{Debug, Display};

use keyward::hashing::{Hashing, Pepper};
use keyward::http::Answer;
use keyward::import::ImportedKey;
use keyward::key::{
    Digest, KeyFormat, KeyId, PresentedKey, Resource, RevokeReason, Scope, Secret, StoredKey,
    TenantId,
};
use keyward::manager::{Actor, KeyQuery, KeyUpdate, NewKey, Overlap, RevokeAll};
use keyward::store::{KeyStore, ListQuery, Segments};
use keyward::verifier::{Attempt, Requirement};

use crate::common::{Fixture, READ, WRITE, actor, new_key, tenant};

const PEPPER: [u8; 32] = *b"canary-pepper-canary-pepper-4711";

/// All that was written, and what must not be in it.
#[derive(Default)]
struct Scan {
    written: String,
}

impl Scan {
    fn debug(&mut self, value: &dyn Debug) {
        self.written += &format!("{value:?}\n{value:#?}\n");
    }

    fn display(&mut self, value: &dyn Display) {
        self.written += &format!("{value}\n{value:#}\n");
    }

    fn json(&mut self, value: &impl serde::Serialize) {
        self.written += &serde_json::to_string(value).unwrap();
    }

    fn error(&mut self, error: &dyn Error) {
        self.debug(&error);
        let mut next = Some(error);
        while let Some(error) = next {
            self.display(&error);
            self.debug(&error);
            next = error.source();
        }
    }

    /// A row, byte by byte, digest and document included.
    fn row(&mut self, stored: &StoredKey) {
        self.debug(stored);
        self.display(&stored.digest.expose());
        self.display(&String::from_utf8_lossy(&stored.document));
    }

    async fn events(&mut self, fixture: &Fixture) {
        let log = fixture.store.events().unwrap();
        for sealed in log.read(None, 0, 100).await.unwrap() {
            self.debug(&sealed);
            self.display(&sealed.event.to_line());
            self.json(&sealed);
        }
    }

    /// Every run of eight characters of the canary counts as the canary, in either case, also as byte lists.
    fn assert_without(&self, canary: &str) {
        let haystack = self.written.to_lowercase();
        for window in canary.as_bytes().windows(8) {
            let text = String::from_utf8_lossy(window).to_lowercase();
            assert!(!haystack.contains(&text), "`{text}` was written");
            let bytes: Vec<String> = window.iter().map(u8::to_string).collect();
            assert!(
                !haystack.contains(&bytes.join(", ")),
                "{bytes:?} was written"
            );
        }
    }
}

#[test]
fn the_scan_finds_a_canary() {
    for planted in [
        "the secret is AbCdEfGh01",
        "[65, 98, 67, 100, 69, 102, 71, 104]",
    ] {
        let scan = Scan {
            written: planted.to_owned(),
        };
        assert!(std::panic::catch_unwind(|| scan.assert_without("AbCdEfGh")).is_err());
    }
}

#[tokio::test]
async fn a_secret_is_never_written() {
    let mut scan = Scan::default();
    let pepper = Pepper::new(1, PEPPER).unwrap();
    let hashing = Hashing::recommended().pepper(pepper.clone());
    scan.debug(&pepper);
    scan.debug(&hashing);
    let fixture = Fixture::with(hashing).await;
    let (manager, verifier) = (fixture.keyward.manager(), fixture.keyward.verifier());

    let issued = fixture.issue(new_key()).await;
    let canary = issued.api_key().expose_secret().to_owned();
    let text = issued.api_key().expose().to_owned();
    scan.debug(&issued);
    scan.debug(&issued.reveal());
    scan.debug(&Answer::from(&issued));
    scan.debug(issued.api_key());
    scan.debug(issued.record());
    let view = issued.record().view(issued.record().created_at());
    scan.debug(&view);
    scan.json(&view);
    scan.debug(&Secret::new(canary.clone()).unwrap());
    let format = fixture.keyward.format();
    scan.debug(&format.parse(text.as_bytes()).unwrap());
    scan.display(
        &format
            .redactor()
            .redact(&format!("GET /?key={text} HTTP/1.1")),
    );

    let (any, write) = (Requirement::any_key(), Requirement::scope(WRITE));
    let id = issued.record().id().to_string();
    for presented in presentations(&text, &id, &canary) {
        scan.debug(&presented);
        for need in [&any, &write] {
            let attempt = Attempt::new(presented, need);
            scan.debug(&attempt);
            match verifier.verify(&attempt).await {
                Ok(admitted) => {
                    scan.debug(&admitted);
                    scan.debug(admitted.grant());
                    scan.debug(admitted.grant().record());
                }
                Err(denial) => {
                    assert!(denial.source().is_none());
                    scan.error(&denial);
                    scan.error(denial.reason());
                }
            }
        }
    }

    // A host that mistakes a secret for something else is told so without it.
    scan.error(&KeyFormat::new(&text).unwrap_err());
    scan.error(&text.parse::<keyward::key::KeyId>().unwrap_err());
    scan.error(
        &format!("{text} {text}")
            .parse::<keyward::key::Scope>()
            .unwrap_err(),
    );
    scan.error(
        &format!("{text}\0")
            .parse::<keyward::key::Title>()
            .unwrap_err(),
    );
    scan.error(&text.parse::<keyward::key::Network>().unwrap_err());
    scan.error(&text.parse::<keyward::key::Resource>().unwrap_err());
    scan.error(&text.parse::<keyward::key::Principal>().unwrap_err());
    scan.error(&text.parse::<keyward::manager::PageCursor>().unwrap_err());
    scan.error(&Secret::new(format!("{canary}!")).unwrap_err());
    scan.error(&Digest::new(format!("{canary} ")).unwrap_err());
    scan.debug(&Digest::new(format!("${canary}${canary}")).unwrap());
    let wrong = NewKey::new(tenant(), format!("{text}\u{0}"), READ);
    scan.error(&manager.issue(&actor(), wrong).await.unwrap_err());

    let key = issued.record().id();
    let revoked = manager
        .revoke(&actor(), &tenant(), key, RevokeReason::Leaked)
        .await;
    scan.debug(&revoked.unwrap());
    scan.error(
        &manager
            .revoke(&actor(), &tenant(), key, RevokeReason::Leaked)
            .await
            .unwrap_err(),
    );

    let stored = fixture.stored(key).await;
    scan.row(&stored);
    let page = fixture
        .store
        .list(&ListQuery::of(&tenant()).listing(Segments::LiveThenRevoked))
        .await
        .unwrap();
    scan.debug(&page);
    scan.events(&fixture).await;
    scan.debug(&fixture.store);
    scan.debug(&fixture.keyward);
    scan.debug(manager);
    scan.debug(verifier);

    scan.assert_without(&canary);
    scan.assert_without(std::str::from_utf8(&PEPPER).unwrap());
    assert!(
        scan.written
            .contains(issued.record().display_prefix().as_str()),
        "something was scanned"
    );
}

#[tokio::test]
async fn a_keys_life_writes_no_secret() {
    let fixture = Fixture::new().await;
    let manager = fixture.keyward.manager();
    let issued = fixture.issue(new_key()).await;
    let (text, canary) = (issued.api_key().expose(), issued.api_key().expose_secret());
    let (id, tenant) = (issued.record().id(), tenant());
    let mut scan = Scan::default();

    // Pasted where a person might: into a search, a name, a reason.
    let pasted = KeyQuery::of(&tenant)
        .display_prefix(text)
        .title_prefix(text);
    scan.debug(&pasted);
    scan.debug(&manager.list(&actor(), &pasted).await.unwrap());
    let named = Actor::system(text).in_request(text);
    // A scope has room for half of the secret, and more.
    let scope: Scope = text[..64].parse().unwrap();
    let resource = Resource::new("project", text).unwrap();
    for key in [
        NewKey::new(TenantId::new(text).unwrap(), "a key", READ),
        NewKey::new(tenant.clone(), "a key", [READ, scope.clone()]),
        new_key().resources(resource.clone()),
    ] {
        let whose = key.clone();
        scan.error(&manager.issue(&actor(), key).await.unwrap_err());
        let old = ImportedKey::pair(KeyId::from_u128(7), "x".repeat(43));
        scan.error(&manager.import(&actor(), whose, old).await.unwrap_err());
    }
    scan.debug(&NewKey::new(tenant.clone(), "a key", scope.clone()).resources(resource.clone()));
    for update in [
        KeyUpdate::new().title(text),
        KeyUpdate::new().metadata(serde_json::json!({"key": text}).try_into().unwrap()),
        KeyUpdate::new().access([READ, scope]),
        KeyUpdate::new().resources(resource),
    ] {
        scan.debug(&update);
        let refused = manager.update(&actor(), &tenant, id, update).await;
        scan.error(&refused.unwrap_err());
    }
    scan.error(
        &manager
            .rotate(&named, &tenant, id, Overlap::None)
            .await
            .unwrap_err(),
    );
    let update = KeyUpdate::new().title("renamed");
    scan.debug(&manager.update(&named, &tenant, id, update).await.unwrap());
    scan.debug(&manager.suspend(&named, &tenant, id).await.unwrap());
    scan.debug(&manager.resume(&named, &tenant, id).await.unwrap());
    let overlap = Overlap::UntilRevoked;
    let successor = manager
        .rotate(&actor(), &tenant, id, overlap)
        .await
        .unwrap();
    scan.debug(&successor);
    let second = successor.api_key().expose_secret();

    let found = PresentedKey::text(text);
    scan.debug(&manager.find_owner(&named, found).await.unwrap());
    let wrong = format!("{text}x");
    scan.error(
        &manager
            .find_owner(&named, PresentedKey::text(&wrong))
            .await
            .unwrap_err(),
    );
    scan.debug(&manager.revoke_leaked(&named, found).await.unwrap());
    scan.error(&manager.revoke_leaked(&named, found).await.unwrap_err());
    let reason = RevokeReason::other(text).unwrap();
    let all = RevokeAll::new(reason);
    scan.debug(&manager.revoke_all(&named, &tenant, all).await.unwrap());
    let exported = manager
        .export_restrictions(&actor(), &tenant, None)
        .await
        .unwrap();
    scan.debug(&exported);
    for record in exported.restrictions {
        scan.json(&record);
    }
    scan.debug(&fixture.keyward.flush_usage().await.unwrap());
    scan.events(&fixture).await;
    scan.debug(&fixture.keyward);
    scan.assert_without(canary);
    scan.assert_without(second);
    assert!(scan.written.contains("[redacted]"), "something was masked");
}

#[tokio::test]
async fn a_digest_is_never_shown() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue(new_key()).await;
    let stored = fixture.stored(issued.record().id()).await;
    let hash = stored
        .digest
        .expose()
        .rsplit('$')
        .next()
        .unwrap()
        .to_owned();
    let mut scan = Scan::default();
    scan.debug(&stored);
    scan.debug(&stored.digest);
    scan.debug(issued.record());
    scan.json(&issued.record().view(issued.record().created_at()));
    scan.events(&fixture).await;
    scan.debug(&fixture.store);
    scan.debug(&fixture.keyward);
    scan.assert_without(&hash);
}

fn presentations<'a>(text: &'a str, id: &'a str, secret: &'a str) -> Vec<PresentedKey<'a>> {
    vec![
        PresentedKey::text(text),
        PresentedKey::text(&text[..text.len() - 1]),
        PresentedKey::text(&text[1..]),
        PresentedKey::text(secret),
        PresentedKey::pair(id, secret),
        PresentedKey::pair(secret, id),
        PresentedKey::pair(id, &secret[1..]),
        PresentedKey::pair(id, "wrongwrongwrongwrongwrongwrongwrongwrongwro"),
        PresentedKey::half_pair(),
        PresentedKey::only_one_of([PresentedKey::text(text), PresentedKey::pair(id, secret)]),
        PresentedKey::none(),
    ]
}
