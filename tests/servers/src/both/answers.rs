//! What handlers see, and what is said to caches; and what is only reported.

use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::EVERY;
use super::site::{Plan, Site, Told};
use crate::client::{Ask, Protocol, Sent, over_one_connection};

const CREDENTIAL_HEADERS: &str =
    "authorization, x-api-key, x-key-id, x-key-secret, sec-websocket-protocol";

#[tokio::test]
async fn answers_are_private_or_no_store() {
    for served in EVERY {
        let site = Site::open(served).await;
        let restricted = site.restricted().await;
        for line in [
            "GET /projects/p-1",
            "HEAD /projects/p-1",
            "POST /editions/e-1-7",
            "GET /promised/e-1-7",
            "POST /projects/p-1",
        ] {
            let reply = site.get(line, &restricted).await;
            assert_eq!(reply.headers("cache-control"), ["private"], "{line}");
            assert_eq!(reply.headers("vary"), [CREDENTIAL_HEADERS], "{line}");
            assert_eq!(reply.header("www-authenticate"), None);
        }
        for (line, status) in [
            ("GET /projects/p-2", 403),
            ("GET /misbound/p-1", 403),
            ("POST /editions/none", 404),
            ("POST /editions/e-broken", 503),
            ("GET /forgetful/e-1-7", 500),
            // The handler refuses this one.
            ("GET /editions/e-2-7", 403),
        ] {
            let reply = site.get(line, &restricted).await;
            assert_eq!(reply.status, status, "{served:?} {line}");
            assert_eq!(reply.headers("cache-control"), ["no-store"], "{line}");
            let content_type = reply.header("content-type");
            assert_eq!(content_type, Some("application/problem+json"), "{line}");
        }
        let unread = Ask::of("GET /echo").header("x-api-key", "a,b");
        for (ask, status) in [(Ask::of("GET /echo"), 401), (unread, 400)] {
            let reply = site.ask(ask).await;
            assert_eq!(reply.status, status);
            assert_eq!(reply.headers("cache-control"), ["no-store"]);
        }
    }
}

#[tokio::test]
async fn public_becomes_private() {
    for served in EVERY {
        let site = Site::open(served).await;
        for path in ["/caching", "/caching-guarded"] {
            for (said, cache_control, vary) in [
                ("", "private", None),
                ("cache-control=public", "private", None),
                (
                    "cache-control=public_max-age=60",
                    "max-age=60, private",
                    None,
                ),
                (
                    "cache-control=max-age=60&cache-control=s-maxage=9",
                    "max-age=60, private",
                    None,
                ),
                ("cache-control=no-store", "no-store", None),
                ("vary=accept", "private", Some("accept")),
            ] {
                let line = format!("GET {path}?{said}");
                let reply = site.get(&line, &site.key).await;
                assert_eq!(reply.status, 200, "{served:?} {line}");
                let sent = reply.headers("cache-control");
                assert_eq!(sent, [cache_control], "{served:?} {line}");
                let mut varies: Vec<_> = vary.into_iter().collect();
                varies.push(CREDENTIAL_HEADERS);
                assert_eq!(reply.headers("vary"), varies, "{served:?} {line}");
            }
        }
    }
}

#[tokio::test]
async fn handlers_and_guards_refuse_alike() {
    let mut said = Vec::new();
    for served in EVERY {
        let site = Site::open(served).await;
        let restricted = site.restricted().await;
        for line in ["GET /editions/e-2-7", "GET /projects/p-2"] {
            said.push(site.get(line, &restricted).await.body);
        }
        let broken = site.get("POST /editions/e-broken", &restricted).await;
        assert!(!broken.body.contains("away"), "{}", broken.body);
    }
    for words in &said {
        assert_eq!(*words, said[0]);
    }
}

#[tokio::test]
async fn lookups_need_a_permitted_key() {
    for served in EVERY {
        let site = Site::open(served).await;
        let line = "POST /editions/e-1-7";
        assert_eq!(site.ask(Ask::of(line)).await.status, 401);
        let twice = Ask::of(line).with(&site.key).with(&site.key);
        assert_eq!(site.ask(twice).await.status, 400);
        let delete = "DELETE /editions/e-1-7";
        assert_eq!(site.status(delete, &site.key).await, 403, "no such scope");
        // Nor for methods that a route has not, whose only guard looks up.
        for line in [
            "GET /looked-up/e-1-7",
            "GET /looked-up/none",
            "PUT /looked-up/e-broken",
            "OPTIONS /looked-up/e-2-7",
        ] {
            assert_eq!(site.ask(Ask::of(line)).await.status, 401, "{line}");
            assert_eq!(site.status(line, &site.key).await, 405, "{line}");
        }
        assert_eq!(site.lookups(), 0, "{served:?}");
        assert_eq!(site.status("POST /looked-up/none", &site.key).await, 404);
        assert_eq!(site.lookups(), 1, "{served:?}");
        assert_eq!(site.status(line, &site.key).await, 200);
        assert_eq!(site.lookups(), 2, "{served:?}");
    }
}

#[tokio::test]
async fn handlers_see_only_kept_credentials() {
    for served in EVERY {
        let site = Site::open(served).await;
        let (text, (id, secret)) = (site.key.text(), site.key.pair());
        let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{text}:")));
        let asked = |line: &str| Ask::of(line).header("accept", "*/*");
        for (kept, ask) in [
            ("authorization*", asked("GET /echo?b=%20&c").with(&site.key)),
            (
                "authorization*",
                asked("GET /echo?b=%20&c").header("Authorization", &basic),
            ),
            (
                "x-api-key*",
                asked("GET /echo?b=%20&c").header("X-API-Key", text),
            ),
            (
                "x-key-id* x-key-secret*",
                asked("GET /echo?b=%20&c")
                    .header("x-key-id", &id)
                    .header("x-key-secret", secret),
            ),
            (
                "api_key",
                asked(&format!("GET /echo?b=%20&api_key={text}&c")),
            ),
            (
                "api_key",
                asked(&format!("GET /echo?api%5fkey={text}&b=%20&c")),
            ),
        ] {
            let seen = site.ask(ask.clone()).await;
            assert_eq!(seen.status, 200);
            let lines: Vec<_> = seen.body.lines().collect();
            let targets: Vec<_> = lines[1].split(' ').collect();
            for target in &targets {
                assert!(target.ends_with("b=%20&c"), "{served:?} {}", seen.body);
            }
            let headers = lines[2].replace("connection ", "").replace(" host", "");
            assert!(["accept", "accept host"].contains(&&*headers), "{headers}");
            assert_eq!(lines[3], "a key for tests");
            for credential in [text, &id, secret, &*basic] {
                assert!(!seen.body.contains(credential), "{served:?} {}", seen.body);
            }

            let seen = site.ask(ask.to("/kept")).await.body;
            let lines: Vec<_> = seen.lines().collect();
            let is_there = match kept {
                "api_key" => lines[1].contains(text),
                headers => lines[2].contains(headers),
            };
            assert!(is_there, "{served:?} {seen}");
            let marked = lines[2].matches('*').count();
            assert_eq!(marked, kept.matches('*').count(), "no other is marked");
        }
    }
}

#[tokio::test]
async fn handlers_see_the_other_sub_protocols() {
    for served in EVERY {
        let site = Site::open(served).await;
        let key = format!("acme.key.{}", site.key.text());
        for (lines, left) in [
            (
                vec![format!("v1, {key},v2")],
                "sec-websocket-protocol=v1, v2",
            ),
            (
                vec!["v1,v2".to_owned(), format!("{key}, v3")],
                "sec-websocket-protocol=v1,v2 sec-websocket-protocol=v3",
            ),
            (
                vec![key.clone(), "v1".to_owned()],
                "sec-websocket-protocol=v1",
            ),
            (vec![key.clone()], ""),
        ] {
            let ask = lines.iter().fold(Ask::of("GET /echo"), |ask, line| {
                ask.header("sec-websocket-protocol", line)
            });
            let seen = site.ask(ask.clone()).await;
            assert_eq!(seen.status, 200, "{served:?} {lines:?}");
            let headers: Vec<_> = seen.body.lines().collect();
            let protocols = headers[2].split_once("sec-").map(|(_, rest)| rest);
            let expected = left.split_once("sec-").map(|(_, rest)| rest);
            assert_eq!(protocols, expected, "{served:?}");
            assert!(!seen.body.contains(site.key.text()), "{}", seen.body);
            let sent_back = format!("{:?}", seen.headers("sec-websocket-protocol"));
            assert_eq!(sent_back, "[]", "{served:?}");

            let kept = site.ask(ask.to("/kept")).await.body;
            assert!(kept.contains(&format!("{key}*")) || kept.contains(&format!("{key},")));
            assert_eq!(kept.matches('*').count(), lines.len(), "{kept}");
        }
    }
}

#[tokio::test]
async fn a_credential_counts_for_one_request() {
    let http2 = EVERY
        .iter()
        .filter(|served| served.protocol == Protocol::Http2);
    for served in http2 {
        let site = Site::open(*served).await;
        let restricted = site.restricted().await;
        // A header that was sent once can be named by a number afterwards (RFC 7541).
        let asks = [
            Ask::of("GET /projects").with(&site.key),
            Ask::of("GET /projects").with(&restricted),
            Ask::of("GET /projects"),
            Ask::of("GET /projects/p-2").with(&restricted),
            Ask::of("GET /projects/p-2").with(&site.key),
            Ask::of("GET /projects/p-2"),
        ];
        let replies = over_one_connection(&asks, site.address()).await;
        let statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
        assert_eq!(statuses, [200, 200, 401, 403, 200, 401], "{served:?}");
        assert_eq!((&*replies[0].body, &*replies[1].body), ("p-1 p-2", "p-1"));
        assert_eq!(site.acts(), 3, "{served:?}");
    }
}

#[tokio::test]
async fn report_only_lets_refusals_through() {
    for served in EVERY {
        let plan = Plan {
            edge: |edge| edge.report_only(),
            ..Plan::default()
        };
        let site = Site::planned(served, plan).await;
        let restricted = site.restricted().await;
        let ask = || Ask::of("GET /echo");
        for (ask, reason) in [
            (ask(), "no credential was presented"),
            (
                ask().with(&site.key).with(&site.key),
                "more than one credential was presented",
            ),
            (
                ask().with(&restricted),
                "the key is restricted in `project`, which the route does not settle",
            ),
        ] {
            let reply = site.ask(ask.clone()).await;
            let lines: Vec<_> = reply.body.lines().collect();
            assert_eq!((reply.status, lines[3]), (200, "nobody"), "{served:?}");
            // It goes on as it came: the application may still have an authentication of its own.
            let bears = lines[2].contains("authorization");
            assert_eq!(bears, reason != "no credential was presented", "{lines:?}");
            assert_eq!(site.told(), [reason], "{served:?}");
            assert_eq!(reply.header("cache-control"), None);
        }
        let granted = site.get("GET /echo", &site.key).await;
        assert!(granted.body.ends_with("a key for tests"));
        assert_eq!(granted.headers("cache-control"), ["private"]);
        assert_eq!(site.told(), [""; 0]);
        // A handler that needs a caller has none, and one that forgot is none of the caller's faults.
        let acts = site.acts();
        assert_eq!(site.ask(Ask::of("GET /projects")).await.status, 500);
        let forgetful = site.status("GET /forgetful/e-1-7", &site.key).await;
        assert_eq!((forgetful, site.acts()), (500, acts), "{served:?}");
    }
}

#[tokio::test]
async fn refusals_are_reported_with_the_key() {
    let asks = |site: &Site| {
        let too_long = Ask::of("POST /upload").body(Sent::Whole("0123456789x"));
        [
            (too_long, "the request body exceeds its limit", true),
            (
                Ask::of("POST /editions/none"),
                "the requested resource does not exist",
                true,
            ),
            (
                Ask::of("POST /editions/e-broken"),
                "looking up the requested resource failed: the database is away",
                true,
            ),
            (
                Ask::of("GET /forgetful/e-1-7"),
                "the handler never asked whether the key is permitted the `project`",
                false,
            ),
            (
                Ask::of("GET /short/known"),
                "the response body exceeds its limit",
                false,
            ),
            (
                Ask::of("GET /short/streamed"),
                "the response body exceeds its limit",
                false,
            ),
        ]
        .map(|(ask, reason, is_of_request)| (ask.with(&site.key), reason, is_of_request))
    };
    for served in EVERY {
        let site = Site::open(served).await;
        let holder = site.key.record().id();
        for (ask, reason, is_of_request) in asks(&site) {
            site.ask(ask).await;
            let client = is_of_request.then_some(IpAddr::from([127, 0, 0, 1]));
            let told = Told {
                reason: reason.to_owned(),
                client,
                holder: Some(holder),
            };
            assert_eq!(site.told_in_full(), [told], "{served:?}");
        }
        // A request without a valid key was granted nothing.
        site.ask(Ask::of("GET /echo")).await;
        let [told] = &site.told_in_full()[..] else {
            panic!("told of one refusal")
        };
        assert_eq!(told.holder, None, "{served:?}");
    }
}

#[tokio::test]
async fn the_observer_hears_of_handlers_refusals() {
    for served in EVERY {
        let site = Site::open(served).await;
        let key = site.restricted().await;
        // The last has two guards that left the check to the handler.
        for path in ["/editions", "/loaded", "/promised"] {
            let line = format!("GET {path}/e-2-7");
            assert_eq!(site.status(&line, &key).await, 403, "{served:?} {path}");
            let told = Told {
                reason: "the key is not permitted this `project`".to_owned(),
                client: None,
                holder: Some(key.id()),
            };
            assert_eq!(site.told_in_full(), [told], "{served:?} {path}");
            let line = format!("GET {path}/e-1-7");
            assert_eq!(site.status(&line, &key).await, 200, "{served:?} {path}");
            assert_eq!(site.told(), [""; 0], "{served:?} {path}");
        }
    }
}
