//! Every refusal that is decided at once.

use std::num::NonZeroU32;

use keyward::import::ImportedKey;
use keyward::key::{
    ApiKey, Environment, KeyTextError, PresentedKey, RevokeReason, Secret, TenantId,
};
use keyward::manager::Overlap;
use keyward::scope;
use keyward::verifier::{Attempt, DenialReason, Requirement};

use crate::{
    Fixture, HOUR, READ, Verdict, WRITE, actor, builder, network, new_key, projects, tenant, text,
};

/// Whether a verdict is the one expected.
type Says = fn(&Verdict) -> bool;

macro_rules! denied {
    ($reason:pat) => {
        |verdict: &crate::Verdict| {
            verdict
                .as_ref()
                .is_err_and(|denial| matches!(denial.reason(), $reason))
        }
    };
}

macro_rules! malformed {
    ($error:pat) => {
        denied!(DenialReason::Malformed($error))
    };
}

pub(crate) async fn unreadable(fixture: &Fixture) {
    let key = fixture.issue(new_key(READ)).await;
    let (text, secret) = (key.api_key().expose(), key.api_key().expose_secret());
    let any = Requirement::any_key();
    let long = "a".repeat(257);
    let changed = |from: &str, to: &str| text.replacen(from, to, 1);
    let mut last = text.to_owned();
    let end = if last.pop() == Some('0') { '1' } else { '0' };
    last.push(end);
    // Past the largest id of 128 bits, with a checksum that is right.
    let sum = |covered: String| {
        let mut sum = crc32fast::hash(covered.as_bytes());
        let mut digits = [b'0'; 6];
        for digit in digits.iter_mut().rev() {
            *digit = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                [usize::try_from(sum % 62).unwrap()];
            sum /= 62;
        }
        covered + std::str::from_utf8(&digits).unwrap()
    };
    let beyond = sum(format!("acme_test_{}{secret}", "z".repeat(22)));
    let presented: [(&str, String, Says); 11] = [
        ("empty", String::new(), malformed!(KeyTextError::Empty)),
        ("oversize", long, malformed!(KeyTextError::Oversize)),
        (
            "padded",
            format!(" {text}"),
            malformed!(KeyTextError::Padded),
        ),
        (
            "quoted",
            format!("\"{text}\""),
            malformed!(KeyTextError::Quoted),
        ),
        (
            "prefix",
            changed("acme", "beta"),
            malformed!(KeyTextError::Prefix),
        ),
        (
            "recased",
            changed("acme", "ACME"),
            malformed!(KeyTextError::Recased),
        ),
        (
            "environment",
            changed("test", "live"),
            malformed!(KeyTextError::Environment),
        ),
        (
            "truncated",
            text[..40].to_owned(),
            malformed!(KeyTextError::Truncated { .. }),
        ),
        (
            "extended",
            format!("{text}0"),
            malformed!(KeyTextError::Extended { .. }),
        ),
        ("checksum", last, malformed!(KeyTextError::Checksum)),
        ("id", beyond, malformed!(KeyTextError::Id)),
    ];
    for (what, text, says) in &presented {
        let attempt = Attempt::new(PresentedKey::text(text), &any);
        fixture.costs_nothing(what, &attempt, *says).await;
    }
    let umlaut = [&text.as_bytes()[..20], b"\xfc", &text.as_bytes()[21..]].concat();
    let two = || PresentedKey::only_one_of([PresentedKey::text(text); 2]);
    let others: [(&str, PresentedKey<'_>, Says); 7] = [
        (
            "character",
            PresentedKey::text(&umlaut),
            malformed!(KeyTextError::Character { .. }),
        ),
        (
            "half a pair",
            PresentedKey::half_pair(),
            malformed!(KeyTextError::HalfPair),
        ),
        (
            "not encoded",
            PresentedKey::undecodable(),
            malformed!(KeyTextError::Undecodable),
        ),
        (
            "pair without an id",
            PresentedKey::pair("7", secret),
            malformed!(KeyTextError::Id),
        ),
        (
            "pair, cut",
            PresentedKey::pair("7", &secret[1..]),
            malformed!(KeyTextError::Id),
        ),
        (
            "none",
            PresentedKey::none(),
            denied!(DenialReason::NoCredential),
        ),
        ("several", two(), denied!(DenialReason::SeveralCredentials)),
    ];
    for (what, presented, says) in others {
        fixture
            .costs_nothing(what, &Attempt::new(presented, &any), says)
            .await;
    }
}

pub(crate) async fn not_this_key(fixture: &Fixture) {
    let any = Requirement::any_key();
    let key = fixture.issue(new_key(READ)).await;
    assert!(
        fixture
            .keyward
            .verifier()
            .verify(&Attempt::new(text(&key), &any))
            .await
            .is_ok()
    );
    let wrong = Secret::new("w".repeat(43)).unwrap();
    let test = Environment::new("test").unwrap();
    let format = fixture.keyward.format();
    let other: ApiKey = format.compose(&test, key.api_key().id(), &wrong).unwrap();
    let id = key.api_key().id().to_string();
    for presented in [
        other.presented(),
        PresentedKey::pair(&id, other.expose_secret()),
    ] {
        let attempt = Attempt::new(presented, &any);
        fixture
            .costs_nothing("wrong secret", &attempt, denied!(DenialReason::WrongSecret))
            .await;
    }

    let live = Environment::new("live").unwrap();
    let attempt = Attempt::new(text(&key), &any).environment(&live);
    fixture
        .costs_nothing(
            "environment",
            &attempt,
            denied!(DenialReason::OtherEnvironment),
        )
        .await;
    let beta = TenantId::new("beta-inc").unwrap();
    let attempt = Attempt::new(text(&key), &any).tenant(&beta);
    fixture
        .costs_nothing("tenant", &attempt, denied!(DenialReason::OtherTenant))
        .await;

    // Issued under another prefix, and presented where prefixes do not show.
    let before = builder("beta", &fixture.store, &fixture.clock)
        .open()
        .await
        .unwrap();
    let key = before
        .manager()
        .issue(&actor(), new_key(READ))
        .await
        .unwrap();
    let id = key.api_key().id().to_string();
    let attempt = Attempt::new(PresentedKey::pair(&id, key.api_key().expose_secret()), &any);
    fixture
        .costs_nothing("format", &attempt, denied!(DenialReason::OtherFormat))
        .await;
}

pub(crate) async fn not_now(fixture: &Fixture) {
    let any = Requirement::any_key();
    let (manager, actor, tenant) = (fixture.keyward.manager(), actor(), tenant());
    let words = "because somebody had it in a public repository for the better part of a year, and nobody noticed";
    let own = RevokeReason::other(words).unwrap();
    for (what, reason) in [
        ("revoked", RevokeReason::Leaked),
        ("revoked in own words", own),
    ] {
        let key = fixture.issue(new_key(READ)).await;
        let attempt = Attempt::new(text(&key), &any);
        assert!(fixture.keyward.verifier().verify(&attempt).await.is_ok());
        manager
            .revoke(&actor, &tenant, key.api_key().id(), reason)
            .await
            .unwrap();
        fixture
            .costs_nothing(what, &attempt, denied!(DenialReason::Revoked { .. }))
            .await;
    }
    let key = fixture.issue(new_key(READ)).await;
    fixture.clock.advance(HOUR);
    manager
        .deny_issued_before(&actor, key.record().created_at() + HOUR, &tenant)
        .await
        .unwrap();
    let attempt = Attempt::new(text(&key), &any);
    fixture
        .costs_nothing("cut off", &attempt, denied!(DenialReason::CutOff))
        .await;

    let key = fixture.issue(new_key(READ)).await;
    manager
        .rotate(&actor, &tenant, key.api_key().id(), Overlap::For(HOUR))
        .await
        .unwrap();
    fixture.clock.advance(HOUR);
    let attempt = Attempt::new(text(&key), &any);
    fixture
        .costs_nothing("superseded", &attempt, denied!(DenialReason::Superseded))
        .await;

    let key = fixture.issue(new_key(READ).expires_in(HOUR)).await;
    let attempt = Attempt::new(text(&key), &any);
    fixture
        .costs_nothing("not yet expired", &attempt, Result::is_ok)
        .await;
    fixture.clock.advance(HOUR);
    fixture
        .costs_nothing("expired", &attempt, denied!(DenialReason::Expired))
        .await;

    let key = fixture.issue(new_key(READ)).await;
    manager
        .suspend(&actor, &tenant, key.api_key().id())
        .await
        .unwrap();
    let attempt = Attempt::new(text(&key), &any);
    fixture
        .costs_nothing("suspended", &attempt, denied!(DenialReason::Suspended))
        .await;

    let at = key.record().created_at();
    let key = fixture
        .issue(
            new_key(READ)
                .not_before(at + HOUR)
                .expires_at(at + HOUR * 3),
        )
        .await;
    let attempt = Attempt::new(text(&key), &any);
    fixture
        .costs_nothing(
            "not yet valid",
            &attempt,
            denied!(DenialReason::NotYetValid),
        )
        .await;

    let key = fixture.issue(new_key(READ).expires_in(HOUR)).await;
    let attempt = Attempt::new(text(&key), &any);
    fixture.clock.set(at - HOUR);
    fixture
        .costs_nothing("clock behind", &attempt, denied!(DenialReason::ClockBehind))
        .await;
    fixture.clock.set(at + HOUR);
}

pub(crate) async fn not_from_there(fixture: &Fixture) {
    let any = Requirement::any_key();
    let key = fixture.issue(new_key(READ).networks(network())).await;
    let attempt = Attempt::new(text(&key), &any);
    fixture
        .costs_nothing(
            "no address",
            &attempt,
            denied!(DenialReason::AddressUnknown),
        )
        .await;
    for client in ["198.51.100.1", "2001:db9::1", "::ffff:198.51.100.1"] {
        let attempt = attempt.client(client.parse().unwrap());
        fixture
            .costs_nothing(client, &attempt, denied!(DenialReason::OutsideNetworks))
            .await;
    }
}

pub(crate) async fn not_for_this(fixture: &Fixture) {
    let key = fixture.issue(new_key(READ).resources(projects())).await;
    for (what, need) in [
        ("another scope", Requirement::scope(WRITE)),
        ("two scopes", Requirement::scope(READ.and(WRITE))),
        ("full access", Requirement::full_access()),
    ] {
        let attempt = Attempt::new(text(&key), &need);
        fixture
            .costs_nothing(what, &attempt, denied!(DenialReason::MissingAccess))
            .await;
    }
    let undeclared = Requirement::scope(scope!("no:such"));
    let named = denied!(DenialReason::UndeclaredScope(_));
    fixture
        .costs_nothing(
            "an undeclared scope",
            &Attempt::new(text(&key), &undeclared),
            named,
        )
        .await;
    let read = || Requirement::scope(READ);
    let attempt = |need| Attempt::new(text(&key), need);
    let (none, project) = (read(), read().resource("project"));
    let unsettled = denied!(DenialReason::ResourceUnsettled { .. });
    fixture
        .costs_nothing("unsettled", &attempt(&none), unsettled)
        .await;
    let unbound = denied!(DenialReason::ResourceUnbound { .. });
    fixture
        .costs_nothing("unbound", &attempt(&project), unbound)
        .await;
    let refused = denied!(DenialReason::ResourceRefused { .. });
    for value in ["p3", "", "P1"] {
        let attempt = attempt(&project).resource("project", value);
        fixture.costs_nothing("refused", &attempt, refused).await;
    }
    let many = (0..5).fold(attempt(&project), |attempt, _| {
        attempt.resource("project", "p1")
    });
    fixture
        .costs_nothing("too many", &many, denied!(DenialReason::TooManyResources))
        .await;
    // A promise of the handler's costs nothing where it does not come to it.
    let promised = Requirement::scope(WRITE).checked_by_handler("project");
    let missing = denied!(DenialReason::MissingAccess);
    fixture
        .costs_nothing("promised", &attempt(&promised), missing)
        .await;
}

pub(crate) async fn in_flight(fixture: &Fixture) {
    let any = Requirement::any_key();
    let key = fixture
        .issue(new_key(READ).concurrency(NonZeroU32::MIN))
        .await;
    let attempt = Attempt::new(text(&key), &any);
    let held = fixture.keyward.verifier().verify(&attempt).await.unwrap();
    fixture
        .costs_nothing(
            "in flight",
            &attempt,
            denied!(DenialReason::TooManyInFlight),
        )
        .await;
    drop(held);
    fixture
        .costs_nothing("in flight no more", &attempt, Result::is_ok)
        .await;
}

pub(crate) async fn without_a_clock(fixture: &Fixture) {
    let any = Requirement::any_key();
    let key = fixture.issue(new_key(READ)).await;
    let attempt = Attempt::new(text(&key), &any);
    assert!(fixture.keyward.verifier().verify(&attempt).await.is_ok());
    let legacy = ImportedKey::text("legacy", "12.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg");
    let manager = fixture.keyward.manager();
    manager
        .import(&actor(), new_key(READ), legacy.entropy_bits(200))
        .await
        .unwrap();
    let imported = PresentedKey::text("12.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg");
    fixture
        .costs_nothing("foreign", &Attempt::new(imported, &any), Result::is_ok)
        .await;
    fixture.clock.fail();
    fixture
        .costs_nothing("no clock", &attempt, denied!(DenialReason::Clock(_)))
        .await;
}
