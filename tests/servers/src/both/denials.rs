//! Promise 9: there are two 401s, and neither tells more than that it is one.

use std::time::Duration;

use keyward::key::{Network, Secret, TenantId};
use keyward::manager::Actor;
use keyward::store::MemoryStore;
use keyward::testkit::{ManualClock, TestKey, builder, keyward_with_key};
use keyward::time::OffsetDateTime;

use super::site::{Plan, Site, new_key};
use super::{EVERY, Served};
use crate::READ;
use crate::client::Ask;
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
async fn there_are_two_401s_and_each_is_the_same_everywhere() {
    let mut answers = Vec::new();
    for served in EVERY {
        let (site, refused) = site(served).await;
        let acts = site.acts();
        for line in LINES {
            let without = site.ask(Ask::of(line)).await;
            let mut with = Vec::new();
            for (why, text) in &refused {
                let forms = [
                    Ask::of(line).header("authorization", format!("Bearer {text}")),
                    Ask::of(line).header("x-api-key", text),
                ];
                // Once known, a key is refused in the same way.
                for ask in [&forms[0], &forms[1], &forms[0]] {
                    let reply = site.try_ask(ask).await.unwrap();
                    with.push((why, reply));
                }
            }
            let whole = |reply: &Reply| (reply.status, lines(reply), reply.body.clone());
            for (why, reply) in &with {
                assert_eq!(whole(reply), whole(&with[0].1), "{served:?} {line} {why}");
            }
            answers.push((answer(&without), answer(&with[0].1)));
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
async fn a_head_is_answered_as_a_get_would_be() {
    for served in EVERY {
        let (site, refused) = site(served).await;
        for (why, text) in &refused {
            let asked = |line: &str| Ask::of(line).header("x-api-key", text);
            let get = site.ask(asked("GET /echo")).await;
            let head = site.ask(asked("HEAD /echo")).await;
            let (get, head) = (answer(&get), answer(&head));
            assert_eq!((get.0, get.1), (head.0, head.1), "{served:?} {why}");
            assert_eq!(head.2, "");
        }
    }
}

/// A site, and all that can be wrong with a credential, each of another kind.
async fn site(served: Served) -> (Site, Vec<(&'static str, String)>) {
    let clock = ManualClock::new(OffsetDateTime::now_utc());
    let keyward = builder(MemoryStore::new(), [READ])
        .clock(clock.clone())
        .open()
        .await
        .unwrap();
    let key = TestKey::issue(&keyward, [READ]).await;
    let site = Site::over(served, keyward, key, Plan::default()).await;

    let revoked = site.issue(|new| new).await;
    assert_eq!(site.status("GET /echo", &revoked).await, 200);
    revoked.revoke(&site.keyward).await;
    let never_used = site.issue(|new| new).await;
    never_used.revoke(&site.keyward).await;
    let suspended = site.issue(|new| new).await;
    assert_eq!(site.status("GET /echo", &suspended).await, 200);
    let (actor, tenant) = (Actor::system("tests"), TenantId::new("acme-inc").unwrap());
    let manager = site.keyward.manager();
    manager
        .suspend(&actor, &tenant, suspended.id())
        .await
        .unwrap();
    let network: Network = "198.51.100.0/24".parse().unwrap();
    let elsewhere = site.issue(|new| new.networks(network)).await;
    let expired = site
        .issue(|new| new.expires_in(Duration::from_secs(3_600)))
        .await;
    assert_eq!(site.status("GET /echo", &expired).await, 200);
    let begins = OffsetDateTime::now_utc() + Duration::from_secs(300_000);
    let not_begun = site.issue(|new| new.not_before(begins)).await;
    clock.advance(Duration::from_secs(200_000));
    let restricted = site.restricted().await;
    restricted.revoke(&site.keyward).await;
    let unknown = {
        let (other, _) = keyward_with_key([READ]).await;
        TestKey::issue_as(&other, new_key()).await
    };
    let texts = [
        ("revoked", revoked.text()),
        ("revoked before it was used", never_used.text()),
        ("suspended", suspended.text()),
        ("outside its networks", elsewhere.text()),
        ("expired", expired.text()),
        ("not begun", not_begun.text()),
        ("restricted and revoked", restricted.text()),
        ("unknown", unknown.text()),
    ];
    let mut refused: Vec<_> = texts.map(|(why, text)| (why, text.to_owned())).into();
    let text = site.key.text();
    refused.extend([
        ("wrong secret", with_another_secret(&site)),
        ("another environment", text.replace("_test_", "_live_")),
        ("rubbish", "Zm9vOmJhcg==".to_owned()),
        ("empty", String::new()),
        ("cut short", text[..text.len() - 1].to_owned()),
        ("oversize", "a".repeat(1_000)),
    ]);
    (site, refused)
}

/// The id of a key that is good, and a secret that is not.
fn with_another_secret(site: &Site) -> String {
    let format = site.keyward.format();
    let secret = Secret::new("x".repeat(format.secret_characters())).unwrap();
    let environment = format.find_environment(None).unwrap();
    let wrong = format.compose(environment, site.key.id(), &secret);
    wrong.unwrap().expose().to_owned()
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
