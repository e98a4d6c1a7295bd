//! Failed authentications are limited by the client's address, and neighbours of an attacker lose nothing.

use std::future::Future;
use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use keyward::Keyward;
use keyward::http::{Connection, Edge, Head, KeyIn, Proxies, Rejection};
use keyward::key::{KeyId, PresentedKey};
use keyward::limiter::RateLimiting;
use keyward::store::MemoryStore;
use keyward::testkit::{Call, Fault, FaultyStore, ManualMonotonicClock, TestKey, builder};
use keyward::verifier::{Admitted, Attempt, Denial, DenialReason, Requirement, VerifierStats};
use tokio::task::JoinSet;

use crate::common::READ;

const ATTACKER: &str = "203.0.113.7";
const SECRET: &str = "0000000000000000000000000000000000000000000";

struct Node {
    keyward: Keyward,
    store: FaultyStore,
    monotonic: ManualMonotonicClock,
}

impl Node {
    /// From one address three may fail.
    async fn new() -> Self {
        Self::with(NonZeroU32::new(3)).await
    }

    async fn with(limit: Option<NonZeroU32>) -> Self {
        let (store, monotonic) = (
            FaultyStore::over(MemoryStore::new()),
            ManualMonotonicClock::new(),
        );
        let keyward = builder(store.clone(), [READ])
            .monotonic_clock(monotonic.clone())
            .rate_limiting(RateLimiting::new().failed_authentications(limit));
        Self {
            keyward: keyward.open().await.unwrap(),
            store,
            monotonic,
        }
    }

    async fn verify_from(
        &self,
        client: &str,
        presented: PresentedKey<'_>,
    ) -> Result<Admitted, Denial> {
        let any = Requirement::any_key();
        let attempt = Attempt::new(presented, &any).client(client.parse().unwrap());
        self.keyward.verifier().verify(&attempt).await
    }

    /// Presents an id that no key has.
    async fn guess(&self, client: &str) -> DenialReason {
        self.guess_at(KeyId::from_u128(7), client).await
    }

    async fn guess_at(&self, id: KeyId, client: &str) -> DenialReason {
        let id = id.to_string();
        let presented = PresentedKey::pair(&id, SECRET);
        let denied = self.verify_from(client, presented).await.unwrap_err();
        reason(&denied)
    }

    async fn use_up(&self, client: &str) {
        for _ in 0..3 {
            let reason = self.guess(client).await;
            assert!(matches!(reason, DenialReason::UnknownKey), "{reason}");
        }
    }

    fn stats(&self) -> VerifierStats {
        self.keyward.verifier().stats()
    }

    async fn key(&self) -> TestKey {
        TestKey::issue(&self.keyward, [READ]).await
    }
}

/// The reasons that tests tell apart, out of a denial.
fn reason(denial: &Denial) -> DenialReason {
    match *denial.reason() {
        DenialReason::UnknownKey => DenialReason::UnknownKey,
        DenialReason::WrongSecret => DenialReason::WrongSecret,
        DenialReason::TooManyFailures { retry_after } => {
            DenialReason::TooManyFailures { retry_after }
        }
        ref other => panic!("{other}"),
    }
}

fn is_limited(reason: &DenialReason) -> bool {
    matches!(reason, DenialReason::TooManyFailures { .. })
}

#[tokio::test]
async fn a_warm_key_passes_where_others_failed() {
    let node = Node::new().await;
    let key = node.key().await;
    assert!(node.verify_from(ATTACKER, key.presented()).await.is_ok());
    node.use_up(ATTACKER).await;
    assert!(is_limited(&node.guess(ATTACKER).await));
    assert!(node.verify_from(ATTACKER, key.presented()).await.is_ok());
    // Its record is too old now and has to be read again. Its secret is proven all the same.
    node.monotonic.advance(Duration::from_secs(30));
    assert!(is_limited(&node.guess(ATTACKER).await));
    let reads = node.stats().store_reads;
    assert!(node.verify_from(ATTACKER, key.presented()).await.is_ok());
    assert_eq!(node.stats().store_reads, reads + 1);
}

#[tokio::test]
async fn a_cold_key_is_refused_until_the_minute_ends() {
    let node = Node::new().await;
    let key = node.key().await;
    node.use_up(ATTACKER).await;
    let denied = node.verify_from(ATTACKER, key.presented()).await;
    let denied = denied.unwrap_err();
    assert_eq!(denied.class().status(), 429);
    // Its secret was not looked at, nor its record.
    assert!(denied.key().is_none());
    let claimed = denied.claimed_key().unwrap();
    assert_eq!((claimed.id, claimed.record), (key.id(), None));
    let DenialReason::TooManyFailures { retry_after } = reason(&denied) else {
        panic!("another reason");
    };
    assert!(retry_after <= Duration::from_secs(61), "{retry_after:?}");
    node.monotonic
        .advance(retry_after - Duration::from_nanos(1));
    assert!(node.verify_from(ATTACKER, key.presented()).await.is_err());
    node.monotonic.advance(Duration::from_nanos(1));
    assert!(node.verify_from(ATTACKER, key.presented()).await.is_ok());
}

#[tokio::test]
async fn each_address_is_limited_by_itself() {
    let node = Node::new().await;
    let key = node.key().await;
    node.use_up(ATTACKER).await;
    assert!(
        node.verify_from("203.0.113.8", key.presented())
            .await
            .is_ok()
    );
    node.use_up("2001:db8::1").await;
    assert!(is_limited(&node.guess("2001:db8::2").await));
    node.use_up("2001:db8:0:1::1").await;
}

#[tokio::test]
async fn a_refused_request_costs_no_read_and_no_hash() {
    let node = Node::new().await;
    let keys = [node.key().await, node.key().await];
    node.use_up(ATTACKER).await;
    // This key is cached, with no proof.
    let denied = node.guess_at(keys[0].id(), "203.0.113.8").await;
    assert!(matches!(denied, DenialReason::WrongSecret));
    let (before, calls) = (node.stats(), node.store.all_calls());
    for key in &keys {
        assert!(is_limited(&node.guess_at(key.id(), ATTACKER).await));
        let denied = node.verify_from(ATTACKER, key.presented()).await;
        assert!(is_limited(&reason(&denied.unwrap_err())));
    }
    let after = node.stats();
    assert_eq!(after.store_reads, before.store_reads);
    assert_eq!(after.fast_hashes, before.fast_hashes);
    assert_eq!(after.slow_hashes, before.slow_hashes);
    assert_eq!(node.store.all_calls(), calls);
    assert_eq!(after.too_many_failures, before.too_many_failures + 4);
}

#[tokio::test]
async fn unknown_ids_and_wrong_secrets_count_alike() {
    let node = Node::new().await;
    let key = node.key().await;
    for id in [KeyId::from_u128(7), key.id(), KeyId::from_u128(8)] {
        assert!(!is_limited(&node.guess_at(id, ATTACKER).await));
    }
    assert!(is_limited(&node.guess_at(key.id(), ATTACKER).await));
}

#[tokio::test]
async fn nothing_but_failures_is_counted() {
    let node = Node::new().await;
    let (good, revoked) = (node.key().await, node.key().await);
    revoked.revoke(&node.keyward).await;
    let any = Requirement::any_key();
    let client = ATTACKER.parse().unwrap();
    for _ in 0..10 {
        // Successes on the cold path, and a revoked key with its own secret.
        node.keyward.verifier().forget_all();
        assert!(node.verify_from(ATTACKER, good.presented()).await.is_ok());
        let denied = node.verify_from(ATTACKER, revoked.presented()).await;
        assert!(matches!(
            denied.unwrap_err().reason(),
            DenialReason::Revoked { .. }
        ));
        // No credential, and what is none.
        for presented in [PresentedKey::none(), PresentedKey::text("acme_test_x")] {
            assert!(node.verify_from(ATTACKER, presented).await.is_err());
        }
        // A wrong secret of a warm key.
        let denied = node.guess_at(good.id(), ATTACKER).await;
        assert!(matches!(denied, DenialReason::WrongSecret));
        // An explanation.
        let id = KeyId::from_u128(7).to_string();
        let attempt = Attempt::new(PresentedKey::pair(&id, SECRET), &any).client(client);
        let explained = node.keyward.verifier().explain(&attempt).await;
        assert!(matches!(
            explained.denial().unwrap().reason(),
            DenialReason::UnknownKey
        ));
        // An id that cannot be looked up.
        let _ = node
            .store
            .clone()
            .on(Call::Get, 0..u64::MAX, Fault::Unavailable);
        let presented = PresentedKey::pair(&id, SECRET);
        let denied = node.verify_from(ATTACKER, presented).await;
        assert!(matches!(
            denied.unwrap_err().reason(),
            DenialReason::Store(_)
        ));
        node.store.heal();
    }
    node.use_up(ATTACKER).await;
    assert!(is_limited(&node.guess(ATTACKER).await));
}

#[tokio::test]
async fn an_explanation_is_not_limited() {
    let node = Node::new().await;
    let key = node.key().await;
    node.use_up(ATTACKER).await;
    let any = Requirement::any_key();
    let attempt = Attempt::new(key.presented(), &any).client(ATTACKER.parse().unwrap());
    assert!(
        node.keyward
            .verifier()
            .explain(&attempt)
            .await
            .denial()
            .is_none()
    );
}

#[tokio::test]
async fn without_an_address_nothing_is_limited() {
    let node = Node::new().await;
    let any = Requirement::any_key();
    let id = KeyId::from_u128(7).to_string();
    for _ in 0..10 {
        let attempt = Attempt::new(PresentedKey::pair(&id, SECRET), &any);
        let denied = node.keyward.verifier().verify(&attempt).await.unwrap_err();
        assert!(matches!(reason(&denied), DenialReason::UnknownKey));
    }
}

#[tokio::test]
async fn the_limit_can_be_switched_off() {
    let node = Node::with(None).await;
    for _ in 0..200 {
        assert!(!is_limited(&node.guess(ATTACKER).await));
    }
}

#[tokio::test]
async fn a_hundred_may_fail_by_default() {
    let keyward = builder(MemoryStore::new(), [READ])
        .monotonic_clock(ManualMonotonicClock::new())
        .open()
        .await
        .unwrap();
    let (any, id) = (Requirement::any_key(), KeyId::from_u128(7).to_string());
    let mut failed = 0;
    for _ in 0..200 {
        let attempt = Attempt::new(PresentedKey::pair(&id, SECRET), &any);
        let attempt = attempt.client(ATTACKER.parse().unwrap());
        let denied = keyward.verifier().verify(&attempt).await.unwrap_err();
        failed += u32::from(!is_limited(&reason(&denied)));
    }
    assert_eq!(failed, 100);
    assert_eq!(RateLimiting::DEFAULT_FAILED_AUTHENTICATIONS.get(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_guesses_at_once_three_fail() {
    let node = Arc::new(Node::new().await);
    let _ = node
        .store
        .clone()
        .on(Call::Get, 0..u64::MAX, Fault::Yield(3));
    for client in [ATTACKER, "2001:db8::1"] {
        let mut tasks = JoinSet::new();
        for guess in 0..100 {
            let node = Arc::clone(&node);
            tasks.spawn(async move { node.guess_at(KeyId::from_u128(guess), client).await });
        }
        let reasons = tasks.join_all().await;
        let failed = reasons.iter().filter(|reason| !is_limited(reason));
        assert_eq!(failed.count(), 3, "{client}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn good_keys_at_once_wait_and_are_admitted() {
    let node = Arc::new(Node::new().await);
    let _ = node
        .store
        .clone()
        .on(Call::Get, 0..u64::MAX, Fault::Yield(3));
    for _ in 0..20 {
        let mut tasks = JoinSet::new();
        for client in [ATTACKER, "2001:db8::1", "2001:db8:0:1::1"] {
            for number in 0..10 {
                let node = Arc::clone(&node);
                let key = node.key().await;
                let is_good = number % 5 > 0;
                tasks.spawn(async move {
                    // A few are given up while they wait.
                    let mut verifying = pin!(node.verify_from(client, key.presented()));
                    if is_good {
                        return verifying.await.is_ok();
                    }
                    let _ = verifying
                        .as_mut()
                        .poll(&mut Context::from_waker(Waker::noop()));
                    true
                });
            }
        }
        let admitted = tasks.join_all().await;
        assert_eq!(
            admitted.iter().filter(|is_admitted| **is_admitted).count(),
            30
        );
    }
}

#[tokio::test]
async fn who_waits_behind_failures_is_refused() {
    let node = Node::new().await;
    let key = node.key().await;
    let _ = node
        .store
        .clone()
        .on(Call::Get, 0..u64::MAX, Fault::Yield(20));
    let mut context = Context::from_waker(Waker::noop());
    let mut guesses = Vec::new();
    for guess in 0..3 {
        let mut guessing = Box::pin(node.guess_at(KeyId::from_u128(guess), ATTACKER));
        assert!(guessing.as_mut().poll(&mut context).is_pending());
        guesses.push(guessing);
    }
    let mut waiting = Box::pin(node.verify_from(ATTACKER, key.presented()));
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    // As long as any of the three may turn out good, it waits.
    for guessing in &mut guesses {
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        guessing.await;
    }
    let Poll::Ready(denied) = waiting.as_mut().poll(&mut context) else {
        panic!("it waits for nothing");
    };
    assert!(is_limited(&reason(&denied.unwrap_err())));
}

/// Three requests with good keys in progress, of which the first will be decided; and its key.
async fn three_in_progress(node: &Node) -> (TestKey, Vec<Verifying<'_>>) {
    let mut keys = Vec::new();
    for _ in 0..3 {
        keys.push(node.key().await);
    }
    let next = node.store.calls(Call::Get);
    let store = node.store.clone();
    let _ = store.on(Call::Get, next..next + 1, Fault::Yield(20)).on(
        Call::Get,
        next + 1..next + 3,
        Fault::Hang,
    );
    let mut verifying = Vec::new();
    for key in &keys {
        verifying.push(pending(node, key));
    }
    (keys.swap_remove(0), verifying)
}

type Verifying<'a> = Pin<Box<dyn Future<Output = Result<Admitted, Denial>> + 'a>>;

/// A verification that waits for something.
fn pending<'a>(node: &'a Node, key: &TestKey) -> Verifying<'a> {
    let text = key.text().to_owned();
    let mut verifying: Verifying<'a> =
        Box::pin(async move { node.verify_from(ATTACKER, PresentedKey::text(&text)).await });
    assert!(is_pending(&mut verifying));
    verifying
}

fn is_pending(verifying: &mut Verifying<'_>) -> bool {
    let polled = verifying
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    match polled {
        Poll::Pending => true,
        Poll::Ready(verdict) => {
            assert!(verdict.is_ok(), "{verdict:?}");
            false
        }
    }
}

#[tokio::test]
async fn who_waits_takes_the_place_that_is_free() {
    let node = Node::new().await;
    let others = [node.key().await, node.key().await];
    let (_, mut in_progress) = three_in_progress(&node).await;
    let mut waiting = others.each_ref().map(|key| pending(&node, key));
    assert!(in_progress.remove(0).await.is_ok());
    assert!(!is_pending(&mut waiting[0]));
    // It has given the place back in its turn.
    assert!(!is_pending(&mut waiting[1]));
}

#[tokio::test]
async fn who_needs_no_place_wakes_the_next() {
    let node = Node::new().await;
    let other = node.key().await;
    let (first, mut in_progress) = three_in_progress(&node).await;
    let (mut same, given_up) = (pending(&node, &first), pending(&node, &other));
    let mut last = pending(&node, &other);
    assert!(in_progress.remove(0).await.is_ok());
    // Its key is warm by now.
    assert!(!is_pending(&mut same));
    drop(given_up);
    assert!(!is_pending(&mut last));
}

#[tokio::test]
async fn given_up_requests_hold_no_place() {
    let node = Node::new().await;
    let _ = node.store.clone().on(Call::Get, 0..3, Fault::Hang);
    let mut context = Context::from_waker(Waker::noop());
    for guess in 0..3 {
        let mut guessing = Box::pin(node.guess_at(KeyId::from_u128(guess), ATTACKER));
        assert!(guessing.as_mut().poll(&mut context).is_pending());
    }
    node.use_up(ATTACKER).await;
}

/// What an edge reported: whether a proxy is probably missing in its configuration.
type Warnings = Arc<Mutex<Vec<bool>>>;

fn edge(node: &Node, proxies: Option<Proxies>) -> (Edge, Warnings) {
    let warnings = Warnings::default();
    let into = Arc::clone(&warnings);
    let edge = Edge::new(&node.keyward).accept(KeyIn::bearer());
    let edge = edge.observe(move |event| into.lock().unwrap().push(event.is_by_unlisted_proxy));
    let edge = match proxies {
        Some(proxies) => edge.trust_proxies(proxies),
        None => edge,
    };
    (edge, warnings)
}

async fn ask(
    edge: &Edge,
    peer: &str,
    bearer: &str,
    headers: &[(&str, &str)],
) -> Result<Admitted, Box<Rejection>> {
    let headers: Vec<_> = [("authorization", bearer)]
        .into_iter()
        .chain(headers.iter().copied())
        .collect();
    let head = Head {
        headers: headers.as_slice(),
        connection: Connection {
            peer: Some(peer.parse().unwrap()),
            is_tls: true,
        },
        query: None,
    };
    let any = Requirement::any_key();
    edge.admit(&head, Attempt::of(&any)).await
}

/// Returns how many of ten guesses failed before they were refused.
async fn failed(edge: &Edge, peer: &str, headers: &[(&str, &str)]) -> usize {
    let elsewhere = Node::with(None).await.key().await;
    let mut failed = 0;
    for _ in 0..10 {
        let rejected = ask(edge, peer, &elsewhere.bearer(), headers).await;
        failed += usize::from(rejected.unwrap_err().answer.status == 401);
    }
    failed
}

#[tokio::test]
async fn the_peer_is_limited_without_a_header() {
    let node = Node::new().await;
    let (edge, warnings) = edge(&node, None);
    assert_eq!(failed(&edge, ATTACKER, &[]).await, 3);
    assert_eq!(*warnings.lock().unwrap(), [false; 10]);
    assert_eq!(node.stats().failures_not_limited, 0);
}

#[tokio::test]
async fn a_header_of_an_unlisted_proxy_is_a_warning() {
    for header in [
        ("Forwarded", "for=198.51.100.1"),
        ("X-Forwarded-For", "198.51.100.1"),
        ("X-Real-IP", "198.51.100.1"),
        ("Via", "1.1 varnish"),
    ] {
        let others: Proxies = Proxies::x_forwarded(["10.0.0.0/8".parse().unwrap()]);
        for proxies in [None, Some(Proxies::forwarded([])), Some(others)] {
            let node = Node::new().await;
            let (edge, warnings) = edge(&node, proxies);
            assert_eq!(failed(&edge, ATTACKER, &[header]).await, 10);
            assert_eq!(*warnings.lock().unwrap(), [true; 10]);
            assert_eq!(node.stats().failures_not_limited, 10);
        }
    }
}

#[tokio::test]
async fn where_all_proxies_are_known_headers_help_none() {
    let header = ("X-Forwarded-For", "198.51.100.1");
    let others = Proxies::x_forwarded(["10.0.0.0/8".parse().unwrap()]).and_no_others();
    for proxies in [Proxies::none(), others] {
        let node = Node::new().await;
        let (edge, warnings) = edge(&node, Some(proxies));
        assert_eq!(failed(&edge, ATTACKER, &[header]).await, 3);
        assert_eq!(*warnings.lock().unwrap(), [false; 10]);
        assert_eq!(node.stats().failures_not_limited, 0);
    }
}

#[tokio::test]
async fn behind_a_proxy_the_client_is_limited() {
    let node = Node::new().await;
    let proxies = Proxies::x_forwarded(["10.0.0.0/8".parse().unwrap()]);
    let (edge, warnings) = edge(&node, Some(proxies));
    for client in ["198.51.100.1", "198.51.100.2"] {
        let header = ("X-Forwarded-For", client);
        assert_eq!(failed(&edge, "10.0.0.1", &[header]).await, 3);
    }
    assert_eq!(*warnings.lock().unwrap(), [false; 20]);
}

#[tokio::test]
async fn the_answer_is_one_whatever_the_key() {
    let node = Node::new().await;
    let (edge, _) = edge(&node, None);
    let (cold, revoked) = (node.key().await, node.key().await);
    revoked.revoke(&node.keyward).await;
    let unknown = Node::with(None).await.key().await;
    failed(&edge, ATTACKER, &[]).await;
    let mut answers = Vec::new();
    for key in [cold, revoked, unknown] {
        let rejected = ask(&edge, ATTACKER, &key.bearer(), &[]).await.unwrap_err();
        answers.push(rejected.answer);
    }
    let answer = &answers[0];
    assert!(answers.iter().all(|other| other == answer));
    assert_eq!(answer.status, 429);
    let header = |name| {
        let found = answer.headers.iter().find(|(other, _)| *other == name);
        found.map(|(_, value)| value.as_str())
    };
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let draft = "https://iana.org/assignments/http-problem-types#abnormal-usage-detected";
    assert_eq!(body["type"], draft);
    assert_eq!(body["code"], "too_many_failures");
    assert_eq!(body["violated-policies"], serde_json::json!([]));
    // It is never early: what was counted at zero counts for 61 parts of a second each.
    assert_eq!(header("retry-after"), Some("61"));
    assert_eq!(header("www-authenticate"), None);
    let limits = answer
        .headers
        .iter()
        .filter(|(name, _)| name.contains("ratelimit"));
    assert_eq!(limits.count(), 0);
    node.monotonic.advance(Duration::from_millis(100));
    let rejected = ask(&edge, ATTACKER, "Bearer acme_test_x", &[])
        .await
        .unwrap_err();
    assert_eq!(rejected.answer.status, 401, "it costs nothing");
}
