//! Requests that limits apply to.

use std::num::NonZeroU32;
use std::time::Duration;

use keyward::key::{Quota, QuotaSubject};
use keyward::limiter::{RateLimiting, TenantPlan};
use keyward::verifier::{Attempt, DenialReason, Requirement};

use crate::{Fixture, HOUR, READ, WRITE, new_key, text};

/// A part of the window of an hour.
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

fn quota(name: &str, limit: u32, window: Duration) -> Quota {
    Quota::new(name, NonZeroU32::new(limit).unwrap(), window).unwrap()
}

fn plan(limit: u32) -> RateLimiting {
    let plan = TenantPlan::new()
        .quota(quota("hour", limit, HOUR))
        .quota(quota("all-keys", limit, DAY).per(QuotaSubject::Tenant))
        .concurrency(NonZeroU32::MAX);
    RateLimiting::new().plan_for_all(plan)
}

fn of_route(limit: u32) -> Requirement {
    Requirement::scope(READ).quota(quota("route", limit, HOUR))
}

pub(crate) async fn counted(fixture: &Fixture) {
    let any = Requirement::any_key();
    let planned = Fixture::limited(plan(1_000)).await;
    let two_quotas = || {
        new_key(READ)
            .quota(quota("hour", 1_000, HOUR))
            .quota(quota("day", 1_000, DAY))
    };
    let bounded = || new_key(READ).concurrency(NonZeroU32::MIN);
    let of_owner = || {
        let owner = quota("owner", 1_000, DAY).per(QuotaSubject::Owner);
        two_quotas().quota(owner).concurrency(NonZeroU32::MIN)
    };
    for (what, fixture, key, need) in [
        ("two quotas", fixture, two_quotas(), &any),
        ("in flight", fixture, bounded(), &any),
        ("two subjects", fixture, of_owner(), &any),
        ("a route's quota", fixture, new_key(READ), &of_route(1_000)),
        ("a plan", &planned, new_key(READ), &any),
        ("all of them", &planned, of_owner(), &of_route(1_000)),
    ] {
        let key = fixture.issue(key).await;
        let attempt = Attempt::new(text(&key), need);
        fixture.costs_nothing(what, &attempt, Result::is_ok).await;
        // The first request in the second part of a window takes memory for the past. Those in later parts do not.
        fixture.monotonic.advance(MINUTE);
        fixture.costs_nothing(what, &attempt, Result::is_ok).await;
        fixture.monotonic.advance(MINUTE);
        fixture.warm_costs_nothing(what, &attempt, Result::is_ok);
        fixture.monotonic.advance(10 * DAY - 2 * MINUTE);
        fixture.costs_nothing(what, &attempt, Result::is_ok).await;
    }
}

pub(crate) async fn refused(fixture: &Fixture) {
    let any = Requirement::any_key();
    let planned = Fixture::limited(plan(1)).await;
    let used_up = denied!(DenialReason::QuotaExceeded { .. });
    let key = || {
        new_key(READ)
            .quota(quota("hour", 1, HOUR))
            .quota(quota("day", 9, DAY))
    };
    for (what, fixture, key, need) in [
        ("a quota", fixture, key(), &any),
        ("a route's quota", fixture, new_key(READ), &of_route(1)),
        ("a plan", &planned, new_key(READ), &any),
    ] {
        let key = fixture.issue(key).await;
        let attempt = Attempt::new(text(&key), need);
        let first = fixture.keyward.verifier().verify(&attempt).await;
        assert!(first.is_ok(), "{what}: {first:?}");
        fixture.costs_nothing(what, &attempt, used_up).await;
    }
    let key = fixture.issue(key()).await;
    let costly = any.clone().cost(NonZeroU32::new(5).unwrap());
    let too_costly = denied!(DenialReason::CostAboveLimit { .. });
    fixture
        .costs_nothing("too costly", &Attempt::new(text(&key), &costly), too_costly)
        .await;
    let write = Requirement::scope(WRITE);
    let counted = write.clone().quota(quota("route", 1, HOUR));
    for need in [&write, &counted] {
        let attempt = Attempt::new(text(&key), need);
        let no_access = denied!(DenialReason::MissingAccess);
        fixture
            .costs_nothing("no access", &attempt, no_access)
            .await;
    }
}
