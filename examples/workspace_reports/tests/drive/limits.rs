//! Limits on the number of requests, on concurrent ones, and on the size of requests and responses.

use std::io::Cursor;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use example_driver::{Reply, SFV, has, text};
use serde_json::json;

use crate::slow::Slow;
use crate::{PROGRAM, form};

const CREATE: &str = "/v1/editions?project=p-1";

fn edition_of(bytes: usize) -> Vec<u8> {
    let new = json!({ "blueprint": "p-1-b1", "title": "x", "commentary": "" });
    let commentary = "c".repeat(bytes - new.to_string().len());
    let new = json!({ "blueprint": "p-1-b1", "title": "x", "commentary": commentary });
    new.to_string().into_bytes()
}

#[test]
fn b7_size_caps_of_requests() {
    let product = PROGRAM.start();
    let asking = product.with_key("write:editions read:editions");
    let json = |bytes| Some(("application/json", edition_of(bytes)));
    let created = asking.send_bytes("POST", CREATE, json(5_000_000));
    assert_eq!(created.status, 201);
    // The request states its length, so it is refused before its body is read.
    for asking in [&asking, &asking.with("expect", "100-continue")] {
        let refused = asking.send_bytes("POST", CREATE, json(5_000_001));
        assert_eq!(
            (refused.status, refused.text("/code")),
            (413, "request_too_large")
        );
    }
    // The request states no length, so it is refused at the bound.
    let streamed = |bytes| asking.post_reader(CREATE, Cursor::new(edition_of(bytes)));
    assert_eq!(streamed(5_000_000).status, 201);
    assert_eq!(streamed(5_000_001).status, 413);
    // A key that may not write is refused for that first.
    let reading = product.with_key("read:editions");
    let refused = reading.send_bytes("POST", CREATE, json(5_000_001));
    assert_eq!(refused.status, 403, "{refused:?}");
    let editions = asking.get("/v1/blueprints/p-1-b1/editions");
    assert_eq!(editions.items("/items").len(), 14, "two were created");
}

#[test]
fn b7_early_refusals_keep_connections() {
    let product = PROGRAM.start();
    let asking = product.with_key("read:editions").keeping_alive();
    for bytes in [200, 2_000, 200_000] {
        let mut answers = 0;
        for _ in 0..60 {
            let (begun, body) = (Instant::now(), edition_of(bytes));
            let answered = asking.try_send_bytes("POST", CREATE, Some(("application/json", body)));
            // The server drains the body for only two seconds, so a client that stalled for that long may get no
            // answer.
            if answered.is_err() && begun.elapsed() > Duration::from_secs(1) {
                continue;
            }
            let refused = answered.unwrap();
            assert_eq!(refused.status, 403, "{refused:?}");
            answers += 1;
            if answers == 30 {
                break;
            }
        }
        assert_eq!(answers, 30, "the machine stood still each other time");
    }
}

#[test]
fn b7_size_caps_of_responses() {
    let product = PROGRAM.start();
    let key = product.key("read:outputs");
    let asking = product.asking(&key);
    let whole = asking.get("/v1/outputs/p-1-b3-e002-o1/download");
    assert_eq!(whole.status, 200);
    let announced = whole.header("content-length").unwrap().to_owned();
    assert_eq!(announced, whole.body.as_str().unwrap().len().to_string());
    let too_long = asking.get("/v1/outputs/p-1-b3-e001-o1/download");
    assert_eq!(
        (too_long.status, too_long.text("/code")),
        (500, "internal"),
        "only the operator sees why"
    );
    let log = product.server.stop_and_read_log();
    assert!(log.contains("the response body exceeds its limit"), "{log}");
}

#[test]
fn b7_at_most_five_requests_at_once() {
    let product = PROGRAM.start();
    let key = product.key("write:editions read:workspace");
    // The product sets the limits, and administrators cannot.
    let mut own = form("Nightly sync", &["read:workspace"]);
    own["concurrency"] = json!(50);
    let mut quota = form("Nightly sync", &["read:workspace"]);
    quota["quotas"] = json!([{ "name": "minute", "limit": 6_000, "window_seconds": 60 }]);
    product.refuses_forms(&[own, quota]);
    let path = format!("/admin/keys/{}", text(&key, "id"));
    for change in [json!({ "concurrency": 50 }), json!({ "quotas": [] })] {
        let refused = product.admin.send("PATCH", &path, Some(&change));
        assert_eq!(refused.status, 403, "{change}: {refused:?}");
    }

    // Five requests with endless bodies, each of which holds a place.
    let asking = product.asking(&key);
    let slow: Vec<_> = (0..5)
        .map(|_| Slow::post(&asking, CREATE, edition_of(1_000)))
        .collect();
    let busy = asking.get("/v1/projects");
    assert_eq!(
        (busy.status, busy.text("/code")),
        (429, "too_many_requests")
    );
    assert_eq!(busy.header("retry-after"), Some("1"));
    let other = product.with_key("read:workspace");
    assert_eq!(
        other.get("/v1/projects").status,
        200,
        "each key has its own"
    );
    for one in slow {
        assert_eq!(one.end().status, 201);
    }
    // A place is given back once the answer is sent, which the client may see a moment earlier.
    let begun = Instant::now();
    while asking.get("/v1/projects").status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn b7_python_clients_meet_the_limits() {
    if !has(&[SFV]) {
        return;
    }
    let product = PROGRAM.start();
    let keys: Vec<_> = (0..4)
        .map(|_| product.key("read:workspace write:editions"))
        .collect();
    product.run_python(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/drive/limits.py"),
        &[
            (
                "CERTIFICATE",
                product.server.certificate().unwrap().to_str().unwrap(),
            ),
            ("DRAFT", text(&keys[0], "api_key")),
            ("UNIX", text(&keys[1], "api_key")),
            ("SLOW", text(&keys[2], "api_key")),
            ("IGNORES", text(&keys[3], "api_key")),
        ],
    );
}

fn remaining(reply: &Reply) -> u32 {
    let shown = |name: &str| -> u32 { reply.header(name).unwrap().parse().unwrap() };
    assert_eq!(shown("x-ratelimit-limit"), 60, "{reply:?}");
    assert!(reply.header("ratelimit-policy").is_some() && reply.header("ratelimit").is_some());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let reset = u64::from(shown("x-ratelimit-reset"));
    assert!(
        (now.as_secs()..=now.as_secs() + 62).contains(&reset),
        "{reset}"
    );
    shown("x-ratelimit-remaining")
}

#[test]
fn b8_each_authenticated_answer_shows_limits() {
    let product = PROGRAM.start();
    let begun = Instant::now();
    let key = product.key("read:workspace read:outputs write:editions");
    let asking = product.asking(&key);
    let large = Some(("application/json", edition_of(5_000_001)));
    let unknown = "/v1/outputs/nothing/download";
    let too_long = "/v1/outputs/p-1-b3-e001-o1/download";
    let conflict = "/v1/editions/p-1-b1-e001/submit";
    let answers = [
        (asking.get("/v1/projects"), 200, 59),
        (asking.get("/v1/projects/p-1/blueprints"), 403, 59),
        (asking.send_bytes("POST", CREATE, large), 413, 59),
        (asking.get(unknown), 404, 59),
        (asking.post(conflict, &json!({})), 409, 58),
        (asking.get(too_long), 500, 57),
        (asking.send("DELETE", "/v1/projects", None), 405, 56),
        (asking.get("/v1/no-such-route"), 404, 55),
    ];
    for (answer, status, left) in &answers {
        assert_eq!(answer.status, *status, "{answer:?}");
        let shown = remaining(answer);
        // A request that is refused before it is served uses nothing.
        assert!(
            shown == *left || begun.elapsed() > Duration::from_secs(60),
            "{answer:?}"
        );
    }
    while asking.get("/v1/projects").status == 200 {}
    let refused = asking.get("/v1/projects");
    if refused.status == 429 {
        assert_eq!(remaining(&refused), 0);
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=61).contains(&wait), "{wait}");
    }
    for stranger in [
        product.client(),
        product.client().with("authorization", "Bearer no"),
    ] {
        let unauthenticated = stranger.get("/v1/projects");
        assert_eq!(unauthenticated.status, 401);
        let names = unauthenticated.headers.iter().map(|(name, _)| name);
        assert_eq!(names.filter(|name| name.contains("ratelimit")).count(), 0);
    }
}
