//! Old events go, and the rest of the log still verifies.

use keyward::audit::{EventAction, SealedEvent, verify_log};
use keyward::key::TenantId;
use keyward::manager::{ManageError, Operation, Policy, PolicyError, Ruling};
use keyward::store::{KeyStore, StoreError};
use keyward::time::OffsetDateTime;

use crate::common::*;
use crate::store::Loss;

async fn log(fixture: &Fixture) -> Vec<SealedEvent> {
    let log = fixture.store.events().unwrap();
    let events = log.read(None, 0, usize::MAX).await.unwrap();
    verify_log(&events).unwrap();
    events
}

fn numbers(events: &[SealedEvent]) -> Vec<u64> {
    events.iter().map(|sealed| sealed.number).collect()
}

async fn cut(fixture: &Fixture, before: OffsetDateTime) -> u64 {
    let cut = fixture.manager().cut_events(&system(), before).await;
    cut.unwrap()
}

#[tokio::test]
async fn old_events_go_and_the_rest_verifies() {
    let fixture = Fixture::new().await;
    for title in ["one", "two", "three"] {
        fixture.issue(title).await;
    }
    fixture.later(HOUR);
    let boundary = fixture.now();
    let (fourth, _) = (fixture.issue("four").await, fixture.issue("five").await);
    fixture.later(HOUR);
    let whole = log(&fixture).await;
    let kept = whole.last().unwrap().head();
    assert_eq!(
        cut(&fixture, boundary).await,
        3,
        "an event at the instant stays"
    );
    let rest = log(&fixture).await;
    assert_eq!(numbers(&rest), [4, 5, 6]);
    assert_eq!(rest[..2], whole[3..]);
    assert!(rest.iter().any(|sealed| sealed.head() == kept));
    let recorded = &rest[2].event;
    assert_eq!(recorded.action, EventAction::EventsCut);
    assert_eq!((recorded.at, &recorded.tenant), (fixture.now(), &None));
    assert_eq!(recorded.actor.to_string(), "system:test");
    let since = text(boundary);
    let hash = whole[2].hash.iter().map(|byte| format!("{byte:02x}"));
    let hash: String = hash.collect();
    let expected = [
        ("from", None, Some("1")),
        ("through", None, Some("3")),
        ("hash", None, Some(&*hash)),
        ("before", None, Some(&*since)),
    ];
    assert_eq!(fields(recorded), expected);
    assert_eq!(recorded.checkpoint(), Some(whole[2].head()));
    // Nothing else went, and there is nothing more to do.
    assert_eq!(fixture.answer(fourth.api_key()).await, Answer::Admitted);
    let events = fixture.manager().events(&system(), &tenant(), 0, 100).await;
    assert_eq!(numbers(&events.unwrap()), [4, 5]);
    assert_eq!(cut(&fixture, boundary).await, 0);
    assert_eq!(numbers(&log(&fixture).await), [4, 5, 6]);
    // The next cut takes the record of this one along.
    fixture.later(HOUR);
    assert_eq!(cut(&fixture, fixture.now()).await, 3);
    let rest = log(&fixture).await;
    assert_eq!(numbers(&rest), [7]);
    assert_eq!(rest[0].event.changes[0].to.as_deref(), Some("4"));
}

#[tokio::test]
async fn a_younger_event_stops_the_cut() {
    let fixture = Fixture::new().await;
    fixture.issue("one").await;
    fixture.later(HOUR);
    fixture.issue("two").await;
    // By a clock that ran back.
    fixture.clock.set(fixture.now() - HOUR);
    fixture.issue("three").await;
    fixture.later(HOUR * 2);
    assert_eq!(cut(&fixture, fixture.now() - HOUR).await, 1);
    assert_eq!(numbers(&log(&fixture).await), [2, 3, 4]);
}

#[tokio::test]
async fn a_future_event_stops_no_cut() {
    let fixture = Fixture::new().await;
    fixture.issue("one").await;
    fixture.clock.set(fixture.now() + DAY * 3_650);
    fixture.issue("ahead").await;
    fixture.clock.set(fixture.now() - DAY * 3_650);
    fixture.issue("three").await;
    fixture.later(HOUR);
    assert_eq!(cut(&fixture, fixture.now()).await, 3);
    let rest = log(&fixture).await;
    assert_eq!(numbers(&rest), [4]);
    // At the end of what is old enough it stays.
    fixture.clock.set(fixture.now() + DAY * 3_650);
    fixture.issue("ahead").await;
    fixture.clock.set(fixture.now() - DAY * 3_650 + HOUR);
    assert_eq!(cut(&fixture, fixture.now()).await, 1);
    assert_eq!(numbers(&log(&fixture).await), [5, 6]);
}

#[tokio::test]
async fn many_events_go_in_several_commits() {
    let fixture = Fixture::new().await;
    for _ in 0..1_250 {
        let key = fixture.issue("key").await;
        fixture.revoke(key.record().id()).await;
    }
    fixture.later(HOUR);
    let commits = fixture.store.commits();
    assert_eq!(cut(&fixture, fixture.now()).await, 2_500);
    assert_eq!(fixture.store.commits() - commits, 3);
    let rest = log(&fixture).await;
    assert_eq!(numbers(&rest), [2_501, 2_502, 2_503]);
    let through: Vec<_> = rest
        .iter()
        .map(|sealed| sealed.event.checkpoint().unwrap().events)
        .collect();
    assert_eq!(through, [1_000, 2_000, 2_500]);
}

#[tokio::test]
async fn an_interrupted_cut_continues() {
    for losses in 0..3 {
        for loss in [Loss::Away, Loss::Answer, Loss::Commit] {
            let fixture = Fixture::new().await;
            for _ in 0..1_200 {
                fixture.issue("key").await;
            }
            fixture.later(HOUR);
            let done = std::iter::repeat_n(Loss::None, losses);
            fixture.store.lose(done.chain([loss; 3]));
            let _ = fixture.manager().cut_events(&system(), fixture.now()).await;
            fixture.store.lose([]);
            log(&fixture).await;
            cut(&fixture, fixture.now()).await;
            let rest = log(&fixture).await;
            assert_eq!(rest[0].number, 1_201, "{loss:?} after {losses}");
        }
    }
}

#[tokio::test]
async fn cutting_needs_all_tenants() {
    #[derive(Debug)]
    struct Refusing;
    #[keyward::async_trait]
    impl Policy for Refusing {
        async fn rule(
            &self,
            _: &keyward::manager::Actor,
            operation: &Operation<'_>,
        ) -> Result<Ruling, PolicyError> {
            let is_cut = matches!(operation, Operation::CutEvents { .. });
            assert_eq!(operation.tenant(), None::<&TenantId>);
            Ok(if is_cut {
                Ruling::Refuse
            } else {
                Ruling::Allow
            })
        }
    }
    let fixture = Fixture::new().await;
    fixture.issue("key").await;
    fixture.later(HOUR);
    let calls = fixture.store.calls();
    let refused = fixture.beside(|builder| builder.policy(Refusing)).await;
    for (fixture, actor) in [(&fixture, alice(None)), (&refused, system())] {
        let cut = fixture.manager().cut_events(&actor, fixture.now()).await;
        assert!(matches!(cut, Err(ManageError::Refused)), "{cut:?}");
    }
    let ahead = fixture.now() + SECOND;
    let cut = fixture.manager().cut_events(&system(), ahead).await;
    assert!(matches!(cut, Err(ManageError::InTheFuture)), "{cut:?}");
    assert_eq!(fixture.store.calls(), calls);
    assert_eq!(numbers(&log(&fixture).await), [1]);
}

#[tokio::test]
async fn a_broken_log_is_not_cut() {
    let fixture = Fixture::new().await;
    for _ in 0..5 {
        fixture.issue("key").await;
    }
    fixture.later(HOUR);
    fixture.store.hide_event(Some(3));
    let cut = fixture.manager().cut_events(&system(), fixture.now()).await;
    let Err(ManageError::Store(StoreError::Corrupt(cause))) = cut else {
        panic!("{cut:?}");
    };
    assert_eq!(cause.to_string(), "the chain of events breaks at event 3");
    // A beginning that was removed without a record is not covered up by the record of a cut.
    fixture.store.hide_event(Some(1));
    let cut = fixture.manager().cut_events(&system(), fixture.now()).await;
    assert!(matches!(
        cut,
        Err(ManageError::Store(StoreError::Corrupt(_)))
    ));
    fixture.store.hide_event(None);
    assert_eq!(numbers(&log(&fixture).await), [1, 2, 3, 4, 5]);
}
