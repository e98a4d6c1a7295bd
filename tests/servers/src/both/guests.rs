//! Routes that guests may use without a key, and holders with one: a bad credential never makes a guest.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use keyward::testkit::{TestKey, keyward_with_key};

use super::EVERY;
use super::site::Site;
use crate::READ;
use crate::client::{Ask, Sent};
use crate::wire::Reply;

/// The caller that a handler saw.
fn caller(reply: &Reply) -> (u16, &str) {
    (reply.status, reply.body.lines().last().unwrap_or_default())
}

#[tokio::test]
async fn guests_and_holders_are_served() {
    for served in EVERY {
        let site = Site::open(served).await;
        let restricted = site.restricted().await;
        for path in ["/guests/p-1", "/guests/p-1/perhaps", "/guests/open"] {
            let line = format!("GET {path}");
            let guest = site.ask(Ask::of(&line)).await;
            assert_eq!(caller(&guest), (200, "nobody"), "{served:?} {path}");
            // A cache may keep it, and gives it to no holder.
            assert_eq!(guest.headers("cache-control"), [""; 0], "{served:?} {path}");
            let varies = "authorization, x-api-key, x-key-id, x-key-secret, sec-websocket-protocol";
            assert_eq!(guest.headers("vary"), [varies], "{served:?} {path}");
            assert!(!guest.head.to_ascii_lowercase().contains("ratelimit"));

            let holder = site.get(&line, &site.key).await;
            assert_eq!(
                caller(&holder),
                (200, "a key for tests"),
                "{served:?} {path}"
            );
            assert_eq!(holder.headers("cache-control"), ["private"]);
            assert_eq!(holder.headers("vary"), [varies]);
        }
        assert_eq!(site.status("GET /guests/p-1", &restricted).await, 200);
        assert_eq!(site.status("GET /guests/p-2", &restricted).await, 403);
        // Nothing is looked up for a guest.
        let looked_up = "GET /guests/p-1/looked-up";
        assert_eq!(site.ask(Ask::of(looked_up)).await.status, 200, "{served:?}");
        assert_eq!(site.status(looked_up, &site.key).await, 503, "{served:?}");
    }
}

#[tokio::test]
async fn a_bad_credential_makes_no_guest() {
    for served in EVERY {
        let site = Site::open(served).await;
        let (good, acts) = (site.key.text(), site.acts());
        let (_, unknown) = keyward_with_key([READ.described("For tests")], READ).await;
        let revoked: TestKey = site.issue(|new| new).await;
        revoked.revoke(&site.keyward).await;
        let (id, secret) = site.key.pair();
        let basic = BASE64_STANDARD.encode("user:password");
        for path in ["/guests/p-1", "/guests/p-1/perhaps", "/guests/open"] {
            let ask = || Ask::of(&format!("GET {path}"));
            let with = |name: &str, value: &str| ask().header(name, value);
            let in_query = |query: &str| Ask::of(&format!("GET {path}?{query}"));
            for (ask, status) in [
                (ask().with(&unknown), 401),
                (ask().with(&revoked), 401),
                (with("x-api-key", &good[..good.len() - 1]), 401),
                (with("x-api-key", ""), 401),
                (with("x-api-key", "null"), 401),
                (with("authorization", "Bearer"), 401),
                (
                    with("authorization", "Bearer eyJhbGciOiJub25lIn0.e30."),
                    401,
                ),
                (with("authorization", &format!("Basic {basic}")), 401),
                (with("x-key-id", &id), 401),
                (with("x-key-secret", secret), 401),
                (in_query("api_key="), 401),
                (in_query(&format!("api_key={}", revoked.text())), 401),
                (with("x-api-key", good).with(&site.key), 400),
                (with("x-api-key", &format!("{good}, {good}")), 400),
                // Near misses, with a good key.
                (with("authorization", good), 401),
                (with("authorization", &format!("GenieKey {good}")), 401),
                (with("authorisation", &format!("Bearer {good}")), 401),
                (with("sec-websocket-protocol", &format!("v1, {good}")), 401),
                (with("x-apikey", good), 401),
                (with("x_api_key", good), 401),
                (with("x-custom", good), 401),
                (in_query(&format!("key={good}")), 401),
            ] {
                let reply = site.ask(ask.clone()).await;
                assert_eq!(reply.status, status, "{served:?} {ask:?}");
                assert_eq!(reply.header("cache-control"), Some("no-store"));
            }
        }
        assert_eq!(site.acts(), acts, "{served:?}");
        // Headers that have nothing to do with keys.
        let foreign = Ask::of("GET /guests/p-1")
            .header("authorization", "Digest username=x")
            .header("cookie", "session=1");
        assert_eq!(
            caller(&site.ask(foreign).await),
            (200, "nobody"),
            "{served:?}"
        );
    }
}

#[tokio::test]
async fn guests_get_nothing_else() {
    for served in EVERY {
        let site = Site::open(served).await;
        let acts = site.acts();
        for (line, status) in [
            // Another method of the route, and one that it lacks.
            ("POST /guests/p-1", 401),
            ("DELETE /guests/p-1", 401),
            ("OPTIONS /guests/p-1", 401),
            // A guard inside of the one that lets guests in.
            ("GET /guests/guarded", 401),
            // A handler that needs a caller.
            ("GET /guests/p-1/caller", 500),
        ] {
            assert_eq!(
                site.ask(Ask::of(line)).await.status,
                status,
                "{served:?} {line}"
            );
        }
        assert_eq!(site.acts(), acts, "{served:?}");
        assert_eq!(
            site.status("GET /guests/guarded", &site.key).await,
            200,
            "{served:?}"
        );
    }
}

#[tokio::test]
async fn bounds_hold_for_guests_too() {
    for served in EVERY {
        let site = Site::open(served).await;
        let ask = |body| Ask::of("POST /guests/p-1/long").body(Sent::Whole(body));
        assert_eq!(site.ask(ask("0123456789x")).await.status, 413, "{served:?}");
        assert_eq!(site.ask(ask("")).await.status, 500, "{served:?}");
        let told = site.told();
        assert_eq!(
            told[1], "the response body exceeds its limit",
            "{served:?} {told:?}"
        );
    }
}
