//! Promise 30, at the level of the library: a key restricted in a kind gets nothing from, and does nothing
//! through, a route that does not settle that kind.

use keyward::key::{Access, PresentedKey, Resources};
use keyward::manager::{Issued, NewKey};
use keyward::verifier::{Admitted, Attempt, Denial, DenialClass, DenialReason, Only, Requirement};

use crate::common::{ADMIN, Fixture, READ, tenant};

async fn restricted(fixture: &Fixture, access: impl Into<Access>, resources: &[&str]) -> Issued {
    let resources = resources.iter().map(|text| text.parse().unwrap());
    let key =
        NewKey::new(tenant(), "restricted", access).resources(Resources::only(resources).unwrap());
    fixture.issue(key).await
}

async fn ask(
    fixture: &Fixture,
    key: &Issued,
    need: &Requirement,
    named: &[(&str, &str)],
) -> Result<Admitted, Denial> {
    let attempt = Attempt::new(key.api_key().presented(), need);
    let attempt = named.iter().fold(attempt, |attempt, (kind, value)| {
        attempt.resource(kind, value)
    });
    fixture.keyward.verifier().verify(&attempt).await
}

#[tokio::test]
async fn unsettled_kinds_refuse_the_key() {
    let fixture = Fixture::new().await;
    for access in [Access::Full, READ.into(), ADMIN.into()] {
        let key = restricted(&fixture, access.clone(), &["project:p1"]).await;
        let free = fixture.issue(NewKey::new(tenant(), "free", access)).await;
        for need in [
            Requirement::any_key(),
            Requirement::scope(READ),
            Requirement::scope(READ).resource("client"),
            Requirement::scope(READ).filters("client"),
            Requirement::scope(READ).checked_by_handler("client"),
            Requirement::scope(READ).filters("projects"),
            Requirement::scope(READ).filters("Project"),
        ] {
            // Naming the resource does not settle it: the route must have said so.
            let named = [("project", "p1"), ("client", "c1")];
            let denial = ask(&fixture, &key, &need, &named).await.unwrap_err();
            assert!(
                matches!(denial.reason(), DenialReason::ResourceUnsettled { .. }),
                "{need:?}"
            );
            assert_eq!(denial.class(), DenialClass::Forbidden);
            assert!(
                ask(&fixture, &free, &need, &named).await.is_ok(),
                "{need:?}"
            );
        }
    }
}

#[tokio::test]
async fn restricted_kinds_must_be_settled() {
    let fixture = Fixture::new().await;
    let key = restricted(&fixture, READ, &["project:p1", "client:c1"]).await;
    let one = Requirement::scope(READ).resource("project");
    let named = [("project", "p1"), ("client", "c1")];
    assert!(ask(&fixture, &key, &one, &named).await.is_err());
    let both = one.filters("client");
    assert!(ask(&fixture, &key, &both, &named).await.is_ok());
}

#[tokio::test]
async fn named_resources_must_be_permitted() {
    let fixture = Fixture::new().await;
    let key = restricted(&fixture, READ, &["project:p1", "project:p2"]).await;
    let free = fixture.issue(NewKey::new(tenant(), "free", READ)).await;
    let need = Requirement::scope(READ).resource("project");
    assert!(
        ask(&fixture, &key, &need, &[("project", "p1")])
            .await
            .is_ok()
    );
    assert!(
        ask(
            &fixture,
            &key,
            &need,
            &[("project", "p1"), ("project", "p2")]
        )
        .await
        .is_ok()
    );
    for named in [
        &[("project", "p3")][..],
        &[("project", "P1")],
        &[("project", "p1 ")],
        &[("project", "")],
        &[("project", "p1"), ("project", "p3")],
        &[("project", "p3"), ("project", "p1")],
    ] {
        let denial = ask(&fixture, &key, &need, named).await.unwrap_err();
        assert!(
            matches!(denial.reason(), DenialReason::ResourceRefused { .. }),
            "{named:?}"
        );
    }
    // A route that is not bound to its resource denies everybody, so that it is found out at once.
    for named in [&[][..], &[("client", "p1")]] {
        for key in [&key, &free] {
            let denial = ask(&fixture, key, &need, named).await.unwrap_err();
            assert!(
                matches!(denial.reason(), DenialReason::ResourceUnbound { .. }),
                "{named:?}"
            );
        }
    }
    assert!(
        ask(&fixture, &free, &need, &[("project", "any")])
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn named_resources_always_count() {
    let fixture = Fixture::new().await;
    let key = restricted(&fixture, READ, &["project:p1"]).await;
    let free = fixture.issue(NewKey::new(tenant(), "free", READ)).await;
    let too_many = [("project", "p1"); 5];
    for need in [
        Requirement::scope(READ).resource("project"),
        Requirement::scope(READ).filters("project"),
        Requirement::scope(READ).checked_by_handler("project"),
    ] {
        assert!(
            ask(&fixture, &key, &need, &[("project", "p1")])
                .await
                .is_ok()
        );
        let other = [("project", "p1"), ("project", "p2")];
        let denial = ask(&fixture, &key, &need, &other).await.unwrap_err();
        assert!(
            matches!(denial.reason(), DenialReason::ResourceRefused { .. }),
            "{need:?}"
        );
        assert!(ask(&fixture, &free, &need, &other).await.is_ok());
        for key in [&key, &free] {
            let denial = ask(&fixture, key, &need, &too_many).await.unwrap_err();
            assert!(
                matches!(denial.reason(), DenialReason::TooManyResources),
                "{need:?}"
            );
            assert_eq!(denial.class(), DenialClass::Forbidden);
        }
    }
}

#[tokio::test]
async fn settling_in_two_ways_needs_both() {
    let fixture = Fixture::new().await;
    let key = restricted(&fixture, READ, &["project:p1"]).await;
    for need in [
        Requirement::scope(READ)
            .resource("project")
            .filters("project"),
        Requirement::scope(READ)
            .filters("project")
            .resource("project"),
    ] {
        assert!(
            ask(&fixture, &key, &need, &[("project", "p1")])
                .await
                .is_ok()
        );
        assert!(
            ask(&fixture, &key, &need, &[("project", "p2")])
                .await
                .is_err()
        );
        assert!(ask(&fixture, &key, &need, &[]).await.is_err());
    }
}

#[tokio::test]
async fn a_filter_shows_only_permitted_values() {
    let fixture = Fixture::new().await;
    let key = restricted(&fixture, READ, &["project:p2", "project:p1", "client:c1"]).await;
    let free = fixture.issue(NewKey::new(tenant(), "free", READ)).await;
    let need = Requirement::scope(READ)
        .filters("project")
        .filters("client");
    let admitted = ask(&fixture, &key, &need, &[]).await.unwrap();
    let only = admitted.grant().only("project");
    let Only::These(values) = only else {
        panic!("a restricted key is not free");
    };
    assert_eq!(
        values.iter().map(|one| one.value()).collect::<Vec<_>>(),
        ["p1", "p2"]
    );
    assert!(only.permits("p1") && !only.permits("p3") && !only.permits("c1"));
    assert_eq!(
        admitted.grant().only("region"),
        Only::Any,
        "not restricted in it"
    );
    let admitted = ask(&fixture, &free, &need, &[]).await.unwrap();
    assert_eq!(admitted.grant().only("project"), Only::Any);
}

#[tokio::test]
async fn a_forgotten_check_is_found() {
    let fixture = Fixture::new().await;
    let key = restricted(&fixture, READ, &["project:p1"]).await;
    let free = fixture.issue(NewKey::new(tenant(), "free", READ)).await;
    let need = Requirement::scope(READ)
        .checked_by_handler("project")
        .checked_by_handler("client");
    for key in [&key, &free] {
        let admitted = ask(&fixture, key, &need, &[]).await.unwrap();
        let grant = admitted.grant();
        assert_eq!(grant.unchecked(), Some("project"));
        let _ = grant.permits("region", "r1").is_ok();
        assert_eq!(
            grant.unchecked(),
            Some("project"),
            "another kind is another check"
        );
        // Asked on a clone, as a handler has it, and known to the adapter.
        assert!(grant.clone().permits("project", "p1").is_ok());
        assert_eq!(grant.unchecked(), Some("client"));
        let _ = grant.only("client");
        assert_eq!(grant.unchecked(), None);

        let again = ask(&fixture, key, &need, &[]).await.unwrap();
        assert_eq!(
            again.grant().unchecked(),
            Some("project"),
            "each request anew"
        );
    }
    let admitted = ask(&fixture, &key, &need, &[]).await.unwrap();
    assert!(admitted.grant().permits("project", "p2").is_err());
}

#[tokio::test]
async fn restrictions_bind_full_access_too() {
    let fixture = Fixture::new().await;
    let need = Requirement::scope(READ).resource("project");
    for access in [Access::Full, ADMIN.into()] {
        let key = restricted(&fixture, access, &["project:p1"]).await;
        assert!(
            ask(&fixture, &key, &need, &[("project", "p1")])
                .await
                .is_ok()
        );
        assert!(
            ask(&fixture, &key, &need, &[("project", "p2")])
                .await
                .is_err()
        );
    }
}

#[tokio::test]
async fn a_wrong_secret_hides_restrictions() {
    let fixture = Fixture::new().await;
    let key = restricted(&fixture, READ, &["project:p1"]).await;
    let id = key.record().id().to_string();
    let need = Requirement::scope(READ);
    let wrong = "x".repeat(43);
    let attempt = Attempt::new(PresentedKey::pair(&id, &wrong), &need);
    let denial = fixture
        .keyward
        .verifier()
        .verify(&attempt)
        .await
        .unwrap_err();
    assert_eq!(denial.class(), DenialClass::Unauthenticated);
    assert!(matches!(denial.reason(), DenialReason::WrongSecret));
}
