//! Before an API is closed: what would be refused is told, and let through by whoever asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use keyward::http::KeyIn;

use crate::common::Fixture;

#[tokio::test]
async fn what_would_be_refused_is_marked_and_told() {
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    let fixture = Fixture::new(move |edge| {
        edge.accept(KeyIn::bearer())
            .report_only()
            .observe(move |refused| {
                assert!(refused.is_report_only);
                count.fetch_add(1, Ordering::Relaxed);
            })
    })
    .await;
    let rejection = fixture.ask(&[], None).await.unwrap_err();
    assert!(rejection.is_report_only());
    assert_eq!(
        rejection.answer().status,
        401,
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
    assert!(!strict.ask(&[], None).await.unwrap_err().is_report_only());
}
