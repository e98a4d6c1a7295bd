//! The product's requirements, in their order.

mod lists;

use std::thread;

use serde_json::{Value, json};

use crate::wire::exchange;
use crate::{ID, Product, VALUE, act, text};

const ACCOUNTS: &str = "/accounts";

#[test]
fn c1_keys_are_sent_in_two_headers() {
    let product = Product::start();
    let key = product.key("Settlement run");
    let members: Vec<_> = key.as_object().unwrap().keys().collect();
    assert_eq!(members, ["id", "name", "secret"], "and no third form of it");
    let (id, secret) = (text(&key, "id"), text(&key, "secret"));
    assert_eq!((id.len(), secret.len()), (36, 64));
    assert!(secret.bytes().all(|byte| byte.is_ascii_alphanumeric()));

    let nobody = product.server.client();
    let two = |one: (&str, &str), other: (&str, &str)| {
        nobody
            .with(one.0, one.1)
            .with(other.0, other.1)
            .get(ACCOUNTS)
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
        "outer spaces are no part of it"
    );
    assert_eq!(two((ID, secret), (VALUE, id)), 401, "each in its own");
    for (name, value) in [
        ("authorization", format!("Bearer {id}:{secret}")),
        ("authorization", format!("Bearer {secret}")),
        ("x-api-key", secret.to_owned()),
    ] {
        let elsewhere = nobody.with(name, &value).get(ACCOUNTS);
        assert_eq!(
            elsewhere.text("/code"),
            "missing_credential",
            "keys are read from one place"
        );
    }
}

#[test]
fn c2_keys_may_use_all_five_methods() {
    let product = Product::start();
    let asking = product.asking(&product.key("Settlement run"));
    let account = json!({ "holder": "Fir Optics", "email": "a@b.example", "currency": "EUR" });
    let made = asking.post(ACCOUNTS, &account);
    assert_eq!(made.status, 201);
    let path = made.header("location").unwrap();
    let mut replaced = account.clone();
    replaced["currency"] = json!("USD");
    for (method, body, status, currency) in [
        ("GET", None, 200, "EUR"),
        ("PUT", Some(&replaced), 200, "USD"),
        ("PATCH", Some(&json!({ "currency": "GBP" })), 200, "GBP"),
        ("GET", None, 200, "GBP"),
    ] {
        let reply = asking.send(method, path, body);
        assert_eq!(reply.status, status, "{method}: {reply:?}");
        assert_eq!(reply.text("/currency"), currency);
    }
    assert_eq!(asking.send("DELETE", path, None).status, 204);
    assert_eq!(asking.get(path).status, 404);
}

#[test]
fn c2_the_form_asks_for_a_name_only() {
    let product = Product::start();
    for form in [
        json!({}),
        json!({ "name": "" }),
        json!({ "name": "a\nb" }),
        json!({ "name": null }),
        json!({ "name": "x", "expires_at": "2030-01-01T00:00:00Z" }),
        json!({ "name": "x", "scopes": [] }),
        json!({ "title": "x" }),
    ] {
        let refused = product.admin.post("/admin/keys", &form);
        assert_eq!(refused.status, 422, "{form}: {refused:?}");
    }
    let list = product.admin.get("/admin/keys");
    assert!(list.items("/keys").is_empty(), "nothing was issued");
    product.key("Settlement run");
    // The log contains everything that was set, so it shows that the key has no expiry.
    let events = product.admin.get("/admin/events");
    let issued = &events.items("")[0]["event"];
    assert_eq!(issued["action"], "key_issued");
    assert!(
        !issued["changes"].to_string().contains("expires_at"),
        "{issued}"
    );
}

#[test]
fn c4_revoking_is_permanent() {
    let product = Product::start();
    let (key, other) = (product.key("Settlement run"), product.key("Other"));
    let (asking, others) = (product.asking(&key), product.asking(&other));
    assert_eq!(asking.get(ACCOUNTS).status, 200);
    // A suspended key can be revoked too, and that does not resume it.
    assert_eq!(product.act(&key, "suspend").status, 200);
    let list = product.admin.get("/admin/keys");
    assert_eq!(list.each("/keys", "revoked_on"), ["Active", "Suspended"]);
    assert_eq!(asking.get(ACCOUNTS).status, 401);
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
    assert_eq!(asking.get(ACCOUNTS).status, 401);
    assert_eq!(others.get(ACCOUNTS).status, 200, "no other key is touched");
    // A suspended key can be resumed.
    assert_eq!(product.act(&other, "suspend").status, 200);
    assert_eq!(others.get(ACCOUNTS).status, 401);
    assert_eq!(product.act(&other, "resume").status, 200);
    assert_eq!(others.get(ACCOUNTS).status, 200);
}

#[test]
fn c4_concurrent_revokes_succeed_once() {
    let product = Product::start();
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
    let product = Product::start();
    let key = product.key("Settlement run");
    let secret = text(&key, "secret");
    assert_eq!(product.asking(&key).get(ACCOUNTS).status, 200);
    let mut answers = vec![
        product.admin.get("/admin/keys"),
        product.act(&key, "suspend"),
        product.act(&key, "resume"),
    ];
    let rotated = product.act(&key, "rotate");
    assert_ne!(rotated.text("/secret"), secret, "a successor has its own");
    answers.extend([
        rotated,
        product.act(&key, "revoke"),
        product.act(&key, "revoke"),
    ]);
    answers.extend([
        product.admin.get("/admin/keys"),
        product.admin.get("/admin/events"),
    ]);
    let wrong = product.asking(&key).get(ACCOUNTS);
    assert_eq!(wrong.status, 401);
    answers.push(wrong);
    for answer in &answers {
        assert!(!format!("{answer:?}").contains(secret), "{answer:?}");
        assert!(!answer.body.to_string().contains("digest"), "{answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    let log = product.server.stop_and_read_log();
    assert!(log.contains("refused") && !log.contains(secret), "{log}");
}

#[test]
fn c6_only_system_admins_manage_keys() {
    let product = Product::start();
    let key = product.key("Settlement run");
    let (agent, nobody) = (product.agent(), product.server.client());
    let stranger = nobody.with("x-session", "nonsense");
    for (who, status) in [(&agent, 403), (&nobody, 401), (&stranger, 401)] {
        assert_eq!(who.get("/admin/keys").status, status);
        assert_eq!(who.get("/admin/events").status, status);
        assert_eq!(
            who.post("/admin/keys", &json!({ "name": "Mine" })).status,
            status
        );
        for action in ["rotate", "suspend", "resume", "revoke"] {
            let there = act(who, &key, action);
            assert_eq!(there.status, status, "{action}");
            // The response does not reveal which keys exist.
            let nowhere = json!({ "id": "00000000-0000-4000-8000-000000000000" });
            assert_eq!(act(who, &nowhere, action).body, there.body, "{action}");
        }
    }
    let list = product.admin.get("/admin/keys");
    assert_eq!(
        list.each("/keys", "revoked_on"),
        ["Active"],
        "nobody touched it"
    );
    assert_eq!(product.admin.get("/admin/events").items("").len(), 1);
    assert_eq!(product.asking(&key).get(ACCOUNTS).status, 200);
}

#[test]
fn c7_missing_and_wrong_keys_are_401() {
    let product = Product::start();
    let (key, revoked) = (product.key("Settlement run"), product.key("Revoked"));
    let (other, suspended) = (product.key("Other"), product.key("Suspended"));
    assert_eq!(product.act(&revoked, "revoke").status, 200);
    assert_eq!(product.act(&suspended, "suspend").status, 200);
    let (id, secret) = (text(&key, "id"), text(&key, "secret"));
    let pair = |id: &str, secret: &str| format!("{ID}: {id}\r\n{VALUE}: {secret}\r\n");
    let of = |key: &Value| pair(text(key, "id"), text(key, "secret"));
    let asked = |headers: &str, method: &str, path: &str| {
        let (head, body) = exchange(&product, method, path, headers);
        // The date differs, and actix writes headers in no fixed order.
        let lines = head.lines().filter(|line| !line.starts_with("date: "));
        let mut lines: Vec<_> = lines.map(str::to_owned).collect();
        lines.sort();
        (lines, String::from_utf8(body).unwrap())
    };

    let missing = asked("", "GET", ACCOUNTS);
    assert!(
        missing.0.contains(&"HTTP/1.1 401 Unauthorized".to_owned()),
        "{missing:?}"
    );
    for (headers, method, path) in [
        ("x-api-key: nothing\r\n", "GET", ACCOUNTS),
        ("", "POST", "/payments"),
        ("", "DELETE", "/payments/pay-000001"),
        ("", "PUT", "/accounts/acc-999999"),
    ] {
        assert_eq!(asked(headers, method, path), missing, "{method} {path}");
    }

    let (short, _) = secret.split_at(63);
    let last = if secret.ends_with('a') { "b" } else { "a" };
    let wrong = asked(&pair(id, &format!("{short}{last}")), "GET", ACCOUNTS);
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
        for (method, path) in [("GET", ACCOUNTS), ("DELETE", "/payments/pay-000001")] {
            assert_eq!(asked(&headers, method, path), wrong, "{method} {headers}");
        }
    }
    let (head, _) = exchange(&product, "GET", ACCOUNTS, &of(&key));
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
}

#[test]
fn revoking_shows_the_name_and_id() {
    let product = Product::start();
    let (lost, new) = (product.key("Settlement run"), product.key("Settlement run"));
    assert_ne!(text(&lost, "id"), text(&new, "id"));
    let revoked = product.act(&lost, "revoke");
    assert_eq!(revoked.status, 200);
    assert_eq!(revoked.text("/name"), "Settlement run");
    assert_eq!(revoked.text("/id"), text(&lost, "id"));
    assert_eq!(product.asking(&lost).get(ACCOUNTS).status, 401);
    assert_eq!(product.asking(&new).get(ACCOUNTS).status, 200);
}
