//! Lists page by page: conditions that leave little of a page, and keys that come and go meanwhile.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use keyward::key::{KeyId, KeyRecord, KeyStatus};
use keyward::manager::{KeyList, KeyQuery, Overlap, PageCursor, PageCursorError};

use crate::common::*;

fn all() -> KeyQuery {
    KeyQuery::of(&tenant())
}

async fn page(fixture: &Fixture, query: &KeyQuery) -> KeyList {
    fixture.manager().list(&system(), query).await.unwrap()
}

fn ids(list: &KeyList) -> Vec<KeyId> {
    list.keys.iter().map(KeyRecord::id).collect()
}

/// All pages of this size, each cursor as it comes out of a link.
async fn walk(fixture: &Fixture, query: &KeyQuery, size: u16) -> Vec<KeyId> {
    let mut seen = Vec::new();
    let mut next: Option<PageCursor> = None;
    for _ in 0..1_000 {
        let mut asked = query.clone().limit(size);
        if let Some(cursor) = next {
            asked = asked.after(cursor.to_string().parse().unwrap()).unwrap();
        }
        let lists = fixture.store.lists();
        let list = page(fixture, &asked).await;
        assert!(list.keys.len() <= usize::from(size));
        assert!(
            fixture.store.lists() - lists <= 64,
            "a page costs a bounded number of reads"
        );
        seen.extend(ids(&list));
        let Some(cursor) = list.next else { return seen };
        assert_ne!(next, Some(cursor), "it goes on");
        next = Some(cursor);
    }
    panic!("the list never ends");
}

/// Sixty keys: every tenth suspended, every seventh rotated, every fifth revoked, some of one instant.
async fn crowd(fixture: &Fixture) -> Vec<KeyId> {
    let mut keys = Vec::new();
    for n in 0..60 {
        let key = fixture.issue(&format!("key {}", n % 4)).await;
        let (id, manager) = (key.record().id(), fixture.manager());
        match n {
            n if n % 10 == 0 => drop(manager.suspend(&system(), &tenant(), id).await.unwrap()),
            n if n % 7 == 0 => drop(fixture.rotate(id, Overlap::For(HOUR)).await.unwrap()),
            n if n % 5 == 0 => fixture.revoke(id).await,
            n if n % 3 == 0 => drop(fixture.answer(key.api_key()).await),
            _ => {}
        }
        keys.push(id);
        if n % 4 == 0 {
            fixture.later(SECOND);
        }
    }
    fixture.later(HOUR);
    keys
}

#[tokio::test]
async fn pages_of_any_size_list_every_key() {
    let fixture = Fixture::new().await;
    crowd(&fixture).await;
    for query in [
        all(),
        all().live_first(),
        all().title_prefix("key 1"),
        all().status(KeyStatus::Suspended),
        all().status(KeyStatus::Revoked),
        all().due_for_rotation(HOUR),
        all().unused_for(HOUR * 2),
        all().unused_for(HOUR).title_prefix("key 2").live_first(),
        all().display_prefix("acme_test_"),
        all().status(KeyStatus::Expired),
    ] {
        let whole = page(&fixture, &query.clone().limit(1_000)).await;
        assert_eq!(whole.next, None);
        let whole = ids(&whole);
        for size in [1, 2, 3, 7, 10, 59, 60, 61] {
            assert_eq!(
                walk(&fixture, &query, size).await,
                whole,
                "{query:?}, pages of {size}"
            );
        }
    }
    assert_eq!(
        walk(&fixture, &all().status(KeyStatus::Suspended), 5)
            .await
            .len(),
        6
    );
}

#[tokio::test]
async fn sparse_matches_still_fill_a_page() {
    let fixture = Fixture::new().await;
    let mut suspended = Vec::new();
    for n in 0..100 {
        let id = fixture.issue(&format!("key {n}")).await.record().id();
        if n % 4 == 0 {
            fixture
                .manager()
                .suspend(&system(), &tenant(), id)
                .await
                .unwrap();
            suspended.push(id);
        }
        fixture.later(SECOND);
    }
    suspended.reverse();
    let query = all().status(KeyStatus::Suspended);
    let first = page(&fixture, &query.clone().limit(10)).await;
    assert_eq!(
        ids(&first),
        suspended[..10],
        "whole, of forty that were read"
    );
    let second = query.clone().limit(10).after(first.next.unwrap()).unwrap();
    let second = page(&fixture, &second).await;
    assert_eq!(ids(&second), suspended[10..20]);
    let third = query.clone().limit(10).after(second.next.unwrap()).unwrap();
    let third = page(&fixture, &third).await;
    assert_eq!((ids(&third), third.next), (suspended[20..].to_vec(), None));

    // One that reads too much for one page gives what it has, even nothing, and goes on.
    let rare = all().status(KeyStatus::Active).title_prefix("key 0");
    assert!(page(&fixture, &rare).await.next.is_none());
    let none = page(&fixture, &all().status(KeyStatus::NotYetValid).limit(1)).await;
    assert!(none.keys.is_empty() && none.next.is_some());
    let rest = all()
        .status(KeyStatus::NotYetValid)
        .limit(1)
        .after(none.next.unwrap())
        .unwrap();
    let rest = page(&fixture, &rest).await;
    assert!(rest.keys.is_empty() && rest.next.is_none());
}

#[tokio::test]
async fn a_full_last_page_has_no_next() {
    let fixture = Fixture::new().await;
    for n in 0..6 {
        fixture.issue(&format!("key {n}")).await;
    }
    assert!(page(&fixture, &all().limit(6)).await.next.is_none());
    let first = page(&fixture, &all().limit(3)).await;
    let second = all().limit(3).after(first.next.unwrap()).unwrap();
    assert!(page(&fixture, &second).await.next.is_none());
}

#[tokio::test]
async fn a_filtered_list_survives_changes() {
    let fixture = Fixture::new().await;
    let mut keys = Vec::new();
    for n in 0..10 {
        keys.push(fixture.issue(&format!("key {n}")).await.record().id());
        fixture.later(SECOND);
    }
    keys.reverse();
    let query = || {
        all()
            .status(KeyStatus::Active)
            .due_for_rotation(SECOND)
            .limit(3)
    };
    let first = page(&fixture, &query()).await;
    assert_eq!(ids(&first), keys[..3]);
    // The one that the cursor stands at goes, one before it, one after it, and a new one comes.
    for id in [keys[2], keys[0], keys[4]] {
        fixture.revoke(id).await;
    }
    let manager = fixture.manager();
    manager
        .suspend(&system(), &tenant(), keys[5])
        .await
        .unwrap();
    fixture.issue("new").await;
    fixture.later(SECOND);
    let cursor = first.next.unwrap();
    let second = page(&fixture, &query().after(cursor).unwrap()).await;
    assert_eq!(ids(&second), [keys[3], keys[6], keys[7]]);
    let third = page(&fixture, &query().after(second.next.unwrap()).unwrap()).await;
    assert_eq!((ids(&third), third.next), (keys[8..].to_vec(), None));
}

#[tokio::test]
async fn revoked_keys_move_behind_the_cursor() {
    let fixture = Fixture::new().await;
    crowd(&fixture).await;
    let whole = ids(&page(&fixture, &all().live_first().limit(1_000)).await);
    let first = page(&fixture, &all().live_first().limit(4)).await;
    fixture.issue("newer").await;
    let (gone, last) = (whole[1], whole[3]);
    for id in [gone, last] {
        fixture.revoke(id).await;
    }
    let rest = all().live_first().limit(1_000).after(first.next.unwrap());
    let rest = page(&fixture, &rest.unwrap()).await;
    assert_eq!(ids(&rest), [&whole[4..], &[gone, last]].concat());
}

#[tokio::test]
async fn a_cursor_finds_later_revocations() {
    let fixture = Fixture::new().await;
    let mut keys = Vec::new();
    for n in 0..6 {
        keys.push(fixture.issue(&format!("key {n}")).await.record().id());
    }
    for id in [keys[4], keys[1], keys[3]] {
        fixture.revoke(id).await;
    }
    let query = || all().status(KeyStatus::Revoked).limit(2);
    let first = page(&fixture, &query()).await;
    assert_eq!(ids(&first), [keys[4], keys[1]]);
    fixture.revoke(keys[0]).await;
    fixture.issue("new").await;
    let second = page(&fixture, &query().after(first.next.unwrap()).unwrap()).await;
    assert_eq!(ids(&second), [keys[3], keys[0]]);
}

#[tokio::test]
async fn a_cursor_fits_its_own_list_only() {
    let fixture = Fixture::new().await;
    for n in 0..4 {
        fixture.issue(&format!("key {n}")).await;
    }
    let query = || {
        all()
            .status(KeyStatus::Active)
            .due_for_rotation(Duration::ZERO)
            .limit(2)
    };
    let cursor = page(&fixture, &query()).await.next.unwrap();
    assert!(
        query().limit(50).after(cursor).is_ok(),
        "pages may change their size"
    );
    for other in [
        all(),
        all().status(KeyStatus::Active),
        query().title_prefix(""),
        query().live_first(),
        query().due_for_rotation(SECOND),
        query().unused_for(SECOND),
        query().status(KeyStatus::Suspended),
        KeyQuery::of(&named("other"))
            .status(KeyStatus::Active)
            .due_for_rotation(Duration::ZERO),
    ] {
        assert_eq!(other.after(cursor), Err(PageCursorError::OtherQuery));
    }
}

/// How often a future lets others run before it is done.
fn pauses<T>(future: impl Future<Output = T>) -> usize {
    let (mut future, mut context) = (pin!(future), Context::from_waker(Waker::noop()));
    let polls = std::iter::repeat_with(|| future.as_mut().poll(&mut context));
    polls.take_while(|poll| poll.is_pending()).count()
}

#[tokio::test]
async fn long_pages_let_other_tasks_run() {
    const KEYS: usize = 200;
    let fixture = Fixture::new().await;
    for _ in 0..KEYS {
        fixture.issue("a key").await;
    }
    let (manager, actor, tenant) = (fixture.manager(), system(), tenant());
    let query = all().limit(u16::try_from(KEYS).unwrap());
    assert!(pauses(manager.list(&actor, &query)) >= KEYS / 20);
    let export = manager.export_restrictions(&actor, &tenant, None);
    assert!(pauses(export) >= KEYS / 20);
}
