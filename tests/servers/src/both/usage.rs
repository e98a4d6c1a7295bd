//! Usage of keys: the final decision of the guard on each request.

use keyward::key::KeyId;
use keyward::store::{KeyStore as _, MemoryStore};
use keyward::testkit::{TestKey, builder};

use super::site::{Plan, Site, hourly};
use super::{EVERY, Served};
use crate::READ;
use crate::client::{Ask, Sent};

async fn site(served: Served, store: &MemoryStore) -> Site {
    let keyward = builder(store.clone(), [READ]).open().await.unwrap();
    let key = TestKey::issue(&keyward, [READ]).await;
    Site::over(served, keyward, key, Plan::default()).await
}

/// The numbers of granted and refused requests.
async fn used(site: &Site, store: &MemoryStore, key: KeyId) -> (u64, u64) {
    site.keyward.flush_usage().await.unwrap();
    let usage = store.usage().unwrap().read(&[key]).await.unwrap();
    usage[0].map_or((0, 0), |usage| (usage.granted, usage.refused))
}

#[tokio::test]
async fn a_refusal_after_a_look_up_is_no_grant() {
    for served in EVERY {
        let store = MemoryStore::new();
        let site = site(served, &store).await;
        let key = site.restricted().await;
        let mut expected = (0, 0);
        for (line, status, used_as) in [
            ("POST /looked-up/e-2-7", 403, (0, 1)),
            ("POST /looked-up/none", 404, (0, 1)),
            ("POST /looked-up/e-broken", 503, (0, 0)),
            ("POST /looked-up/e-1-7", 200, (1, 0)),
            ("GET /projects/p-2", 403, (0, 1)),
            ("GET /projects/p-1", 200, (1, 0)),
            // The guard let it through to the handler.
            ("GET /editions/e-2-7", 403, (1, 0)),
        ] {
            assert_eq!(site.status(line, &key).await, status, "{served:?} {line}");
            expected = (expected.0 + used_as.0, expected.1 + used_as.1);
            let used = used(&site, &store, key.id()).await;
            assert_eq!(used, expected, "{served:?} {line}");
        }
    }
}

#[tokio::test]
async fn a_used_up_quota_is_no_grant() {
    for served in EVERY {
        let store = MemoryStore::new();
        let site = site(served, &store).await;
        for line in ["POST /looked-up/e-1-7", "GET /projects/p-1"] {
            let key = site.issue(|new| new.quota(hourly("few", 2))).await;
            for status in [200, 200, 429, 429, 429] {
                assert_eq!(site.status(line, &key).await, status, "{served:?} {line}");
            }
            let used = used(&site, &store, key.id()).await;
            assert_eq!(used, (2, 3), "{served:?} {line}");
        }
    }
}

#[tokio::test]
async fn a_key_ended_meanwhile_is_no_grant() {
    for served in EVERY {
        let store = MemoryStore::new();
        let site = site(served, &store).await;
        let key = site.issue(|new| new).await;
        let ask = Ask::of("POST /looked-up/e-waits").with(&key);
        let revoking = async {
            site.waits().begun.notified().await;
            key.revoke(&site.keyward).await;
            site.waits().released.notify_one();
        };
        let (reply, ()) = tokio::join!(site.ask(ask), revoking);
        assert_eq!(reply.status, 401, "{served:?}");
        assert_eq!(used(&site, &store, key.id()).await, (0, 1), "{served:?}");
    }
}

#[tokio::test]
async fn a_body_announced_as_too_long_is_no_grant() {
    for served in EVERY {
        let store = MemoryStore::new();
        let site = site(served, &store).await;
        let ask = Ask::of("POST /upload").body(Sent::Whole("0123456789x"));
        let reply = site.ask(ask.with(&site.key)).await;
        assert_eq!(reply.status, 413, "{served:?}");
        let used = used(&site, &store, site.key.id()).await;
        assert_eq!(used, (0, 1), "{served:?}");
    }
}
