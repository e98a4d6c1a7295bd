//! Limits as clients see them, and what requests use of them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use keyward::manager::NewKey;
use keyward::testkit::TestKey;
use sfv::{BareItem, List, ListEntry, Parser};

use super::EVERY;
use super::site::{Site, hourly};
use crate::client::{Ask, Sent};
use crate::wire::Reply;

/// The names of all limit headers.
const NAMES: [&str; 5] = [
    "ratelimit",
    "ratelimit-policy",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
];

fn limit_headers(reply: &Reply) -> Vec<String> {
    let names = reply.head.lines().filter_map(|line| line.split_once(": "));
    let names = names.map(|(name, _)| name.to_ascii_lowercase());
    let mut names: Vec<_> = names.filter(|name| name.contains("ratelimit")).collect();
    names.sort();
    names
}

/// The items of a list by their names, which are distinct, with this integer parameter.
fn items(reply: &Reply, header: &str, parameter: &str) -> BTreeMap<String, i64> {
    let [value] = reply.headers(header)[..] else {
        panic!("{header} is not there once: {reply:?}");
    };
    let list: List = Parser::new(value).parse().unwrap();
    let mut items = BTreeMap::new();
    for entry in list {
        let ListEntry::Item(item) = entry else {
            panic!("an inner list in {value}");
        };
        let BareItem::String(name) = item.bare_item else {
            panic!("no string in {value}");
        };
        let parameters = item.params.into_iter();
        let mut found = parameters.filter(|(key, _)| key.as_str() == parameter);
        let number = found.next().map_or(-1, |(_, value)| match value {
            BareItem::Integer(number) => number.into(),
            other => panic!("no integer: {other:?}"),
        });
        let before = items.insert(name.as_str().to_owned(), number);
        assert_eq!(before, None, "a name twice in {value}");
    }
    items
}

/// The rest of each limit.
fn left(reply: &Reply) -> BTreeMap<String, i64> {
    items(reply, "ratelimit", "r")
}

fn named<const COUNT: usize>(items: [(&str, i64); COUNT]) -> BTreeMap<String, i64> {
    items.map(|(name, left)| (name.to_owned(), left)).into()
}

fn number(reply: &Reply, header: &str) -> u64 {
    reply.header(header).unwrap().parse().unwrap()
}

fn limited(new: NewKey) -> NewKey {
    let most = NonZeroU32::new(5).unwrap();
    new.quota(hourly("hour", 1_000)).concurrency(most)
}

/// Asks, by a request that is refused and uses nothing, until so much is left of the key's quota and none is in flight.
async fn becomes(site: &Site, key: &TestKey, left: i64) {
    let expected = named([("concurrency", 5), ("hour", left)]);
    let mut seen = BTreeMap::new();
    for _ in 0..4_000 {
        let reply = site.get("DELETE /editions/e-1-7", key).await;
        assert_eq!(reply.status, 403);
        seen = self::left(&reply);
        if seen == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it stays at {seen:?}, not {expected:?}");
}

#[tokio::test]
async fn every_response_shows_the_limits() {
    for served in EVERY {
        let site = Site::open(served).await;
        let project: keyward::key::Resource = "project:p-1".parse().unwrap();
        let key = site.issue(|new| limited(new).resources(project)).await;
        let full = "x".repeat(11);
        let full: &'static str = full.leak();
        let mut used = 0;
        for (line, status, cost) in [
            ("GET /projects/p-1", 200, 1),
            ("HEAD /projects/p-1", 200, 1),
            ("POST /editions/e-1-7", 200, 1),
            ("GET /projects/p-2", 403, 0),
            ("POST /editions/e-2-7", 403, 0),
            ("POST /editions/none", 404, 0),
            ("POST /editions/e-broken", 503, 0),
            ("GET /forgetful/e-1-7", 500, 1),
        ] {
            let reply = site.get(line, &key).await;
            assert_eq!(reply.status, status, "{served:?} {line}");
            used += cost;
            shows(&reply, used, &format!("{served:?} {line}"));
        }
        // A body that is too long, and errors of handlers.
        let free = site.issue(limited).await;
        for (line, body, status, used) in [
            ("GET /own-error", Sent::Nothing, 418, 1),
            ("POST /upload", Sent::Whole(full), 413, 1),
            ("POST /upload", Sent::Whole("short"), 200, 2),
            ("GET /short/known", Sent::Nothing, 500, 3),
            ("POST /projects/p-1", Sent::Nothing, 405, 4),
            ("GET /nested/full", Sent::Nothing, 403, 4),
            ("GET /nested/forgotten/e-1-7", Sent::Nothing, 500, 5),
        ] {
            let reply = site.ask(Ask::of(line).with(&free).body(body)).await;
            assert_eq!(reply.status, status, "{served:?} {line}");
            shows(&reply, used, &format!("{served:?} {line}"));
            assert_eq!(reply.header("x-own").is_some(), status == 418);
        }
        // The keys of others have no limits, and who has no key learns of none.
        let none = Ask::of("GET /echo");
        let wrong = Ask::of("GET /echo").header("authorization", "Bearer x");
        let twice = Ask::of("GET /echo").with(&key).with(&key);
        let unlimited = Ask::of("GET /echo").with(&site.key);
        for (ask, status) in [(none, 401), (wrong, 401), (twice, 400), (unlimited, 200)] {
            let reply = site.ask(ask).await;
            assert_eq!(reply.status, status, "{served:?}");
            assert_eq!(limit_headers(&reply), [""; 0], "{served:?} {status}");
        }
        free.revoke(&site.keyward).await;
        let revoked = site.get("GET /nested/full", &free).await;
        assert_eq!((revoked.status, limit_headers(&revoked)), (401, vec![]));
    }
}

/// Checks that a reply shows the limits of a key of which this much is used.
fn shows(reply: &Reply, used: i64, why: &str) {
    assert_eq!(limit_headers(reply), NAMES, "{why}");
    let mut left = left(reply);
    let free_places = left.remove("concurrency").unwrap();
    assert!((3..=5).contains(&free_places), "{why}");
    assert_eq!(left, named([("hour", 1_000 - used)]), "{why}");
    let policy = items(reply, "ratelimit-policy", "q");
    assert_eq!(
        policy,
        named([("concurrency", 5), ("hour", 1_000)]),
        "{why}"
    );
    let windows = items(reply, "ratelimit-policy", "w");
    assert_eq!(windows["hour"], 3_600, "{why}");
    assert_eq!(number(reply, "x-ratelimit-limit"), 1_000, "{why}");
    let remaining = number(reply, "x-ratelimit-remaining");
    assert_eq!(remaining, (1_000 - used).cast_unsigned(), "{why}");
    assert!(number(reply, "x-ratelimit-reset") > 1_000_000_000, "{why}");
}

#[tokio::test]
async fn a_full_quota_is_a_429_that_uses_nothing() {
    for served in EVERY {
        let site = Site::open(served).await;
        let quotas = |new: NewKey| new.quota(hourly("hour", 2)).quota(hourly("more", 9));
        let key = site.issue(quotas).await;
        for left in [1, 0] {
            let reply = site.get("GET /limited", &key).await;
            assert_eq!(reply.status, 200, "{served:?}");
            assert_eq!(self::left(&reply)["hour"], left);
        }
        for line in ["GET /limited", "POST /editions/e-1-7", "GET /twice/granted"] {
            let reply = site.get(line, &key).await;
            assert_eq!(reply.status, 429, "{served:?} {line}");
            let left = left(&reply);
            assert_eq!((left["hour"], left["more"]), (0, 7), "{served:?} {line}");
            let resets = items(&reply, "ratelimit", "t");
            let retry_after = number(&reply, "retry-after");
            assert!(retry_after >= resets["hour"].cast_unsigned());
            let policies = r#""violated-policies":["hour"]"#;
            assert!(reply.body.contains(policies), "{}", reply.body);
            assert!(reply.body.contains("#quota-exceeded"), "{}", reply.body);
        }
    }
}

#[tokio::test]
async fn nested_guards_show_each_limit_once() {
    for served in EVERY {
        let site = Site::open(served).await;
        let key = site.issue(limited).await;
        let left_after = |reply: &Reply| {
            let mut left = left(reply);
            left.remove("concurrency").unwrap();
            left
        };
        let used = |outer: i64, inner: i64| {
            [
                ("hour", 1_000 - outer),
                ("inner", 20 - inner),
                ("outer", 50 - outer),
            ]
        };
        let reply = site.get("GET /twice/granted", &key).await;
        assert_eq!(reply.status, 200, "{served:?}");
        assert_eq!(left_after(&reply), named(used(1, 1)), "{served:?}");
        assert_eq!(limit_headers(&reply), NAMES);
        assert_eq!(number(&reply, "x-ratelimit-limit"), 20, "the tightest");
        // What the inner guard refuses uses nothing of the outer's either.
        for (line, body, status) in [
            ("GET /twice/full", Sent::Nothing, 403),
            ("POST /twice/found/none", Sent::Nothing, 404),
            ("POST /twice/found/e-broken", Sent::Nothing, 503),
            ("POST /twice/upload", Sent::Whole("0123456789x"), 413),
        ] {
            let reply = site.ask(Ask::of(line).with(&key).body(body)).await;
            assert_eq!(reply.status, status, "{served:?} {line}");
            let mut left = left_after(&reply);
            left.remove("inner");
            assert_eq!(
                left,
                named([("hour", 999), ("outer", 49)]),
                "{served:?} {line}"
            );
        }
        for done in 2..=20 {
            let line = if done % 2 == 0 {
                "POST /twice/found/e-1-7"
            } else {
                "GET /twice/granted"
            };
            let reply = site.get(line, &key).await;
            assert_eq!(reply.status, 200, "{served:?} {line}");
            assert_eq!(
                left_after(&reply),
                named(used(done, done)),
                "{served:?} {line}"
            );
        }
        for line in ["GET /twice/granted", "POST /twice/found/e-1-7"] {
            let reply = site.get(line, &key).await;
            assert_eq!(reply.status, 429, "{served:?} {line}");
            assert!(reply.body.contains(r#""violated-policies":["inner"]"#));
            assert_eq!(left_after(&reply), named(used(20, 20)), "{served:?} {line}");
        }
    }
}

#[tokio::test]
async fn a_handler_settles_its_cost() {
    for served in EVERY {
        let site = Site::open(served).await;
        let key = site.issue(limited).await;
        let mut left = 1_000;
        for (count, line) in [
            (3, "GET /rows/3"),
            (0, "GET /rows/0"),
            (25, "GET /rows/25"),
            (4, "GET /rows/4/streamed"),
            (1, "GET /limited"),
        ] {
            let reply = site.get(line, &key).await;
            assert_eq!(reply.status, 200, "{served:?} {line}");
            let estimate = if line.contains("rows") { 10 } else { 1 };
            assert_eq!(self::left(&reply)["hour"], left - estimate, "the estimate");
            left -= count;
            becomes(&site, &key, left).await;
        }
        // Clients that go away, one before the cost is known.
        for (count, line) in [(7, "GET /rows/7/endless"), (10, "GET /unknown-rows")] {
            let mut streaming = site.stream(line, &key).await;
            streaming.until("tick").await;
            drop(streaming);
            left -= count;
            becomes(&site, &key, left).await;
        }
        // An inner guard's estimate is settled in its quotas. The outer's cost stays.
        let reply = site.get("GET /twice/rows/3", &key).await;
        assert_eq!(self::left(&reply)["inner"], 10, "{served:?}");
        becomes(&site, &key, left - 1).await;
        let reply = site.get("GET /twice/granted", &key).await;
        assert_eq!(self::left(&reply)["inner"], 16, "{served:?}");
    }
}

#[tokio::test]
async fn an_inner_401_shows_no_limits() {
    for served in EVERY {
        let site = Site::open(served).await;
        let key = site.issue(limited).await;
        let asking = site.get("POST /twice/found/e-waits", &key);
        let revoking = async {
            site.waits().begun.notified().await;
            key.revoke(&site.keyward).await;
            site.waits().released.notify_one();
        };
        let (reply, ()) = tokio::join!(asking, revoking);
        assert_eq!(reply.status, 401, "{served:?}");
        assert_eq!(limit_headers(&reply), [""; 0], "{served:?}");
    }
}
