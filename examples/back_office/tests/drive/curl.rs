//! The lines that are printed at start work as announced when pasted unchanged.

use example_driver::text;
use serde_json::json;

use crate::PROGRAM;

#[test]
fn printed_commands_work() {
    let Some(printed) = PROGRAM.run_printed_lines() else {
        return;
    };
    let reply = |what: &str| printed.reply(what);

    let issued = reply("issue a key");
    assert_eq!(issued.header("cache-control"), Some("no-store"));
    assert_eq!(text(&issued.body, "id").len(), 36);
    assert_eq!(text(&issued.body, "secret").len(), 64);

    let payments = reply("the first payments");
    assert_eq!(payments.items("/items").len(), 3);
    assert_eq!(payments.text("/next"), "pay-000003");
    assert_eq!(payments.header("cache-control"), Some("private"));
    assert_eq!(
        payments.header("vary"),
        Some("x-authenticationkeyid, x-authenticationkeyvalue")
    );
    let payment = reply("make a payment");
    let path = format!("/payments/{}", payment.text("/id"));
    assert_eq!(payment.header("location"), Some(&*path));
    assert_eq!(reply("replace it").body["amount"], 99_000);
    let read = reply("read the payment");
    assert_eq!(read.text("/reference"), "Invoice 7b");
    assert_eq!(read.body, reply("change its reference").body);
    assert_eq!(reply("delete the payment").body, json!(""));

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
        assert_eq!(same.body, wrong.body, "{what}: only the operator sees why");
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
    let again = reply("revoked only once");
    assert_eq!(
        (again.text("/code"), again.text("/at")),
        ("already_revoked", at)
    );
    let events = reply("the events, each").items("/events");
    let done: Vec<_> = events
        .iter()
        .map(|one| text(&one["event"], "action"))
        .collect();
    assert_eq!(
        done,
        ["key_issued", "key_issued", "key_rotated", "key_revoked"]
    );
    assert_eq!(reply("may not even see").text("/code"), "refused");
    assert!(printed.server.stop().success());
}
