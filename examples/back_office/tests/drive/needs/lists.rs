//! The list of keys.

use std::thread;
use std::time::{Duration, Instant};

use example_driver::text;
use serde_json::{Value, json};

use crate::{PAYMENTS, PROGRAM};

#[test]
fn c3_the_list_shows_name_id_and_dates() {
    let product = PROGRAM.start();
    let (one, other) = (product.key("One"), product.key("Other"));
    let revoked = product.act(&one, "revoke");
    let list = product.admin.get("/admin/keys");
    let [first, last] = list.items("/keys") else {
        panic!("{list:?}");
    };
    for (row, key, name) in [(first, &other, "Other"), (last, &one, "One")] {
        assert_eq!(
            (text(row, "name"), text(row, "id")),
            (name, text(key, "id"))
        );
        assert!(text(row, "issued_on").ends_with('Z'), "{row}");
        let members: Vec<_> = row.as_object().unwrap().keys().collect();
        assert_eq!(
            members,
            ["can_be_revoked", "id", "issued_on", "name", "revoked_on"]
        );
    }
    assert_eq!(
        (text(first, "revoked_on"), &first["can_be_revoked"]),
        ("Active", &json!(true))
    );
    let at = revoked.text("/revoked_on");
    assert_eq!(
        (text(last, "revoked_on"), &last["can_be_revoked"]),
        (at, &json!(false))
    );
}

#[test]
fn c3_newest_first_and_revoked_last() {
    let product = PROGRAM.start();
    let keys: Vec<_> = (0..70)
        .map(|number| product.key(&format!("Key {number}")))
        .collect();
    let revoked = [
        3, 69, 0, 40, 41, 42, 43, 44, 45, 46, 47, 48, 20, 21, 22, 23, 24, 25, 26, 27,
    ];
    for number in revoked {
        assert_eq!(product.act(&keys[number], "revoke").status, 200);
    }
    let newest = product.key("Newest");
    // 51 live keys, newest first, then 20 revoked ones, the latest revoked last.
    let live = (0..70).rev().filter(|number| !revoked.contains(number));
    let in_order: Vec<_> = live
        .chain(revoked)
        .map(|number| format!("Key {number}"))
        .collect();

    let mut shown = Vec::new();
    let mut after = String::new();
    let mut sizes = Vec::new();
    loop {
        let page = product.admin.get(&format!("/admin/keys{after}"));
        let names = page.each("/keys", "name");
        sizes.push(names.len());
        shown.extend(names.into_iter().map(str::to_owned));
        match page.body["next"].as_str() {
            Some(next) => after = format!("?after={next}"),
            None => break,
        }
    }
    assert_eq!(sizes, [50, 21], "the second page holds keys of both kinds");
    assert_eq!(shown[0], "Newest");
    assert_eq!(shown[1..], in_order);

    assert_eq!(product.act(&newest, "revoke").status, 200);
    let first = product.admin.get("/admin/keys");
    assert_eq!(first.text("/keys/0/name"), "Key 68");
    let last = product
        .admin
        .get(&format!("/admin/keys?after={}", first.text("/next")));
    assert_eq!(last.each("/keys", "name").last(), Some(&"Newest"));
    assert_eq!(product.admin.get("/admin/keys?after=nonsense").status, 400);
}

#[test]
fn an_ended_predecessor_counts_as_revoked() {
    let product = PROGRAM.start();
    let row = |key: &Value| {
        let list = product.admin.get("/admin/keys");
        let mut rows = list.items("/keys").iter();
        rows.find(|row| row["id"] == key["id"]).unwrap().clone()
    };
    // Tries again with another key if the second was over before the list arrived.
    let rotated = (0..20).find_map(|_| {
        let old = product.key("Settlement run");
        let begun = Instant::now();
        let new = product.rotate(&old, &json!({ "overlap_seconds": 1 }));
        assert_eq!((new.status, new.text("/name")), (201, "Settlement run"));
        let row = row(&old);
        let is_conclusive = begun.elapsed() < Duration::from_secs(1);
        is_conclusive.then_some((old, new, row))
    });
    let (old, new, before) = rotated.expect("a list within a second of the rotation");
    assert_eq!(text(&before, "revoked_on"), "Active");
    let begun = Instant::now();
    while product.asking(&old).get(PAYMENTS).status == 200 {
        assert!(begun.elapsed() < Duration::from_secs(5), "it never ends");
        thread::sleep(Duration::from_millis(20));
    }
    let ended = row(&old);
    assert!(text(&ended, "revoked_on").ends_with('Z'), "{ended}");
    assert_eq!(ended["can_be_revoked"], false);
    assert_eq!(product.asking(&new.body).get(PAYMENTS).status, 200);
    for action in ["rotate", "suspend", "resume"] {
        assert_eq!(product.act(&old, action).status, 409, "{action}");
    }
}

#[test]
fn a_rotated_out_key_moves_to_the_bottom() {
    let product = PROGRAM.start();
    let (old, _) = (product.key("Settlement run"), product.key("Other"));
    let new = product.rotate(&old, &json!({ "overlap_seconds": 0 }));
    assert_eq!(new.status, 201, "{new:?}");
    assert_eq!(product.asking(&old).get(PAYMENTS).status, 401);
    assert_eq!(product.asking(&new.body).get(PAYMENTS).status, 200);
    let list = product.admin.get("/admin/keys");
    let names = ["Settlement run", "Other", "Settlement run"];
    assert_eq!(list.each("/keys", "name"), names);
    assert_eq!(list.text("/keys/0/id"), new.text("/id"));
    assert_eq!(list.text("/keys/2/id"), text(&old, "id"));
    assert_eq!(list.body["keys"][2]["can_be_revoked"], false);
    let again = product.act(&old, "revoke");
    assert_eq!(
        (again.status, again.text("/at")),
        (409, list.text("/keys/2/revoked_on"))
    );
}
