//! The lines that are printed at start work as announced when pasted unchanged.

use crate::PROGRAM;

#[test]
fn printed_commands_work() {
    let Some(printed) = PROGRAM.run_printed_lines() else {
        return;
    };
    let reply = |what: &str| printed.reply(what);

    let issued = reply("issue a key for all clients");
    for what in [
        "log in as Northwind",
        "the list",
        "the events, each",
        "revoked only once",
        "who may not even",
    ] {
        assert_eq!(
            reply(what).header("cache-control"),
            Some("no-store"),
            "{what}"
        );
    }
    assert!(
        issued
            .text("/api_key")
            .starts_with(issued.text("/display_prefix"))
    );

    let counts = reply("counts of the whole partner");
    assert_eq!(counts.body["clients"], 12);
    assert_eq!(counts.header("cache-control"), Some("private"));
    assert_eq!(counts.header("vary"), Some("x-api-key"));
    assert_eq!(reply("who completed").items("").len(), 5);

    let missing = reply("no key");
    assert_eq!(missing.text("/code"), "missing_credential");
    assert_eq!(
        missing.header("www-authenticate"),
        Some(r#"ApiKey realm="api", in="header", name="X-API-Key""#)
    );
    let (short, revoked) = (reply("cut short"), reply("refused from now on"));
    assert_eq!(short.body, revoked.body, "only the operator sees why");
    assert_eq!(short.text("/code"), "invalid_credential");
    assert_eq!(
        reply("another client").text("/code"),
        "resource_not_permitted"
    );

    let list = reply("the list");
    let titles = list.each("/keys", "title");
    assert_eq!(
        titles,
        [
            "Nightly Snowflake ETL",
            "Power BI dashboard",
            "Weekly digest"
        ]
    );
    assert_eq!(reply("revoked only once").text("/code"), "already_revoked");
    assert!(reply("who sees no key").items("/keys").is_empty());
    assert!(printed.server.stop().success());
}
