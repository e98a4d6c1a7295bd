//! Valid accounts and payments, and the operations on them.

use example_driver::Client;
use serde_json::{Value, json};

use crate::Product;

fn order() -> Value {
    json!({ "account": "acc-000003", "amount": 100, "currency": "EUR", "reference": "Invoice" })
}

/// Makes a payment in this state and returns its path.
fn payment(asking: &Client, status: &str) -> String {
    let made = asking.post("/payments", &order());
    let path = made.header("location").unwrap().to_owned();
    let done = match status {
        "refunded" => {
            let settled = asking.send("PATCH", &path, Some(&json!({ "status": "settled" })));
            assert_eq!(settled.status, 200, "{settled:?}");
            asking.post(&format!("{path}/refund"), &json!({}))
        }
        _ => asking.send("PATCH", &path, Some(&json!({ "status": status }))),
    };
    assert_eq!((done.status, done.text("/status")), (200, status));
    path
}

#[test]
fn allowed_actions_depend_on_the_status() {
    let product = Product::start();
    let asking = product.asking(&product.key("Settlement run"));
    let patch = |member: &str, value: &str| Some(json!({ member: value }));
    let deeds = [
        ("PUT", "", Some(order())),
        ("PATCH", "", Some(json!({ "amount": 200 }))),
        ("PATCH", "", patch("reference", "Another")),
        ("PATCH", "", patch("status", "pending")),
        ("PATCH", "", patch("status", "settled")),
        ("PATCH", "", patch("status", "canceled")),
        ("PATCH", "", patch("status", "refunded")),
        ("POST", "/refund", Some(json!({ "amount": 1 }))),
        ("DELETE", "", None),
    ];
    for (status, answers) in [
        ("pending", [200, 200, 200, 200, 200, 200, 409, 409, 204]),
        ("settled", [409, 409, 200, 409, 200, 409, 409, 200, 409]),
        ("refunded", [409, 409, 200, 409, 409, 409, 200, 409, 409]),
        ("canceled", [409, 409, 200, 409, 409, 200, 409, 409, 204]),
    ] {
        for ((method, action, body), answer) in deeds.iter().zip(answers) {
            let path = payment(&asking, status);
            let before = asking.get(&path);
            let reply = asking.send(method, &format!("{path}{action}"), body.as_ref());
            assert_eq!(reply.status, answer, "{status}: {method} {body:?}");
            if answer == 409 {
                assert_eq!(asking.get(&path).body, before.body, "refused and done");
            }
        }
    }
}

#[test]
fn a_refused_change_changes_nothing() {
    let product = Product::start();
    let asking = product.asking(&product.key("Settlement run"));
    let path = payment(&asking, "settled");
    let before = asking.get(&path);
    let patch = json!({ "reference": "Another", "status": "canceled" });
    assert_eq!(asking.send("PATCH", &path, Some(&patch)).status, 409);
    assert_eq!(asking.get(&path).body, before.body);
}

#[test]
fn refunds_never_exceed_the_payment() {
    let product = Product::start();
    let asking = product.asking(&product.key("Settlement run"));
    let path = format!("{}/refund", payment(&asking, "settled"));
    let back = |amount: u64| asking.post(&path, &json!({ "amount": amount }));
    for (amount, status, refunded) in [(101, 422, 0), (60, 200, 60), (41, 422, 0), (40, 200, 100)] {
        let reply = back(amount);
        assert_eq!(reply.status, status, "{reply:?}");
        if status == 200 {
            assert_eq!(reply.body["refunded"], refunded);
        }
    }
    assert_eq!(back(1).status, 409);
}

#[test]
fn invalid_values_are_422() {
    let product = Product::start();
    let asking = product.asking(&product.key("Settlement run"));
    let account = json!({ "holder": "Fir Optics", "email": "a@b.example", "currency": "EUR" });
    let with = |form: &Value, member: &str, value: Value| {
        let mut form = form.clone();
        form[member] = value;
        form
    };
    let long = "x".repeat(101);
    for (path, form, member, values) in [
        (
            "/accounts",
            &account,
            "holder",
            vec![json!(""), json!(long), json!("a\nb"), json!(1)],
        ),
        (
            "/accounts",
            &account,
            "email",
            vec![json!("nobody"), json!("@b.example"), json!(null)],
        ),
        (
            "/accounts",
            &account,
            "currency",
            vec![json!("eur"), json!("XXX")],
        ),
        (
            "/accounts",
            &account,
            "status",
            vec![json!("closed"), json!("")],
        ),
        ("/accounts", &account, "balance", vec![json!(1)]),
        (
            "/payments",
            &order(),
            "amount",
            vec![json!(0), json!(-1), json!(1.5), json!("1")],
        ),
        (
            "/payments",
            &order(),
            "amount",
            vec![json!(1_000_000_001), json!(null)],
        ),
        (
            "/payments",
            &order(),
            "account",
            vec![json!("acc-nothing"), json!(3)],
        ),
        ("/payments", &order(), "currency", vec![json!("USD")]),
        ("/payments", &order(), "status", vec![json!("settled")]),
    ] {
        for value in values {
            let form = with(form, member, value);
            let reply = asking.post(path, &form);
            assert_eq!(reply.status, 422, "{form}: {reply:?}");
        }
    }
    for (path, patch) in [
        ("/accounts/acc-000001", json!({ "holder": null })),
        ("/accounts/acc-000001", json!({ "id": "acc-000002" })),
        ("/payments/pay-000003", json!({ "amount": null })),
        ("/payments/pay-000003", json!({ "account": "acc-000001" })),
    ] {
        let before = asking.get(path);
        assert_eq!(
            asking.send("PATCH", path, Some(&patch)).status,
            422,
            "{patch}"
        );
        assert_eq!(
            asking.send("PUT", path, Some(&patch)).status,
            422,
            "{patch}"
        );
        assert_eq!(asking.get(path).body, before.body);
    }
    assert_eq!(asking.get("/accounts?limit=x").status, 400);
    assert_eq!(asking.get("/accounts?page=2").status, 400);
}

#[test]
fn accounts_with_payments_are_protected() {
    let product = Product::start();
    let asking = product.asking(&product.key("Settlement run"));
    let path = "/accounts/acc-000003";
    assert_eq!(asking.send("DELETE", path, None).status, 409);
    let currency = json!({ "currency": "USD" });
    assert_eq!(asking.send("PATCH", path, Some(&currency)).status, 409);
    let frozen = json!({ "status": "frozen" });
    assert_eq!(asking.send("PATCH", path, Some(&frozen)).status, 200);
    assert_eq!(asking.post("/payments", &order()).status, 409);
}

#[test]
fn unknown_ids_and_paths_are_404() {
    let product = Product::start();
    let asking = product.asking(&product.key("Settlement run"));
    let account = json!({ "holder": "Fir Optics", "email": "a@b.example", "currency": "EUR" });
    for (method, path, form) in [
        ("GET", "/accounts/acc-999999", None),
        ("PUT", "/accounts/acc-999999", Some(account)),
        ("PATCH", "/accounts/acc-999999", Some(json!({}))),
        ("DELETE", "/accounts/acc-999999", None),
        ("GET", "/accounts/acc-999999/payments", None),
        ("GET", "/payments/pay-999999", None),
        ("PUT", "/payments/pay-999999", Some(order())),
        ("PATCH", "/payments/pay-999999", Some(json!({}))),
        ("DELETE", "/payments/pay-999999", None),
        ("POST", "/payments/pay-999999/refund", Some(json!({}))),
        ("GET", "/payments/acc-000001", None),
        ("GET", "/nothing", None),
    ] {
        let reply = asking.send(method, path, form.as_ref());
        assert_eq!(reply.status, 404, "{method} {path}: {reply:?}");
    }
}
