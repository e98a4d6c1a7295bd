//! A guard around an application that leaves the decision to those of its routes, with middleware between them that
//! does something for each key.

use super::EVERY;
use super::site::{Plan, Site};
use crate::client::Ask;

#[tokio::test]
async fn middleware_between_guards_sees_each_key() {
    for served in EVERY {
        let site = Site::open(served).await;
        let restricted = site.restricted().await;
        for (key, line, status) in [
            (&site.key, "GET /within/p-1", 200),
            (&site.key, "GET /within/p-2", 200),
            (&site.key, "GET /within/p-1/unsettled", 200),
            (&restricted, "GET /within/p-1", 200),
            (&restricted, "GET /within/p-2", 403),
            (&restricted, "GET /within/p-1/unsettled", 403),
        ] {
            let acts = site.acts();
            let reply = site.get(line, key).await;
            assert_eq!(reply.status, status, "{served:?} {line}");
            assert_eq!(
                reply.header("x-tenant"),
                Some("acme-inc"),
                "{served:?} {line}"
            );
            assert_eq!(site.acts() - acts, usize::from(status == 200));
        }
        let without = site.ask(Ask::of("GET /within/p-1")).await;
        assert_eq!((without.status, without.header("x-tenant")), (401, None));
    }
}

#[tokio::test]
async fn a_route_without_its_own_guard_fails() {
    for served in EVERY {
        let site = Site::open(served).await;
        let restricted = site.restricted().await;
        let acts = site.acts();
        for line in ["GET /within/p-1/plain", "GET /within/p-1/caller"] {
            for key in [&site.key, &restricted] {
                let reply = site.get(line, key).await;
                assert_eq!(reply.status, 500, "{served:?} {line}");
                assert!(!reply.body.contains("plain"), "{served:?} {line}");
            }
        }
        assert_eq!(site.acts(), acts, "{served:?}");
        let told = site.told();
        assert_eq!(
            told, ["the route has no guard inside of the outer one"; 2],
            "{served:?}"
        );
    }
}

#[tokio::test]
async fn inner_guards_decide_on_guests_too() {
    for served in EVERY {
        let site = Site::open(served).await;
        let acts = site.acts();
        for (line, for_guest, for_holder) in [
            ("GET /within-guests/guests", 200, 200),
            ("GET /within-guests/guarded", 401, 200),
            ("GET /within-guests/plain", 500, 500),
            ("GET /within-guests/visitor", 500, 500),
        ] {
            assert_eq!(
                site.ask(Ask::of(line)).await.status,
                for_guest,
                "{served:?} {line}"
            );
            assert_eq!(
                site.status(line, &site.key).await,
                for_holder,
                "{served:?} {line}"
            );
        }
        assert_eq!(site.acts() - acts, 3, "{served:?}");
    }
}

#[tokio::test]
async fn a_holder_may_be_known_inside_only() {
    for served in EVERY {
        let site = Site::open(served).await;
        let (id, secret) = site.key.pair();
        let ask = |secret| {
            Ask::of("GET /within-guests/paired")
                .header("x-inner-id", &id)
                .header("x-inner-secret", secret)
        };
        let holder = site.ask(ask(secret)).await;
        let last = holder.body.lines().last();
        assert_eq!(
            (holder.status, last),
            (200, Some("a key for tests")),
            "{served:?}"
        );
        assert_eq!(site.ask(ask("wrong")).await.status, 401, "{served:?}");
    }
}

#[tokio::test]
async fn an_inner_guard_may_only_report() {
    for served in EVERY {
        let plan = Plan {
            edge: |edge| edge.report_only(),
            ..Plan::default()
        };
        let site = Site::planned(served, plan).await;
        let restricted = site.restricted().await;
        assert_eq!(
            site.status("GET /within/p-2", &restricted).await,
            200,
            "{served:?}"
        );
        assert_eq!(
            site.told(),
            ["the key is not permitted this `project`"],
            "{served:?}"
        );
        assert_eq!(
            site.status("GET /within/p-1/plain", &restricted).await,
            500,
            "{served:?}"
        );
        // Guests pass to a guard that only reports, and to none else.
        for (line, status) in [
            ("GET /within-guests/guarded", 200),
            ("GET /within-guests/guests", 200),
            ("GET /within-guests/plain", 500),
            ("GET /within-guests/visitor", 500),
        ] {
            let reply = site.ask(Ask::of(line)).await;
            assert_eq!(reply.status, status, "{served:?} {line}");
        }
    }
}
