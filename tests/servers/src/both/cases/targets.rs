//! Methods and targets: nothing of a guarded route is open, however it is asked for.

use super::{ANY, Case, NO_KEY, P1, Refused, Status, run};

#[tokio::test]
async fn every_method_needs_a_key() {
    run(METHODS).await;
}

#[tokio::test]
async fn no_target_form_evades_a_guard() {
    run(TARGETS).await;
}

#[tokio::test]
async fn unguarded_handlers_get_no_caller() {
    run(UNGUARDED).await;
}

const OVERRIDDEN: super::Headers = &[
    ("authorization", "Bearer <p-1>"),
    ("x-http-method-override", "POST"),
    ("x-original-url", "/projects/p-1"),
    ("x-rewrite-url", "/projects/p-1"),
    ("x-forwarded-host", "p-1"),
];

const METHODS: &[Case] = &[
    ("GET /echo", NO_KEY, Status(401)),
    ("HEAD /echo", NO_KEY, Status(401)),
    ("POST /echo", NO_KEY, Status(401)),
    ("PUT /echo", NO_KEY, Status(401)),
    ("PATCH /echo", NO_KEY, Status(401)),
    ("DELETE /echo", NO_KEY, Status(401)),
    ("OPTIONS /echo", NO_KEY, Status(401)),
    ("TRACE /echo", NO_KEY, Status(401)),
    ("KEYWARD /echo", NO_KEY, Status(401)),
    ("get /echo", NO_KEY, Status(401)),
    ("GET /projects", NO_KEY, Status(401)),
    ("HEAD /projects", NO_KEY, Status(401)),
    ("POST /projects", NO_KEY, Status(401)),
    ("OPTIONS /projects", NO_KEY, Status(401)),
    ("TRACE /projects/p-1", NO_KEY, Status(401)),
    ("KEYWARD /projects/p-1", NO_KEY, Status(401)),
    ("GET /editions/e-1-7", NO_KEY, Status(401)),
    ("OPTIONS /editions/e-1-7", NO_KEY, Status(401)),
    ("PATCH /editions/e-1-7", NO_KEY, Status(401)),
    ("DELETE /editions/e-1-7", NO_KEY, Status(401)),
    ("POST /upload", NO_KEY, Status(401)),
    ("GET /upload", NO_KEY, Status(401)),
    ("GET /streams/endless", NO_KEY, Status(401)),
    ("GET /short/known", NO_KEY, Status(401)),
    ("GET /kept", NO_KEY, Status(401)),
    ("GET /misbound/p-1", NO_KEY, Status(401)),
    ("GET /forgetful/e-1-7", NO_KEY, Status(401)),
    // With a key, the framework answers.
    ("HEAD /echo", ANY, Status(200)),
    ("OPTIONS /echo", ANY, Status(200)),
    ("KEYWARD /echo", ANY, Status(200)),
    ("OPTIONS /projects", ANY, Status(405)),
    ("get /projects", ANY, Status(405)),
    ("KEYWARD /projects/p-1", ANY, Status(405)),
    ("GET /upload", ANY, Status(405)),
];

const TARGETS: &[Case] = &[
    ("GET /echo?", NO_KEY, Status(401)),
    ("GET /echo?a=b", NO_KEY, Status(401)),
    ("GET /echo/", NO_KEY, Status(404)),
    ("GET /echo/x", NO_KEY, Status(404)),
    ("GET //echo", NO_KEY, Status(404)),
    ("GET /./echo", NO_KEY, Status(404)),
    ("GET /x/../echo", NO_KEY, Status(404)),
    ("GET /echo%2f", NO_KEY, Status(404)),
    ("GET /echo%00", NO_KEY, Status(404)),
    ("GET /echo%3f", NO_KEY, Status(404)),
    ("GET /echo;a", NO_KEY, Status(404)),
    ("GET /ECHO", NO_KEY, Status(404)),
    ("GET /nested", NO_KEY, Refused),
    ("GET /nested/", NO_KEY, Refused),
    ("GET /nested/read/", NO_KEY, Refused),
    ("GET /nested//read", NO_KEY, Refused),
    ("GET /streams/../echo", NO_KEY, Refused),
    // Headers that some front ends take a method or a path from.
    ("GET /projects/p-2", OVERRIDDEN, Status(403)),
    ("GET /editions/e-2-7", OVERRIDDEN, Status(403)),
    // Absolute: the host is no credential.
    ("GET http://example.com/echo", NO_KEY, Status(401)),
    ("GET http://127.0.0.1/echo", NO_KEY, Status(401)),
    ("GET http://evil.example/projects/p-2", P1, Status(403)),
    ("GET http://p-1/projects/p-2", P1, Status(403)),
    ("GET http://p-1@example.com/projects/p-2", P1, Refused),
    ("GET http://example.com", NO_KEY, Refused),
    ("GET https://example.com/projects/p-1", P1, Status(200)),
    // Forms that are for other methods.
    ("OPTIONS *", NO_KEY, Refused),
    ("OPTIONS *", ANY, Refused),
    ("GET *", ANY, Refused),
    ("CONNECT example.com:80", ANY, Refused),
    ("GET echo", ANY, Refused),
    ("GET projects/p-2", P1, Refused),
    ("GET ?api_key=<any>", &[], Refused),
];

const UNGUARDED: &[Case] = &[
    ("GET /open", NO_KEY, Status(500)),
    ("GET /open", ANY, Status(500)),
    ("GET /open", P1, Status(500)),
    // A handler for guests too: without a guard not everyone is a guest.
    ("GET /perhaps", NO_KEY, Status(500)),
    ("GET /perhaps", ANY, Status(500)),
    ("GET /perhaps", P1, Status(500)),
];
