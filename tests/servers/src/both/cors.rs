//! A layer for CORS around the application: it answers preflights, which bear no key, and nothing else.

use super::EVERY;
use super::site::{PAGE, Plan, Site, hourly};
use crate::client::Ask;

/// The headers that a page needs to keep within its limits, as the guide lists them.
pub(super) const EXPOSED: [&str; 6] = [
    "retry-after",
    "ratelimit",
    "ratelimit-policy",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
];

#[tokio::test]
async fn pages_can_read_their_limits() {
    for served in EVERY {
        let plan = Plan {
            cors: true,
            ..Plan::default()
        };
        let site = Site::planned(served, plan).await;
        let key = site.issue(|new| new.quota(hourly("hour", 1))).await;
        let mut seen: Vec<String> = Vec::new();
        for status in [200, 429] {
            let ask = Ask::of("GET /projects").header("origin", PAGE).with(&key);
            let reply = site.ask(ask).await;
            assert_eq!(reply.status, status, "{served:?}");
            let exposed = reply.headers("access-control-expose-headers").join(",");
            let exposed: Vec<_> = exposed.split(',').map(str::trim).collect();
            let names = reply.head.lines().filter_map(|line| line.split_once(": "));
            let names = names.map(|(name, _)| name.to_ascii_lowercase());
            for name in names.filter(|name| name.contains("ratelimit") || name == "retry-after") {
                assert!(exposed.contains(&&*name), "{served:?} {name} {exposed:?}");
                seen.push(name);
            }
        }
        seen.sort();
        seen.dedup();
        let mut all = EXPOSED;
        all.sort_unstable();
        assert_eq!(seen, all, "{served:?}");
    }
}

#[tokio::test]
async fn a_page_reads_why_its_key_is_refused() {
    for served in EVERY {
        let plan = Plan {
            cors: true,
            edge: |edge| edge.refuse_browsers(),
            ..Plan::default()
        };
        let site = Site::planned(served, plan).await;
        let ask = || Ask::of("GET /projects").with(&site.key);
        let refused = site.ask(ask().header("origin", PAGE)).await;
        assert_eq!(refused.status, 403, "{served:?}");
        assert!(
            refused.body.contains(r#""code":"from_browser""#),
            "{}",
            refused.body
        );
        assert_eq!(refused.headers("access-control-allow-origin"), [PAGE]);
        assert_eq!(
            (site.acts(), site.ask(ask()).await.status),
            (0, 200),
            "{served:?}"
        );
    }
}

#[tokio::test]
async fn only_preflights_need_no_key() {
    for served in EVERY {
        let plan = Plan {
            cors: true,
            ..Plan::default()
        };
        let site = Site::planned(served, plan).await;
        let restricted = site.restricted().await;
        let preflight = |line: &str, origin: &str| {
            Ask::of(line)
                .header("origin", origin)
                .header("access-control-request-method", "GET")
                .header("access-control-request-headers", "authorization")
        };
        for line in ["OPTIONS /projects", "OPTIONS /echo", "OPTIONS /nested/read"] {
            let reply = site.ask(preflight(line, PAGE)).await;
            assert_eq!(reply.status, 200, "{served:?} {line}");
            assert_eq!(reply.header("access-control-allow-origin"), Some(PAGE));
            let headers = reply.header("access-control-allow-headers").unwrap();
            assert_eq!(headers.to_ascii_lowercase(), "authorization");
            let other = site.ask(preflight(line, "https://evil.example")).await;
            let allowed = other.header("access-control-allow-origin");
            assert_ne!(allowed, Some("https://evil.example"));
            assert_ne!(allowed, Some("*"));
        }
        let bare = site.ask(Ask::of("OPTIONS /echo")).await;
        assert_eq!((site.acts(), bare.body.contains("OPTIONS")), (0, false));

        let from_page = |line: &str| Ask::of(line).header("origin", PAGE);
        for (ask, status, caching) in [
            (from_page("GET /projects"), 401, "no-store"),
            (from_page("GET /nested/read"), 401, "no-store"),
            (
                from_page("GET /projects/p-2").with(&restricted),
                403,
                "no-store",
            ),
            (
                from_page("GET /forgetful/e-1-7").with(&restricted),
                500,
                "no-store",
            ),
            (
                from_page("GET /projects/p-1").with(&restricted),
                200,
                "private",
            ),
        ] {
            let reply = site.ask(ask).await;
            assert_eq!(reply.status, status, "{served:?}");
            // Else the page cannot read why.
            assert_eq!(reply.headers("access-control-allow-origin"), [PAGE]);
            assert_eq!(reply.headers("cache-control"), [caching]);
            let varies = reply.headers("vary").join(", ").to_ascii_lowercase();
            assert!(varies.contains("origin"), "{varies}");
            assert_eq!(varies.contains("authorization"), status == 200, "{varies}");
        }
        assert_eq!(site.acts(), 1, "{served:?}");
    }
}
