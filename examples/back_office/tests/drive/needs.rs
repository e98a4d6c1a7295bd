//! The product's requirements, in their order.

mod lists;

use std::thread;

use example_driver::text;
use serde_json::json;

use crate::wire::{exchange, pair as of};
use crate::{ID, PAYMENTS, PROGRAM, VALUE};

#[test]
fn c1_keys_are_sent_in_two_headers() {
    let product = PROGRAM.start();
    let key = product.key("Settlement run");
    let members: Vec<_> = key.as_object().unwrap().keys().collect();
    assert_eq!(
        members,
        ["id", "name", "secret"],
        "there is no third form of it"
    );
    let (id, secret) = (text(&key, "id"), text(&key, "secret"));
    assert_eq!((id.len(), secret.len()), (36, 64));
    assert!(secret.bytes().all(|byte| byte.is_ascii_alphanumeric()));

    let plain = product.client();
    let two = |one: (&str, &str), other: (&str, &str)| {
        plain
            .with(one.0, one.1)
            .with(other.0, other.1)
            .get(PAYMENTS)
            .status
    };
    assert_eq!(two((ID, id), (VALUE, secret)), 200);
    assert_eq!(two((VALUE, secret), (ID, id)), 200, "in any order");
    let (lower, upper) = (ID.to_lowercase(), VALUE.to_uppercase());
    assert_eq!(two((&lower, id), (&upper, secret)), 200, "in any case");
    let spaced = format!(" {secret}\t");
    assert_eq!(
        two((ID, id), (VALUE, &spaced)),
        200,
        "outer spaces are not part of it"
    );
    assert_eq!(two((ID, secret), (VALUE, id)), 401, "each in its own");
    for (name, value) in [
        ("authorization", format!("Bearer {id}:{secret}")),
        ("authorization", format!("Bearer {secret}")),
        ("x-api-key", secret.to_owned()),
    ] {
        let elsewhere = plain.with(name, &value).get(PAYMENTS);
        assert_eq!(
            elsewhere.text("/code"),
            "missing_credential",
            "keys are read from one place"
        );
    }
}

#[test]
fn c2_the_form_asks_for_a_name_only() {
    let product = PROGRAM.start();
    product.refuses_forms(&[
        json!({}),
        json!({ "name": "" }),
        json!({ "name": "a\nb" }),
        json!({ "name": null }),
        json!({ "name": "x", "expires_at": "2030-01-01T00:00:00Z" }),
        json!({ "name": "x", "scopes": [] }),
        json!({ "title": "x" }),
    ]);
    assert_eq!(product.key("Settlement run")["name"], "Settlement run");
    // The log contains everything that was set, so it shows that the key has no expiry.
    let events = product.admin.get("/admin/keys/events");
    let issued = &events.items("/events")[0]["event"];
    assert_eq!(issued["action"], "key_issued");
    assert!(
        !issued["changes"].to_string().contains("expires_at"),
        "{issued}"
    );
}

#[test]
fn c4_revoking_is_permanent() {
    let product = PROGRAM.start();
    let (key, other) = (product.key("Settlement run"), product.key("Other"));
    let (asking, others) = (product.asking(&key), product.asking(&other));
    assert_eq!(asking.get(PAYMENTS).status, 200);
    // A suspended key can be revoked too, and that does not resume it.
    assert_eq!(product.act(&key, "suspend").status, 200);
    let list = product.admin.get("/admin/keys");
    assert_eq!(list.each("/keys", "revoked_on"), ["Active", "Suspended"]);
    assert_eq!(asking.get(PAYMENTS).status, 401);
    let revoked = product.act(&key, "revoke");
    assert_eq!(revoked.status, 200, "{revoked:?}");
    assert_eq!(revoked.text("/name"), "Settlement run");
    assert_eq!(revoked.text("/id"), text(&key, "id"));
    for action in ["revoke", "rotate", "suspend", "resume"] {
        let refused = product.act(&key, action);
        assert_eq!(
            (refused.status, refused.text("/code")),
            (409, "already_revoked"),
            "{action}"
        );
        assert_eq!(refused.text("/at"), revoked.text("/revoked_on"), "{action}");
    }
    assert_eq!(asking.get(PAYMENTS).status, 401);
    assert_eq!(
        others.get(PAYMENTS).status,
        200,
        "other keys are not affected"
    );
    // A suspended key can be resumed.
    assert_eq!(product.act(&other, "suspend").status, 200);
    assert_eq!(others.get(PAYMENTS).status, 401);
    assert_eq!(product.act(&other, "resume").status, 200);
    assert_eq!(others.get(PAYMENTS).status, 200);
}

#[test]
fn c4_concurrent_revokes_succeed_once() {
    let product = PROGRAM.start();
    let key = product.key("Settlement run");
    let replies: Vec<_> = thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| product.act(&key, "revoke")))
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let (done, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
    assert_eq!((done.len(), refused.len()), (1, 7));
    for reply in refused {
        assert_eq!(reply.status, 409);
        assert_eq!(reply.text("/at"), done[0].text("/revoked_on"));
    }
}

#[test]
fn c5_the_secret_is_shown_once() {
    PROGRAM.start().shows_secrets_once("Settlement run");
}

#[test]
fn c6_only_system_admins_manage_keys() {
    let product = PROGRAM.start();
    let unknown = product.client().with("x-session", "nonsense");
    product.refuses_to_manage(&product.person("support agent"), 403, "Settlement run");
    product.refuses_to_manage(&product.client(), 401, "Settlement run");
    product.refuses_to_manage(&unknown, 401, "Settlement run");
    let list = product.admin.get("/admin/keys");
    assert_eq!(list.each("/keys", "revoked_on"), ["Active"; 3]);
    let events = product.admin.get("/admin/keys/events");
    assert_eq!(events.items("/events").len(), 3);
}

#[test]
fn c7_missing_and_wrong_keys_are_401() {
    let product = PROGRAM.start();
    let (key, revoked) = (product.key("Settlement run"), product.key("Revoked"));
    let (other, suspended) = (product.key("Other"), product.key("Suspended"));
    assert_eq!(product.act(&revoked, "revoke").status, 200);
    assert_eq!(product.act(&suspended, "suspend").status, 200);
    let (id, secret) = (text(&key, "id"), text(&key, "secret"));
    let pair = |id: &str, secret: &str| format!("{ID}: {id}\r\n{VALUE}: {secret}\r\n");
    let asked = |headers: &str, method: &str, path: &str| {
        let (head, body) = exchange(&product, method, path, headers);
        // The date differs, and actix writes headers in no fixed order.
        let lines = head.lines().filter(|line| !line.starts_with("date: "));
        let mut lines: Vec<_> = lines.map(str::to_owned).collect();
        lines.sort();
        (lines, String::from_utf8(body).unwrap())
    };

    let missing = asked("", "GET", PAYMENTS);
    assert!(
        missing.0.contains(&"HTTP/1.1 401 Unauthorized".to_owned()),
        "{missing:?}"
    );
    for (headers, method, path) in [
        ("x-api-key: nothing\r\n", "GET", PAYMENTS),
        ("", "POST", "/payments"),
        ("", "DELETE", "/payments/pay-000001"),
        ("", "PUT", "/payments/pay-999999"),
    ] {
        assert_eq!(asked(headers, method, path), missing, "{method} {path}");
    }

    let (short, _) = secret.split_at(63);
    let last = if secret.ends_with('a') { "b" } else { "a" };
    let wrong = asked(&pair(id, &format!("{short}{last}")), "GET", PAYMENTS);
    assert!(
        wrong.0.contains(&"HTTP/1.1 401 Unauthorized".to_owned()),
        "{wrong:?}"
    );
    assert_ne!(wrong.1, missing.1);
    for headers in [
        format!("{ID}: {id}\r\n"),
        format!("{VALUE}: {secret}\r\n"),
        pair(id, ""),
        pair("", secret),
        pair(id, short),
        pair(id, &format!("{secret}a")),
        pair(id, &secret.to_lowercase()),
        pair(&id.to_uppercase(), secret),
        pair(secret, id),
        pair("nonsense", secret),
        pair("00000000-0000-4000-8000-000000000000", secret),
        pair(text(&other, "id"), secret),
        of(&revoked),
        of(&suspended),
    ] {
        for (method, path) in [("GET", PAYMENTS), ("DELETE", "/payments/pay-000001")] {
            assert_eq!(asked(&headers, method, path), wrong, "{method} {headers}");
        }
    }
    let (head, _) = exchange(&product, "GET", PAYMENTS, &of(&key));
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
}

#[test]
fn revoking_shows_the_name_and_id() {
    let product = PROGRAM.start();
    let (lost, new) = (product.key("Settlement run"), product.key("Settlement run"));
    assert_ne!(text(&lost, "id"), text(&new, "id"));
    let revoked = product.revokes_at_once(&lost);
    assert_eq!(revoked.text("/name"), "Settlement run");
    assert_eq!(revoked.text("/id"), text(&lost, "id"));
    assert_eq!(product.asking(&new).get(PAYMENTS).status, 200);
}
