//! Headers that say when a key ends, where they are on.

use std::num::NonZeroU32;
use std::time::Duration;

use keyward::http::{Edge, Head, KeyIn, RejectionReason};
use keyward::key::TenantId;
use keyward::manager::{Actor, NewKey, Overlap};
use keyward::store::MemoryStore;
use keyward::testkit::{ManualClock, TestKey, builder};
use keyward::time::OffsetDateTime;
use keyward::verifier::{Attempt, Grant, Requirement};
use keyward::{Keyward, scope};

use crate::common::{READ, admit, over_tls};

const HOUR: Duration = Duration::from_secs(3_600);

/// The first hours of 2026.
const START: &str = "Thu, 01 Jan 2026 00:00:00 GMT";
const AT_ONE: &str = "Thu, 01 Jan 2026 01:00:00 GMT";
const AT_TWO: &str = "Thu, 01 Jan 2026 02:00:00 GMT";

struct Fixture {
    keyward: Keyward,
    clock: ManualClock,
}

impl Fixture {
    async fn new() -> Self {
        let start = OffsetDateTime::from_unix_timestamp(1_767_225_600).unwrap();
        let clock = ManualClock::new(start);
        let keyward = builder(MemoryStore::new(), [READ]).clock(clock.clone());
        let keyward = keyward.open().await.unwrap();
        Self { keyward, clock }
    }

    fn edge(&self) -> Edge {
        Edge::new(&self.keyward)
            .accept(KeyIn::bearer())
            .expiry_headers()
    }

    async fn issue(&self, with: impl FnOnce(NewKey) -> NewKey) -> TestKey {
        let new = NewKey::new(TenantId::new("acme-inc").unwrap(), "ending", READ);
        TestKey::issue_as(&self.keyward, with(new)).await
    }

    async fn rotate(&self, key: &TestKey, overlap: Overlap) {
        let (manager, actor) = (self.keyward.manager(), Actor::system("tests"));
        let rotated = manager.rotate(&actor, key.record().tenant(), key.id(), overlap);
        rotated.await.unwrap();
    }

    async fn grant(&self, key: &TestKey) -> Grant {
        let admitted = admit(&self.edge(), key, &Requirement::any_key()).await;
        admitted.unwrap().into_parts().0
    }
}

/// The two headers of a grant.
fn shown(edge: &Edge, grant: &Grant) -> [Option<String>; 2] {
    let all: Vec<_> = edge.expiry_headers_of(grant).collect();
    ["api-key-expires", "api-key-rotated"].map(|name| {
        let header = all.iter().find(|header| header.name == name)?;
        assert!(header.replaces);
        Some(header.value.to_string())
    })
}

fn dates(expires: Option<&str>, rotated: Option<&str>) -> [Option<String>; 2] {
    [expires, rotated].map(|date| date.map(str::to_owned))
}

#[tokio::test]
async fn the_earlier_end_is_shown() {
    let fixture = Fixture::new().await;
    let edge = fixture.edge();
    let endless = fixture.issue(|new| new).await;
    let until_revoked = fixture.issue(|new| new.expires_in(2 * HOUR)).await;
    let ends_first = fixture.issue(|new| new.expires_in(HOUR)).await;
    let overlap_first = fixture.issue(|new| new.expires_in(2 * HOUR)).await;
    let only_overlap = fixture.issue(|new| new).await;
    for key in [&endless, &ends_first] {
        let expires = (key.id() == ends_first.id()).then_some(AT_ONE);
        assert_eq!(
            shown(&edge, &fixture.grant(key).await),
            dates(expires, None)
        );
    }
    fixture.rotate(&until_revoked, Overlap::UntilRevoked).await;
    fixture.rotate(&ends_first, Overlap::UntilRevoked).await;
    fixture.rotate(&overlap_first, Overlap::For(HOUR)).await;
    fixture.rotate(&only_overlap, Overlap::For(HOUR)).await;
    for (key, expires) in [
        (&until_revoked, AT_TWO),
        (&ends_first, AT_ONE),
        (&overlap_first, AT_ONE),
        (&only_overlap, AT_ONE),
    ] {
        let grant = fixture.grant(key).await;
        assert_eq!(shown(&edge, &grant), dates(Some(expires), Some(START)));
        let off = Edge::new(&fixture.keyward).accept(KeyIn::bearer());
        assert_eq!(shown(&off, &grant), dates(None, None));
    }
    fixture.rotate(&endless, Overlap::UntilRevoked).await;
    assert_eq!(
        shown(&edge, &fixture.grant(&endless).await),
        dates(None, Some(START))
    );
}

#[tokio::test]
async fn refusals_of_proven_keys_show_it() {
    let fixture = Fixture::new().await;
    let one = NonZeroU32::MIN;
    let key = fixture
        .issue(|new| new.expires_in(HOUR).concurrency(one))
        .await;
    let expires = async |need: Requirement, headers: &[(&str, String)], on: bool| {
        let edge = Edge::new(&fixture.keyward).accept(KeyIn::bearer());
        let edge = if on { edge.expiry_headers() } else { edge };
        let head = Head {
            headers,
            connection: over_tls(),
            query: None,
        };
        let rejection = edge.admit(&head, Attempt::of(&need)).await.unwrap_err();
        let fields = rejection.answer.headers.into_iter();
        let mut expires = fields.filter(|(name, _)| name.starts_with("api-key-"));
        (
            rejection.answer.status,
            expires.next().map(|(_, value)| value),
        )
    };
    let good = [("authorization", key.bearer())];
    let shown = || Some(AT_ONE.to_owned());
    let (read, admin) = (
        || Requirement::scope(READ),
        || Requirement::scope(scope!("admin")),
    );
    // From the store, and from memory.
    for _ in 0..2 {
        assert_eq!(expires(admin(), &good, true).await, (403, shown()));
        assert_eq!(expires(admin(), &good, false).await, (403, None));
    }
    let held = admit(&fixture.edge(), &key, &read()).await.unwrap();
    assert_eq!(expires(read(), &good, true).await, (429, shown()));
    drop(held);
    // A caller that has not proven the key learns nothing.
    let mut wrong = key.text().to_owned();
    wrong.pop();
    for sent in [
        Some(format!("Bearer {wrong}")),
        Some(format!("{0}, {0}", key.bearer())),
        None,
    ] {
        let headers: Vec<_> = sent
            .map(|sent| ("authorization", sent))
            .into_iter()
            .collect();
        assert_eq!(expires(read(), &headers, true).await.1, None);
    }
    let grant = fixture.grant(&key).await;
    let edge = fixture.edge();
    for (reason, is_shown) in [
        (RejectionReason::NotFound, true),
        (RejectionReason::RequestTooLarge, true),
        (RejectionReason::FromBrowser { claimed_key: None }, false),
    ] {
        let why = reason.to_string();
        let answer = edge.reject(reason, Some(&grant)).answer;
        let shows = answer
            .headers
            .iter()
            .any(|(name, _)| *name == "api-key-expires");
        assert_eq!(shows, is_shown, "{why}");
    }
    fixture.clock.advance(HOUR);
    assert_eq!(expires(read(), &good, true).await, (401, None));
}
