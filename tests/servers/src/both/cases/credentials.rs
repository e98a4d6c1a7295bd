//! One credential in an accepted form. Two are refused whether or not one is valid, and malformed ones cost nothing.

use super::{Case, End, Refused, Status, run, run_at_edge};
use crate::both::costs::costs;

#[tokio::test]
async fn a_key_is_found_in_each_form() {
    run_at_edge(FOUND).await;
    run(FOUND).await;
}

#[tokio::test]
async fn two_credentials_are_refused() {
    let [before, after] = run_at_edge(TWO).await;
    assert_eq!(costs(after), costs(before));
    assert!(after.malformed > before.malformed);
    run(TWO).await;
}

#[tokio::test]
async fn malformed_credentials_are_refused() {
    let [before, after] = run_at_edge(RUBBISH).await;
    assert_eq!(costs(after), costs(before));
    run(RUBBISH).await;
}

/// With these headers, and no key in the target.
const fn sent(headers: super::Headers, end: End) -> Case {
    ("GET /echo", headers, end)
}

const FOUND: &[Case] = &[
    sent(&[("authorization", "Bearer <any>")], Status(200)),
    sent(&[("Authorization", "bEARER <any>")], Status(200)),
    sent(&[("AUTHORIZATION", "Bearer \t <any> ")], Status(200)),
    sent(&[("authorization", "Basic <basic>")], Status(200)),
    sent(&[("authorization", "basic <basic pair>")], Status(200)),
    sent(&[("authorization", "Basic <basic password>")], Status(200)),
    sent(&[("authorization", "Basic <basic both>")], Status(200)),
    sent(&[("authorization", "Basic <basic user>")], Status(200)),
    sent(&[("authorization", "Token <any>")], Status(200)),
    sent(&[("authorization", "token token=\"<any>\"")], Status(200)),
    sent(
        &[("sec-websocket-protocol", "v1, acme.key.<any>")],
        Status(200),
    ),
    sent(
        &[
            ("Sec-WebSocket-Protocol", "v1,v2"),
            ("sec-websocket-protocol", "acme.key.<any>, v3"),
        ],
        Status(200),
    ),
    sent(&[("x-api-key", "<any>")], Status(200)),
    sent(&[("X-Api-Key", " <any>\t")], Status(200)),
    sent(
        &[("x-key-id", "<id>"), ("x-key-secret", "<secret>")],
        Status(200),
    ),
    sent(
        &[("X-Key-Secret", "<secret>"), ("X-Key-Id", "<id>")],
        Status(200),
    ),
    ("GET /echo?api_key=<any>", &[], Status(200)),
    ("GET /echo?b=1&api_key=<any>&c", &[], Status(200)),
    ("GET /echo?api%5Fkey=<quoted>", &[], Status(200)),
    // These are not credentials, and disturb none.
    sent(
        &[
            ("authorization", "Bearer <any>"),
            ("x-api-key-version", "2"),
        ],
        Status(200),
    ),
    sent(&[("proxy-authorization", "Bearer <any>")], Status(401)),
    sent(&[("cookie", "authorization=Bearer <any>")], Status(401)),
    sent(&[("x_api_key", "<any>")], Status(401)),
    sent(&[("authorization", "<any>")], Status(401)),
    sent(&[("authorization", "ApiKey <any>")], Status(401)),
    sent(&[("authorization", "Digest <any>")], Status(401)),
    ("GET /echo?access_token=<any>", &[], Status(401)),
    ("GET /echo?API_KEY=<any>", &[], Status(401)),
    ("GET /echo?x-api-key=<any>", &[], Status(401)),
    ("GET /<any>", &[], Status(404)),
];

const TWO: &[Case] = &[
    // In one form: the same, another one, an empty one, and joined by an intermediary.
    sent(
        &[
            ("authorization", "Bearer <any>"),
            ("authorization", "Bearer <any>"),
        ],
        Status(400),
    ),
    sent(
        &[
            ("authorization", "Bearer <any>"),
            ("Authorization", "Bearer <p-1>"),
        ],
        Status(400),
    ),
    sent(
        &[("authorization", ""), ("authorization", "Bearer <any>")],
        Status(400),
    ),
    sent(
        &[
            ("authorization", "Digest x"),
            ("authorization", "Bearer <any>"),
        ],
        Status(400),
    ),
    sent(
        &[
            ("authorization", "Bearer <any>"),
            ("authorization", "Digest x"),
        ],
        Status(400),
    ),
    sent(
        &[("authorization", "Bearer"), ("authorization", "<any>")],
        Status(400),
    ),
    sent(
        &[("authorization", "Bearer <any>, Bearer <any>")],
        Status(400),
    ),
    sent(&[("authorization", "Bearer <any>,<any>")], Status(400)),
    sent(&[("authorization", "Basic <basic>,<basic>")], Status(400)),
    sent(
        &[("x-api-key", "<any>"), ("X-API-Key", "<any>")],
        Status(400),
    ),
    sent(&[("x-api-key", "<any>"), ("x-api-key", "")], Status(400)),
    sent(&[("x-api-key", "<any>, <p-1>")], Status(400)),
    sent(&[("x-api-key", ",<any>")], Status(400)),
    sent(&[("x-api-key", "<any>,")], Status(400)),
    sent(
        &[("x-key-secret", "<secret>"), ("x-key-secret", "<secret>")],
        Status(400),
    ),
    sent(
        &[
            ("x-key-id", "<id>"),
            ("x-key-id", "<id>"),
            ("x-key-secret", "<secret>"),
        ],
        Status(400),
    ),
    sent(
        &[
            ("x-key-id", "<id>"),
            ("x-key-secret", "<secret>"),
            ("x-key-secret", "<secret>"),
        ],
        Status(400),
    ),
    ("GET /echo?api_key=<any>&api_key=<any>", &[], Status(400)),
    ("GET /echo?api_key=<any>&api%5fkey=", &[], Status(400)),
    ("GET /echo?api_key=<p-1>&api_key=<any>", &[], Status(400)),
    sent(&[("authorization", "Basic <basic two>")], Status(400)),
    sent(&[("authorization", "Basic <basic id key>")], Status(400)),
    sent(
        &[("authorization", "Token token=\"<any>\", token=\"<p-1>\"")],
        Status(400),
    ),
    sent(
        &[("authorization", "Token <any>, Token <any>")],
        Status(400),
    ),
    sent(
        &[("authorization", "Token token=<any>, Bearer <any>")],
        Status(400),
    ),
    sent(
        &[("authorization", "Token <any>"), ("authorization", "x")],
        Status(400),
    ),
    sent(
        &[("sec-websocket-protocol", "acme.key.<any>, acme.key.<any>")],
        Status(400),
    ),
    sent(
        &[
            ("sec-websocket-protocol", "acme.key.<any>"),
            ("Sec-WebSocket-Protocol", "v1, acme.key.<p-1>"),
        ],
        Status(400),
    ),
    // In two forms.
    sent(
        &[
            ("authorization", "Bearer <any>"),
            ("sec-websocket-protocol", "v1, acme.key.<any>"),
        ],
        Status(400),
    ),
    sent(
        &[("authorization", "Bearer <any>"), ("x-api-key", "<any>")],
        Status(400),
    ),
    sent(
        &[("authorization", "Bearer <any>"), ("x-api-key", "")],
        Status(400),
    ),
    sent(
        &[("authorization", "Basic <basic>"), ("x-api-key", "<any>")],
        Status(400),
    ),
    sent(
        &[("authorization", "Basic <basic>"), ("x-key-id", "<id>")],
        Status(400),
    ),
    sent(
        &[("x-api-key", "<any>"), ("x-key-secret", "<secret>")],
        Status(400),
    ),
    (
        "GET /echo?api_key=<any>",
        &[("authorization", "Bearer <any>")],
        Status(400),
    ),
    ("GET /echo?api_key", &[("x-api-key", "<any>")], Status(400)),
    (
        "GET /projects/p-2?api_key=<any>",
        &[("authorization", "Bearer <p-1>")],
        Status(400),
    ),
    (
        "POST /editions/e-2-7",
        &[("authorization", "Bearer <p-1>"), ("x-api-key", "<any>")],
        Status(400),
    ),
    (
        "HEAD /echo",
        &[("authorization", "Bearer <any>"), ("x-api-key", "<any>")],
        Status(400),
    ),
    (
        "OPTIONS /echo",
        &[("authorization", "Bearer <any>"), ("x-api-key", "<any>")],
        Status(400),
    ),
];

const RUBBISH: &[Case] = &[
    sent(&[], Status(401)),
    sent(&[("authorization", "")], Status(401)),
    sent(&[("authorization", "Bearer")], Status(401)),
    sent(&[("authorization", "Bearer ")], Status(401)),
    sent(&[("authorization", "Bearer \t")], Status(401)),
    sent(&[("authorization", "Bearer Bearer <any>")], Status(401)),
    sent(&[("authorization", "Bearer <any> <any>")], Status(401)),
    sent(&[("authorization", "Bearer <start> <rest>")], Status(401)),
    sent(&[("authorization", "Bearer <start>\t<rest>")], Status(401)),
    sent(&[("authorization", "Bearer<any>")], Status(401)),
    sent(&[("authorization", "Bearer: <any>")], Status(401)),
    sent(&[("authorization", "Bearer=<any>")], Status(401)),
    sent(&[("authorization", "Bearer \"<any>\"")], Status(401)),
    sent(&[("authorization", "Bearer <any>;")], Status(401)),
    sent(&[("authorization", "Bearer <any>.")], Status(401)),
    sent(&[("authorization", "Bearer <start>")], Status(401)),
    sent(&[("authorization", "Bearer <loud>")], Status(401)),
    sent(&[("authorization", "Bearer <quoted>")], Status(401)),
    sent(&[("authorization", "Bearer <start>é")], Status(401)),
    sent(&[("authorization", "Bearer <any>\u{a0}")], Status(401)),
    sent(
        &[("authorization", "Bearer \u{ff}\u{fe}<any>")],
        Status(401),
    ),
    sent(&[("authorization", "Basic")], Status(401)),
    sent(&[("authorization", "Basic ###")], Status(401)),
    sent(&[("authorization", "Basic <any>")], Status(401)),
    sent(&[("authorization", "Basic <basic>=")], Status(401)),
    sent(&[("authorization", "Basic <basic> <basic>")], Status(401)),
    sent(&[("authorization", "Basic <basic bare>")], Status(401)),
    sent(&[("authorization", "Token token=")], Status(401)),
    sent(&[("authorization", "Token key=<any>")], Status(401)),
    sent(&[("sec-websocket-protocol", "acme.key.")], Status(401)),
    sent(
        &[("sec-websocket-protocol", "acme.key.<start>")],
        Status(401),
    ),
    sent(
        &[("sec-websocket-protocol", "acme.key.<any> <any>")],
        Status(401),
    ),
    sent(&[("authorization", "Basic <basic id>")], Status(401)),
    sent(&[("authorization", "Bearer <basic>")], Status(401)),
    sent(&[("x-api-key", "")], Status(401)),
    sent(&[("x-api-key", "'<any>'")], Status(401)),
    sent(&[("x-api-key", "Bearer <any>")], Status(401)),
    sent(&[("x-key-id", "<id>")], Status(401)),
    sent(&[("x-key-secret", "<secret>")], Status(401)),
    sent(
        &[("x-key-id", "<secret>"), ("x-key-secret", "<id>")],
        Status(401),
    ),
    sent(
        &[("x-key-id", "<loud id>"), ("x-key-secret", "<secret>")],
        Status(401),
    ),
    sent(&[("x-key-id", ""), ("x-key-secret", "")], Status(401)),
    sent(&[("x-key-id", "<id>"), ("x-key-secret", "")], Status(401)),
    ("GET /echo?api_key", &[], Status(401)),
    ("GET /echo?api_key=", &[], Status(401)),
    ("GET /echo?api_key=<any>%00", &[], Status(401)),
    ("GET /echo?api_key=%0a<any>", &[], Status(401)),
    ("GET /echo?api_key=<any>+", &[], Status(401)),
    ("GET /echo?api_key=%<any>", &[], Refused),
    // Bytes that a header must not contain: the server refuses them, or the key's checksum fails.
    sent(&[("authorization", "Bearer <any>\0")], Refused),
    sent(&[("authorization", "Bearer <any>\r")], Refused),
    sent(&[("authorization", "Bearer \0<any>")], Refused),
    sent(&[("authorization", "Bearer\u{b}<any>")], Refused),
    sent(&[("authorization", "Bearer <start>\n<rest>")], Refused),
    sent(&[("x-a", "b\r\n\r\nGET /echo HTTP/1.1")], Refused),
    sent(&[("authorization\0", "Bearer <any>")], Refused),
    sent(&[("authorization ", "Bearer <any>")], Refused),
    // Longer than some servers read.
    sent(&[("authorization", "Bearer <long>")], Refused),
    sent(&[("authorization", "Bearer <any><long>")], Refused),
    sent(&[("authorization", "Basic <long>")], Refused),
    sent(&[("x-api-key", "<long>")], Refused),
    sent(
        &[("x-key-id", "<long>"), ("x-key-secret", "<long>")],
        Refused,
    ),
    ("GET /echo?api_key=<long>", &[], Refused),
];
