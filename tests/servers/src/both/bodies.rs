//! What is tied to bodies: permits, caps, and cuts.

use std::num::NonZeroU32;
use std::time::Duration;

use keyward::testkit::TestKey;

use super::EVERY;
use super::site::{Plan, STALL, Site};
use crate::client::{Ask, Sent};

/// Asks until this is answered: a server hears that a client has gone away when it next writes.
async fn becomes(site: &Site, line: &str, key: &TestKey, status: u16) {
    for _ in 0..4_000 {
        if site.status(line, key).await == status {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{line} is never answered {status}");
}

#[tokio::test]
async fn a_permit_lasts_until_the_body_ends() {
    for served in EVERY {
        let site = Site::open(served).await;
        let key = site.issue(|new| new.concurrency(NonZeroU32::MIN)).await;
        for _ in 0..3 {
            becomes(&site, "GET /streams/brief", &key, 200).await;
        }
        let mut streaming = site.stream("GET /streams/endless", &key).await;
        streaming.until("tick").await;
        let acts = site.acts();
        for line in ["GET /echo", "GET /projects", "POST /editions/e-1-7"] {
            let second = site.get(line, &key).await;
            assert_eq!(second.status, 429, "{served:?} {line}");
            assert_eq!(second.headers("retry-after"), ["1"]);
        }
        assert_eq!(site.status("GET /echo", &site.key).await, 200, "its own");
        assert_eq!(site.acts(), acts + 1);
        // Still the same response.
        streaming.until("tick").await;
        drop(streaming);
        becomes(&site, "GET /echo", &key, 200).await;
        becomes(&site, "GET /echo", &key, 200).await;
    }
}

#[tokio::test]
async fn every_answer_frees_its_permit() {
    for served in EVERY {
        let site = Site::open(served).await;
        let key = site.issue(|new| new.concurrency(NonZeroU32::MIN)).await;
        for line in [
            "HEAD /streams/brief",
            // Its endless body is never sent.
            "HEAD /streams/endless",
            "GET /short/known",
            "GET /short/streamed",
            "GET /forgetful/e-1-7",
            "GET /misbound/e-1-7",
            "POST /editions/none",
            "POST /editions/e-broken",
            "PUT /editions/e-1-7",
            "GET /promised/e-1-7/forgotten",
            "GET /nested/full",
        ] {
            let status = site.status(line, &key).await;
            assert_ne!(status, 429, "{served:?} {line}");
            becomes(&site, "GET /echo", &key, 200).await;
        }
    }
}

#[tokio::test]
async fn nested_guards_take_one_permit() {
    for served in EVERY {
        let site = Site::open(served).await;
        let key = site.issue(|new| new.concurrency(NonZeroU32::MIN)).await;
        for (line, status) in [
            ("GET /nested/read", 200),
            ("GET /nested/full", 403),
            ("GET /promised/e-1-7", 200),
            ("GET /promised/e-1-7/forgotten", 500),
        ] {
            becomes(&site, line, &key, status).await;
        }
    }
}

#[tokio::test]
async fn a_stalled_client_loses_its_permit() {
    for served in EVERY {
        let site = Site::open(served).await;
        let key = site.issue(|new| new.concurrency(NonZeroU32::MIN)).await;
        let stalled = site.stream("GET /streams/stalled", &key).await;
        becomes(&site, "GET /echo", &key, 200).await;
        // It does not go on uncounted.
        assert!(stalled.ends_cut().await, "{served:?}");
        becomes(&site, "GET /echo", &key, 200).await;
    }
}

#[tokio::test]
async fn no_stall_timeout_keeps_the_permit() {
    for served in EVERY {
        let site = Site::open(served).await;
        let key = site.issue(|new| new.concurrency(NonZeroU32::MIN)).await;
        let stalled = site.stream("GET /streams/unbounded", &key).await;
        tokio::time::sleep(STALL * 4).await;
        assert_eq!(site.status("GET /echo", &key).await, 429, "{served:?}");
        drop(stalled);
        becomes(&site, "GET /echo", &key, 200).await;
    }
}

#[tokio::test]
async fn a_response_ends_with_its_key() {
    for served in EVERY {
        let site = Site::open(served).await;
        let mut cut = site.stream("GET /streams/cut", &site.key).await;
        // By a guard inside of another one, which holds the permit.
        let mut nested = site.stream("GET /nested/cut", &site.key).await;
        let mut uncut = site.stream("GET /streams/endless", &site.key).await;
        cut.until("tick").await;
        nested.until("tick").await;
        uncut.until("tick").await;
        site.key.revoke(&site.keyward).await;
        assert!(
            cut.ends_cut().await,
            "{served:?}: a response that was cut must not look whole"
        );
        assert!(nested.ends_cut().await, "{served:?}");
        uncut.until("tick").await;
    }
}

#[tokio::test]
async fn report_only_refuses_no_body() {
    for served in EVERY {
        let plan = Plan {
            edge: |edge| edge.report_only(),
            ..Plan::default()
        };
        let site = Site::planned(served, plan).await;
        for (body, told) in [
            (Sent::Whole("0123456789x"), 1),
            (Sent::Parts(&["0123456789x"]), 0),
        ] {
            let ask = Ask::of("POST /upload").body(body).with(&site.key);
            let reply = site.ask(ask).await;
            assert_eq!((reply.status, &*reply.body), (200, "11"), "{served:?}");
            assert_eq!(site.told().len(), told, "{served:?}");
        }
    }
}

#[tokio::test]
async fn oversized_requests_are_not_read() {
    for served in EVERY {
        let site = Site::open(served).await;
        let mut refused = 0;
        for (body, status) in [
            (Sent::Nothing, 200),
            (Sent::Whole(""), 200),
            (Sent::Whole("0123456789"), 200),
            (Sent::Whole("0123456789x"), 413),
            // Never sent: it is refused by what it says.
            (Sent::Announced(11), 413),
            (Sent::Announced(5_000_000), 413),
            (Sent::Parts(&["0123456789"]), 200),
            (Sent::Parts(&["01234", "56789"]), 200),
            (Sent::Parts(&["0123456789x"]), 413),
            (Sent::Parts(&["012345", "012345"]), 413),
            (Sent::Parts(&["01234", "56789", "x"]), 413),
        ] {
            let is_by_length = matches!(body, Sent::Whole(_) | Sent::Announced(_));
            refused += usize::from(is_by_length && status == 413);
            let acts = site.acts();
            let ask = Ask::of("POST /upload").body(body);
            let without = site.ask(ask.clone()).await;
            assert_eq!(without.status, 401, "{served:?}: strangers learn no limits");
            let reply = site.ask(ask.clone().with(&site.key)).await;
            assert_eq!(reply.status, status, "{served:?} {ask:?}");
            let expected = acts + usize::from(status == 200);
            assert_eq!(site.acts(), expected, "{served:?} {ask:?}");
        }
        let told = site.told();
        let longer = told
            .iter()
            .filter(|told| told.contains("exceeds its limit"));
        assert_eq!(longer.count(), refused, "{told:?}");
    }
}

#[tokio::test]
async fn oversized_responses_are_not_sent() {
    for served in EVERY {
        let site = Site::open(served).await;
        let fits = site.get("GET /short/fits", &site.key).await;
        assert_eq!((fits.status, &*fits.body), (200, "0123456789"));
        assert_eq!(site.told(), [""; 0]);

        let known = site.get("GET /short/known", &site.key).await;
        assert_eq!(known.status, 500, "{served:?}");
        assert!(!known.body.contains("01234"), "{}", known.body);
        assert_eq!(known.headers("cache-control"), ["no-store"]);
        assert_eq!(site.told(), ["the response body exceeds its limit"]);

        let streamed = site.get("GET /short/streamed", &site.key).await;
        assert!(streamed.is_cut, "{served:?} {streamed:?}");
        assert!(!streamed.body.contains('x'), "{served:?} {streamed:?}");
        assert_eq!(site.told(), ["the response body exceeds its limit"]);
    }
}
