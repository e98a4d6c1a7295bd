//! What would be decided on a request, and why: for an operator. It agrees with what is decided, and leaves no trace.

use std::num::NonZeroU32;
use std::time::Duration;

use keyward::key::{
    Environment, Network, Networks, PresentedKey, Quota, Resources, RevokeReason, Secret, TenantId,
};
use keyward::limiter::{LocalLimiter, RateLimiting};
use keyward::manager::{Issued, Overlap};
use keyward::store::{CutoffScope, KeyStore, MemoryStore};
use keyward::testkit::{Call, Fault, FaultyStore, ManualMonotonicClock};
use keyward::verifier::{Attempt, DenialClass, Explanation, Requirement, StepOutcome};

use crate::common::*;

/// Every check, in the order in which they are made.
const CHECKS: [&str; 11] = [
    "credential",
    "key",
    "secret",
    "environment",
    "format",
    "tenant",
    "status",
    "network",
    "access",
    "resources",
    "limits",
];

/// Explains, then verifies: both must say the same, and the first check that failed be this one.
async fn agrees(fixture: &Fixture, attempt: &Attempt<'_>, fails: Option<&str>) -> Explanation {
    let verifier = fixture.keyward.verifier();
    let before = verifier.stats();
    let told = verifier.explain(attempt).await;
    assert_eq!(verifier.stats(), before, "{told}");
    let decided = verifier.verify(attempt).await.map(drop);
    let again = verifier.explain(attempt).await;

    let text = told.to_string();
    assert_eq!(again.to_string(), text, "the same before and after");
    let named = told.steps().iter().map(|step| step.check);
    assert!(named.eq(CHECKS), "one step for each check: {text}");
    assert_eq!(
        text.lines().count(),
        CHECKS.len() + 2,
        "one line for each: {text}"
    );
    let mut failed = told.steps().iter();
    let failed = failed.find(|step| matches!(step.outcome, StepOutcome::Failed(_)));
    assert_eq!(failed.map(|step| step.check), fails, "{text}");
    if let Some(fails) = fails {
        let marked = text.lines().find(|line| line.starts_with("  FAIL  "));
        assert!(
            marked.is_some_and(|line| line[8..].starts_with(fails)),
            "{text}"
        );
    }
    let answer = text.lines().last().unwrap_or_default();
    match (decided, told.denial()) {
        (Ok(_), None) => assert!(answer.starts_with("200 "), "{text}"),
        (Err(denial), Some(explained)) => {
            assert_eq!(denial.class(), explained.class(), "{text}");
            assert_eq!(denial.key(), explained.key(), "{text}");
            assert_eq!(denial.claimed_key(), explained.claimed_key(), "{text}");
            assert_eq!(denial.to_string(), explained.to_string(), "{text}");
            let reasons = [&denial, explained].map(|denial| denial.reason().to_string());
            assert_eq!(reasons[0], reasons[1], "{text}");
            assert!(text.contains(&reasons[0]), "{text}");
            let status = denial.class().status().to_string();
            assert!(answer.starts_with(&status), "{text}");
        }
        (decided, explained) => panic!("{decided:?}, and explained {explained:?}: {text}"),
    }
    told
}

fn text(issued: &Issued) -> PresentedKey<'_> {
    issued.api_key().presented()
}

#[tokio::test]
async fn it_agrees_on_unknown_keys() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue("key").await;
    let any = Requirement::any_key();
    let whole = issued.api_key().expose();
    let cut = &whole[..40];
    let two = PresentedKey::only_one_of([PresentedKey::text(whole), PresentedKey::text(whole)]);
    for presented in [
        PresentedKey::none(),
        PresentedKey::half_pair(),
        PresentedKey::text(cut),
        PresentedKey::text("hello"),
        two,
    ] {
        let told = agrees(&fixture, &Attempt::new(presented, &any), Some("credential")).await;
        assert_eq!(told.key_id(), None);
        let rest = &told.steps()[1..];
        assert!(
            rest.iter()
                .all(|step| step.outcome == StepOutcome::Unreached)
        );
    }
    let stranger = "00000000-0000-4000-8000-000000000007";
    let secret = issued.api_key().expose_secret();
    let unknown = Attempt::new(PresentedKey::pair(stranger, secret), &any);
    let told = agrees(&fixture, &unknown, Some("key")).await;
    assert_eq!(told.key_id().unwrap().to_string(), stranger);
}

#[tokio::test]
async fn no_secret_means_no_details() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue_key(new_key("key").expires_in(HOUR)).await;
    fixture.revoke(issued.api_key().id()).await;
    let (any, environment) = (Requirement::any_key(), Environment::new("test").unwrap());
    let wrong = Secret::new("w".repeat(43)).unwrap();
    let id = issued.api_key().id();
    let guess = fixture
        .keyward
        .format()
        .compose(&environment, id, &wrong)
        .unwrap();
    let told = agrees(
        &fixture,
        &Attempt::new(guess.presented(), &any),
        Some("secret"),
    )
    .await;
    let rest = &told.steps()[3..];
    assert!(
        rest.iter()
            .all(|step| step.outcome == StepOutcome::Unreached)
    );
    assert!(!told.to_string().contains("revoked"), "{told}");
}

#[tokio::test]
async fn it_shows_the_values_without_a_secret() {
    let fixture = Fixture::new().await;
    let network: Network = "203.0.113.0/24".parse().unwrap();
    let key = new_key("Quarterly figures")
        .networks(Networks::from(network))
        .resources(Resources::only(["project:p1".parse().unwrap()]).unwrap())
        .quota(Quota::new("minute", NonZeroU32::MIN, Duration::from_secs(60)).unwrap())
        .expires_in(HOUR);
    let issued = fixture.issue_key(key).await;
    let (id, verifier) = (issued.record().id(), fixture.keyward.verifier());
    let (here, there) = (
        "203.0.113.7".parse().unwrap(),
        "198.51.100.7".parse().unwrap(),
    );
    let read = Requirement::scope(READ).resource("project");
    let write = Requirement::scope(WRITE).resource("project");
    let of = |need| Attempt::of(need).resource("project", "p1");
    let theirs = TenantId::new("beta-inc").unwrap();
    let failing = async |attempt: &Attempt<'_>| {
        let before = verifier.stats();
        let told = verifier.explain_key(id, attempt).await;
        assert_eq!(verifier.stats(), before);
        assert!(told.denial().is_none_or(|denial| denial.key().is_none()));
        let named = told.steps().iter().map(|step| step.check);
        assert!(named.eq(CHECKS), "{told}");
        for unchecked in [0, 2] {
            assert_eq!(told.steps()[unchecked].outcome, StepOutcome::Unchecked);
        }
        assert!(!told.to_string().contains(issued.api_key().expose_secret()));
        let failed = told.steps().iter().find_map(|step| match &step.outcome {
            StepOutcome::Failed(why) => Some((step.check, why.clone())),
            _ => None,
        });
        failed.unwrap_or_else(|| ("", told.to_string()))
    };
    let (check, text) = failing(&of(&read).client(here)).await;
    assert_eq!(check, "");
    assert!(text.contains("`Quarterly figures`"), "{text}");
    assert!(text.ends_with("if it carries this key"), "{text}");
    let other = Attempt::of(&read).client(here).resource("project", "p2\n");
    for (attempt, fails, values) in [
        (
            of(&read).client(there),
            "network",
            vec!["198.51.100.7", "203.0.113.0/24"],
        ),
        (of(&read), "network", vec!["203.0.113.0/24"]),
        (
            of(&write).client(here),
            "access",
            vec![WRITE.as_str(), READ.as_str()],
        ),
        (other, "resources", vec!["project:p2\\n", "project:p1"]),
        (
            of(&read).client(here).tenant(&theirs),
            "tenant",
            vec!["beta-inc"],
        ),
    ] {
        let (check, why) = failing(&attempt).await;
        assert_eq!(check, fails, "{why}");
        for value in values {
            assert!(why.contains(value), "{value}: {why}");
        }
    }
    // One request is counted, and then there is none left.
    let attempt = Attempt::new(self::text(&issued), &read).client(here);
    let attempt = attempt.resource("project", "p1");
    verifier.verify(&attempt).await.unwrap();
    let (check, why) = failing(&of(&read).client(here)).await;
    assert_eq!(check, "limits");
    assert!(why.contains("0 of 1 left"), "{why}");

    let end = issued.record().restrictions().expires_at.unwrap();
    fixture.clock.set(end);
    let (check, why) = failing(&of(&read).client(here)).await;
    assert_eq!(check, "status");
    assert!(why.contains(&crate::common::text(end)), "{why}");
    let (nobody, attempt) = (keyward::key::KeyId::from_u128(7), of(&read));
    let unknown = verifier.explain_key(nobody, &attempt).await;
    assert!(matches!(unknown.steps()[1].outcome, StepOutcome::Failed(_)));
}

#[tokio::test]
async fn it_agrees_on_permissions() {
    let fixture = Fixture::new().await;
    let network: Network = "203.0.113.0/24".parse().unwrap();
    let project = || Resources::only(["project:p1".parse().unwrap()]).unwrap();
    let restricted = new_key("restricted")
        .networks(Networks::from(network))
        .resources(project())
        .concurrency(NonZeroU32::MIN)
        .expires_in(HOUR);
    let (plain, restricted) = (
        fixture.issue("plain").await,
        fixture.issue_key(restricted).await,
    );
    let (live, test) = (
        Environment::new("live").unwrap(),
        Environment::new("test").unwrap(),
    );
    let (ours, theirs) = (tenant(), TenantId::new("beta-inc").unwrap());
    let here = "203.0.113.7".parse().unwrap();
    let there = "198.51.100.7".parse().unwrap();
    let (any, write) = (Requirement::any_key(), Requirement::scope(WRITE));
    let read = Requirement::scope(READ).resource("project");
    let attempt = |need| Attempt::new(text(&plain), need);
    let narrow = |need| Attempt::new(text(&restricted), need);
    let named = |value| narrow(&read).resource("project", value);
    let too_many = (0..5).fold(narrow(&read), |attempt, _| {
        attempt.resource("project", "p1")
    });
    for (attempt, fails) in [
        (attempt(&any), None),
        (attempt(&any).environment(&test).tenant(&ours), None),
        (attempt(&any).environment(&live), Some("environment")),
        (attempt(&any).tenant(&theirs), Some("tenant")),
        (attempt(&write), Some("access")),
        (attempt(&read), Some("resources")),
        (named("p1").client(here), None),
        (named("p1"), Some("network")),
        (named("p1").client(there), Some("network")),
        (named("p2").client(here), Some("resources")),
        (narrow(&any).client(here), Some("resources")),
        (narrow(&read).client(here), Some("resources")),
        (too_many.client(here), Some("resources")),
        // Several at once: the first decides.
        (narrow(&write).tenant(&theirs), Some("tenant")),
    ] {
        let told = agrees(&fixture, &attempt, fails).await;
        assert!(told.key_id().is_some());
    }
    let fresh = fixture.keyward.verifier();
    let held = fresh.verify(&named("p1").client(here)).await.unwrap();
    let told = agrees(&fixture, &named("p1").client(here), Some("limits")).await;
    assert_eq!(told.denial().unwrap().class(), DenialClass::Throttled);
    drop(held);
    agrees(&fixture, &named("p1").client(here), None).await;
}

/// The steps about limits.
fn limits(told: &Explanation) -> Vec<&StepOutcome> {
    let steps = told.steps().iter().filter(|step| step.check == "limits");
    steps.map(|step| &step.outcome).collect()
}

/// Explains, then verifies: both must deny for the same reason.
async fn agree_on_limits(fixture: &Fixture, attempt: &Attempt<'_>) -> Explanation {
    let verifier = fixture.keyward.verifier();
    let told = verifier.explain(attempt).await;
    let again = verifier.explain(attempt).await;
    assert_eq!(told.to_string(), again.to_string(), "it takes nothing");
    let decided = verifier.verify(attempt).await.map(drop);
    let decided = decided.err().map(|denial| denial.reason().to_string());
    let explained = told.denial().map(|denial| denial.reason().to_string());
    assert_eq!(decided, explained, "{told}");
    told
}

#[tokio::test]
async fn it_agrees_on_each_limit() {
    use StepOutcome::{Failed, Passed};
    let elapsed = ManualMonotonicClock::new();
    let fixture = Fixture::with(|builder| builder.monotonic_clock(elapsed.clone())).await;
    let quota = |name: &str, limit, seconds| {
        let limit = NonZeroU32::new(limit).unwrap();
        Quota::new(name, limit, Duration::from_secs(seconds)).unwrap()
    };
    let key = new_key("key")
        .quota(quota("second", 2, 1))
        .quota(quota("hour", 2, 3_600))
        .concurrency(NonZeroU32::MIN);
    let issued = fixture.issue_key(key).await;
    let need = Requirement::any_key().quota(quota("route", 9, 60));
    let attempt = Attempt::new(text(&issued), &need);
    let costs = |cost| attempt.cost(NonZeroU32::new(cost).unwrap());

    let told = agree_on_limits(&fixture, &attempt).await;
    let passed = |text: &str| Passed(text.to_owned());
    assert_eq!(
        limits(&told),
        [
            &passed("second: 2 of 2 left"),
            &passed("hour: 2 of 2 left"),
            &passed("route: 9 of 9 left"),
            &passed("concurrency: 1 of 1 left"),
        ]
    );
    // The second refuses first in order, and the hour for longer.
    agree_on_limits(&fixture, &attempt).await;
    let told = agree_on_limits(&fixture, &attempt).await;
    let [Failed(_), Failed(_), Passed(_), Passed(_)] = limits(&told)[..] else {
        panic!("{told}");
    };
    assert_eq!(told.denial().unwrap().class(), DenialClass::Throttled);
    // The route refuses for good, whatever the ones before it say.
    let told = agree_on_limits(&fixture, &costs(10)).await;
    assert_eq!(told.denial().unwrap().class(), DenialClass::Forbidden);
    elapsed.advance(2 * HOUR);
    let held = fixture.keyward.verifier().verify(&attempt).await.unwrap();
    // The places are full, and the quotas, too.
    agree_on_limits(&fixture, &costs(2)).await;
    let told = agree_on_limits(&fixture, &attempt).await;
    assert!(told.to_string().contains("in flight"), "{told}");
    drop(held);
    assert!(agree_on_limits(&fixture, &attempt).await.denial().is_none());
}

#[tokio::test]
async fn it_agrees_if_the_limiter_is_full() {
    let limits = || RateLimiting::new().limiter(LocalLimiter::with_max_bytes(10));
    let fixture = Fixture::with(|builder| builder.rate_limiting(limits())).await;
    let minute = Quota::new("minute", NonZeroU32::MIN, Duration::from_secs(60)).unwrap();
    let issued = fixture.issue_key(new_key("key").quota(minute)).await;
    let any = Requirement::any_key();
    let told = agrees(&fixture, &Attempt::new(text(&issued), &any), Some("limits")).await;
    assert_eq!(told.denial().unwrap().class(), DenialClass::Undecidable);
}

#[tokio::test]
async fn it_agrees_on_the_keys_status() {
    let fixture = Fixture::new().await;
    let any = Requirement::any_key();
    for issued in fixture.ended_keys().await {
        agrees(&fixture, &Attempt::new(text(&issued), &any), Some("status")).await;
    }
    let suspended = fixture.issue("suspended").await;
    let id = suspended.api_key().id();
    fixture
        .manager()
        .suspend(&system(), &tenant(), id)
        .await
        .unwrap();
    let early = fixture
        .issue_key(new_key("early").not_before(fixture.now() + HOUR))
        .await;
    let rotated = fixture.issue("rotated").await;
    fixture
        .rotate(rotated.api_key().id(), Overlap::For(HOUR))
        .await
        .unwrap();
    let words = RevokeReason::other("found in a public repository").unwrap();
    let revoked = fixture.issue("revoked").await;
    let id = revoked.api_key().id();
    fixture
        .manager()
        .revoke(&system(), &tenant(), id, words)
        .await
        .unwrap();
    for (issued, fails) in [
        (&suspended, Some("status")),
        (&early, Some("status")),
        (&rotated, None),
        (&revoked, Some("status")),
    ] {
        agrees(&fixture, &Attempt::new(text(issued), &any), fails).await;
    }
    let told = fixture
        .keyward
        .verifier()
        .explain(&Attempt::new(text(&revoked), &any))
        .await;
    assert!(
        told.to_string().contains("found in a public repository"),
        "{told}"
    );

    let mortal = fixture.issue_key(new_key("mortal").expires_in(HOUR)).await;
    let attempt = Attempt::new(text(&mortal), &any);
    fixture
        .clock
        .set(mortal.record().created_at() - Duration::from_secs(6 * 60));
    let told = agrees(&fixture, &attempt, Some("status")).await;
    assert_eq!(told.denial().unwrap().class(), DenialClass::Undecidable);
    fixture.clock.set(mortal.record().created_at() + HOUR);
    agrees(&fixture, &attempt, Some("status")).await;
}

#[tokio::test]
async fn a_cutoff_shows_its_instants() {
    let fixture = Fixture::new().await;
    let key = fixture.issue("key").await;
    let issued = key.record().created_at();
    let any = Requirement::any_key();
    let owner = CutoffScope::Owner {
        tenant: tenant(),
        owner: key.record().owner().clone(),
    };
    // Of several cutoffs the latest ended it last.
    for scope in [owner, CutoffScope::from(&tenant()), CutoffScope::All] {
        fixture.later(SECOND);
        let cutoff = fixture.now();
        let manager = fixture.manager();
        manager
            .deny_issued_before(&system(), cutoff, scope)
            .await
            .unwrap();
        let verifier = fixture.keyward.verifier();
        let whole = agrees(&fixture, &Attempt::new(text(&key), &any), Some("status")).await;
        let by_id = verifier
            .explain_key(key.record().id(), &Attempt::of(&any))
            .await;
        for told in [whole, by_id] {
            let [issued, cutoff] = [issued, cutoff].map(crate::common::text);
            let values = format!(
                "it was issued at {issued}, and the latest cutoff of its owner, tenant or all tenants is at {cutoff}"
            );
            let outcome = &told.steps()[6].outcome;
            let shows = matches!(outcome, StepOutcome::Failed(why) if why.ends_with(&values));
            assert!(shows, "{told}");
        }
    }
}

#[tokio::test]
async fn it_agrees_where_the_clock_fails() {
    let fixture = Fixture::new().await;
    let issued = fixture.issue("key").await;
    fixture.clock.fail();
    let any = Requirement::any_key();
    agrees(&fixture, &Attempt::new(text(&issued), &any), Some("status")).await;
}

#[tokio::test]
async fn it_agrees_where_the_store_fails() {
    let store = FaultyStore::over(MemoryStore::new());
    let keyward = keyward::testkit::builder(store.clone(), [READ])
        .open()
        .await
        .unwrap();
    let key = keyward::testkit::TestKey::issue(&keyward, [READ]).await;
    for fault in [Fault::Unavailable, Fault::Corrupt] {
        let _ = store.clone().on(Call::Get, 0..u64::MAX, fault);
        let any = Requirement::any_key();
        let attempt = Attempt::new(key.presented(), &any);
        let told = keyward.verifier().explain(&attempt).await;
        let decided = keyward.verifier().verify(&attempt).await.unwrap_err();
        let explained = told.denial().unwrap();
        assert_eq!(explained.class(), DenialClass::Undecidable);
        assert_eq!(explained.reason().to_string(), decided.reason().to_string());
        let failed = &told.steps()[1];
        assert!(matches!(failed.outcome, StepOutcome::Failed(_)), "{told}");
        store.heal();
    }
}

#[tokio::test]
async fn it_leaves_no_trace() {
    let fixture = Fixture::new().await;
    let any = Requirement::any_key();
    let bounded = new_key("bounded")
        .concurrency(NonZeroU32::MIN)
        .expires_in(HOUR);
    let issued = fixture.issue_key(bounded).await;
    let attempt = Attempt::new(text(&issued), &any);
    let verifier = fixture.keyward.verifier();
    let (before, commits) = (verifier.stats(), fixture.store.commits());
    for _ in 0..10 {
        assert!(
            verifier.explain(&attempt).await.denial().is_none(),
            "it takes no place"
        );
    }
    assert_eq!(verifier.stats(), before);
    assert!(
        verifier.try_verify(&attempt).is_none(),
        "and the key is as cold as it was"
    );

    assert!(
        fixture.keyward.flush_usage().await.unwrap() == 0,
        "no use was counted"
    );
    assert_eq!(fixture.store.commits(), commits, "and nothing was stored");
    assert_eq!(fixture.answer(issued.api_key()).await, Answer::Admitted);
}

#[tokio::test]
async fn it_shows_no_secret() {
    let fixture = Fixture::new().await;
    let any = Requirement::any_key();
    let issued = fixture.issue("key").await;
    let (key, id) = (issued.api_key(), issued.api_key().id());
    let stored = fixture.store.inner().get(id).await.unwrap().unwrap();
    let digest = stored
        .digest
        .expose()
        .rsplit('$')
        .next()
        .unwrap()
        .to_owned();
    let wrong = Secret::new("w".repeat(43)).unwrap();
    let environment = Environment::new("test").unwrap();
    let guess = fixture
        .keyward
        .format()
        .compose(&environment, id, &wrong)
        .unwrap();
    for presented in [
        key.presented(),
        guess.presented(),
        PresentedKey::text(key.expose_secret()),
    ] {
        let told = fixture
            .keyward
            .verifier()
            .explain(&Attempt::new(presented, &any))
            .await;
        for shown in [told.to_string(), format!("{told:?}")] {
            for secret in [key.expose_secret(), guess.expose_secret(), &digest] {
                assert!(
                    !shown.contains(secret) && !shown.contains(&secret[..12]),
                    "{shown}"
                );
            }
        }
    }
}
