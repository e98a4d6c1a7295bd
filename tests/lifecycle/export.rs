//! Exporting revocations, page by page.

use keyward::key::RevokeReason;
use keyward::manager::{
    CursorError, KeyQuery, ManageError, NewKey, RevocationPage, RevocationRecord, RevokeAll,
};

use crate::common::*;

async fn export(house: &House) -> RevocationPage {
    house
        .manager()
        .export_revocations(&system(), &tenant(), None)
        .await
        .unwrap()
}

#[tokio::test]
async fn revocations_are_lines_of_json_that_read_back_and_bear_no_secret() {
    let house = House::new().await;
    let issued = house.issue("key").await;
    let words = RevokeReason::other("in a public repository").unwrap();
    let id = issued.record().id();
    house
        .manager()
        .revoke(&system(), &tenant(), id, words)
        .await
        .unwrap();
    let record = export(&house).await.revocations.remove(0);
    let line = serde_json::to_string(&record).unwrap();
    let at = text(house.now());
    let expected = format!(
        r#"{{"id":"{id}","tenant":"acme-inc","at":"{at}","reason":"in a public repository"}}"#
    );
    assert_eq!(line, expected);
    assert_eq!(
        serde_json::from_str::<RevocationRecord>(&line).unwrap(),
        record
    );
    // A later version may tell more: an older node still replays what it knows.
    let more = line.replace("{", r#"{"unknown":1,"#);
    assert_eq!(
        serde_json::from_str::<RevocationRecord>(&more).unwrap(),
        record
    );
}

#[tokio::test]
async fn an_export_goes_on_where_it_stopped() {
    let house = House::new().await;
    let manager = house.manager();
    let none = export(&house).await;
    assert!(none.revocations.is_empty() && none.next.is_none() && !none.has_more);
    for n in 0..1_003 {
        house.issue(&format!("key {n}")).await;
    }
    house
        .issue_key(NewKey::new(named("other"), "theirs", READ))
        .await;
    let all = RevokeAll::because(RevokeReason::Leaked);
    manager
        .revoke_all(&system(), &named("other"), all.clone())
        .await
        .unwrap();
    manager.revoke_all(&system(), &tenant(), all).await.unwrap();
    let live = house.issue("live").await.record().id();
    let first = export(&house).await;
    assert_eq!((first.revocations.len(), first.has_more), (1_000, true));
    let after = async |cursor| {
        manager
            .export_revocations(&system(), &tenant(), cursor)
            .await
            .unwrap()
    };
    let second = after(first.next).await;
    assert_eq!((second.revocations.len(), second.has_more), (3, false));
    let mut ids: Vec<_> = first
        .revocations
        .iter()
        .chain(&second.revocations)
        .map(|one| one.id)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 1_003, "each once, and none of another tenant's");

    let none = after(second.next).await;
    assert!(none.revocations.is_empty() && !none.has_more);
    assert_eq!(none.next, second.next, "the cursor is kept for later");
    house.revoke(live).await;
    let since = after(none.next.unwrap().to_string().parse().ok()).await;
    assert_eq!(
        since
            .revocations
            .iter()
            .map(|one| one.id)
            .collect::<Vec<_>>(),
        [live]
    );

    // A cursor belongs to its tenant's export, and to nothing else.
    let cursor = since.next.unwrap();
    let foreign = manager
        .export_revocations(&system(), &named("other"), Some(cursor))
        .await;
    assert!(matches!(
        foreign,
        Err(ManageError::Cursor(CursorError::Foreign))
    ));
    for query in [
        KeyQuery::of(&tenant()),
        KeyQuery::of(&tenant()).live_first(),
    ] {
        assert_eq!(query.clone().after(cursor), Err(CursorError::Foreign));
        let listed = manager
            .list(&system(), &query.live_first().limit(1))
            .await
            .unwrap();
        let foreign = manager
            .export_revocations(&system(), &tenant(), listed.next)
            .await;
        assert!(matches!(
            foreign,
            Err(ManageError::Cursor(CursorError::Foreign))
        ));
    }
}
