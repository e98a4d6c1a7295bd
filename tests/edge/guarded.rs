//! A guard that is decided in front of a framework that Keyward does not know.

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use keyward::http::{Edge, Guard, Head, KeyIn, RejectionReason, lookup};
use keyward::key::{Quota, Resource};
use keyward::manager::NewKey;
use keyward::testkit::TestKey;
use keyward::verifier::{Attempt, Grant, Requirement};

use crate::common::{Fixture, READ, over_tls};

/// A framework's request.
struct Request {
    headers: Vec<(&'static str, String)>,
    project: Option<&'static str>,
    edition: &'static str,
}

fn head(request: &Request) -> Head<'_, [(&'static str, String)]> {
    Head {
        headers: &*request.headers,
        connection: over_tls(),
        query: None,
    }
}

impl Request {
    fn guests() -> Self {
        Self {
            headers: Vec::new(),
            project: Some("p-1"),
            edition: "e-1",
        }
    }

    fn with(key: &TestKey) -> Self {
        Self {
            headers: vec![("authorization", key.bearer())],
            ..Self::guests()
        }
    }
}

/// Returns the status: 200 for a holder of a key, 204 for a guest.
async fn status(edge: &Edge, guard: &Guard<Request>, request: Request) -> u16 {
    inside(edge, guard, request, None).await
}

async fn inside(
    edge: &Edge,
    guard: &Guard<Request>,
    mut request: Request,
    outer: Option<&Grant>,
) -> u16 {
    match edge.admit_guarded(guard, &mut request, outer, head).await {
        Ok(admission) if admission.is_guest() => 204,
        Ok(_) => 200,
        Err(refused) => refused.answer.status,
    }
}

async fn fixture() -> (Fixture, TestKey) {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer())).await;
    let project = "project:p-1".parse::<Resource>().unwrap();
    let new = NewKey::new(fixture.key.record().tenant().clone(), "restricted", READ);
    let key = TestKey::issue_as(&fixture.keyward, new.resources(project)).await;
    (fixture, key)
}

#[tokio::test]
async fn the_request_names_the_resource() {
    let (Fixture { edge, .. }, key) = fixture().await;
    let project = |request: &Request| request.project.map(str::to_owned);
    let guard = Requirement::scope(READ).bind("project", project);
    for (project, expected) in [(Some("p-1"), 200), (Some("p-2"), 403), (None, 403)] {
        let request = Request {
            project,
            ..Request::with(&key)
        };
        assert_eq!(
            status(&edge, &guard, request).await,
            expected,
            "{project:?}"
        );
    }
    assert_eq!(status(&edge, &guard, Request::guests()).await, 401);
    let guard = guard.or_guest();
    assert_eq!(status(&edge, &guard, Request::guests()).await, 204);
    let mut wrong = Request::with(&key);
    wrong.headers[0].1.push('x');
    assert_eq!(status(&edge, &guard, wrong).await, 401, "never a guest");
}

/// The project of an edition, as the application looks it up.
fn looked_up(looks: &Arc<AtomicUsize>) -> Guard<Request> {
    let looks = Arc::clone(looks);
    let edition = |request: &Request| Some(request.edition.to_owned());
    let project = lookup(edition, move |_, edition: String| {
        looks.fetch_add(1, Ordering::SeqCst);
        async move {
            match &*edition {
                "e-1" => Ok(Some("p-1".to_owned())),
                "e-2" => Ok(Some("p-2".to_owned())),
                "broken" => Err(io::Error::other("the database is away")),
                _ => Ok(None),
            }
        }
    });
    let minute = Duration::from_secs(60);
    let quota = Quota::new("edits", NonZeroU32::MIN, minute).unwrap();
    Requirement::scope(READ)
        .quota(quota)
        .bind("project", project)
}

#[tokio::test]
async fn a_resource_is_looked_up_and_counted_last() {
    let (Fixture { edge, .. }, key) = fixture().await;
    let looks = Arc::new(AtomicUsize::new(0));
    let guard = looked_up(&looks);
    for (edition, expected) in [
        ("e-2", 403),
        ("none", 404),
        ("broken", 503),
        ("e-1", 200), // the first that counts: one is allowed
        ("e-1", 429),
    ] {
        let request = Request {
            edition,
            ..Request::with(&key)
        };
        assert_eq!(status(&edge, &guard, request).await, expected, "{edition}");
    }
    assert_eq!(looks.load(Ordering::SeqCst), 5);
    // Nothing is looked up for a request that is refused without it.
    assert_eq!(status(&edge, &guard, Request::guests()).await, 401);
    assert_eq!(looks.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn a_key_ended_during_the_look_up_is_refused() {
    let (Fixture { keyward, edge, .. }, key) = fixture().await;
    let (key, keyward) = (Arc::new(key), Arc::new(keyward));
    let (of_look_up, named) = (Arc::clone(&key), |request: &Request| {
        Some(request.edition.to_owned())
    });
    let project = lookup(named, move |_, _| {
        let (key, keyward) = (Arc::clone(&of_look_up), Arc::clone(&keyward));
        async move {
            key.revoke(&keyward).await;
            Ok::<_, io::Error>(Some("p-1".to_owned()))
        }
    });
    let guard = Requirement::scope(READ).bind("project", project);
    assert_eq!(status(&edge, &guard, Request::with(&key)).await, 401);
}

#[tokio::test]
async fn a_grant_of_an_outer_guard_is_enough() {
    let (fixture, key) = fixture().await;
    let outer = Requirement::scope(READ).filters("project");
    let grant = fixture.granted(&outer, &key).await;
    let project = |request: &Request| request.project.map(str::to_owned);
    let guard = Requirement::scope(READ).bind("project", project);
    let edge = &fixture.edge;
    let guests = Request::guests;
    assert_eq!(inside(edge, &guard, guests(), Some(&grant)).await, 200);
    let other = Request {
        project: Some("p-2"),
        ..guests()
    };
    assert_eq!(inside(edge, &guard, other, Some(&grant)).await, 403);
    // The holder's request has no credential any more, and is no guest's.
    let open = guard.clone().or_guest();
    assert_eq!(inside(edge, &open, guests(), Some(&grant)).await, 200);
    // The grant of another Keyward is worth nothing.
    let (stranger, strangers_key) = self::fixture().await;
    let foreign = stranger.granted(&outer, &strangers_key).await;
    assert_eq!(inside(edge, &guard, guests(), Some(&foreign)).await, 401);
}

#[tokio::test]
async fn no_guest_passes_to_a_missing_guard() {
    let (Fixture { edge, key, .. }, _) = fixture().await;
    let outer = Requirement::any_key().checked_by_inner_guard();
    let guard = Guard::from(outer.clone()).or_guest();
    assert_eq!(status(&edge, &guard, Request::with(&key)).await, 200);
    for edge in [edge.clone(), edge.report_only()] {
        let mut request = Request::guests();
        let admitting = edge.admit_guarded(&guard, &mut request, None, head);
        let admission = admitting.await.unwrap();
        assert!(admission.is_guest());
        let guarded = admission.into_admitted();
        let admitting = edge.admit_or_guest(&head(&request), Attempt::of(&outer));
        for admitted in [guarded, admitting.await] {
            let rejection = admitted.unwrap_err();
            assert!(matches!(rejection.reason, RejectionReason::NoInnerGuard));
            assert_eq!(rejection.answer.status, 500);
            assert!(!rejection.is_report_only);
        }
    }
}

#[tokio::test]
async fn a_reported_refusal_is_a_decision() {
    let (Fixture { edge, key, .. }, _) = fixture().await;
    let edge = edge.report_only();
    let mut request = Request::with(&key);
    let outer = Guard::from(Requirement::any_key().checked_by_inner_guard());
    let admitting = edge.admit_guarded(&outer, &mut request, None, head);
    let admitted = admitting.await.unwrap().into_admitted().unwrap();
    let (grant, _permit) = admitted.unwrap().into_parts();
    assert!(edge.review(&grant, 200).is_err());
    let inner = Requirement::full_access().into();
    let deciding = edge.admit_guarded(&inner, &mut request, Some(&grant), head);
    assert!(deciding.await.unwrap().into_admitted().unwrap().is_none());
    assert!(edge.review(&grant, 200).is_ok());
}
