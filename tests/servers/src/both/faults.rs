//! Promise 28: if the store fails, no request is granted, and nothing remains that would refuse later ones.

use std::time::Duration;

use keyward::store::MemoryStore;
use keyward::testkit::{Call, Fault, FaultyStore, TestKey, builder};
use keyward::verifier::KeyCache;

use super::site::{Plan, Site, new_key};
use super::{EVERY, Served};
use crate::READ;
use crate::client::Ask;

const LINES: [&str; 6] = [
    "GET /projects",
    "HEAD /projects/p-1",
    "GET /editions/e-1-7",
    "POST /editions/e-1-7",
    "GET /nested/read",
    "GET /promised/e-1-7",
];

/// A site over this store, whose keys are read for each request, or kept.
async fn site(served: Served, store: &FaultyStore, is_kept: bool) -> Site {
    let builder = builder(store.clone(), [READ]);
    let builder = if is_kept {
        builder
    } else {
        builder.cache(KeyCache::off())
    };
    let keyward = builder.open().await.unwrap();
    let key = TestKey::issue(&keyward, [READ]).await;
    Site::over(served, keyward, key, Plan::default()).await
}

#[tokio::test]
async fn a_store_fault_is_a_temporary_503() {
    for served in EVERY {
        for is_kept in [false, true] {
            let store = FaultyStore::over(MemoryStore::new());
            let site = site(served, &store, is_kept).await;
            for fault in [
                Fault::Unavailable,
                Fault::Corrupt,
                Fault::Unsupported,
                Fault::Conflict,
                Fault::Indeterminate,
                Fault::LostAnswer,
            ] {
                let key = site.issue(|new| new).await;
                for line in LINES {
                    // One that is kept has been asked about before.
                    let key = if is_kept {
                        &site.issue(|new| new).await
                    } else {
                        &key
                    };
                    let (acts, lookups) = (site.acts(), site.lookups());
                    let _ = store.clone().on(Call::Get, 0..u64::MAX, fault);
                    let reply = site.get(line, key).await;
                    assert_eq!(reply.status, 503, "{served:?} {fault:?} {line}");
                    assert_eq!(reply.headers("retry-after"), ["5"]);
                    assert_eq!(reply.headers("cache-control"), ["no-store"]);
                    assert_eq!((site.acts(), site.lookups()), (acts, lookups));
                    store.heal();
                    let reply = site.get(line, key).await;
                    assert_eq!(reply.status, 200, "{served:?} {fault:?} {line}");
                    assert_eq!(site.acts(), acts + 1);
                }
            }
        }
    }
}

#[tokio::test]
async fn wrong_answers_grant_nothing() {
    for served in EVERY {
        let store = FaultyStore::over(MemoryStore::new());
        let site = site(served, &store, false).await;
        let other = TestKey::issue_as(&site.keyward, new_key()).await;
        for fault in [Fault::Missing, Fault::OtherKey(other.id())] {
            let _ = store.clone().on(Call::Get, 0..u64::MAX, fault);
            for line in LINES {
                let reply = site.get(line, &site.key).await;
                assert!([401, 503].contains(&reply.status), "{fault:?} {reply:?}");
            }
            assert_eq!(site.acts(), 0, "{served:?} {fault:?}");
            store.heal();
        }
        assert_eq!(site.status(LINES[0], &site.key).await, 200);
    }
}

#[tokio::test]
async fn a_slow_store_changes_no_answer() {
    for served in EVERY {
        let store = FaultyStore::over(MemoryStore::new());
        let site = site(served, &store, false).await;
        let restricted = site.restricted().await;
        let slow = Fault::Delay(Duration::from_millis(20));
        let _ = store.clone().on(Call::Get, 0..u64::MAX, slow);
        for (line, status) in [
            ("GET /projects/p-1", 200),
            ("GET /projects/p-2", 403),
            ("POST /editions/e-1-7", 200),
            ("POST /editions/e-2-7", 403),
            ("GET /forgetful/e-1-7", 500),
        ] {
            let reply = site.get(line, &restricted).await;
            assert_eq!(reply.status, status, "{served:?} {line}");
        }
        let projects = site.get("GET /projects", &restricted).await;
        assert_eq!(projects.body, "p-1");
        assert_eq!(projects.header("cache-control"), Some("private"));
        assert_eq!(site.ask(Ask::of("GET /projects")).await.status, 401);
    }
}
