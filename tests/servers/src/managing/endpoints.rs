//! What each endpoint does.

use keyward::verifier::{Attempt, Requirement};
use serde_json::{Value, json};

use super::site::{Mount, NEW, Sent, Site};
use crate::READ;

#[tokio::test]
async fn a_key_lives_from_issue_to_revocation() {
    Site::each(async |site| {
        let issued = site.alice("POST", "/keys", NEW).await;
        assert_eq!(issued.status, 201, "{issued:?}");
        assert_eq!(issued.header("cache-control"), Some("no-store"));
        let key = issued.json();
        let id = key["id"].as_str().unwrap();
        assert_eq!(key["owner"], "user:alice");
        let is_granted = async |key: &Value| {
            let text = key["api_key"].as_str().unwrap();
            let presented = keyward::key::PresentedKey::text(text);
            let need = Requirement::scope(READ);
            let verdict = site.keyward.verifier();
            verdict
                .verify(&Attempt::new(presented, &need))
                .await
                .is_ok()
        };
        assert!(is_granted(&key).await);

        let at = |action: &str| format!("/keys/{id}{action}");
        let changed = site
            .alice("PATCH", &at(""), r#"{"title": "Power BI (EU)"}"#)
            .await;
        assert_eq!(changed.json()["title"], "Power BI (EU)");
        let one = site.alice("GET", &at(""), "").await.json();
        assert_eq!(one["title"], "Power BI (EU)");
        let list = site.alice("GET", "/keys", "").await.json();
        let member = |name: &str| (one[name].clone(), list["keys"][0][name].clone());
        for name in ["id", "title", "status", "access", "created_at"] {
            let (one, listed) = member(name);
            assert!(!one.is_null() && one == listed, "{name}: {one} {listed}");
        }

        // The last use too, as in the list.
        assert_eq!(one["usage"], list["keys"][0]["usage"]);
        assert_eq!(one["usage"]["granted"], 1, "{one}");

        let suspended = site.alice("POST", &at("/suspend"), "").await.json();
        assert_eq!(suspended["status"], "suspended");
        assert!(!is_granted(&key).await);
        let resumed = site.alice("POST", &at("/resume"), "{}").await.json();
        assert_eq!(resumed["status"], "active");
        assert!(is_granted(&key).await);

        let terms = r#"{"overlap_seconds": 604800}"#;
        let rotated = site.alice("POST", &at("/rotate"), terms).await;
        assert_eq!(rotated.status, 201, "{rotated:?}");
        let next = rotated.json();
        assert_eq!(next["predecessor"], id);
        assert!(is_granted(&next).await && is_granted(&key).await);

        let revoked = site.alice("POST", &at("/revoke"), "").await;
        assert_eq!(
            (revoked.status, &revoked.json()["reason"]),
            (200, &json!("requested"))
        );
        assert!(!is_granted(&key).await && is_granted(&next).await);
        let next_id = next["id"].as_str().unwrap();
        let leaked = r#"{"reason": "leaked"}"#;
        let revoked = site
            .alice("POST", &format!("/keys/{next_id}/revoke"), leaked)
            .await;
        assert_eq!(revoked.json()["reason"], "leaked");
        assert!(!is_granted(&next).await);

        let all = site
            .alice("GET", "/keys?with_revoked=true", "")
            .await
            .json();
        assert_eq!(all["keys"].as_array().unwrap().len(), 2);
        assert_eq!(all["next"], Value::Null);
    })
    .await;
}

#[tokio::test]
async fn a_list_has_pages_and_filters() {
    Site::each(async |site| {
        let ids = [site.issue().await, site.issue().await, site.issue().await];
        let ids = ids.map(|key| key["id"].clone());
        let first = site
            .alice("GET", "/keys?limit=2&title_prefix=Power+B", "")
            .await
            .json();
        assert_eq!(first["keys"].as_array().unwrap().len(), 2, "{first}");
        let next = first["next"].as_str().unwrap();
        let second = format!("/keys?limit=2&title_prefix=Power%20B&after={next}");
        let second = site.alice("GET", &second, "").await.json();
        assert_eq!(second["keys"][0]["id"], ids[0]);
        let other = format!("/keys?after={next}");
        let refused = site.alice("GET", &other, "").await;
        assert_eq!(refused.problem(), (400, "bad_cursor".to_owned()));
        let none = site.alice("GET", "/keys?title_prefix=x", "").await.json();
        assert_eq!(none["keys"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn users_who_see_only_their_own_keys_list_them() {
    Site::each(async |site| {
        let key = site.issue().await;
        let bob = site
            .send(Sent::new("bob@acme-inc", "POST", "/keys").json(NEW))
            .await;
        assert_eq!(bob.status, 201);
        let own = site.alice("GET", "/keys", "").await.json();
        assert_eq!(own["keys"].as_array().unwrap().len(), 1);
        assert_eq!(own["keys"][0]["id"], key["id"]);
        let all = site.admin("GET", "/keys", "").await.json();
        assert_eq!(all["keys"].as_array().unwrap().len(), 2);
        let bobs = site.alice("GET", "/keys?owner=user%3Abob", "").await;
        assert_eq!(bobs.problem(), (403, "refused".to_owned()));
        let bobs = site.admin("GET", "/keys?owner=user%3Abob", "").await.json();
        assert_eq!(bobs["keys"][0]["owner"], "user:bob");
    })
    .await;
}

#[tokio::test]
async fn events_are_read_in_pages() {
    Site::each(async |site| {
        let key = site.issue().await;
        let id = key["id"].as_str().unwrap();
        site.foreign().await;
        site.alice("POST", &format!("/keys/{id}/suspend"), "").await;
        let first = site.admin("GET", "/keys/events?limit=1", "").await.json();
        assert_eq!(first["events"][0]["event"]["action"], "key_issued");
        let next = first["next"].as_u64().unwrap();
        let second = format!("/keys/events?limit=10&after={next}");
        let second = site.admin("GET", &second, "").await.json();
        assert_eq!(second["events"][0]["event"]["action"], "key_suspended");
        assert_eq!(second["events"].as_array().unwrap().len(), 1);
        assert_eq!(second["next"], Value::Null);
        let refused = site.alice("GET", "/keys/events", "").await;
        assert_eq!(refused.problem(), (403, "refused".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn a_keys_own_events_are_read_in_pages() {
    Site::each(async |site| {
        let (key, other) = (site.issue().await, site.issue().await);
        let at = |key: &Value, rest: &str| format!("/keys/{}{rest}", key["id"].as_str().unwrap());
        for key in [&key, &other] {
            site.alice("POST", &at(key, "/suspend"), "").await;
        }
        // Only the key's owner and administrators may read them.
        let first = site
            .alice("GET", &at(&key, "/events?limit=1"), "")
            .await
            .json();
        assert_eq!(
            first["events"][0]["event"]["action"], "key_issued",
            "{first}"
        );
        let next = format!("/events?limit=10&after={}", first["next"]);
        let second = site.alice("GET", &at(&key, &next), "").await.json();
        assert_eq!(second["events"].as_array().unwrap().len(), 1, "{second}");
        assert_eq!(second["events"][0]["event"]["action"], "key_suspended");
        assert_eq!(second["events"][0]["event"]["key"], key["id"]);
        let bob = Sent::new("bob@acme-inc", "GET", &at(&key, "/events"));
        assert_eq!(site.send(bob).await.problem(), (403, "refused".to_owned()));
        let wrong = site.alice("GET", &at(&key, "/events?from=1"), "").await;
        assert_eq!(wrong.problem(), (400, "invalid_query".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn scopes_are_listed_with_descriptions() {
    Site::each(async |site| {
        let scopes = site.alice("GET", "/keys/scopes", "").await.json();
        let expected = json!({"scopes": [
            {"scope": "read:editions", "description": "Read editions"},
        ]});
        assert_eq!(scopes, expected);
    })
    .await;
}

#[tokio::test]
async fn a_lost_answer_leaves_one_key() {
    Site::each(async |site| {
        let issue = |key: &str| {
            let sent = Sent::new("alice@acme-inc", "POST", "/keys").json(NEW);
            sent.with("idempotency-key", key)
        };
        let first = site.send(issue("8e03978e")).await;
        assert_eq!(first.status, 201);
        let id = first.json()["id"].clone();
        for again in ["8e03978e", "\"8e03978e\""] {
            let again = site.send(issue(again)).await;
            assert_eq!(again.problem(), (409, "already_issued".to_owned()));
            assert_eq!(again.json()["id"], id);
        }
        let other = NEW.replace("Power", "Other");
        let other = Sent::new("alice@acme-inc", "POST", "/keys").json(&other);
        let other = site.send(other.with("idempotency-key", "8e03978e")).await;
        assert_eq!(other.problem(), (422, "request_id_reused".to_owned()));
        let rotate = || {
            let target = format!("/keys/{}/rotate", id.as_str().unwrap());
            let sent = Sent::new("alice@acme-inc", "POST", &target);
            sent.json(r#"{"overlap_seconds": 0}"#)
                .with("idempotency-key", "8e03978e")
        };
        let successor = site.send(rotate()).await;
        assert_eq!(successor.status, 201);
        let again = site.send(rotate()).await;
        assert_eq!(again.problem(), (409, "already_issued".to_owned()));
        assert_eq!(again.json()["id"], successor.json()["id"]);
    })
    .await;
}

#[tokio::test]
async fn only_two_answers_have_the_secret() {
    Site::each(async |site| {
        let key = site.issue().await;
        let (id, secret) = (key["id"].as_str().unwrap(), key["secret"].as_str().unwrap());
        let at = |action: &str| format!("/keys/{id}{action}");
        let title = r#"{"title": "b"}"#;
        for (method, target, body) in [
            ("GET", "/keys".to_owned(), ""),
            ("GET", at(""), ""),
            ("PATCH", at(""), title),
            ("POST", at("/suspend"), ""),
            ("POST", at("/resume"), ""),
            ("POST", at("/rotate"), r#"{"overlap_seconds": 60}"#),
            ("POST", at("/revoke"), ""),
            ("GET", "/keys?with_revoked=true".to_owned(), ""),
            ("GET", "/keys/events".to_owned(), ""),
        ] {
            let got = site.admin(method, &target, body).await;
            assert!(got.status < 300, "{method} {target}: {got:?}");
            assert!(!got.text.contains(secret), "{method} {target}");
            assert!(!got.text.contains("digest"), "{method} {target}");
            let is_making = target.ends_with("/rotate");
            assert_eq!(got.text.contains("\"secret\""), is_making, "{target}");
            assert_eq!(got.header("cache-control"), Some("no-store"), "{target}");
        }
    })
    .await;
}

#[tokio::test]
async fn head_is_answered_as_get() {
    Site::each(async |site| {
        let key = site.issue().await;
        let id = key["id"].as_str().unwrap();
        for target in ["/keys", "/keys/scopes", &format!("/keys/{id}")] {
            let head = site.admin("HEAD", target, "").await;
            let get = site.admin("GET", target, "").await;
            assert_eq!((head.status, get.status), (200, 200), "{target}");
            assert_eq!(head.header("content-type"), get.header("content-type"));
            // axum leaves the body out itself, actix's server does when it sends.
            let is_cut = matches!(site.mount, Mount::Axum);
            assert_eq!(head.text.is_empty(), is_cut, "{target}");
        }
    })
    .await;
}
