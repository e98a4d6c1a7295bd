//! Promise 5: n tasks at once against limit k admit exactly k; a refused request consumes nothing of any other quota.
//! The monotonic clock stands still, so that exactly k holds on every schedule.
//!
//! Planted bugs that it catches, both in a copy of an exact limiter: a check under one lock, and the count under
//! another; each quota counts at once, and what the first ones counted is not taken back if a later one refuses.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use keyward::Keyward;
use keyward::key::{ApiKey, KeyId, Principal, Quota, QuotaSubject};
use keyward::limiter::{Limiter, LocalLimiter, RateLimiting, TenantPlan};
use keyward::manager::{KeyUpdate, NewKey, Overlap};
use keyward::testkit::ManualMonotonicClock;
use keyward::verifier::{Attempt, DenialReason, KeyCache, Requirement};
use test_support::size;
use tokio::sync::Barrier;

use crate::common::{actor, builder, clock, new_key, tenant};
use crate::exact_limiter::{Bug, ExactLimiter};
use crate::store::Store;

const MINUTE: Duration = Duration::from_secs(60);
/// No machine is so busy.
const HOUR: Duration = Duration::from_secs(3_600);
const TASKS: usize = 16;

/// Storms for each case.
fn storms() -> u32 {
    size("KEYWARD_STORMS", 3)
}

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn quota(name: &str, limit: u32) -> Quota {
    Quota::new(name, number(limit), MINUTE).unwrap()
}

/// The keys of a storm, and the route that they are used on.
struct Case {
    keyward: Keyward,
    keys: Vec<ApiKey>,
    need: Requirement,
}

/// A Keyward that counts in this limiter, at one instant.
async fn open(limiter: impl Limiter, plan: Option<TenantPlan>, cache: KeyCache) -> Keyward {
    let mut limits = RateLimiting::new().limiter(limiter).deadline(HOUR);
    if let Some(plan) = plan {
        limits = limits.plan_for_all(plan);
    }
    builder(Store::default(), clock())
        .monotonic_clock(ManualMonotonicClock::new())
        .rate_limiting(limits)
        .cache(cache)
        .open()
        .await
        .unwrap()
}

async fn issue(keyward: &Keyward, key: NewKey) -> ApiKey {
    let issued = keyward.manager().issue(&actor(), key).await.unwrap();
    issued.into_parts().0
}

async fn rotate(keyward: &Keyward, id: KeyId) -> ApiKey {
    let rotated = keyward
        .manager()
        .rotate(&actor(), &tenant(), id, Overlap::For(MINUTE))
        .await;
    rotated.unwrap().into_parts().0
}

/// What came of a storm.
#[derive(Debug, Default)]
struct Storm {
    /// The cost of what was admitted with each key.
    admitted: Vec<u32>,
    refused: u32,
}

impl Storm {
    fn total(&self) -> u32 {
        self.admitted.iter().sum()
    }
}

/// Many tasks at once send this many requests each, of costs in turn, with one key after the other, and hold none.
async fn storm(case: &Arc<Case>, requests: usize, costs: &'static [u32]) -> Storm {
    let barrier = Arc::new(Barrier::new(TASKS));
    let tasks = (0..TASKS).map(|task| {
        let (case, barrier) = (Arc::clone(case), Arc::clone(&barrier));
        tokio::spawn(async move {
            let mut seen = Storm {
                admitted: vec![0; case.keys.len()],
                refused: 0,
            };
            barrier.wait().await;
            for request in 0..requests {
                let key = (task + request) % case.keys.len();
                let cost = costs[(task + request) % costs.len()];
                let attempt = Attempt::new(case.keys[key].presented(), &case.need);
                let verdict = case
                    .keyward
                    .verifier()
                    .verify(&attempt.cost(number(cost)))
                    .await;
                match verdict {
                    Ok(_) => seen.admitted[key] += cost,
                    Err(denial) => match denial.reason() {
                        DenialReason::QuotaExceeded { .. } => seen.refused += 1,
                        other => panic!("{other}"),
                    },
                }
            }
            seen
        })
    });
    let mut whole = Storm {
        admitted: vec![0; case.keys.len()],
        refused: 0,
    };
    for task in tasks.collect::<Vec<_>>() {
        let seen = task.await.unwrap();
        whole.refused += seen.refused;
        for (sum, admitted) in whole.admitted.iter_mut().zip(seen.admitted) {
            *sum += admitted;
        }
    }
    whole
}

/// How many uses each of the key's quotas counts, in their order.
async fn counted(case: &Case, key: &ApiKey) -> Vec<u32> {
    let verifier = case.keyward.verifier();
    let attempt = Attempt::new(key.presented(), &case.need).count_later();
    let admitted = verifier.verify(&attempt).await.unwrap();
    let states = verifier.limits_of(admitted.grant(), &case.need).await;
    let used = states.unwrap().into_iter();
    used.map(|state| state.limit.most().get() - state.remaining)
        .collect()
}

const K: u32 = 50;

/// A case for each way to say whose requests are counted together: `K` in all.
async fn cases() -> Vec<(&'static str, Case)> {
    let bare = || open(LocalLimiter::new(), None, KeyCache::new());
    let any = Requirement::any_key;
    let mut cases = Vec::new();

    let keyward = bare().await;
    let keys = vec![issue(&keyward, new_key().quota(quota("q", K))).await];
    cases.push(("a key", keyward, keys, any()));

    let keyward = bare().await;
    let lineage = quota("q", K).per(QuotaSubject::Lineage);
    let first = issue(&keyward, new_key().quota(lineage)).await;
    let second = rotate(&keyward, first.id()).await;
    cases.push(("a lineage", keyward, vec![first, second], any()));

    for (name, subject, owners) in [
        ("an owner", QuotaSubject::Owner, ["ann", "ann"]),
        ("a tenant", QuotaSubject::Tenant, ["ann", "bob"]),
    ] {
        let keyward = bare().await;
        let mut keys = Vec::new();
        for owner in owners {
            let key = new_key().owner(Principal::user(owner).unwrap());
            keys.push(issue(&keyward, key.quota(quota("q", K).per(subject))).await);
        }
        cases.push((name, keyward, keys, any()));
    }
    for (name, subject, count) in [
        ("a route, per key", QuotaSubject::Key, 1),
        ("a route, per tenant", QuotaSubject::Tenant, 3),
    ] {
        let keyward = bare().await;
        let mut keys = Vec::new();
        for _ in 0..count {
            keys.push(issue(&keyward, new_key()).await);
        }
        let need = any().quota(quota("q", K).per(subject));
        cases.push((name, keyward, keys, need));
    }
    for (name, subject, count) in [
        ("a plan, per key", QuotaSubject::Key, 1),
        ("a plan, per tenant", QuotaSubject::Tenant, 3),
    ] {
        let plan = TenantPlan::new().quota(quota("q", K).per(subject));
        let keyward = open(LocalLimiter::new(), Some(plan), KeyCache::new()).await;
        let mut keys = Vec::new();
        for _ in 0..count {
            keys.push(issue(&keyward, new_key()).await);
        }
        cases.push((name, keyward, keys, any()));
    }
    let cases = cases.into_iter();
    cases
        .map(|(name, keyward, keys, need)| {
            let case = Case {
                keyward,
                keys,
                need,
            };
            (name, case)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn exactly_k_are_admitted() {
    for _ in 0..storms() {
        for (name, case) in cases().await {
            let case = Arc::new(case);
            let seen = storm(&case, 10, &[1]).await;
            assert_eq!(seen.total(), K, "{name}");
            assert_eq!(seen.refused, 10 * 16 - K, "{name}");
            let stats = case.keyward.verifier().stats();
            assert_eq!(stats.quota_exceeded, u64::from(seen.refused), "{name}");
            for key in &case.keys {
                assert_eq!(counted(&case, key).await, [K], "{name}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn costs_add_up_to_exactly_k() {
    for _ in 0..storms() {
        for (name, case) in cases().await {
            let case = Arc::new(case);
            let seen = storm(&case, 6, &[3, 7, 1, 2]).await;
            // A request of a high cost may have been refused with some left.
            let rest = storm(&case, 10, &[1]).await;
            assert_eq!(seen.total() + rest.total(), K, "{name}: {seen:?}");
        }
    }
}

/// Storms on quotas that several keys share, beside wide ones of each key: an error says what is wrong.
async fn shared_and_wide(limiter: impl Limiter) -> Result<Storm, String> {
    let keyward = open(limiter, None, KeyCache::new()).await;
    let mut keys = Vec::new();
    for _ in 0..4 {
        let key = new_key()
            .quota(quota("wide", 1_000_000))
            .quota(quota("tight", K).per(QuotaSubject::Tenant))
            .quota(quota("widest", u32::MAX).per(QuotaSubject::Lineage));
        keys.push(issue(&keyward, key).await);
    }
    let case = Arc::new(Case {
        keyward,
        keys,
        need: Requirement::any_key(),
    });
    let seen = storm(&case, 10, &[1]).await;
    if seen.total() != K {
        return Err(format!("{} in place of {K}", seen.total()));
    }
    for (key, admitted) in case.keys.iter().zip(&seen.admitted) {
        let counted = counted(&case, key).await;
        if counted != [*admitted, K, *admitted] {
            return Err(format!("counted {counted:?}, and admitted {admitted}"));
        }
    }
    Ok(seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn refused_requests_consume_nothing() {
    for _ in 0..storms() {
        let seen = shared_and_wide(LocalLimiter::new()).await;
        assert_eq!(seen.unwrap().refused, 10 * 16 - K);
        let exact = shared_and_wide(ExactLimiter::with(Bug::None)).await;
        assert!(exact.is_ok(), "{exact:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn planted_check_then_add_is_found() {
    // Each storm is a race: it need not be met in the first one.
    for _ in 0..100 {
        let seen = shared_and_wide(ExactLimiter::with(Bug::CheckThenAdd)).await;
        if let Err(why) = seen {
            assert!(why.contains("in place of"), "{why}");
            return;
        }
    }
    panic!("it is not found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn planted_forgotten_rollback_is_found() {
    let seen = shared_and_wide(ExactLimiter::with(Bug::ForgottenRollback)).await;
    assert!(seen.unwrap_err().contains("counted"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_let_no_more_through() {
    for _ in 0..storms() {
        // Room for hardly any key: each request drops what another one has read.
        let caches = [
            KeyCache::new(),
            KeyCache::new().max_bytes(3_000),
            KeyCache::off(),
        ];
        for cache in caches {
            changed_while_used(cache).await;
        }
    }
}

async fn changed_while_used(cache: KeyCache) {
    let keyward = open(LocalLimiter::new(), None, cache).await;
    let mut keys = Vec::new();
    for _ in 0..3 {
        let key = new_key()
            .quota(quota("own", 1_000))
            .quota(quota("lineage", 1_000).per(QuotaSubject::Lineage))
            .quota(quota("tenant", K).per(QuotaSubject::Tenant));
        keys.push(issue(&keyward, key).await);
    }
    let mut others = Vec::new();
    for _ in 0..8 {
        others.push(issue(&keyward, new_key()).await);
    }
    let ids: Vec<_> = keys.iter().map(ApiKey::id).collect();
    let case = Arc::new(Case {
        keyward: keyward.clone(),
        keys,
        need: Requirement::any_key(),
    });
    let is_over = Arc::new(AtomicBool::new(false));
    let changing = tokio::spawn({
        let is_over = Arc::clone(&is_over);
        async move {
            let any = Requirement::any_key();
            for round in 0.. {
                for id in &ids {
                    let update = KeyUpdate::new().title(format!("round {round}"));
                    let (manager, tenant) = (keyward.manager(), tenant());
                    manager
                        .update(&actor(), &tenant, *id, update)
                        .await
                        .unwrap();
                }
                for other in &others {
                    let attempt = Attempt::new(other.presented(), &any);
                    assert!(keyward.verifier().verify(&attempt).await.is_ok());
                }
                if round == 1 {
                    rotate(&keyward, ids[0]).await;
                }
                keyward.verifier().forget_all();
                if is_over.load(Ordering::SeqCst) && round > 1 {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
    });
    let seen = storm(&case, 20, &[1]).await;
    is_over.store(true, Ordering::SeqCst);
    changing.await.unwrap();
    assert_eq!(seen.total(), K);
    for (key, admitted) in case.keys.iter().zip(&seen.admitted) {
        assert_eq!(counted(&case, key).await, [*admitted, *admitted, K]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_more_are_in_flight_than_allowed() {
    const PLACES: u32 = 3;
    for _ in 0..storms() {
        let keyward = open(LocalLimiter::new(), None, KeyCache::new()).await;
        let key = new_key()
            .concurrency(number(PLACES))
            .quota(quota("wide", 1_000_000));
        let keys = vec![issue(&keyward, key).await];
        let need = Requirement::any_key();
        let case = Arc::new(Case {
            keyward,
            keys,
            need,
        });
        let [held, peak, busy, admitted] = [const { AtomicU32::new(0) }; 4].map(Arc::new);
        let barrier = Arc::new(Barrier::new(TASKS));
        let tasks = (0..TASKS).map(|_| {
            let (case, barrier) = (Arc::clone(&case), Arc::clone(&barrier));
            let [held, peak, busy, admitted] = [&held, &peak, &busy, &admitted].map(Arc::clone);
            tokio::spawn(async move {
                barrier.wait().await;
                for pause in 0..20 {
                    let attempt = Attempt::new(case.keys[0].presented(), &case.need);
                    match case.keyward.verifier().verify(&attempt).await {
                        Ok(permit) => {
                            // Counted for a shorter time than the limiter counts it.
                            let now = held.fetch_add(1, Ordering::SeqCst) + 1;
                            peak.fetch_max(now, Ordering::SeqCst);
                            admitted.fetch_add(1, Ordering::SeqCst);
                            for _ in 0..pause % 4 {
                                tokio::task::yield_now().await;
                            }
                            held.fetch_sub(1, Ordering::SeqCst);
                            drop(permit);
                        }
                        Err(denial) => {
                            let reason = denial.reason();
                            assert!(matches!(reason, DenialReason::TooManyInFlight), "{reason}");
                            busy.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        let read = |count: &AtomicU32| count.load(Ordering::SeqCst);
        assert!(read(&peak) <= PLACES, "{}", read(&peak));
        let verifier = case.keyward.verifier();
        assert_eq!(
            verifier.stats().too_many_in_flight,
            u64::from(read(&busy)),
            "each is counted"
        );
        assert_eq!(
            counted(&case, &case.keys[0]).await,
            [read(&admitted), 1],
            "who found no place used nothing"
        );
        // Every place has come back.
        let attempt = Attempt::new(case.keys[0].presented(), &case.need);
        let mut permits = Vec::new();
        for _ in 0..PLACES {
            permits.push(verifier.verify(&attempt).await.unwrap());
        }
        assert!(verifier.verify(&attempt).await.is_err());
        drop(permits);
        assert!(verifier.verify(&attempt).await.is_ok());
    }
}
