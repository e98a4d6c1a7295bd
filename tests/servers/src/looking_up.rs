//! A request that waits for what it names to be looked up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use keyward::axum::path;
use keyward::http::{Edge, KeyIn, lookup};
use keyward::testkit::keyward_with_key;
use keyward::tower::KeyLayer;
use keyward::verifier::Requirement;
use tokio::sync::Notify;

use crate::{READ, wire};

/// Where the look-up is, and when it may go on.
#[derive(Default)]
struct Meeting {
    begun: Notify,
    released: Notify,
    acts: AtomicUsize,
}

#[tokio::test]
async fn a_key_revoked_meanwhile_is_refused() {
    let (keyward, key) = keyward_with_key([READ.described("For tests")], READ).await;
    let keys = KeyLayer::new(Edge::new(&keyward).accept(KeyIn::bearer()));
    let meeting = Arc::new(Meeting::default());
    let (looking, acting) = (Arc::clone(&meeting), Arc::clone(&meeting));
    let project_of = move |_| {
        let meeting = Arc::clone(&looking);
        async move {
            meeting.begun.notify_one();
            meeting.released.notified().await;
            Ok::<_, std::io::Error>(Some("p-1".to_owned()))
        }
    };
    let act = async move || {
        acting.acts.fetch_add(1, Ordering::Relaxed);
    };
    let need =
        Requirement::scope(READ).bind("project", lookup(path("id"), move |_, id| project_of(id)));
    let app = Router::new().route("/editions/{id}", keys.post(need, act));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let headers = [format!("Authorization: {}", key.bearer())];
    for (revokes, status, acts) in [(false, 200, 1), (true, 401, 1)] {
        let asking = wire::ask(&address, "POST /editions/e-1", &headers, "");
        let meeting_them = async {
            meeting.begun.notified().await;
            if revokes {
                key.revoke(&keyward).await;
            }
            meeting.released.notify_one();
        };
        let (reply, ()) = tokio::join!(asking, meeting_them);
        assert_eq!(reply.status, status);
        assert_eq!(meeting.acts.load(Ordering::Relaxed), acts);
    }
}
