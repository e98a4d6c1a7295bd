//! Promise 9: there are two 401s, and neither tells more than that it is one.

use keyward::http::Proxies;
use keyward::testkit::TestKey;

use super::site::{Plan, Site};
use super::{EVERY, Served};
use crate::READ;
use crate::client::Ask;
use crate::refused::{Fixture, Refused};
use crate::wire::Reply;

/// What of an answer is Keyward's: the status, these headers, and the body.
type Answer = (u16, Vec<(&'static str, Vec<String>)>, String);

const OURS: [&str; 4] = ["cache-control", "content-type", "vary", "www-authenticate"];

const LINES: [&str; 7] = [
    "GET /echo",
    "GET /projects",
    "GET /projects/p-1",
    "POST /editions/e-1-7",
    "DELETE /editions/e-1-7",
    "PUT /editions/e-1-7",
    "GET /nested/read",
];

#[tokio::test]
async fn there_are_two_constant_401s() {
    let mut answers = Vec::new();
    for served in EVERY {
        let (site, refused) = site(served).await;
        let acts = site.acts();
        for line in LINES {
            let without = site.ask(Ask::of(line)).await;
            site.told();
            let mut first = None;
            for refused in &refused {
                let text = &refused.text;
                let forms = [
                    asking(line, refused).header("authorization", format!("Bearer {text}")),
                    asking(line, refused).header("x-api-key", text),
                ];
                // Once known, a key is refused in the same way.
                for ask in [&forms[0], &forms[1], &forms[0]] {
                    let reply = site.try_ask(ask).await.unwrap();
                    let told = site.told();
                    let is_meant = told.len() == 1 && told[0].starts_with(&refused.why);
                    assert!(is_meant, "{:?}, and not {told:?}", refused.why);
                    let first = first.get_or_insert_with(|| (whole(&reply), answer(&reply)));
                    assert_eq!(whole(&reply), first.0, "{served:?} {line} {told:?}");
                }
            }
            answers.push((answer(&without), first.unwrap().1));
        }
        assert_eq!(site.acts(), acts);
    }
    for both in &answers {
        assert_eq!(*both, answers[0]);
    }
    let (without, refused) = &answers[0];
    assert_eq!((without.0, refused.0), (401, 401));
    assert_ne!(without.2, refused.2);
}

#[tokio::test]
async fn a_key_ending_meanwhile_is_a_401() {
    const LINE: &str = "POST /looked-up/e-waits";
    for served in EVERY {
        let (site, refused) = site(served).await;
        let unknown = refused
            .iter()
            .find(|refused| refused.why.contains("no key"));
        let unknown = asking(LINE, unknown.unwrap()).header("x-api-key", &unknown.unwrap().text);
        let unknown = site.ask(unknown).await;
        let (key, acts) = (site.issue(|new| new).await, site.acts());
        let waiting = site.ask(Ask::of(LINE).header("x-api-key", key.text()));
        let revoking = async {
            site.waits().begun.notified().await;
            key.revoke(&site.keyward).await;
            site.waits().released.notify_one();
        };
        let (reply, ()) = tokio::join!(waiting, revoking);
        assert_eq!(whole(&reply), whole(&unknown), "{served:?}");
        let ended = "the key has ended since the request was admitted";
        assert_eq!(site.told().last().unwrap(), ended);
        assert_eq!(site.acts(), acts);
    }
}

#[tokio::test]
async fn head_is_answered_as_get() {
    for served in EVERY {
        let (site, refused) = site(served).await;
        for refused in &refused {
            let asked = |line: &str| asking(line, refused).header("x-api-key", &refused.text);
            let get = site.ask(asked("GET /echo")).await;
            let head = site.ask(asked("HEAD /echo")).await;
            let (get, head) = (answer(&get), answer(&head));
            assert_eq!(
                (get.0, get.1),
                (head.0, head.1),
                "{served:?} {}",
                refused.why
            );
            assert_eq!(head.2, "");
        }
    }
}

/// A site behind a proxy, and credentials that it refuses.
async fn site(served: Served) -> (Site, Vec<Refused>) {
    let fixture = Fixture::open().await;
    let key = TestKey::issue(&fixture.keyward, [READ]).await;
    let plan = Plan {
        edge: |edge| edge.trust_proxies(Proxies::forwarded(["127.0.0.1/32".parse().unwrap()])),
        ..Plan::default()
    };
    let refused = fixture.refused().await;
    let site = Site::over(served, fixture.keyward, key, plan).await;
    assert_eq!(site.status("GET /echo", &site.key).await, 200);
    (site, refused)
}

/// A request from where the credential is refused.
fn asking(line: &str, refused: &Refused) -> Ask {
    match refused.forwarded {
        Some(from) => Ask::of(line).header("forwarded", from),
        None => Ask::of(line),
    }
}

/// All of an answer but for the time.
fn whole(reply: &Reply) -> (u16, Vec<String>, String) {
    (reply.status, lines(reply), reply.body.clone())
}

/// All that came before the body but for the time.
fn lines(reply: &Reply) -> Vec<String> {
    let lines = reply.head.lines().map(str::to_ascii_lowercase);
    lines.filter(|line| !line.starts_with("date: ")).collect()
}

fn answer(reply: &Reply) -> Answer {
    for line in lines(reply) {
        let tells = ["ratelimit", "x-ratelimit", "retry-after", "set-cookie"];
        assert!(tells.iter().all(|name| !line.starts_with(name)), "{line}");
    }
    let values = |name| reply.headers(name).into_iter().map(str::to_owned).collect();
    let ours = OURS.map(|name| (name, values(name)));
    (reply.status, ours.into(), reply.body.clone())
}
