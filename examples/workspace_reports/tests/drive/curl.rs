//! The lines that are printed at start work as announced when pasted unchanged.

use serde_json::json;

use crate::PROGRAM;

#[test]
fn printed_commands_work() {
    let Some(printed) = PROGRAM.run_printed_lines() else {
        return;
    };
    let reply = |what: &str| printed.reply(what);

    let issued = reply("a key with three scopes");
    for what in [
        "log in as an administrator of Meridian",
        "three scopes",
        "all keys",
        "the events, each",
        "not even see",
    ] {
        assert_eq!(
            reply(what).header("cache-control"),
            Some("no-store"),
            "{what}"
        );
    }
    assert_eq!(
        issued.body["resources"],
        json!({ "type": "only", "resources": ["project:p-1"] })
    );
    assert!(issued.text("/expires_at").ends_with("T00:00:00Z"));
    assert_eq!(reply("scopes to choose").items("/scopes").len(), 7);

    let projects = reply("of which the key sees one");
    assert_eq!(projects.each("/items", "id"), ["p-1"]);
    assert_eq!(projects.header("cache-control"), Some("private"));
    assert_eq!(projects.header("vary"), Some("authorization"));
    let editions = reply("editions, in pages");
    assert_eq!(editions.items("/items").len(), 5);
    assert_eq!(editions.text("/next"), "p-1-b1-e005");
    let created = reply("create an edition");
    assert_eq!(created.text("/id"), "p-1-b1-e013");
    assert_eq!(reply("submit a draft").text("/state"), "submitted");
    assert_eq!(
        reply("download an output").header("content-type"),
        Some("text/csv")
    );

    let missing = reply("no key");
    assert_eq!(missing.text("/code"), "missing_credential");
    assert_eq!(
        missing.header("www-authenticate"),
        Some(r#"Bearer realm="api""#)
    );
    let scope = reply("a scope that the key lacks");
    assert_eq!(
        scope.header("www-authenticate"),
        Some(r#"Bearer realm="api", error="insufficient_scope", scope="read:blueprints""#)
    );
    let project = reply("another project");
    assert_eq!(
        scope.body["sufficient_scopes"],
        json!([["read:blueprints"]])
    );
    assert_eq!(project.text("/code"), "resource_not_permitted");
    assert_eq!(
        project.header("www-authenticate"),
        None,
        "no scope would do"
    );
    assert_eq!(reply("more than 5 MB").text("/code"), "request_too_large");
    assert_eq!(reply("more than 10 MB").text("/code"), "internal");
    let clear = reply("plain HTTP");
    assert_eq!(clear.text("/code"), "https_required");
    assert_eq!(clear.header("location"), None);

    let next = reply("both are good for a week");
    assert_eq!(next.body["predecessor"], issued.body["id"]);
    assert_eq!(next.body["expires_at"], issued.body["expires_at"]);
    let revoked = reply("refused from now on");
    assert_eq!(
        revoked.header("www-authenticate"),
        Some(r#"Bearer realm="api", error="invalid_token""#)
    );
    assert_eq!(reply("revoked only once").text("/code"), "already_revoked");
    assert!(reply("older than a year").items("/keys").is_empty());
    let list = reply("all keys");
    let (titles, states) = (list.each("/keys", "title"), list.each("/keys", "status"));
    assert_eq!(titles, ["Nightly sync", "Archive", "Nightly sync"]);
    assert_eq!(states, ["active", "active", "revoked"]);
    assert!(reply("who sees no key").items("/keys").is_empty());

    let secrets = [issued, next].map(|issued| issued.text("/secret").to_owned());
    let in_clear = format!("the key {} came without TLS: rotate it", issued.text("/id"));
    let log = printed.server.stop_and_read_log();
    for reason in [&*in_clear, "the response body exceeds its limit"] {
        assert!(log.contains(reason), "{reason}: {log}");
    }
    for secret in &secrets {
        assert!(!log.contains(secret));
    }
}
