//! What the endpoints refuse, and what the host learns of it.

use keyward::http::ManagementApi;
use keyward::key::KeyId;

use super::site::{LOG_IN, Mount, NEW, Sent, Site};

#[tokio::test]
async fn without_a_session_the_host_answers() {
    Site::each(async |site| {
        let id = KeyId::from_u128(7);
        for (method, target) in [
            ("GET", "/keys".to_owned()),
            ("POST", "/keys".to_owned()),
            ("GET", "/keys/scopes".to_owned()),
            ("POST", format!("/keys/{id}/revoke")),
            ("GET", format!("/keys/{id}/no/such")),
            ("DELETE", "/keys".to_owned()),
        ] {
            let guest = site.send(Sent::new("", method, &target).by_guest()).await;
            assert_eq!((guest.status, &*guest.text), (401, LOG_IN), "{target}");
            assert_eq!(guest.failure, None);
        }
    })
    .await;
}

#[tokio::test]
async fn another_tenants_key_looks_unknown() {
    Site::each(async |site| {
        let foreign = site.foreign().await;
        let unknown = KeyId::from_u128(7);
        let rotation = r#"{"overlap_seconds": 0}"#;
        for (method, action, body) in [
            ("GET", "", ""),
            ("GET", "/events", ""),
            ("PATCH", "", r#"{"title": "x"}"#),
            ("POST", "/rotate", rotation),
            ("POST", "/suspend", ""),
            ("POST", "/resume", ""),
            ("POST", "/revoke", ""),
        ] {
            let at = |id: &str| format!("/keys/{id}{action}");
            let mut answers = Vec::new();
            for id in [&*foreign.to_string(), &unknown.to_string(), "no-id", "%20"] {
                let got = site.admin(method, &at(id), body).await;
                assert_eq!(got.problem(), (404, "not_found".to_owned()), "{action}");
                answers.push(got.text);
            }
            assert!(answers.iter().all(|one| *one == answers[0]), "{answers:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn policy_and_ceiling_refuse() {
    Site::each(async |site| {
        let key = site.issue().await;
        let id = key["id"].as_str().unwrap();
        let as_bob = |method, action: &str, body: &str| {
            let target = format!("/keys/{id}{action}");
            Sent::new("bob@acme-inc", method, &target).json(body)
        };
        for sent in [
            as_bob("GET", "", ""),
            as_bob("PATCH", "", r#"{"title": "x"}"#),
            as_bob("POST", "/revoke", ""),
        ] {
            let refused = site.send(sent.clone()).await;
            assert_eq!(refused.problem(), (403, "refused".to_owned()));
            // Nor does Bob learn which keys there are.
            let unknown = site.send(sent.with_id(id, KeyId::from_u128(7))).await;
            assert_eq!(unknown.text, refused.text);
        }
        let full = r#"{"title": "x", "access": {"type": "full"}}"#;
        let refused = site.alice("POST", "/keys", full).await;
        assert_eq!(refused.problem(), (403, "above_ceiling".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn other_methods_and_paths_are_problems() {
    Site::each(async |site| {
        let id = KeyId::from_u128(7);
        for (method, target, allowed) in [
            ("PUT", "/keys".to_owned(), "GET, HEAD, POST"),
            ("OPTIONS", "/keys".to_owned(), "GET, HEAD, POST"),
            ("DELETE", format!("/keys/{id}"), "GET, HEAD, PATCH"),
            ("POST", format!("/keys/{id}"), "GET, HEAD, PATCH"),
            ("GET", format!("/keys/{id}/rotate"), "POST"),
            ("POST", format!("/keys/{id}/events"), "GET, HEAD"),
            ("PATCH", format!("/keys/{id}/revoke"), "POST"),
            ("POST", "/keys/scopes".to_owned(), "GET, HEAD"),
            ("POST", "/keys/events".to_owned(), "GET, HEAD"),
            ("get", "/keys".to_owned(), "GET, HEAD, POST"),
        ] {
            let got = site.admin(method, &target, "").await;
            let problem = (405, "method_not_allowed".to_owned());
            assert_eq!(got.problem(), problem, "{method} {target}");
            assert_eq!(got.header("allow"), Some(allowed), "{method} {target}");
        }
        for target in [
            format!("/keys/{id}/"),
            format!("/keys/{id}/delete"),
            format!("/keys/{id}/rotate/"),
            format!("/keys/{id}/rotate/x"),
            "/keys/a/b/c".to_owned(),
        ] {
            let got = site.admin("POST", &target, "").await;
            assert_eq!(
                got.problem(),
                (404, "unknown_endpoint".to_owned()),
                "{target}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn requests_of_other_sites_are_refused() {
    const FETCH: &str = "sec-fetch-site";
    const OWN: &str = "https://app.example.com";
    const SISTER: &str = "https://admin.example.com";
    let lines: [(&[(&'static str, &str)], bool); 17] = [
        (&[], true),
        (&[(FETCH, "same-origin")], true),
        (&[(FETCH, "same-origin"), ("origin", OWN)], true),
        (&[(FETCH, "none")], true),
        (
            &[(FETCH, "same-site"), ("origin", "https://b.example.com")],
            false,
        ),
        (
            &[(FETCH, "cross-site"), ("origin", "https://evil.example")],
            false,
        ),
        (&[(FETCH, "cross-site")], false),
        (&[(FETCH, "cross-site"), ("origin", OWN)], false),
        (&[(FETCH, "")], false),
        (&[(FETCH, "same-origin"), (FETCH, "cross-site")], false),
        (&[("origin", OWN)], true),
        (&[("origin", "https://APP.example.com")], true),
        (&[("origin", "https://app.example.com:8443")], false),
        (&[("origin", "https://evil.example")], false),
        (&[("origin", "null")], false),
        (
            &[("origin", OWN), ("origin", "https://evil.example")],
            false,
        ),
        (&[(FETCH, "same-site"), ("origin", SISTER)], true),
    ];
    for mount in super::site::MOUNTS {
        let mut site = Site::open(mount).await;
        site.api = site.api.allow_origin(SISTER).unwrap();
        let key = site.issue().await;
        let id = key["id"].as_str().unwrap();
        for (headers, is_taken) in lines {
            let with = |method, target: &str, body: &str| {
                let sent = Sent::new("alice@acme-inc", method, target).json(body);
                let sent = sent.with("host", "app.example.com");
                let headers = headers.iter();
                headers.fold(sent, |sent, (name, value)| sent.with(name, value))
            };
            let title = r#"{"title": "x"}"#;
            for (method, target, body) in [
                ("POST", "/keys".to_owned(), NEW),
                ("PATCH", format!("/keys/{id}"), title),
            ] {
                let got = site.send(with(method, &target, body)).await;
                if is_taken {
                    assert!(got.status < 300, "{mount:?} {headers:?}: {got:?}");
                } else {
                    let problem = (403, "cross_origin".to_owned());
                    assert_eq!(got.problem(), problem, "{mount:?} {headers:?}");
                }
            }
            // Reading changes nothing, and another page cannot see the answer.
            let got = site.send(with("GET", "/keys", "")).await;
            assert_eq!(got.status, 200, "{mount:?} {headers:?}");
        }
        let list = site.admin("GET", "/keys?limit=1000", "").await.json();
        let taken = lines.iter().filter(|(_, is_taken)| *is_taken).count();
        assert_eq!(list["keys"].as_array().unwrap().len(), taken + 1);
    }
}

#[tokio::test]
async fn an_origin_needs_one_host_to_be_its_own() {
    Site::each(async |site| {
        for (hosts, is_taken) in [
            (&["app.example.com"][..], true),
            (&["app.example.com", "evil.example"], false),
            (&[], false),
        ] {
            let sent = Sent::new("alice@acme-inc", "POST", "/keys").json(NEW);
            let sent = sent.with("origin", "https://app.example.com");
            let sent = hosts
                .iter()
                .fold(sent, |sent, host| sent.with("host", host));
            let got = site.send(sent).await;
            assert_eq!(got.status == 201, is_taken, "{hosts:?} {got:?}");
        }
        if !matches!(site.mount, Mount::Alone) {
            // `:authority` of HTTP/2 comes before a header of the request.
            let target = "http://app.example.com/keys";
            for (origin, status) in [("http://app.example.com", 201), ("http://b.example", 403)] {
                let sent = Sent::new("alice@acme-inc", "POST", target).json(NEW);
                let sent = sent.with("origin", origin).with("host", "b.example");
                assert_eq!(site.send(sent).await.status, status, "{origin}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn bodies_are_declared_json_and_bounded() {
    let most = ManagementApi::MAX_BODY_BYTES;
    Site::each(async |site| {
        let key = site.issue().await;
        let id = key["id"].as_str().unwrap();
        let to = |target: &str| Sent::new("alice@acme-inc", "POST", target);
        for content_type in [
            "application/json",
            "application/json; charset=utf-8",
            "application/vnd.acme+json",
        ] {
            let sent = to("/keys").with("content-type", content_type).body(NEW);
            assert_eq!(site.send(sent).await.status, 201, "{content_type}");
        }
        let media = (415, "unsupported_media_type".to_owned());
        for content_type in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "",
        ] {
            for target in ["/keys", &format!("/keys/{id}/revoke")] {
                let body = r#"{"reason": "leaked"}"#;
                let sent = to(target).with("content-type", content_type).body(body);
                let got = site.send(sent).await;
                assert_eq!(got.problem(), media, "{content_type} {target}");
                assert_eq!(got.header("accept"), Some("application/json"));
            }
        }
        let twice = to("/keys").json(NEW).with("content-type", "text/plain");
        assert_eq!(site.send(twice).await.problem(), media);
        assert_eq!(site.send(to("/keys").body(NEW)).await.problem(), media);

        let padded = |length: usize| format!("{NEW}{}", " ".repeat(length - NEW.len()));
        let fits = site.alice("POST", "/keys", &padded(most)).await;
        assert_eq!(fits.status, 201);
        for length in [most + 1, most * 4] {
            let got = site.alice("POST", "/keys", &padded(length)).await;
            assert_eq!(got.problem(), (413, "request_too_large".to_owned()));
        }
    })
    .await;
}

#[tokio::test]
async fn a_bad_body_is_explained_and_never_quoted() {
    Site::each(async |site| {
        let key = site.issue().await;
        let id = key["id"].as_str().unwrap();
        let text = key["api_key"].as_str().unwrap();
        let access = r#""access": {"type": "full"}"#;
        for (body, status, code, words) in [
            (String::new(), 422, "invalid_body", "missing"),
            ("{".to_owned(), 400, "malformed_json", "line 1 column 1"),
            (
                format!("{{\"title\": {text}}}"),
                400,
                "malformed_json",
                "line 1",
            ),
            (format!("\"{text}\""), 422, "invalid_body", "JSON object"),
            (format!("[\"{text}\"]"), 422, "invalid_body", "JSON object"),
            ("{}".to_owned(), 422, "invalid_body", "`title` is missing"),
            (
                format!("{{{access}, \"title\": 7}}"),
                422,
                "invalid_body",
                "`title` must be a text",
            ),
            (
                format!("{{{access}, \"{text}\": 7}}"),
                422,
                "invalid_body",
                "unknown member",
            ),
            (
                format!("{{{access}, {access}, \"title\": \"x\"}}"),
                422,
                "invalid_body",
                "twice",
            ),
            (
                format!("{{{access}, \"title\": \"{}\"}}", text.repeat(9)),
                422,
                "invalid_body",
                "100 characters",
            ),
            (
                format!("{{{access}, \"title\": \"{text}\"}}"),
                422,
                "invalid_key",
                "the text of a key",
            ),
            (
                r#"{"title": "x", "access": {"type": "scopes", "scopes": ["no:such"]}}"#.to_owned(),
                422,
                "invalid_key",
                "`no:such` is not declared",
            ),
        ] {
            let got = site.admin("POST", "/keys", &body).await;
            assert_eq!(got.problem(), (status, code.to_owned()), "{body}");
            let detail = got.json()["detail"].as_str().unwrap().to_lowercase();
            assert!(detail.contains(&words.to_lowercase()), "{body}: {detail}");
            assert!(!got.text.contains(text), "{body}: {}", got.text);
            let failure = got.failure.unwrap();
            assert!(!failure.shown.contains(text), "{body}: {}", failure.shown);
        }
        for (action, body) in [
            ("/rotate", "{}"),
            ("/suspend", r#"{"for": 7}"#),
            ("/suspend", "[]"),
            ("/resume", r#"{"reason": "leaked"}"#),
            ("/revoke", "{}"),
            ("/revoke", r#"{"because": "leaked"}"#),
        ] {
            let got = site
                .alice("POST", &format!("/keys/{id}{action}"), body)
                .await;
            assert_eq!(
                got.problem(),
                (422, "invalid_body".to_owned()),
                "{action} {body}"
            );
        }
        let unchanged = site.alice("GET", &format!("/keys/{id}"), "").await.json();
        assert_eq!(unchanged["status"], "active");
    })
    .await;
}

#[tokio::test]
async fn a_bad_query_is_explained_and_never_quoted() {
    Site::each(async |site| {
        let key = site.issue().await;
        let id = key["id"].as_str().unwrap();
        let text = key["api_key"].as_str().unwrap();
        for (target, words) in [
            ("/keys?lim=1".to_owned(), "unknown member"),
            (format!("/keys?{text}=1"), "unknown member"),
            (format!("/keys?status={text}"), "`status` must be"),
            (format!("/keys?owner={text}"), "`owner` is refused"),
            ("/keys?limit=0".to_owned(), "from 1 to 1000"),
            ("/keys?limit=1&limit=2".to_owned(), "twice"),
            ("/keys?limit=1&%6cimit=2".to_owned(), "twice"),
            ("/keys/events?after=-1".to_owned(), "`after` must be"),
            (format!("/keys/events?after={text}"), "`after` must be"),
            ("/keys/events?limit=1001".to_owned(), "from 1 to 1000"),
            ("/keys/events?limit=0".to_owned(), "from 1 to 1000"),
            ("/keys/events?after=1&after=1".to_owned(), "twice"),
            (format!("/keys/events?{text}"), "unknown member"),
            ("/keys/scopes?x=1".to_owned(), "unknown member"),
            (format!("/keys/{id}?x=1"), "unknown member"),
        ] {
            let got = site.admin("GET", &target, "").await;
            assert_eq!(got.problem(), (400, "invalid_query".to_owned()), "{target}");
            let detail = got.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains(words), "{target}: {detail}");
            assert!(!got.text.contains(text), "{target}");
            assert!(!got.failure.unwrap().shown.contains(text), "{target}");
        }
        let got = site.alice("POST", "/keys?tenant=globex", NEW).await;
        assert_eq!(got.problem(), (400, "invalid_query".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn an_unclear_idempotency_key_is_refused() {
    Site::each(async |site| {
        let longest = "k".repeat(255);
        let too_long = "k".repeat(256);
        for (values, status) in [
            (&["a"][..], 201),
            (&[&*longest], 201),
            (&["a", "a"], 400),
            (&["b", "c"], 400),
            (&[""], 400),
            (&["\"\""], 400),
            (&["a b"], 400),
            (&["\"a"], 400),
            (&[&too_long], 400),
        ] {
            let sent = Sent::new("alice@acme-inc", "POST", "/keys").json(NEW);
            let values = values.iter();
            let sent = values.fold(sent, |sent, value| sent.with("idempotency-key", value));
            let got = site.send(sent.clone()).await;
            assert_eq!(got.status, status, "{sent:?}: {got:?}");
            if status == 400 {
                assert_eq!(got.problem().1, "invalid_idempotency_key");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn the_host_can_log_each_failure() {
    Site::each(async |site| {
        let id = KeyId::from_u128(7);
        let target = format!("/keys/{id}/revoke");
        let by_manager = site.admin("POST", &target, "").await.failure.unwrap();
        assert_eq!(by_manager.code, "not_found");
        assert!(by_manager.is_managers);
        assert_eq!(by_manager.of, format!("user:admin acme-inc {id}"));
        assert!(
            by_manager.shown.starts_with("there is no such key"),
            "{by_manager:?}"
        );

        let sent = Sent::new("alice@acme-inc", "POST", "/keys").json(NEW);
        let refused = site.send(sent.with("sec-fetch-site", "cross-site")).await;
        let refused = refused.failure.unwrap();
        assert_eq!((refused.code, refused.is_managers), ("cross_origin", false));
        assert_eq!(refused.of, "user:alice acme-inc ");
        assert_eq!(site.alice("GET", "/keys", "").await.failure, None);
    })
    .await;
}

#[tokio::test]
async fn both_forms_of_the_mount_point_work() {
    Site::each(async |site| {
        for target in ["/keys", "/keys?limit=1"] {
            assert_eq!(site.alice("GET", target, "").await.status, 200, "{target}");
        }
        let slash = site.alice("GET", "/keys/", "").await;
        match site.mount {
            // A route of axum has one form: `nest("/keys/", ..)` has the other.
            Mount::Axum => assert_eq!(slash.status, 418),
            Mount::Alone | Mount::Actix => assert_eq!(slash.status, 200),
        }
        let other = site.alice("GET", "/keysandmore", "");
        if !matches!(site.mount, Mount::Alone) {
            assert_eq!(other.await.status, 418);
        }
    })
    .await;
}

#[tokio::test]
async fn debug_output_has_no_text_of_a_request() {
    let request = keyward::http::ManagementRequest {
        method: "POST",
        path: "/acme_live_secret",
        query: Some("acme_live_secret"),
        authority: Some("acme_live_secret"),
        headers: [("x", "acme_live_secret")].as_slice(),
        body: b"acme_live_secret",
    };
    let shown = format!("{request:?}");
    assert!(
        shown.contains("POST") && !shown.contains("secret"),
        "{shown}"
    );
}
