//! The limits that callers see: headers, read back by a parser of structured fields that is not ours, and refusals.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;
use keyward::Keyward;
use keyward::http::{Answer, Edge, Head, KeyIn, LimitHeaders, Rejection, RejectionReason};
use keyward::key::{KeyId, Quota, TenantId};
use keyward::limiter::{
    Limit, LimitRule, LimitSource, LimitState, PlanBook, PlanError, PlanFallback, RateLimiting,
    Subject, TenantPlan,
};
use keyward::manager::NewKey;
use keyward::store::MemoryStore;
use keyward::testkit::{ManualClock, ManualMonotonicClock, TestKey, builder};
use keyward::time::OffsetDateTime;
use keyward::verifier::{Attempt, Permit, Requirement};
use problem_details::ProblemDetails;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use sfv::{BareItem, List, ListEntry, Parser};

use crate::common::{READ, admit, over_tls};

/// The greatest integer of a structured field (RFC 9651, section 3.3.1).
const MAX_INTEGER: u128 = 999_999_999_999_999;

fn value<'a>(headers: &'a [(&'static str, String)], name: &str) -> &'a str {
    let mut found = headers.iter().filter(|(other, _)| *other == name);
    let (_, value) = found.next().unwrap();
    assert!(found.next().is_none(), "{name} twice");
    value
}

type Item = (String, Vec<(String, i64)>);

/// Parses a list of strings with integer parameters, as the `sfv` crate reads it.
fn parse(text: &str) -> Vec<Item> {
    let list: List = Parser::new(text).parse().unwrap();
    let item = |entry: ListEntry| {
        let ListEntry::Item(item) = entry else {
            panic!("an inner list in {text}");
        };
        let BareItem::String(name) = item.bare_item else {
            panic!("no string in {text}");
        };
        let parameters = item.params.into_iter().map(|(key, value)| match value {
            BareItem::Integer(number) => (key.as_str().to_owned(), number.into()),
            other => panic!("no integer: {other:?}"),
        });
        (name.as_str().to_owned(), parameters.collect())
    };
    list.into_iter().map(item).collect()
}

fn item(name: &str, parameters: [(&str, u128); 2]) -> Item {
    let number = |number: u128| i64::try_from(number.min(MAX_INTEGER)).unwrap();
    let parameters = parameters.map(|(key, value)| (key.to_owned(), number(value)));
    (name.to_owned(), parameters.into())
}

/// A quota, what remains of it, and the time until it resets.
fn any_state() -> impl Strategy<Value = (Quota, u32, Duration)> {
    let quota = ("[a-z0-9_-]{1,32}", 1..=u32::MAX, 1_u64..=366 * 86_400);
    let quota = quota.prop_map(|(name, limit, window)| {
        let limit = NonZeroU32::new(limit).unwrap();
        Quota::new(&name, limit, Duration::from_secs(window)).unwrap()
    });
    let days = (0..100 * 86_400_u64, 0..1_000_000_000_u32);
    let days = days.prop_map(|(seconds, nanos)| Duration::new(seconds, nanos));
    let reset_after = prop_oneof![days, any::<Duration>()];
    (quota, any::<u32>(), reset_after)
}

proptest! {
    #[test]
    fn structured_fields_round_trip(states in vec(any_state(), 1..9)) {
        let named: BTreeMap<_, _> = states.into_iter().map(|state| {
            (state.0.name().to_owned(), state)
        }).collect();
        let states: Vec<_> = named.into_values().collect();
        let shown: Vec<_> = states.iter().cloned().map(|(quota, remaining, reset_after)| {
            let subject = Subject::Key(TenantId::new("acme-inc").unwrap(), KeyId::from_u128(1));
            let limit = Limit::new(subject, LimitSource::Key, LimitRule::Quota(quota));
            LimitState::new(limit, remaining, reset_after)
        }).collect();
        let headers = LimitHeaders::All.render(&shown, Some(OffsetDateTime::UNIX_EPOCH));
        let policies: Vec<Item> = states.iter().map(|(quota, ..)| {
            let window = quota.window().as_secs();
            item(quota.name(), [("q", quota.limit().get().into()), ("w", window.into())])
        }).collect();
        let limits: Vec<Item> = states.iter().map(|(quota, remaining, reset_after)| {
            let seconds = reset_after.as_nanos().div_ceil(1_000_000_000);
            let remaining = (*remaining).min(quota.limit().get());
            item(quota.name(), [("r", remaining.into()), ("t", seconds)])
        }).collect();
        prop_assert_eq!(parse(value(&headers, "ratelimit-policy")), policies);
        prop_assert_eq!(parse(value(&headers, "ratelimit")), limits);
    }
}

const MINUTE: Duration = Duration::from_secs(60);

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn quota(name: &str, limit: u32, seconds: u64) -> Quota {
    Quota::new(name, number(limit), Duration::from_secs(seconds)).unwrap()
}

/// An edge in front of a key with limits, and the clocks.
struct Limited {
    keyward: Keyward,
    edge: Edge,
    key: TestKey,
    wall: ManualClock,
    monotonic: ManualMonotonicClock,
}

impl Limited {
    async fn new(limits: impl FnOnce(NewKey) -> NewKey) -> Self {
        Self::with(limits, RateLimiting::new(), |edge| edge).await
    }

    async fn with(
        limits: impl FnOnce(NewKey) -> NewKey,
        settings: RateLimiting,
        change: impl FnOnce(Edge) -> Edge,
    ) -> Self {
        let wall = ManualClock::new(OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
        let monotonic = ManualMonotonicClock::new();
        let keyward = builder(MemoryStore::new(), [READ])
            .clock(wall.clone())
            .monotonic_clock(monotonic.clone())
            .rate_limiting(settings);
        let keyward = keyward.open().await.unwrap();
        let edge = change(Edge::new(&keyward).accept(KeyIn::bearer()));
        let new = NewKey::new(TenantId::new("acme-inc").unwrap(), "limited", READ);
        let key = TestKey::issue_as(&keyward, limits(new)).await;
        Self {
            keyward,
            edge,
            key,
            wall,
            monotonic,
        }
    }

    fn advance(&self, by: Duration) {
        self.wall.advance(by);
        self.monotonic.advance(by);
    }

    async fn ask(&self, need: &Requirement) -> Result<Permit, Box<Rejection>> {
        let admitted = admit(&self.edge, &self.key, need).await;
        admitted.map(|admitted| admitted.into_parts().1)
    }

    /// The headers of an admitted request.
    fn headers(&self, permit: &Permit) -> Vec<(&'static str, String)> {
        let headers = self.edge.limit_headers_of(permit);
        headers
            .map(|header| {
                assert!(header.replaces);
                (header.name, header.value.into_owned())
            })
            .collect()
    }

    /// The limit headers of a refusal.
    fn headers_of(answer: &Answer) -> Vec<(&'static str, String)> {
        let headers = answer.headers.iter();
        let limits = headers.filter(|(name, _)| name.contains("ratelimit"));
        limits.cloned().collect()
    }
}

fn header(answer: &Answer, name: &str) -> u64 {
    value(&answer.headers, name).parse().unwrap()
}

fn x(headers: &[(&'static str, String)]) -> [u64; 3] {
    ["limit", "remaining", "reset"].map(|name| {
        let value = value(headers, &format!("x-ratelimit-{name}"));
        value.parse().unwrap()
    })
}

fn body(answer: &Answer) -> (ProblemDetails<Value>, Value) {
    let read = serde_json::from_slice(&answer.body).unwrap();
    (read, serde_json::from_slice(&answer.body).unwrap())
}

#[tokio::test]
async fn an_admitted_request_shows_all_limits() {
    let limits = |new: NewKey| {
        let quotas = new
            .quota(quota("minute", 60, 60))
            .quota(quota("hour", 100, 3_600));
        quotas.concurrency(number(5))
    };
    let limited = Limited::new(limits).await;
    let need = Requirement::scope(READ).quota(quota("exports", 40, 60));
    let permit = limited.ask(&need).await.unwrap();
    let headers = limited.headers(&permit);
    assert_eq!(
        value(&headers, "ratelimit-policy"),
        r#""minute";q=60;w=60, "hour";q=100;w=3600, "exports";q=40;w=60, "concurrency";q=5;qu="concurrent-requests""#
    );
    assert_eq!(x(&headers)[..2], [40, 39], "the tightest");
    let shown: List = Parser::new(value(&headers, "ratelimit")).parse().unwrap();
    assert_eq!(shown.len(), 4);
    assert!(value(&headers, "ratelimit").ends_with(r#", "concurrency";r=4"#));

    let free = Limited::new(|new| new).await;
    let permit = free.ask(&Requirement::scope(READ)).await.unwrap();
    assert_eq!(free.headers(&permit), [], "no limit applies");
}

#[tokio::test]
async fn a_client_that_waits_is_not_refused() {
    let limits = |new: NewKey| {
        new.quota(quota("minute", 7, 60))
            .quota(quota("hour", 40, 3_600))
    };
    let limited = Limited::new(limits).await;
    let (plain, costly) = (
        Requirement::scope(READ),
        Requirement::scope(READ).cost(number(3)),
    );
    let mut refusals = 0;
    for step in 0..120_u32 {
        let need = if step % 5 == 0 { &costly } else { &plain };
        limited.advance(Duration::from_millis(u64::from(step) * 137 % 2_000));
        let Err(rejection) = limited.ask(need).await else {
            continue;
        };
        refusals += 1;
        let answer = &rejection.answer;
        assert_eq!(answer.status, 429);
        let retry_after = header(answer, "retry-after");
        let resets = parse(value(&answer.headers, "ratelimit"));
        let exceeded = body(answer).1["violated-policies"].clone();
        for (name, parameters) in resets {
            let is_exceeded = exceeded.as_array().unwrap().contains(&json!(name));
            assert!(!is_exceeded || parameters[1].1 <= retry_after as i64);
        }
        let now = limited.wall_seconds();
        let [_, _, reset] = x(&answer.headers);
        assert!(reset >= now);
        // It follows the one or the other.
        let wait = if refusals % 2 == 0 {
            reset - now
        } else {
            retry_after
        };
        limited.advance(Duration::from_secs(wait));
        assert!(limited.ask(need).await.is_ok(), "step {step}");
    }
    assert!(refusals > 20, "{refusals}");
}

#[tokio::test]
async fn a_client_that_paces_itself_is_not_refused() {
    let cost = 3;
    let limits = |new: NewKey| {
        let quotas = new
            .quota(quota("minute", 7, 60))
            .quota(quota("hour", 101, 3_600));
        quotas.concurrency(number(1))
    };
    for follows_draft in [true, false] {
        let limited = Limited::new(limits).await;
        let need = Requirement::scope(READ).cost(number(cost));
        let mut waits = 0;
        for step in 0..80_u64 {
            limited.advance(Duration::from_millis(step * 311 % 1_700));
            let permit = limited.ask(&need).await;
            let permit = permit.unwrap_or_else(|refused| panic!("{step}: {:?}", refused.answer));
            let headers = limited.headers(&permit);
            let wait = if follows_draft {
                let states = parse(value(&headers, "ratelimit")).into_iter();
                let short = states.filter(|(name, parameters)| {
                    name != "concurrency" && parameters[0].1 < i64::from(cost)
                });
                let waits = short.map(|(_, parameters)| parameters[1].1.cast_unsigned());
                waits.max().unwrap_or(0)
            } else {
                let [_, remaining, reset] = x(&headers);
                let wait = reset - limited.wall_seconds();
                if remaining < cost.into() { wait } else { 0 }
            };
            waits += u32::from(wait > 0);
            limited.advance(Duration::from_secs(wait));
        }
        assert!(waits > 20, "{waits}");
    }
}

impl Limited {
    /// The wall clock, in whole seconds.
    fn wall_seconds(&self) -> u64 {
        use keyward::clock::Clock as _;
        let now = self.wall.now().unwrap();
        now.unix_timestamp().try_into().unwrap()
    }
}

#[tokio::test]
async fn setting_the_clock_moves_only_the_reset() {
    let limited = Limited::new(|new| new.quota(quota("minute", 2, 60))).await;
    let need = Requirement::scope(READ);
    let permit = limited.ask(&need).await.unwrap();
    let start = limited.wall_seconds();
    let before = limited.headers(&permit);
    assert!(limited.ask(&need).await.is_ok());
    let full = limited.ask(&need).await.unwrap_err();
    for hours in [-1, 1] {
        let wall = OffsetDateTime::from_unix_timestamp(start.try_into().unwrap()).unwrap();
        limited
            .wall
            .set(wall + keyward::time::Duration::hours(hours));
        let refused = limited.ask(&need).await.unwrap_err();
        assert_eq!(refused.answer.body, full.answer.body);
        assert_eq!(
            header(&refused.answer, "retry-after"),
            header(&full.answer, "retry-after")
        );
        let after = refused.answer.headers;
        let moved = x(&after)[2].cast_signed() - x(&full.answer.headers)[2].cast_signed();
        assert_eq!(moved, hours * 3_600);
        for name in ["ratelimit", "ratelimit-policy", "x-ratelimit-limit"] {
            assert_eq!(value(&after, name), value(&full.answer.headers, name));
        }
    }
    limited.wall.fail();
    let names = |headers: &[(&'static str, String)]| -> Vec<_> {
        headers.iter().map(|(name, _)| *name).collect()
    };
    let failed = limited.headers(&permit);
    let mut expected = names(&before);
    expected.retain(|name| *name != "x-ratelimit-reset");
    assert_eq!(names(&failed), expected);
}

#[tokio::test]
async fn a_busy_key_keeps_its_windows() {
    let limits = |new: NewKey| new.quota(quota("minute", 60, 60)).concurrency(number(1));
    let limited = Limited::new(limits).await;
    let need = Requirement::scope(READ);
    let permit = limited.ask(&need).await.unwrap();
    let before = limited.headers(&permit);
    let answer = limited.ask(&need).await.unwrap_err().answer;
    assert_eq!(answer.status, 429);
    assert_eq!(header(&answer, "retry-after"), 1);
    assert_eq!(Limited::headers_of(&answer), before);
    let whole = body(&answer).1;
    let exceeded = "https://iana.org/assignments/http-problem-types#quota-exceeded";
    assert_eq!(whole["type"], exceeded);
    assert_eq!(whole["violated-policies"], json!(["concurrency"]));
    drop(permit);
    let after = limited.ask(&need).await.unwrap();
    assert_eq!(
        x(&limited.headers(&after))[1],
        58,
        "the refusal used nothing"
    );
}

#[tokio::test]
async fn a_refusal_names_the_exceeded_quotas() {
    let limits = |new: NewKey| {
        new.quota(quota("minute", 1, 60))
            .quota(quota("hour", 9, 3_600))
    };
    let limited = Limited::new(limits).await;
    let need = Requirement::scope(READ).quota(quota("exports", 1, 60));
    drop(limited.ask(&need).await.unwrap());
    limited.advance(Duration::from_millis(1_500));
    let answer = limited.ask(&need).await.unwrap_err().answer;
    let (problem, whole) = body(&answer);
    assert_eq!(problem.status.unwrap().as_u16(), 429);
    assert_eq!(problem.title.as_deref(), Some("Quota Exceeded"));
    assert_eq!(whole["violated-policies"], json!(["minute", "exports"]));
    let retry_after = header(&answer, "retry-after");
    assert!((59..=60).contains(&retry_after), "{retry_after}");
    assert_eq!(x(&answer.headers)[..2], [1, 0]);
    // A refused request uses nothing of the others either.
    let states = parse(value(&answer.headers, "ratelimit"));
    assert_eq!(states[1].1[0], ("r".to_owned(), 8));
}

#[tokio::test]
async fn a_request_above_its_limit_never_passes() {
    let limited = Limited::new(|new| new.quota(quota("rows", 100, 60))).await;
    let need = Requirement::scope(READ).cost(number(101));
    let answer = limited.ask(&need).await.unwrap_err().answer;
    assert_eq!(answer.status, 403);
    let (problem, whole) = body(&answer);
    assert_eq!(whole["code"], "cost_above_limit");
    assert!(problem.detail.unwrap().contains("not be accepted later"));
    let names: Vec<_> = answer.headers.iter().map(|(name, _)| *name).collect();
    assert!(!names.contains(&"retry-after") && !names.contains(&"www-authenticate"));
    assert_eq!(x(&answer.headers)[..2], [100, 100]);
}

#[tokio::test]
async fn unproven_keys_learn_of_no_limits() {
    let limits = |new: NewKey| new.quota(quota("minute", 1, 60)).concurrency(number(1));
    let limited = Limited::new(limits).await;
    let need = Requirement::scope(READ);
    let bearer = limited.key.bearer();
    let twice = format!("{bearer}, {bearer}");
    let text = limited.key.text();
    let wrong = format!("Bearer {}", text.replace("_test_", "_live_"));
    let _held = limited.ask(&need).await.unwrap();
    for (sent, status) in [(&*twice, 400), (&*wrong, 401), ("", 401), (&*bearer, 429)] {
        let sent = [("authorization", sent)];
        let head = Head {
            headers: &sent[..usize::from(!sent[0].1.is_empty())],
            connection: over_tls(),
            query: None,
        };
        let answer = limited
            .edge
            .admit(&head, Attempt::of(&need))
            .await
            .unwrap_err()
            .answer;
        assert_eq!(answer.status, status);
        let has_limits = !Limited::headers_of(&answer).is_empty();
        assert_eq!(has_limits, status == 429, "{status}");
    }
    limited.key.revoke(&limited.keyward).await;
    let answer = limited.ask(&need).await.unwrap_err().answer;
    assert_eq!((answer.status, Limited::headers_of(&answer)), (401, vec![]));
}

#[tokio::test]
async fn a_403_shows_limits_and_uses_nothing() {
    let limited = Limited::new(|new| new.quota(quota("minute", 60, 60))).await;
    let full = Requirement::full_access();
    for _ in 0..3 {
        let answer = limited.ask(&full).await.unwrap_err().answer;
        assert_eq!(answer.status, 403);
        assert_eq!(x(&answer.headers)[..2], [60, 60]);
    }
}

#[tokio::test]
async fn only_the_chosen_families_are_sent() {
    for (families, names) in [
        (
            LimitHeaders::XRateLimit,
            &[
                "x-ratelimit-limit",
                "x-ratelimit-remaining",
                "x-ratelimit-reset",
            ][..],
        ),
        (LimitHeaders::RateLimit, &["ratelimit-policy", "ratelimit"]),
        (LimitHeaders::Off, &[]),
    ] {
        let limits = |new: NewKey| new.quota(quota("minute", 1, 60));
        let edge = |edge: Edge| edge.limit_headers(families);
        let limited = Limited::with(limits, RateLimiting::new(), edge).await;
        let need = Requirement::scope(READ);
        let permit = limited.ask(&need).await.unwrap();
        let sent = limited.headers(&permit).into_iter();
        assert_eq!(sent.map(|(name, _)| name).collect::<Vec<_>>(), names);
        let answer = limited.ask(&need).await.unwrap_err().answer;
        let sent = Limited::headers_of(&answer).into_iter();
        assert_eq!(sent.map(|(name, _)| name).collect::<Vec<_>>(), names);
        let retry_after = header(&answer, "retry-after");
        assert!((60..=61).contains(&retry_after), "{retry_after}");
    }
}

#[derive(Debug)]
struct NoPlans;

#[async_trait]
impl PlanBook for NoPlans {
    async fn plan_of(&self, _: &TenantId) -> Result<TenantPlan, PlanError> {
        Err(PlanError::new("the table is locked"))
    }
}

#[tokio::test]
async fn unknown_plans_reduce_the_capacity() {
    let settings = RateLimiting::new().plans(NoPlans, MINUTE, PlanFallback::Undecidable);
    let limited = Limited::with(|new| new, settings, |edge| edge).await;
    let answer = limited
        .ask(&Requirement::scope(READ))
        .await
        .unwrap_err()
        .answer;
    assert_eq!(answer.status, 503);
    let whole = body(&answer).1;
    let reduced = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";
    assert_eq!(whole["type"], reduced);
    assert_eq!(whole["violated-policies"], json!([]));
    assert_eq!(header(&answer, "retry-after"), 5);
    assert!(!whole.to_string().contains("locked"));
}

#[tokio::test]
async fn a_request_can_be_counted_after_a_lookup() {
    let limited =
        Limited::new(|new| new.quota(quota("minute", 1, 60)).concurrency(number(1))).await;
    let need = Requirement::scope(READ);
    let (edge, verifier) = (&limited.edge, limited.keyward.verifier());
    let headers = [("authorization", limited.key.bearer())];
    let head = Head {
        headers: headers.as_slice(),
        connection: over_tls(),
        query: None,
    };
    let attempt = Attempt::of(&need).count_later();
    // A look-up finds nothing.
    for _ in 0..2 {
        let (grant, permit) = edge.admit(&head, attempt).await.unwrap().into_parts();
        assert_eq!(x(&limited.headers(&permit))[1], 1);
        let _answer = edge.reject_request(&head, RejectionReason::NotFound, Some(&grant));
    }
    let (grant, mut permit) = edge.admit(&head, attempt).await.unwrap().into_parts();
    verifier.count(&grant, &attempt, &mut permit).await.unwrap();
    let shown = limited.headers(&permit);
    assert_eq!(x(&shown)[1], 0);
    assert!(value(&shown, "ratelimit").ends_with(r#""concurrency";r=0"#));
    permit.refund();
    assert_eq!(x(&limited.headers(&permit))[1], 1, "at once");
    drop(permit);
    drop(limited.ask(&need).await.unwrap());
    // Its place is free, and its quota is used up.
    let (grant, mut permit) = edge.admit(&head, attempt).await.unwrap().into_parts();
    let denial = verifier
        .count(&grant, &attempt, &mut permit)
        .await
        .unwrap_err();
    let refused = edge.reject_request(&head, RejectionReason::Denied(denial), Some(&grant));
    assert_eq!(refused.answer.status, 429);
    assert_eq!(
        body(&refused.answer).1["violated-policies"],
        json!(["minute"])
    );
    assert_eq!(x(&refused.answer.headers)[..2], [1, 0]);
}
