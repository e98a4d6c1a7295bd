//! Promise 30: a key that is restricted to a project gets nothing of another one, and does nothing to it.

use super::{ANY, Case, Either, NO_KEY, P1, Refused, Says, Status, run};

#[tokio::test]
async fn a_key_gets_its_own_resources_only() {
    run(CASES).await;
}

#[tokio::test]
async fn path_tricks_reach_nothing_else() {
    run(TRICKS).await;
}

const CASES: &[Case] = &[
    ("GET /projects", P1, Says("p-1")),
    ("GET /projects", ANY, Says("p-1 p-2")),
    ("HEAD /projects", P1, Status(200)),
    ("GET /projects/p-1", P1, Says("p-1")),
    ("GET /projects/p-1", ANY, Says("p-1")),
    ("HEAD /projects/p-1", P1, Status(200)),
    ("GET /projects/p-2", ANY, Says("p-2")),
    ("GET /projects/p-2", P1, Status(403)),
    ("HEAD /projects/p-2", P1, Status(403)),
    ("GET /projects/p-2", NO_KEY, Status(401)),
    // Resources that the handler checks.
    ("GET /editions/e-1-7", P1, Says("e-1-7")),
    ("GET /editions/e-1-7", ANY, Says("e-1-7")),
    ("HEAD /editions/e-1-7", P1, Status(200)),
    ("GET /editions/e-2-7", P1, Status(403)),
    ("HEAD /editions/e-2-7", P1, Status(403)),
    ("GET /editions/e-2-7", ANY, Says("e-2-7")),
    ("GET /editions/none", ANY, Status(403)),
    // Resources that an extractor loads and checks.
    ("GET /loaded/e-1-7", P1, Says("e-1-7")),
    ("GET /loaded/e-1-7", ANY, Says("e-1-7")),
    ("HEAD /loaded/e-1-7", P1, Status(200)),
    ("GET /loaded/e-2-7", P1, Status(403)),
    ("GET /loaded/e-2-7", ANY, Says("e-2-7")),
    ("GET /loaded/none", P1, Status(404)),
    ("GET /loaded/e-1-7", NO_KEY, Status(401)),
    ("GET /loaded-open/e-1-7", ANY, Status(500)),
    ("GET /loaded-open/e-1-7", NO_KEY, Status(500)),
    // Resources that are looked up before the handler acts.
    ("POST /editions/e-1-7", P1, Says("e-1-7")),
    ("POST /editions/e-1-7", ANY, Says("e-1-7")),
    ("POST /editions/e-2-7", P1, Status(403)),
    ("POST /editions/e-2-7", ANY, Says("e-2-7")),
    ("POST /editions/none", P1, Status(404)),
    ("POST /editions/none", ANY, Status(404)),
    ("POST /editions/e-broken", P1, Status(503)),
    ("POST /editions/e-broken", ANY, Status(503)),
    ("POST /editions/e-1-7", NO_KEY, Status(401)),
    // Another scope is missing.
    ("DELETE /editions/e-1-7", P1, Status(403)),
    ("DELETE /editions/e-1-7", ANY, Status(403)),
    // There is no such method: one of the route's guards answers, or the framework once it has let it through.
    ("PUT /editions/e-1-7", P1, Refused),
    ("OPTIONS /editions/e-2-7", P1, Refused),
    ("POST /projects/p-1", P1, Status(405)),
    ("POST /projects/p-2", P1, Status(403)),
    ("DELETE /projects/p-2", NO_KEY, Status(401)),
    // The application's slips show with any key.
    ("GET /forgetful/e-1-7", P1, Status(500)),
    ("GET /forgetful/e-2-7", P1, Status(500)),
    ("HEAD /forgetful/e-2-7", P1, Status(500)),
    ("GET /forgetful/e-2-7", ANY, Status(500)),
    ("GET /misbound/p-1", P1, Status(403)),
    ("GET /misbound/p-1", ANY, Status(403)),
    ("POST /nameless/e-1-7", P1, Status(403)),
    ("POST /nameless/e-1-7", ANY, Status(403)),
    // A kind that is named in two places, and one that ought to be.
    ("POST /moves/p-1/p-1", P1, Says("p-1 p-1")),
    ("POST /moves/p-1/p-2", P1, Status(403)),
    ("POST /moves/p-2/p-1", P1, Status(403)),
    ("POST /moves/p-1/p-2", ANY, Says("p-1 p-2")),
    ("GET /misbound-twice/p-1", P1, Status(403)),
    ("GET /misbound-twice/p-1", ANY, Status(403)),
    ("POST /misbound-twice/p-1", P1, Status(403)),
    ("POST /misbound-twice/p-1", ANY, Status(403)),
    // No kind is settled: a restricted key cannot be known to stay within its own.
    ("GET /unsettled", P1, Status(403)),
    ("GET /unsettled", ANY, Status(200)),
    ("GET /echo", P1, Status(403)),
    // Guards inside of guards.
    ("GET /nested/read", ANY, Status(200)),
    ("GET /nested/read", P1, Status(403)),
    ("GET /nested/full", ANY, Status(403)),
    ("GET /nested/short", ANY, Status(500)),
    // The promise made to the inner guard counts, although none was made to the outer one.
    ("GET /nested/forgotten/e-1-7", ANY, Status(500)),
    ("GET /nested/forgotten/e-1-7", NO_KEY, Status(401)),
    ("GET /nested/forgetful/e-1-7", ANY, Status(500)),
    ("GET /nested/forgetful/e-1-7", NO_KEY, Status(401)),
    ("GET /nested/read", NO_KEY, Status(401)),
    ("GET /nested/full", NO_KEY, Status(401)),
    ("GET /promised/e-1-7", P1, Says("e-1-7")),
    ("GET /promised/e-2-7", P1, Status(403)),
    ("GET /promised/e-1-7", ANY, Says("e-1-7")),
    ("GET /promised/e-1-7/forgotten", P1, Status(500)),
    ("GET /promised/e-1-7/forgotten", ANY, Status(500)),
    ("GET /promised/e-1-7/forgotten", NO_KEY, Status(401)),
    // No handler kept the promise made to the outer guard.
    ("GET /promised/e-1-7/unasked", ANY, Status(500)),
    ("GET /promised/e-1-7/unasked", P1, Status(403)),
];

const TRICKS: &[Case] = &[
    // The same name, written otherwise.
    ("GET /projects/%70-1", P1, Says("p-1")),
    ("GET /projects/p%2D1", P1, Says("p-1")),
    ("GET /projects/%70-2", P1, Status(403)),
    ("GET /projects/p%2d2", P1, Status(403)),
    ("GET /projects/%50-1", P1, Status(403)),
    ("GET /%70rojects/p-1", P1, Either(404, 200)),
    ("GET /%70rojects/p-2", P1, Either(404, 403)),
    ("GET /%70rojects/p-1", NO_KEY, Either(404, 401)),
    // Other names.
    ("GET /projects/p-1%2f..%2fp-2", P1, Status(403)),
    ("GET /projects/p-1%2F..%2Fp-2", P1, Status(403)),
    ("GET /projects/p-1%252f..%252fp-2", P1, Status(403)),
    ("GET /projects/p-1%5cp-2", P1, Status(403)),
    ("GET /projects/p-1%00", P1, Status(403)),
    ("GET /projects/p-1%20", P1, Status(403)),
    ("GET /projects/p-1+", P1, Status(403)),
    ("GET /projects/p-1,p-2", P1, Status(403)),
    ("GET /projects/p-1;p-2", P1, Status(403)),
    ("GET /projects/p-1%3Fid=p-2", P1, Status(403)),
    ("GET /projects/p-1%23p-2", P1, Status(403)),
    ("GET /projects/P-1", P1, Status(403)),
    ("GET /projects/p-%31%30", P1, Status(403)),
    ("GET /projects/*", P1, Status(403)),
    ("GET /projects/%2e%2e", P1, Status(403)),
    ("GET /projects/%ff", P1, Status(403)),
    ("GET /projects/p-1%ff", P1, Status(403)),
    ("GET /projects/%", P1, Refused),
    ("GET /projects/p-1%c0%af", P1, Status(403)),
    ("GET /projects/p-2%e2%80%8b", P1, Status(403)),
    ("POST /editions/e-1-7%2f..%2fe-2-7", P1, Status(404)),
    ("POST /editions/e-2-7%2f..%2fe-1-7", P1, Status(404)),
    ("GET /editions/e-1-7%2f..%2fe-2-7", P1, Status(403)),
    ("POST /editions/%65-2-7", P1, Status(403)),
    // Other paths.
    ("GET /projects/p-1/", P1, Status(404)),
    ("GET /projects/p-2/", P1, Status(404)),
    ("GET //projects/p-2", P1, Status(404)),
    ("GET /projects//p-2", P1, Status(404)),
    ("GET /projects/./p-2", P1, Status(404)),
    ("GET /projects/../projects/p-2", P1, Status(404)),
    ("GET /projects/p-1/../p-2", P1, Status(404)),
    ("GET /projects/%2e/p-2", P1, Status(404)),
    ("GET /projects/p-1/%2e%2e/p-2", P1, Status(404)),
    ("GET /PROJECTS/p-2", P1, Status(404)),
    ("GET /projects%2fp-2", P1, Status(404)),
    ("GET /projects;x/p-2", P1, Status(404)),
    ("GET /projects/", P1, Refused),
    ("GET /projects/p-2#p-1", P1, Refused),
    ("GET /projects/p-2\\..\\p-1", P1, Refused),
    // The query names nothing.
    ("GET /projects/p-1?id=p-2", P1, Says("p-1")),
    ("GET /projects/p-2?id=p-1", P1, Status(403)),
    ("GET /projects/p-2?project=p-1&id=p-1", P1, Status(403)),
    ("GET /projects?id=p-2", P1, Says("p-1")),
    ("GET /misbound/p-2?project=p-1", P1, Status(403)),
    ("POST /nameless/e-2-7?edition=e-1-7", P1, Status(403)),
];
