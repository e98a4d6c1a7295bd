//! Limits for each endpoint, and a customer with a higher one.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use example_driver::{Client, Product, Reply};
use serde_json::json;
use tempfile::TempDir;

use crate::{COUNTS, PROGRAM, form};

const TRENDS: &str = "/v1/rollups/trends";
const CLIENTS: &str = "/v1/clients";
const MINUTE: Duration = Duration::from_secs(60);

/// A running product, with a file of customers' limits that can be edited.
struct Edited {
    product: Product,
    folder: TempDir,
}

impl Edited {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let product = PROGRAM.start_over(&folder.path().join("keys.db"));
        Self { product, folder }
    }

    /// Replaces the file in one step, as an editor does.
    fn write(&self, plans: &str) {
        let written = self.folder.path().join("written");
        fs::write(&written, plans).unwrap();
        fs::rename(written, self.folder.path().join("keys.plans.json")).unwrap();
    }
}

fn limit(reply: &Reply) -> u32 {
    reply.header("x-ratelimit-limit").unwrap().parse().unwrap()
}

fn remaining(reply: &Reply) -> u32 {
    let remaining = reply.header("x-ratelimit-remaining").unwrap();
    remaining.parse().unwrap()
}

/// Sends requests until one is refused, and returns how many were answered.
fn exhaust(asking: &Client, path: &str) -> u32 {
    let mut answered = 0;
    loop {
        let reply = asking.get(path);
        if reply.status == 429 {
            assert_eq!(reply.text("/code"), "too_many_requests");
            assert_eq!(reply.body["violated-policies"], json!(["rollups"]));
            let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=61).contains(&wait), "{wait}");
            return answered;
        }
        assert_eq!(reply.status, 200, "{reply:?}");
        answered += 1;
    }
}

/// Asks until the limit is this one.
fn await_limit(asking: &Client, path: &str, expected: u32) {
    let begun = Instant::now();
    while limit(&asking.get(path)) != expected {
        assert!(begun.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(100));
    }
}

#[test]
fn a9_each_endpoint_has_its_own_limit() {
    let product = PROGRAM.start();
    let (one, other) = (product.with_key("One"), product.with_key("Other"));
    let begun = Instant::now();
    // The built-in integration has asked already.
    let left = remaining(&one.get(COUNTS));
    let answered = exhaust(&one, COUNTS);
    let by_other = other.get(TRENDS);
    // Within a minute, and a machine that stood still for longer shows nothing.
    if begun.elapsed() < MINUTE {
        assert_eq!(answered, left);
        assert_eq!(by_other.status, 429, "a partner's keys share the limit");
    }
    let elsewhere = one.get(CLIENTS);
    assert_eq!((elsewhere.status, limit(&elsewhere)), (200, 600));
    let contoso = product.person("Contoso");
    let issued = contoso.post("/admin/keys", &form("Theirs"));
    let theirs = product.asking(&issued.body).get(COUNTS);
    assert_eq!((theirs.status, limit(&theirs)), (200, 60));
    assert_eq!(remaining(&theirs), 59);
    let policy = theirs.header("ratelimit-policy");
    assert_eq!(
        policy,
        Some("\"rollups\";q=60;w=60"),
        "it counts against no other quota"
    );
}

#[test]
fn a9_a_customers_limit_changes_at_runtime() {
    let edited = Edited::start();
    let product = &edited.product;
    let before = product.with_key("Issued before");
    let begun = Instant::now();
    let left = remaining(&before.get(COUNTS));
    let answered = exhaust(&before, COUNTS);
    edited.write(r#"{"northwind": {"rollups": 90}}"#);
    await_limit(&before, COUNTS, 90);
    let after = product.with_key("Issued after");
    let counted = after.get(TRENDS);
    assert_eq!(limit(&counted), 90, "it covers the keys of tomorrow");
    let more = exhaust(&before, COUNTS);
    if begun.elapsed() < MINUTE {
        assert_eq!(answered, left);
        // The request that saw the new limit, and the new key's, are among the thirty.
        assert_eq!(
            (counted.status, more),
            (200, 28),
            "earlier requests still count"
        );
    }
    // A file that cannot be read changes nothing.
    edited.write(r#"{"northwind": {"rollups": "#);
    sleep(Duration::from_secs(5));
    assert_eq!(limit(&before.get(TRENDS)), 90);
    edited.write("{}");
    await_limit(&before, COUNTS, 60);
    let contoso = product.person("Contoso");
    let issued = contoso.post("/admin/keys", &form("Theirs"));
    assert_eq!(limit(&product.asking(&issued.body).get(COUNTS)), 60);
}
