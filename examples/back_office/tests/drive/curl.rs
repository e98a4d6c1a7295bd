//! The lines that are printed at start work as announced when pasted unchanged.

use serde_json::json;

use crate::{PROGRAM, text};
use example_driver::{BASH, CURL, Server, has};

#[test]
fn printed_commands_work() {
    if !has(&[BASH, CURL]) {
        return;
    }
    let server = Server::start(PROGRAM, &["--listen", "127.0.0.1:0"]);
    let ran = server.run_lines();
    let reply = |what: &str| {
        let mut found = ran.iter().filter(|one| one.what.contains(what));
        &found.next().unwrap_or_else(|| panic!("{what}")).reply
    };

    let issued = reply("issue a key");
    assert_eq!(issued.header("cache-control"), Some("no-store"));
    assert_eq!(text(&issued.body, "id").len(), 36);
    assert_eq!(text(&issued.body, "secret").len(), 64);

    let accounts = reply("the first accounts");
    assert_eq!(accounts.items("/items").len(), 3);
    assert_eq!(accounts.text("/next"), "acc-000003");
    assert_eq!(accounts.header("cache-control"), Some("private"));
    assert_eq!(
        accounts.header("vary"),
        Some("x-authenticationkeyid, x-authenticationkeyvalue")
    );
    let account = reply("open an account");
    let path = format!("/accounts/{}", account.text("/id"));
    assert_eq!(account.header("location"), Some(&*path));
    assert_eq!(reply("make a payment").text("/status"), "pending");
    assert_eq!(reply("replace it").body["amount"], 99_000);
    assert_eq!(reply("settle it").text("/status"), "settled");
    assert_eq!(
        reply("cannot be deleted").header("content-type"),
        Some("application/problem+json")
    );
    let read = reply("read the payment");
    assert_eq!(read.body, reply("some of it can go back").body);
    assert_eq!(
        (&read.body["refunded"], read.text("/status")),
        (&json!(9_000), "settled")
    );
    assert_eq!(reply("delete the account").body, json!(""));

    let missing = reply("no key");
    assert_eq!(missing.text("/code"), "missing_credential");
    assert_eq!(
        missing.header("www-authenticate"),
        Some(
            r#"ApiKey realm="api", in="header", name="X-AuthenticationKeyId X-AuthenticationKeyValue""#
        )
    );
    let wrong = reply("a wrong secret");
    assert_eq!(wrong.text("/code"), "invalid_credential");
    for what in ["the id alone", "the secret alone", "refused from now on"] {
        let same = reply(what);
        assert_eq!(
            same.body, wrong.body,
            "{what}: why is the operator's to know"
        );
    }

    let before = reply("the list before");
    assert_eq!(before.text("/keys/0/revoked_on"), "Active");
    let (ended, after) = (reply("revoke the old one"), reply("the list after"));
    assert_eq!(ended.text("/id"), issued.text("/id"));
    assert_eq!(ended.text("/name"), "Settlement run");
    assert_eq!(after.text("/keys/0/revoked_on"), "Active");
    assert_eq!(after.text("/keys/1/id"), issued.text("/id"));
    let at = ended.text("/revoked_on");
    assert_eq!(after.text("/keys/1/revoked_on"), at);
    let again = reply("nothing is revoked twice");
    assert_eq!(
        (again.text("/code"), again.text("/at")),
        ("already_revoked", at)
    );
    let events = reply("what was done").items("");
    let done: Vec<_> = events
        .iter()
        .map(|one| text(&one["event"], "action"))
        .collect();
    assert_eq!(
        done,
        ["key_issued", "key_issued", "key_rotated", "key_revoked"]
    );
    assert_eq!(reply("may not even see").text("/code"), "refused");
    assert!(server.stop().success());
}
