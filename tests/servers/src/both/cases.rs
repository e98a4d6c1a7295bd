//! The table of requests and their outcomes, in both frameworks and over both protocols.
//!
//! In lines and headers, `<any>` is a key of any project, `<p-1>` a key restricted to that project, `<id>` and
//! `<secret>` are the halves of the first one, `<basic>` and so on are its forms in Basic, and `<long>` is 64 KiB. A
//! character of a header is one byte.

mod credentials;
mod resources;
mod targets;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use keyward::http::{Connection, Edge, Head};
use keyward::testkit::{TestKey, keyward_with_key};
use keyward::verifier::{Attempt, Requirement, VerifierStats};

use super::site::{Framework, Site, every_form};
use super::{EVERY, Served};
use crate::READ;
use crate::client::{Ask, Protocol};

/// A method and a target, headers, and how it ends.
type Case = (&'static str, Headers, End);

type Headers = &'static [(&'static str, &'static str)];

/// How a request ends. The handler acts if the status is 200, and never otherwise.
#[derive(Debug, Clone, Copy)]
enum End {
    /// With this body, and 200.
    Says(&'static str),
    Status(u16),
    /// The one in axum, the other in actix.
    Either(u16, u16),
    /// Refused, by the server or behind it, with any error status or without a response.
    Refused,
}

use End::{Either, Refused, Says, Status};

const NO_KEY: Headers = &[];
const ANY: Headers = &[("authorization", "Bearer <any>")];
const P1: Headers = &[("authorization", "Bearer <p-1>")];

/// Replaces the placeholders of keys.
struct Words(Vec<(&'static str, String)>);

impl Words {
    fn new(any: &TestKey, restricted: &str) -> Self {
        let (id, secret) = any.pair();
        let (text, secret) = (any.text(), secret.to_owned());
        let basic = |text: String| BASE64_STANDARD.encode(text);
        Self(vec![
            ("<any>", text.to_owned()),
            ("<p-1>", restricted.to_owned()),
            ("<start>", text[..20].to_owned()),
            ("<rest>", text[20..].to_owned()),
            ("<quoted>", text.replace('_', "%5f")),
            ("<loud>", text.to_uppercase()),
            ("<loud id>", id.to_uppercase()),
            ("<basic>", basic(format!("{text}:"))),
            ("<basic pair>", basic(format!("{id}:{secret}"))),
            ("<basic bare>", basic(text.to_owned())),
            ("<basic password>", basic(format!(":{text}"))),
            ("<basic both>", basic(format!("{text}:x"))),
            ("<basic user>", basic(format!("api:{text}"))),
            ("<basic two>", basic(format!("{text}:{restricted}"))),
            ("<basic id>", basic(format!("{id}:"))),
            ("<basic id key>", basic(format!("{id}:{text}"))),
            ("<id>", id),
            ("<secret>", secret),
            ("<long>", "a".repeat(64 * 1_024)),
        ])
    }

    fn fill(&self, text: &str) -> String {
        let words = self.0.iter();
        words.fold(text.to_owned(), |text, (word, meant)| {
            text.replace(word, meant)
        })
    }

    fn ask(&self, (line, headers, _): &Case) -> Ask {
        let ask = Ask::of(&self.fill(line));
        let headers = self.headers(headers).into_iter();
        headers.fold(ask, |ask, (name, value)| ask.header(name, value))
    }

    fn headers(&self, headers: Headers) -> Vec<(&'static str, Vec<u8>)> {
        let bytes = |value: &str| {
            self.fill(value)
                .chars()
                .map(|c| u8::try_from(c).unwrap())
                .collect()
        };
        headers
            .iter()
            .map(|(name, value)| (*name, bytes(value)))
            .collect()
    }
}

/// Tries those of these that are sent to `/echo` at an edge without a server, which gets even the headers that no
/// server passes on. Returns the counters of the verifier before and after.
async fn run_at_edge(cases: &[Case]) -> [VerifierStats; 2] {
    let (keyward, key) = keyward_with_key([READ.described("For tests")], READ).await;
    let edge = every_form(Edge::new(&keyward));
    let words = Words::new(&key, key.text());
    let need = Requirement::any_key();
    let before = keyward.verifier().stats();
    for (line, headers, end) in cases {
        let line = words.fill(line);
        let (_, target) = line.split_once(' ').unwrap();
        let Some(rest) = target.strip_prefix("/echo") else {
            continue;
        };
        let sent = words.headers(headers);
        let sent: Vec<_> = sent.iter().map(|(name, value)| (*name, &**value)).collect();
        let head = Head {
            headers: sent.as_slice(),
            connection: Connection::default(),
            query: rest.strip_prefix('?'),
        };
        let admitted = edge.admit(&head, Attempt::of(&need)).await;
        let status = admitted.map_or_else(|rejection| rejection.answer.status, |_| 200);
        let is_right = match end {
            Status(expected) => status == *expected,
            _ => status >= 400,
        };
        assert!(is_right, "{line} {headers:?}: {status}, not {end:?}");
    }
    [before, keyward.verifier().stats()]
}

/// Tries all of these, in both frameworks and over both protocols.
async fn run(cases: &[Case]) {
    for served in EVERY {
        let site = Site::open(served).await;
        let restricted = site.restricted().await;
        let words = Words::new(&site.key, restricted.text());
        let mut said = 0;
        let mut wrong = Vec::new();
        for case in cases {
            let acts = site.acts();
            let Some(reply) = site.try_ask(&words.ask(case)).await else {
                continue;
            };
            said += 1;
            let (line, headers, end) = case;
            let acts = site.acts() - acts;
            let is_right = is_as(served, *end, reply.status, &reply.body);
            if !is_right || acts != usize::from(reply.status == 200) {
                let (status, body) = (reply.status, reply.body);
                let got = format!("{status} {body:?} and {acts} acts");
                wrong.push(format!("{line} {headers:?}: {got}, not {end:?}"));
            }
        }
        assert!(wrong.is_empty(), "{served:?}:\n{}", wrong.join("\n"));
        // HTTP/2 has fewer forms of targets, and no header that could be split.
        let needed = match served.protocol {
            Protocol::Http1 => cases.len(),
            Protocol::Http2 => cases.len() / 2,
        };
        assert!(said >= needed, "{served:?}: {said} of {}", cases.len());
    }
}

fn is_as(served: Served, end: End, status: u16, body: &str) -> bool {
    match (end, served.framework) {
        (Says(expected), _) => status == 200 && body == expected,
        (Status(expected), _)
        | (Either(expected, _), Framework::Axum)
        | (Either(_, expected), Framework::Actix) => status == expected,
        (Refused, _) => status == 0 || status >= 400,
    }
}
