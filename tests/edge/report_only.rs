//! Report only, for an API that is not closed yet: would-be refusals are reported and let through.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use keyward::http::{KeyIn, RejectionReason};
use keyward::verifier::Requirement;

use crate::common::{Events, Fixture, recording, values};

#[tokio::test]
async fn would_be_refusals_are_reported() {
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    let fixture = Fixture::new(move |edge| {
        edge.accept(KeyIn::bearer())
            .report_only()
            .observe(move |event| {
                assert!(event.is_report_only);
                count.fetch_add(1, Ordering::Relaxed);
            })
    })
    .await;
    let rejection = fixture.ask(&[], None).await.unwrap_err();
    assert!(rejection.is_report_only);
    assert_eq!(
        rejection.answer.status, 401,
        "what would have been answered"
    );
    let bearer = fixture.key.bearer();
    assert!(
        fixture
            .ask(&[("authorization", bearer.as_bytes())], None)
            .await
            .is_ok()
    );
    assert_eq!(told.load(Ordering::Relaxed), 1);
    let strict = Fixture::new(|edge| edge.accept(KeyIn::bearer())).await;
    assert!(!strict.ask(&[], None).await.unwrap_err().is_report_only);
}

#[tokio::test]
async fn handler_mistakes_are_still_refused() {
    let told = Events::default();
    let fixture =
        Fixture::new(|edge| recording(edge.accept(KeyIn::bearer()).report_only(), &told)).await;
    let need = Requirement::any_key().checked_by_handler("project");
    let grant = fixture.granted(&need, &fixture.key).await;
    let rejection = fixture.edge.review(&grant, 200).unwrap_err();
    assert!(!rejection.is_report_only);
    assert_eq!(rejection.answer.status, 500);
    assert_eq!(values(&rejection, "cache-control"), ["no-store"]);
    assert_eq!(
        told.lock().unwrap().pop().unwrap().0,
        "the handler never asked whether the key is permitted the `project`"
    );
    assert!(grant.permits("project", "p-1").is_ok());
    assert!(fixture.edge.review(&grant, 200).is_ok());
}

#[tokio::test]
async fn only_caller_mistakes_are_tolerated() {
    let fixture = Fixture::new(|edge| edge.accept(KeyIn::bearer()).report_only()).await;
    let unchecked = RejectionReason::Unchecked {
        kind: "project".into(),
    };
    for (reason, is_callers) in [
        (RejectionReason::RequestTooLarge, true),
        (RejectionReason::NotFound, false),
        (
            RejectionReason::LookupFailed("the database is away".into()),
            false,
        ),
        (RejectionReason::ResponseTooLarge, false),
        (unchecked, false),
    ] {
        let why = reason.to_string();
        let rejection = fixture.edge.reject(reason, None);
        assert_eq!(rejection.is_report_only, is_callers, "{why}");
    }
}
