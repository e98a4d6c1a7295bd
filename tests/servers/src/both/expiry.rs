//! Headers that say when a key ends, on all responses to a proven key.

use std::time::Duration;

use super::EVERY;
use super::site::{Plan, Site};
use crate::client::Ask;

#[tokio::test]
async fn holders_learn_when_their_key_ends() {
    for served in EVERY {
        let plan = Plan {
            edge: |edge| edge.expiry_headers(),
            ..Plan::default()
        };
        let site = Site::planned(served, plan).await;
        let hour = Duration::from_secs(3_600);
        let ending = site.issue(|new| new.expires_in(hour)).await;
        for (line, status, count) in [
            ("GET /echo", 200, 1),
            ("GET /projects", 200, 1),
            ("GET /guests/p-1", 200, 1),
            ("GET /nested/read", 200, 1),
            ("GET /nested/full", 403, 1),
            ("GET /own-error", 418, 1),
            ("DELETE /editions/e-1-7", 403, 1),
            ("POST /editions/none", 404, 1),
            ("GET /forgetful/e-1-7", 500, 1),
            ("GET /nested/forgetful/e-1-7", 500, 1),
        ] {
            let reply = site.get(line, &ending).await;
            assert_eq!(reply.status, status, "{served:?} {line}");
            let expires = reply.headers("api-key-expires");
            assert_eq!(expires.len(), count, "{served:?} {line}");
            assert!(expires[0].ends_with(" GMT"), "{expires:?}");
            assert_eq!(reply.headers("api-key-rotated"), [""; 0]);
        }
        let endless = site.get("GET /echo", &site.key).await;
        assert_eq!(endless.headers("api-key-expires"), [""; 0], "{served:?}");
        ending.revoke(&site.keyward).await;
        for ask in [
            Ask::of("GET /echo").with(&ending),
            Ask::of("GET /guests/p-1"),
        ] {
            let reply = site.ask(ask).await;
            assert_eq!(reply.headers("api-key-expires"), [""; 0], "{served:?}");
        }
    }
}
