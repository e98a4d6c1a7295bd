//! The guide *Clients*: each row of its tables with the very bytes.
//!
//! In a head, `KEY`, `ID` and `SECRET` are the fixture's, `base64(…)` is encoded, and lines end with `\r\n`.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use keyward::http::{Connection, Edge, Head, KeyIn, Proxies};
use keyward::verifier::{Attempt, Requirement};
use test_support::{CURL, REQUESTS, Tool, has};

use crate::common::{Events, Fixture, READ, filled, recording};

/// Node.js with `fetch`, which has been in it since version 18.
const NODE: Tool = Tool::new("node with fetch", &["node", "-e", "fetch; 0"]);

const GUIDE: &str = include_str!("../../src/manual/clients.md");

/// The client, the setting that takes the key, and the head. The guide shows one of its lines.
type Row = (&'static str, &'static str, &'static str);

const CLIENTS: &[Row] = &[
    (
        "curl, `-u KEY:`",
        "KeyIn::basic()",
        "GET /v1 HTTP/1.1
Host: api.example.com
Authorization: Basic base64(KEY:)
User-Agent: curl/7.88.1
Accept: */*",
    ),
    (
        "curl, `--oauth2-bearer KEY`",
        "KeyIn::bearer()",
        "GET /v1 HTTP/1.1
Host: api.example.com
Authorization: Bearer KEY
User-Agent: curl/7.88.1
Accept: */*",
    ),
    (
        "wget, `--user api --password KEY`",
        "KeyIn::basic()",
        "GET /v1 HTTP/1.1
Host: api.example.com
User-Agent: Wget/1.21.3
Accept: */*
Accept-Encoding: identity
Connection: Keep-Alive
Authorization: Basic base64(api:KEY)",
    ),
    (
        "Python requests, `auth=(KEY, \"\")`",
        "KeyIn::basic()",
        "GET /v1 HTTP/1.1
Host: api.example.com
User-Agent: python-requests/2.34.2
Accept-Encoding: gzip, deflate
Accept: */*
Connection: keep-alive
Authorization: Basic base64(KEY:)",
    ),
    (
        "Python HTTPX, `auth=(\"\", KEY)`",
        "KeyIn::basic()",
        "GET /v1 HTTP/1.1
Host: api.example.com
Accept: */*
Accept-Encoding: gzip, deflate
Connection: keep-alive
User-Agent: python-httpx/0.28.1
Authorization: Basic base64(:KEY)",
    ),
    (
        "Python aiohttp, `headers=`",
        "KeyIn::header(\"X-API-Key\")",
        "GET /v1 HTTP/1.1
Host: api.example.com
X-API-Key: KEY
Accept: */*
Accept-Encoding: gzip, deflate
User-Agent: Python/3.11 aiohttp/3.14.5",
    ),
    (
        "Python urllib, which changes the case",
        "KeyIn::header(\"X-API-Key\")",
        "GET /v1 HTTP/1.1
Accept-Encoding: identity
Host: api.example.com
User-Agent: Python-urllib/3.11
X-Api-Key: KEY
Connection: close",
    ),
    (
        "Node.js, `fetch`",
        "KeyIn::bearer()",
        "GET /v1 HTTP/1.1
host: api.example.com
connection: keep-alive
Authorization: Bearer KEY
accept: */*
accept-language: *
sec-fetch-mode: cors
user-agent: node
accept-encoding: gzip, deflate",
    ),
    (
        "axios, `auth: {username: KEY}`",
        "KeyIn::basic()",
        "GET /v1 HTTP/1.1
Accept: application/json, text/plain, */*
User-Agent: axios/1.21.1
Accept-Encoding: gzip, compress, deflate, br
Host: api.example.com
Authorization: Basic base64(KEY:)
Connection: keep-alive",
    ),
    (
        "Go, which changes the case",
        "KeyIn::header(\"X-API-Key\")",
        "GET /v1 HTTP/1.1
Host: api.example.com
User-Agent: Go-http-client/1.1
X-Api-Key: KEY
Accept-Encoding: gzip",
    ),
    (
        "Java, `java.net.http`",
        "KeyIn::bearer()",
        "GET /v1 HTTP/1.1
Content-Length: 0
Host: api.example.com
User-Agent: Java-http-client/17.0.15
Authorization: Bearer KEY",
    ),
    (
        ".NET, `AuthenticationHeaderValue(\"Bearer\", KEY)`",
        "KeyIn::bearer()",
        "GET /v1 HTTP/1.1
Host: api.example.com
Authorization: Bearer KEY",
    ),
    (
        ".NET, `AuthenticationHeaderValue(KEY)`",
        "KeyIn::authorization()",
        "GET /v1 HTTP/1.1
Host: api.example.com
Authorization: KEY",
    ),
    (
        "Swift, `URLSession`",
        "KeyIn::header(\"X-API-Key\")",
        "GET /v1 HTTP/1.1
Host: api.example.com
Accept: */*
X-API-Key: KEY
User-Agent: App/1 CFNetwork/1568.100.1 Darwin/24.0.0
Accept-Language: en-GB,en;q=0.9
Accept-Encoding: gzip, deflate
Connection: keep-alive",
    ),
    (
        "Postman, \"API Key\"",
        "KeyIn::header(\"X-API-Key\")",
        "GET /v1 HTTP/1.1
X-API-Key: KEY
User-Agent: PostmanRuntime/7.43.0
Accept: */*
Postman-Token: 550e8400-e29b-41d4-a716-446655440000
Host: api.example.com
Accept-Encoding: gzip, deflate, br
Connection: keep-alive",
    ),
    (
        "Insomnia, \"Bearer Token\"",
        "KeyIn::bearer()",
        "GET /v1 HTTP/1.1
Host: api.example.com
User-Agent: insomnia/11.0.0
Authorization: Bearer KEY
Accept: */*",
    ),
    (
        "OpenAPI Generator, an `apiKey` with a prefix",
        "KeyIn::scheme(\"Token\")",
        "GET /v1 HTTP/1.1
Host: api.example.com
Accept-Encoding: identity
Accept: application/json
User-Agent: OpenAPI-Generator/1.0.0/python
Authorization: Token KEY",
    ),
    (
        "git over HTTP",
        "KeyIn::basic()",
        "GET /r.git/info/refs?service=git-upload-pack HTTP/1.1
Host: api.example.com
Authorization: Basic base64(x-access-token:KEY)
User-Agent: git/2.47.3
Accept: */*
Accept-Encoding: deflate, gzip, br, zstd
Pragma: no-cache
Git-Protocol: version=2",
    ),
    (
        "npm, `_authToken`",
        "KeyIn::bearer()",
        "GET /left-pad HTTP/1.1
user-agent: npm/11.19.1 node/v20.20.2 linux x64 workspaces/false
pacote-version: 21.5.1
pacote-req-type: packument
pacote-pkg-id: registry:left-pad
accept: application/json
npm-auth-type: web
npm-command: view
authorization: Bearer KEY
Accept-Encoding: gzip,deflate
Host: api.example.com
connection: keep-alive",
    ),
    (
        "pip, a URL with `__token__:KEY`",
        "KeyIn::basic()",
        "GET /simple/left-pad/ HTTP/1.1
Host: api.example.com
User-Agent: pip/23.2.1 {\"ci\":null,\"cpu\":\"x86_64\"}
Accept-Encoding: gzip, deflate
Accept: application/vnd.pypi.simple.v1+json, text/html; q=0.01
Connection: keep-alive
Cache-Control: max-age=0
Authorization: Basic base64(__token__:KEY)",
    ),
    (
        "cargo, a registry's token",
        "KeyIn::authorization()",
        "GET /api/v1/crates/foo/owners HTTP/1.1
Host: api.example.com
User-Agent: cargo/1.95.0 (f2d3ce0bd 2026-03-21)
Accept-Encoding: deflate, gzip
Accept: application/json
Authorization: KEY",
    ),
    (
        "Docker, `docker login`",
        "KeyIn::basic()",
        "GET /v2/ HTTP/1.1
Host: api.example.com
User-Agent: docker/27.3.1 go/go1.22.7 UpstreamClient(Docker-Client/27.3.1 \\(linux\\))
Authorization: Basic base64(robot:KEY)
Accept-Encoding: gzip
Connection: close",
    ),
    (
        "Terraform, the `http` backend",
        "KeyIn::basic()",
        "GET /state HTTP/1.1
Host: api.example.com
User-Agent: Go-http-client/1.1
Authorization: Basic base64(api:KEY)
Accept-Encoding: gzip",
    ),
    (
        "Prometheus, `authorization:`",
        "KeyIn::bearer()",
        "GET /metrics HTTP/1.1
Host: api.example.com
User-Agent: Prometheus/3.5.0
Accept: text/plain;version=1.0.0;q=0.5,*/*;q=0.1
Accept-Encoding: gzip
Authorization: Bearer KEY
X-Prometheus-Scrape-Timeout-Seconds: 10",
    ),
    (
        "clients of Django REST framework",
        "KeyIn::scheme(\"Token\")",
        "GET /v1/ HTTP/1.1
Host: api.example.com
User-Agent: python-requests/2.34.2
Accept-Encoding: gzip, deflate
Accept: */*
Connection: keep-alive
Authorization: Token KEY",
    ),
    (
        "clients of Rails",
        "KeyIn::scheme(\"Token\")",
        "GET /v1 HTTP/1.1
Accept-Encoding: gzip;q=1.0,deflate;q=0.6,identity;q=0.3
Accept: */*
User-Agent: Ruby
Authorization: Token token=\"KEY\"
Host: api.example.com",
    ),
    (
        "clients of PagerDuty",
        "KeyIn::scheme(\"Token\")",
        "GET /incidents HTTP/1.1
Host: api.example.com
User-Agent: curl/7.88.1
Accept: application/json
Authorization: Token token=KEY",
    ),
    (
        "clients of Okta",
        "KeyIn::scheme(\"SSWS\")",
        "GET /api/v1/users HTTP/1.1
Host: api.example.com
Accept: application/json
Content-Type: application/json
Authorization: SSWS KEY",
    ),
    (
        "clients of Elasticsearch",
        "KeyIn::api_key()",
        "GET /_cat/indices?v=true HTTP/1.1
Host: api.example.com
Authorization: ApiKey base64(ID:SECRET)
User-Agent: curl/7.88.1
Accept: */*",
    ),
    (
        "clients of Mailgun",
        "KeyIn::basic()",
        "GET /v3/domains HTTP/1.1
Host: api.example.com
Authorization: Basic base64(api:KEY)
User-Agent: curl/7.88.1
Accept: */*",
    ),
    (
        "clients of Twilio",
        "KeyIn::basic()",
        "GET /2010-04-01/Accounts.json HTTP/1.1
Host: api.example.com
Authorization: Basic base64(ID:SECRET)
User-Agent: curl/7.88.1
Accept: */*",
    ),
    (
        "clients of GitHub, a token as the user",
        "KeyIn::basic()",
        "GET /user HTTP/1.1
Host: api.example.com
Authorization: Basic base64(KEY:x-oauth-basic)
User-Agent: curl/7.88.1
Accept: */*",
    ),
    (
        "clients of Amazon API Gateway",
        "KeyIn::header(\"X-API-Key\")",
        "GET /prod/v1 HTTP/1.1
Host: api.example.com
x-api-key: KEY
User-Agent: curl/7.88.1
Accept: */*",
    ),
    (
        "clients of Azure API Management",
        "KeyIn::header(\"Ocp-Apim-Subscription-Key\")",
        "GET /echo HTTP/1.1
Host: api.example.com
Ocp-Apim-Subscription-Key: KEY
User-Agent: curl/7.88.1
Accept: */*",
    ),
    (
        "clients of Google Cloud",
        "KeyIn::header(\"X-Goog-Api-Key\")",
        "GET /v1/models HTTP/1.1
Host: api.example.com
x-goog-api-key: KEY
User-Agent: curl/7.88.1
Accept: */*",
    ),
    (
        "a link in a feed reader",
        "KeyIn::query_parameter(\"api_key\")",
        "GET /v1?api_key=KEY HTTP/1.1
Host: api.example.com
User-Agent: FreshRSS/1.26.0
Accept: application/atom+xml",
    ),
    (
        "a browser's WebSocket",
        "KeyIn::web_socket_protocol(\"acme.key.\")",
        "GET /live HTTP/1.1
Host: api.example.com
Connection: Upgrade
Pragma: no-cache
Cache-Control: no-cache
User-Agent: Mozilla/5.0 (X11; Linux x86_64)
Upgrade: websocket
Origin: https://app.example.com
Sec-WebSocket-Version: 13
Accept-Encoding: gzip, deflate, br, zstd
Accept-Language: en-GB,en;q=0.9
Sec-WebSocket-Key: yqrAG1S/SSt9zImE767XuA==
Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits
Sec-WebSocket-Protocol: acme.v1, acme.key.KEY",
    ),
];

const PROXIES: &[Row] = &[
    (
        "nginx, `$proxy_add_x_forwarded_for`",
        "Proxies::x_forwarded(..)",
        "GET /v1 HTTP/1.0
X-Forwarded-For: 203.0.113.7
X-Forwarded-Proto: https
Host: api.example.com
Connection: close
User-Agent: curl/7.88.1
Accept: */*
Authorization: Bearer KEY",
    ),
    (
        "Envoy, which writes names in lower case",
        "Proxies::x_forwarded(..)",
        "GET /v1 HTTP/1.1
host: api.example.com
user-agent: curl/7.88.1
accept: */*
authorization: Bearer KEY
x-forwarded-for: 203.0.113.7
x-forwarded-proto: https
x-envoy-external-address: 203.0.113.7
x-request-id: 0f5c41a1-5e0a-4c4f-9a4b-3a0c4c1fd8d1
x-envoy-expected-rq-timeout-ms: 15000",
    ),
    (
        "Traefik",
        "Proxies::x_forwarded(..)",
        "GET /v1 HTTP/1.1
Host: api.example.com
User-Agent: curl/7.88.1
Accept: */*
Authorization: Bearer KEY
X-Forwarded-For: 203.0.113.7
X-Forwarded-Host: api.example.com
X-Forwarded-Port: 443
X-Forwarded-Proto: https
X-Forwarded-Server: traefik-0
X-Real-Ip: 203.0.113.7
Accept-Encoding: gzip",
    ),
    (
        "Caddy",
        "Proxies::x_forwarded(..)",
        "GET /v1 HTTP/1.1
Host: api.example.com
User-Agent: curl/7.88.1
Accept: */*
Authorization: Bearer KEY
Via: 2.0 Caddy
X-Forwarded-For: 203.0.113.7
X-Forwarded-Host: api.example.com
X-Forwarded-Proto: https
Accept-Encoding: gzip",
    ),
    (
        "HAProxy, `option forwardfor`",
        "Proxies::x_forwarded(..)",
        "GET /v1 HTTP/1.1
host: api.example.com
authorization: Bearer KEY
user-agent: curl/7.88.1
accept: */*
x-forwarded-proto: https
x-forwarded-for: 203.0.113.7",
    ),
    (
        "HAProxy, `option forwarded`",
        "Proxies::forwarded(..)",
        "GET /v1 HTTP/1.1
host: api.example.com
authorization: Bearer KEY
user-agent: curl/7.88.1
accept: */*
forwarded: proto=https;for=203.0.113.7",
    ),
    (
        "AWS Application Load Balancer",
        "Proxies::x_forwarded(..)",
        "GET /v1 HTTP/1.1
X-Forwarded-For: 203.0.113.7
X-Forwarded-Proto: https
X-Forwarded-Port: 443
Host: api.example.com
X-Amzn-Trace-Id: Root=1-67891233-abcdef012345678912345678
user-agent: curl/7.88.1
accept: */*
authorization: Bearer KEY",
    ),
    (
        "Google Cloud Load Balancing, with its own address",
        "Proxies::x_forwarded(..)",
        "GET /v1 HTTP/1.1
Host: api.example.com
user-agent: curl/7.88.1
accept: */*
authorization: Bearer KEY
X-Cloud-Trace-Context: 105445aa7843bc8bf206b12000100000/1
Via: 1.1 google
X-Forwarded-For: 203.0.113.7,198.51.100.9
X-Forwarded-Proto: https
Connection: Keep-Alive",
    ),
    (
        "Cloudflare",
        "Proxies::x_forwarded(..)",
        "GET /v1 HTTP/1.1
Host: api.example.com
CF-RAY: 8f0a1b2c3d4e5f60-FRA
X-Forwarded-For: 203.0.113.7
CF-Visitor: {\"scheme\":\"https\"}
X-Forwarded-Proto: https
accept: */*
user-agent: curl/7.88.1
authorization: Bearer KEY
CDN-Loop: cloudflare; loops=1
CF-Connecting-IP: 203.0.113.7
Accept-Encoding: gzip, br
CF-IPCountry: DE",
    ),
];

fn form(setting: &str) -> KeyIn {
    let named = |rest: &str| rest.trim_end_matches("\")").to_owned();
    let made = match setting.split_once("(\"") {
        None => match setting {
            "KeyIn::bearer()" => Ok(KeyIn::bearer()),
            "KeyIn::basic()" => Ok(KeyIn::basic()),
            "KeyIn::api_key()" => Ok(KeyIn::api_key()),
            "KeyIn::authorization()" => Ok(KeyIn::authorization()),
            other => panic!("{other}"),
        },
        Some(("KeyIn::header", name)) => KeyIn::header(&named(name)),
        Some(("KeyIn::scheme", name)) => KeyIn::scheme(&named(name)),
        Some(("KeyIn::query_parameter", name)) => KeyIn::query_parameter(&named(name)),
        Some(("KeyIn::web_socket_protocol", name)) => KeyIn::web_socket_protocol(&named(name)),
        Some((other, _)) => panic!("{other}"),
    };
    made.unwrap()
}

/// The bytes of a head, with the fixture's key in it.
fn bytes(fixture: &Fixture, head: &str) -> Vec<u8> {
    let (id, secret) = fixture.pair();
    let id = format!("{id}:");
    let values = [("KEY", fixture.text()), ("ID:", id), ("SECRET", secret)];
    let fill = |text: &str| filled(text, &values);
    let lines = head.lines().map(|line| match line.split_once("base64(") {
        Some((before, inner)) => {
            let inner = fill(inner.strip_suffix(')').unwrap());
            format!("{before}{}", BASE64_STANDARD.encode(inner))
        }
        None => fill(line),
    });
    let lines: Vec<_> = lines.collect();
    format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()
}

/// The status that an edge answers to these bytes, 200 if it admits them.
async fn status(edge: &Edge, bytes: &[u8]) -> u16 {
    let text = std::str::from_utf8(bytes).unwrap();
    let (first, headers) = text
        .strip_suffix("\r\n\r\n")
        .unwrap()
        .split_once("\r\n")
        .unwrap();
    let mut words = first.split(' ');
    let (_, target) = (words.next().unwrap(), words.next().unwrap());
    let headers: Vec<_> = headers
        .split("\r\n")
        .map(|line| line.split_once(": ").unwrap())
        .collect();
    let head = Head {
        headers: headers.as_slice(),
        connection: Connection {
            peer: Some("198.51.100.7".parse().unwrap()),
            is_tls: false,
        },
        query: target.split_once('?').map(|(_, query)| query),
    };
    let need = Requirement::scope(READ);
    let admitted = edge.admit(&head, Attempt::of(&need)).await;
    admitted.map_or_else(|rejection| rejection.answer.status, |_| 200)
}

fn settings() -> Vec<&'static str> {
    let settings: BTreeSet<_> = CLIENTS.iter().map(|(_, setting, _)| *setting).collect();
    settings.into_iter().collect()
}

#[tokio::test]
async fn each_setting_takes_its_clients_bytes() {
    let fixture = Fixture::new(|edge| edge).await;
    let accepting = |settings: &[&str]| {
        let forms = settings.iter().map(|setting| form(setting));
        forms.fold(fixture.edge.clone(), Edge::accept)
    };
    let all = settings();
    let every = accepting(&all);
    for (client, setting, head) in CLIENTS {
        let bytes = bytes(&fixture, head);
        let only = accepting(&[setting]);
        assert_eq!(status(&only, &bytes).await, 200, "{client} with {setting}");
        assert_eq!(status(&every, &bytes).await, 200, "{client} with all");
        let others: Vec<_> = all
            .iter()
            .copied()
            .filter(|other| other != setting)
            .collect();
        let without = accepting(&others);
        assert_eq!(
            status(&without, &bytes).await,
            401,
            "{client} without {setting}"
        );
    }
}

/// Where a client's form is not accepted, the operator sees where the key was.
#[tokio::test]
async fn a_clients_key_elsewhere_is_named() {
    let told = Events::default();
    let fixture =
        Fixture::new(|edge| recording(edge.accept(KeyIn::header("X-Own-Key").unwrap()), &told))
            .await;
    for (client, _, head) in CLIENTS {
        let bytes = bytes(&fixture, head);
        assert_eq!(status(&fixture.edge, &bytes).await, 401, "{client}");
        let (_, _, near_misses) = told.lock().unwrap().pop().unwrap();
        assert_eq!(near_misses.len(), 1, "{client}: {near_misses:?}");
    }
}

#[tokio::test]
async fn each_proxy_names_the_client() {
    let told = Events::default();
    let fixture = Fixture::new(|edge| recording(edge.accept(KeyIn::bearer()), &told)).await;
    let trusted = || ["198.51.100.0/24".parse().unwrap()];
    for (proxy, setting, head) in PROXIES {
        let proxies = match *setting {
            "Proxies::x_forwarded(..)" => Proxies::x_forwarded(trusted()),
            "Proxies::forwarded(..)" => Proxies::forwarded(trusted()),
            other => panic!("{other}"),
        };
        let edge = fixture.edge.clone().require_tls().trust_proxies(proxies);
        let bytes = bytes(&fixture, head);
        assert_eq!(status(&edge, &bytes).await, 200, "{proxy}");
        // Whoever is refused is seen to come from the client's address.
        let short = String::from_utf8(bytes)
            .unwrap()
            .replace("Bearer acme", "Bearer a");
        assert_eq!(status(&edge, short.as_bytes()).await, 401, "{proxy}");
        let (_, client, _) = told.lock().unwrap().pop().unwrap();
        assert_eq!(client.as_deref(), Some("203.0.113.7"), "{proxy}");
    }
}

/// The rows of the guide's table with this head: client, line and setting.
fn rows_of_guide(head: &str) -> Vec<[&'static str; 3]> {
    let after = GUIDE.split_once(head).unwrap().1;
    let rows = after
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| {
        let row = row.trim_start_matches("| ").trim_end_matches(" |");
        let cells: Vec<_> = row.split(" | ").collect();
        let code = |cell: &'static str| cell.trim_matches('`');
        [cells[0], code(cells[1]), code(cells[2])]
    });
    cells.collect()
}

#[test]
fn the_guide_has_the_rows_that_are_tested() {
    for (head, tested, least) in [
        ("| client | what it sends | setting |", CLIENTS, 20),
        ("| proxy | what it sends | setting |", PROXIES, 5),
    ] {
        let rows = rows_of_guide(head);
        assert!(rows.len() >= least);
        let said: Vec<_> = rows
            .iter()
            .map(|[client, _, setting]| (*client, *setting))
            .collect();
        let ours: Vec<_> = tested
            .iter()
            .map(|(client, setting, _)| (*client, *setting))
            .collect();
        assert_eq!(said, ours);
        for ([client, line, _], (_, _, head)) in rows.iter().zip(tested) {
            assert!(head.lines().any(|sent| sent == *line), "{client}: {line}");
        }
    }
}

/// Answers one request, and returns its head.
fn head_sent_by(client: impl FnOnce(&str) -> Command) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let (mut read, mut byte) = (Vec::new(), [0]);
        while !read.ends_with(b"\r\n\r\n") {
            socket.read_exact(&mut byte).unwrap();
            read.extend(byte);
        }
        socket
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .unwrap();
        String::from_utf8(read).unwrap()
    });
    let output = client(&url).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    server.join().unwrap()
}

/// Asserts that a client sends the line with the key as its row says.
async fn assert_sends(client: &str, command: impl FnOnce(&str, &str) -> Command) {
    let fixture = Fixture::new(|edge| edge).await;
    let (_, _, row) = CLIENTS.iter().find(|(name, ..)| *name == client).unwrap();
    let expected = String::from_utf8(bytes(&fixture, row)).unwrap();
    let key = fixture.text();
    let sent = head_sent_by(|url| command(url, &key));
    let credential = |head: &str| {
        let mut lines = head
            .lines()
            .filter(|line| line.starts_with("Authorization:"));
        lines.next().map(str::to_owned)
    };
    assert!(credential(&sent).is_some(), "{client}: {sent}");
    assert_eq!(credential(&sent), credential(&expected), "{client}");
}

#[tokio::test]
async fn curl_sends_these_bytes() {
    if !has(&[CURL]) {
        return;
    }
    assert_sends("curl, `-u KEY:`", |url, key| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--noproxy", "*", "-u", &format!("{key}:"), url]);
        curl
    })
    .await;
    assert_sends("curl, `--oauth2-bearer KEY`", |url, key| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--noproxy", "*", "--oauth2-bearer", key, url]);
        curl
    })
    .await;
}

#[tokio::test]
async fn requests_sends_these_bytes() {
    if !has(&[REQUESTS]) {
        return;
    }
    assert_sends("Python requests, `auth=(KEY, \"\")`", |url, key| {
        let program = "import sys, requests\n\
            session = requests.Session()\n\
            session.trust_env = False\n\
            session.get(sys.argv[1], auth=(sys.argv[2], ''))";
        let mut python = Command::new("python3");
        python.args(["-c", program, url, key]);
        python
    })
    .await;
}

#[tokio::test]
async fn node_sends_these_bytes() {
    if !has(&[NODE]) {
        return;
    }
    assert_sends("Node.js, `fetch`", |url, key| {
        let program = "const [url, key] = process.argv.slice(1);\n\
            const headers = {Authorization: `Bearer ${key}`};\n\
            fetch(url, {headers}).then((answer) => answer.text());";
        let mut node = Command::new("node");
        node.args(["-e", program, url, key]);
        node
    })
    .await;
}
