//! The guide *Clients*: each row of its tables with the very bytes.
//!
//! `clients/capture.py` captured them. In a head, `KEY`, `ID` and `SECRET` are the fixture's, `base64(…)` is encoded,
//! and lines end with `\r\n`.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use keyward::http::{Connection, Edge, Head, KeyIn, NearMiss, Proxies};
use keyward::verifier::{Attempt, Requirement};
use test_support::{CURL, REQUESTS, Tool, has};

use crate::common::{Events, Fixture, READ, filled, recording};

/// Node.js with `fetch`, which has been in it since version 18.
const NODE: Tool = Tool::new("node with fetch", &["node", "-e", "fetch; 0"]);

const GUIDE: &str = include_str!("../../src/manual/clients.md");

/// A client or a proxy, the setting for it, and the head that it sent. The guide shows one of the head's lines.
#[derive(Debug, Clone, Copy)]
struct Row {
    sender: &'static str,
    setting: &'static str,
    head: &'static str,
}

/// Reads the rows of a file that `clients/capture.py` describes.
fn rows(file: &'static str) -> impl Iterator<Item = Row> {
    file.split("\n# ").skip(1).map(|row| {
        let (about, head) = row.split_once("\n\n").unwrap();
        let mut about = about.lines();
        let sender = about.next().unwrap();
        let setting = about.find_map(|line| line.strip_prefix("setting: "));
        Row {
            sender,
            setting: setting.unwrap(),
            head: head.trim_end_matches('\n'),
        }
    })
}

fn captured_clients() -> Vec<Row> {
    rows(include_str!("../clients/clients.txt")).collect()
}

fn captured_proxies() -> Vec<Row> {
    rows(include_str!("../clients/proxies.txt")).collect()
}

/// The clients (`KeyIn`) or the proxies (`Proxies`) that follow documentation.
fn documented(settings_of: &str) -> Vec<Row> {
    rows(include_str!("../clients/documented.txt"))
        .filter(|row| row.setting.starts_with(settings_of))
        .collect()
}

fn clients() -> Vec<Row> {
    [captured_clients(), documented("KeyIn")].concat()
}

fn proxies() -> Vec<Row> {
    [captured_proxies(), documented("Proxies")].concat()
}

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
    let lines = head.lines().map(|line| {
        // The name of a header may have `KEY` in it, too.
        let (name, value) = line.split_once(": ").map_or(("", line), |(name, _)| {
            line.split_at(name.len() + ": ".len())
        });
        match value.split_once("base64(") {
            Some((before, inner)) => {
                let inner = fill(inner.strip_suffix(')').unwrap());
                format!("{name}{before}{}", BASE64_STANDARD.encode(inner))
            }
            None => format!("{name}{}", fill(value)),
        }
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
    let settings: BTreeSet<_> = clients().iter().map(|row| row.setting).collect();
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
    for Row {
        sender: client,
        setting,
        head,
    } in clients()
    {
        let bytes = bytes(&fixture, head);
        let only = accepting(&[setting]);
        assert_eq!(status(&only, &bytes).await, 200, "{client} with {setting}");
        assert_eq!(status(&every, &bytes).await, 200, "{client} with all");
        let others: Vec<_> = all
            .iter()
            .copied()
            .filter(|other| *other != setting)
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
    let observed = Events::default();
    let fixture =
        Fixture::new(|edge| recording(edge.accept(KeyIn::header("X-Own-Key").unwrap()), &observed))
            .await;
    for Row {
        sender: client,
        head,
        ..
    } in clients()
    {
        let bytes = bytes(&fixture, head);
        assert_eq!(status(&fixture.edge, &bytes).await, 401, "{client}");
        let (_, _, near_misses) = observed.lock().unwrap().pop().unwrap();
        assert_eq!(near_misses.len(), 1, "{client}: {near_misses:?}");
    }
}

/// Returns the client that is named where a row's key is refused, after the key itself was admitted.
async fn client_behind(row: &Row, fixture: &Fixture, observed: &Events) -> Option<String> {
    let Row {
        sender: proxy,
        setting,
        head,
    } = row;
    let trusted = ["198.51.100.0/24".parse().unwrap()];
    let proxies = match *setting {
        "Proxies::x_forwarded(..)" => Proxies::x_forwarded(trusted),
        "Proxies::forwarded(..)" => Proxies::forwarded(trusted),
        other => panic!("{other}"),
    };
    let edge = fixture.edge.clone().require_tls().trust_proxies(proxies);
    let bytes = bytes(fixture, head);
    assert_eq!(status(&edge, &bytes).await, 200, "{proxy}");
    let short = String::from_utf8(bytes)
        .unwrap()
        .replace("Bearer acme", "Bearer a");
    assert_eq!(status(&edge, short.as_bytes()).await, 401, "{proxy}");
    let (_, client, _) = observed.lock().unwrap().pop().unwrap();
    client
}

#[tokio::test]
async fn each_proxy_names_the_client() {
    let observed = Events::default();
    let fixture = Fixture::new(|edge| recording(edge.accept(KeyIn::bearer()), &observed)).await;
    for row in proxies() {
        let client = client_behind(&row, &fixture, &observed).await;
        assert_eq!(client.as_deref(), Some("203.0.113.7"), "{}", row.sender);
    }
}

/// The client sent an `X-Forwarded-For` of its own.
#[tokio::test]
async fn no_proxy_passes_on_a_forged_address() {
    let observed = Events::default();
    let fixture = Fixture::new(|edge| recording(edge.accept(KeyIn::bearer()), &observed)).await;
    let forged: Vec<_> = rows(include_str!("../clients/forged.txt")).collect();
    assert!(forged.iter().any(|row| row.head.contains("192.0.2.1")));
    assert_eq!(forged.len(), captured_proxies().len());
    for row in forged {
        let client = client_behind(&row, &fixture, &observed).await;
        assert_eq!(client.as_deref(), Some("203.0.113.7"), "{}", row.sender);
    }
}

/// The client named the headers of proxies in its `Connection`, for a proxy to remove them (RFC 9110 §7.6.1).
#[tokio::test]
async fn no_client_removes_what_a_proxy_wrote() {
    let observed = Events::default();
    let fixture = Fixture::new(|edge| recording(edge.accept(KeyIn::bearer()), &observed)).await;
    let rows: Vec<_> = rows(include_str!("../clients/hop_by_hop.txt")).collect();
    assert_eq!(rows.len() + 2, captured_proxies().len());
    for row in rows {
        if row.sender.starts_with("Apache") {
            // It removes the scheme that it wrote: the request counts as one without TLS.
            let proxies = Proxies::x_forwarded(["198.51.100.0/24".parse().unwrap()]);
            let edge = fixture.edge.clone().require_tls().trust_proxies(proxies);
            let bytes = bytes(&fixture, row.head);
            assert_eq!(status(&edge, &bytes).await, 403);
            continue;
        }
        let client = client_behind(&row, &fixture, &observed).await;
        assert_eq!(client.as_deref(), Some("203.0.113.7"), "{}", row.sender);
    }
}

/// The client sent a header with its key twice: some proxies join the two.
#[tokio::test]
async fn through_each_proxy_two_keys_are_refused() {
    let observed = Events::default();
    let fixture =
        Fixture::new(|edge| recording(edge.accept(KeyIn::header("X-API-Key").unwrap()), &observed))
            .await;
    let twice: Vec<_> = rows(include_str!("../clients/twice.txt")).collect();
    assert!(twice.iter().any(|row| row.head.contains("KEY, KEY")));
    assert_eq!(twice.len(), captured_proxies().len());
    for row in twice {
        let bytes = bytes(&fixture, row.head);
        assert_eq!(status(&fixture.edge, &bytes).await, 400, "{}", row.sender);
        let (_, _, near_misses) = observed.lock().unwrap().pop().unwrap();
        let name = "x-api-key".into();
        assert!(
            near_misses.contains(&NearMiss::Repeated { name }),
            "{near_misses:?}"
        );
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
    for (title, tested, least) in [
        ("client", captured_clients(), 35),
        ("proxy", captured_proxies(), 5),
        ("client, by its documentation", documented("KeyIn"), 1),
        ("proxy, by its documentation", documented("Proxies"), 1),
    ] {
        let said = rows_of_guide(&format!("\n| {title} | what it sends | setting |"));
        assert!(said.len() >= least);
        let names: Vec<_> = said
            .iter()
            .map(|[sender, _, setting]| (*sender, *setting))
            .collect();
        let ours: Vec<_> = tested.iter().map(|row| (row.sender, row.setting)).collect();
        assert_eq!(names, ours);
        for ([sender, line, _], row) in said.iter().zip(&tested) {
            let mut lines = row.head.lines();
            assert!(lines.any(|sent| sent == *line), "{sender}: {line}");
        }
    }
    let number = captured_clients().len();
    let readme = include_str!("../../README.md");
    assert!(readme.contains(&format!("tested with the bytes of {number} clients")));
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
async fn assert_sends(client: &str, how: &str, command: impl FnOnce(&str, &str) -> Command) {
    let fixture = Fixture::new(|edge| edge).await;
    let rows = captured_clients();
    let is_meant = |row: &&Row| row.sender.starts_with(client) && row.sender.ends_with(how);
    let row = rows.iter().find(is_meant).unwrap();
    let expected = String::from_utf8(bytes(&fixture, row.head)).unwrap();
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
    assert_sends("curl", "`-u KEY:`", |url, key| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--noproxy", "*", "-u", &format!("{key}:"), url]);
        curl
    })
    .await;
    assert_sends("curl", "`--oauth2-bearer KEY`", |url, key| {
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
    assert_sends("Python requests", "`auth=(KEY, \"\")`", |url, key| {
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
    assert_sends("Node.js", "`fetch`", |url, key| {
        let program = "const [url, key] = process.argv.slice(1);\n\
            const headers = {Authorization: `Bearer ${key}`};\n\
            fetch(url, {headers}).then((answer) => answer.text());";
        let mut node = Command::new("node");
        node.args(["-e", program, url, key]);
        node
    })
    .await;
}
