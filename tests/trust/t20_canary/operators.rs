//! What operators get: of requests that were refused, of keys that they look up, and of old systems.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use keyward::hashing::Pepper;
use keyward::http::{Connection, Edge, Head, KeyIn};
use keyward::import::{ImportedKey, ImportedKeys, LegacyDigest, LegacyFormat, LegacyHash};
use keyward::key::{Network, PresentedKey, Resource};
use keyward::verifier::{Attempt, Requirement};
use sha2::{Digest as _, Sha256};

use super::Scan;
use crate::common::{ADMIN, Fixture, READ, actor, new_key};

const SITE_SECRET: &str = "Site-Canary-4711-of-the-old-System";

/// An edge that takes every form, with all that its observer gets.
fn observed(fixture: &Fixture) -> (Edge, Arc<Mutex<Scan>>) {
    let scan: Arc<Mutex<Scan>> = Arc::default();
    let into = Arc::clone(&scan);
    let mut edge = Edge::new(&fixture.keyward);
    for form in [
        Ok(KeyIn::bearer()),
        Ok(KeyIn::basic()),
        KeyIn::scheme("Token"),
        KeyIn::header("X-API-Key"),
        KeyIn::pair("X-Key-Id", "X-Key-Secret"),
        KeyIn::web_socket_protocol("acme.key."),
    ] {
        edge = edge.accept(form.unwrap());
    }
    let edge = edge.require_tls().refuse_browsers().observe(move |event| {
        let mut scan = into.lock().unwrap();
        scan.debug(event);
        scan.debug(event.reason);
        scan.display(event.reason);
        scan.debug(&event.key());
        scan.debug(&event.claimed_key());
        for near_miss in event.near_misses {
            scan.debug(near_miss);
            scan.display(near_miss);
        }
    });
    (edge, scan)
}

/// Asks for more than the key may do.
async fn refused(edge: &Edge, headers: &[(&str, &str)], query: Option<&str>, is_tls: bool) {
    let head = Head {
        headers,
        connection: Connection {
            peer: Some("203.0.113.7".parse().unwrap()),
            is_tls,
        },
        query,
    };
    let need = Requirement::scope(ADMIN);
    let rejection = edge.admit(&head, Attempt::of(&need)).await.unwrap_err();
    assert_ne!(rejection.answer.status, 200, "{headers:?}");
}

#[tokio::test]
async fn an_observer_gets_no_secret() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue(new_key()).await;
    let (text, canary) = (issued.api_key().expose(), issued.api_key().expose_secret());
    let id = issued.record().id().to_string();
    let (edge, scan) = observed(&fixture);

    let bearer = format!("Bearer {text}");
    let wrong = format!(
        "{}{}",
        &canary[1..],
        if canary.ends_with('x') { 'y' } else { 'x' }
    );
    let both = BASE64_STANDARD.encode(format!("{text}:{text}"));
    let values = [
        text.to_owned(),
        bearer.clone(),
        format!("Bearer {bearer}"),
        format!("Bearer:{text}"),
        format!("Bearer%20{text}"),
        format!("\"{bearer}\""),
        format!("Bearer {text}, {text}"),
        format!("Bearer {}", &text[..text.len() - 1]),
        format!("Bearer {}", text.to_uppercase()),
        format!("Other {text}"),
        format!("Other key={text}"),
        format!("Token token={text}, token={text}"),
        format!("Basic {both}"),
        format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{wrong}"))),
        format!("Basic {}", BASE64_STANDARD.encode(format!("{text}x:"))),
    ];
    for value in &values {
        refused(&edge, &[("authorization", value)], None, true).await;
    }
    let named = [
        format!("x-{text}"),
        text.to_uppercase(),
        format!("{}-{text}", "x".repeat(40)),
    ];
    for name in &named {
        refused(&edge, &[(name, text)], None, true).await;
        refused(&edge, &[(name, &bearer)], None, true).await;
        refused(&edge, &[], Some(&format!("{name}={text}")), true).await;
    }
    let escaped = text.replace('_', "%5F");
    for query in [format!("key={text}"), format!("{escaped}={escaped}")] {
        refused(&edge, &[], Some(&query), true).await;
    }
    for headers in [
        &[("x-api-key", &*bearer)][..],
        &[("x-api-kye", text)],
        &[("x_api_key", text)],
        &[("x-api-key", text), ("x-api-key", text)],
        &[("x-key-id", &id), ("x-key-secret", &wrong)],
        &[("x-key-id", &id)],
        &[("x-key-id", canary), ("x-key-secret", &id)],
        &[("sec-websocket-protocol", text)],
        &[("authorization", &*bearer), ("x-api-key", text)],
        &[
            ("authorization", &*bearer),
            ("origin", "https://app.example"),
        ],
    ] {
        refused(&edge, headers, None, true).await;
    }
    refused(&edge, &[("authorization", &bearer)], None, false).await;

    let scan = scan.lock().unwrap();
    scan.assert_without(canary);
    // Of a proven key, of a claimed one with and without its record, and of each kind of near miss.
    for seen in [
        "key: Proven",
        "Some(KeyRecord",
        "Some(ClaimedKey",
        "record: Some(",
        "record: None",
        "SchemeMissing",
        "SchemeDoubled",
        "SchemeMalformed",
        "OtherScheme",
        "SchemeInHeader",
        "Repeated",
        "MisspeltHeader",
        "OtherHeader",
        "InQuery",
        "[redacted]",
    ] {
        assert!(scan.written.contains(seen), "{seen} was scanned");
    }
}

#[tokio::test]
async fn looking_a_key_up_shows_no_secret() {
    let fixture = Fixture::new().await;
    let restricted = new_key()
        .resources(Resource::new("project", "p-1").unwrap())
        .networks("10.0.0.0/8".parse::<Network>().unwrap());
    let issued = fixture.issue(restricted).await;
    let (text, canary) = (issued.api_key().expose(), issued.api_key().expose_secret());
    let (manager, verifier) = (fixture.keyward.manager(), fixture.keyward.verifier());
    let id = issued.record().id();
    let mut scan = Scan::default();

    scan.debug(&manager.find_by_id(&actor(), id).await.unwrap());
    let (address, addresses) = ("203.0.113.7".parse().unwrap(), "10.1.2.3".parse().unwrap());
    for need in [READ, ADMIN] {
        let need = Requirement::scope(need).resource("project");
        for (client, named) in [(address, "p-1"), (addresses, text), (addresses, "p-1")] {
            let attempt = Attempt::of(&need).client(client).resource("project", named);
            let explained = verifier.explain_key(id, &attempt).await;
            scan.debug(&explained);
            scan.display(&explained);
            if let Some(denial) = explained.denial() {
                scan.error(denial);
                scan.error(denial.reason());
                scan.debug(&denial.claimed_key());
            }
            let attempt = Attempt::new(PresentedKey::text(text), &need)
                .client(client)
                .resource("project", named);
            let explained = verifier.explain(&attempt).await;
            scan.debug(&explained);
            scan.display(&explained);
        }
    }
    scan.assert_without(canary);
    for seen in ["project:acme_test_", "not in 10.0.0.0/8", "needed: admin"] {
        assert!(scan.written.contains(seen), "{seen} was scanned");
    }
}

#[tokio::test]
async fn a_site_secret_is_never_written() {
    let mut scan = Scan::default();
    let imported = || {
        let lookup = Pepper::new(1, (1..33).collect::<Vec<u8>>()).unwrap();
        ImportedKeys::under(lookup).accept(LegacyFormat::with_id("legacy", '.').unwrap())
    };
    // Given where its name belongs.
    scan.error(&imported().site_secret(SITE_SECRET, "old").unwrap_err());
    let imported = imported().site_secret("old", SITE_SECRET).unwrap();
    scan.debug(&imported);
    let fixture = Fixture::built(|builder| builder.imported_keys(imported)).await;
    let manager = fixture.keyward.manager();

    let secret = "0123456789abcdefghijABCDEFGHIJ-_";
    let digest = Sha256::digest(format!("{secret}{SITE_SECRET}"));
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    for hash in [
        LegacyHash::secret_last,
        LegacyHash::secret_first,
        LegacyHash::hmac,
    ] {
        let hash = hash(LegacyHash::SHA256, SITE_SECRET);
        scan.debug(&hash);
        scan.error(&LegacyDigest::hex(&hash, &digest).unwrap_err());
        let format = LegacyFormat::opaque("opaque").unwrap();
        scan.debug(&format.found_by(hash));
    }
    let good = LegacyDigest::hex(&LegacyHash::SHA256.secret_last("old"), &digest).unwrap();
    let good = ImportedKey::digest("legacy", "8", good).entropy_bits(128);
    let record = manager.import(&actor(), new_key(), good).await.unwrap();
    scan.debug(&record);
    scan.debug(&manager.find_by_id(&actor(), record.id()).await.unwrap());
    let stored = fixture.stored(record.id()).await;
    scan.row(&stored);

    let text = format!("legacy-8.{secret}");
    for sent in [format!("8.{secret}x"), text, format!("8.{secret}")] {
        match fixture.verify(PresentedKey::text(&sent)).await {
            Ok(admitted) => scan.debug(&admitted),
            Err(denial) => scan.error(denial.reason()),
        }
    }
    assert!(scan.written.contains("Admitted"), "the secret was used");
    scan.events(&fixture).await;
    scan.debug(&fixture.keyward);
    scan.debug(manager);
    scan.assert_without(SITE_SECRET);
    assert!(
        scan.written.contains("[not a name]"),
        "a mistaken name was scanned"
    );
}
