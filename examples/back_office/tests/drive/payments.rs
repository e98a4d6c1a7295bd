//! The operations on payments.

use serde_json::{Value, json};

use crate::{PAYMENTS, PROGRAM};

fn order() -> Value {
    json!({ "account": "acc-000003", "amount": 100, "currency": "EUR", "reference": "Invoice" })
}

#[test]
fn c2_keys_may_use_all_five_methods() {
    let product = PROGRAM.start();
    let asking = product.with_key("Settlement run");
    let made = asking.post(PAYMENTS, &order());
    assert_eq!(made.status, 201);
    let path = made.header("location").unwrap();
    let mut replaced = order();
    replaced["currency"] = json!("USD");
    for (method, body, reference, currency) in [
        ("GET", None, "Invoice", "EUR"),
        ("PUT", Some(&replaced), "Invoice", "USD"),
        (
            "PATCH",
            Some(&json!({ "reference": "Another" })),
            "Another",
            "USD",
        ),
        ("GET", None, "Another", "USD"),
    ] {
        let reply = asking.send(method, path, body);
        assert_eq!(reply.status, 200, "{method}: {reply:?}");
        assert_eq!(reply.text("/reference"), reference);
        assert_eq!(reply.text("/currency"), currency);
    }
    assert_eq!(asking.send("DELETE", path, None).status, 204);
    assert_eq!(asking.get(path).status, 404);
}

#[test]
fn invalid_values_are_422() {
    let product = PROGRAM.start();
    let asking = product.with_key("Settlement run");
    let path = "/payments/pay-000003";
    let before = asking.get(path);
    for (member, value) in [
        ("amount", json!(0)),
        ("amount", json!(-1)),
        ("amount", json!("1")),
        ("account", json!(3)),
        ("currency", json!("XXX")),
        ("status", json!("settled")),
    ] {
        let mut form = order();
        form[member] = value;
        assert_eq!(asking.post(PAYMENTS, &form).status, 422, "{form}");
        for method in ["PUT", "PATCH"] {
            let refused = asking.send(method, path, Some(&form));
            assert_eq!(refused.status, 422, "{method} {form}");
        }
    }
    assert_eq!(asking.get(path).body, before.body);
    assert_eq!(asking.get("/payments?limit=x").status, 400);
}

#[test]
fn unknown_ids_and_paths_are_404() {
    let product = PROGRAM.start();
    let asking = product.with_key("Settlement run");
    for (method, path, form) in [
        ("GET", "/payments/pay-999999", None),
        ("PUT", "/payments/pay-999999", Some(order())),
        ("PATCH", "/payments/pay-999999", Some(json!({}))),
        ("DELETE", "/payments/pay-999999", None),
        ("GET", "/nothing", None),
    ] {
        let reply = asking.send(method, path, form.as_ref());
        assert_eq!(reply.status, 404, "{method} {path}: {reply:?}");
    }
}
