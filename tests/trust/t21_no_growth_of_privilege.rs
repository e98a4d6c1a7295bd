//! Promise 21, for issuing: no growth of privilege. A key that is issued may do nothing that the actor's ceiling
//! does not let it do, on any axis. The rest of a key's life is in [`t21_whole_life`](crate::t21_whole_life), and the
//! oracle in [`t21_powers`](crate::t21_powers).
//!
//! Planted bugs that it catches: a comparison that forgets one axis (each of the seven in turn); one that takes a
//! key without a restriction for a key with an empty one; one that lets a restriction in one kind stand for
//! a restriction in another.

use keyward::key::KeyRecord;
use keyward::manager::{Actor, Axis, Ceiling, KeyManager, Limits, ManageError};
use keyward::time::OffsetDateTime;

use crate::common::{Choices, Fixture, actor, clock, new_key, now, tenant};
use crate::t21_powers::{Powers, fixture, operations, start};

fn begin() -> (Fixture, OffsetDateTime) {
    let fixture = fixture(clock());
    let start = start(&fixture);
    (fixture, start)
}

fn issue(
    manager: &KeyManager,
    actor: &Actor,
    asked: &Powers,
    start: OffsetDateTime,
) -> Result<KeyRecord, Axis> {
    match now(manager.issue(actor, asked.new_key(tenant(), start))) {
        Ok(issued) => Ok(issued.into_parts().1),
        Err(ManageError::AboveCeiling(axis)) => Err(axis),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn issues_never_exceed_the_ceiling() {
    let operations = operations();
    let (mut fixture, start) = begin();
    let mut choices = Choices::new(21);
    let (mut issued, mut refused) = (0_u32, 0_u32);
    for round in 0..operations / 10 {
        if round % 1_000 == 0 {
            // The store keeps every key.
            (fixture, _) = begin();
        }
        let manager = fixture.keyward.manager();
        let ceiling = Powers::draw(&mut choices);
        let actor = Actor::user("alice", tenant(), ceiling.ceiling(start)).unwrap();
        for _ in 0..10 {
            let mut asked = Powers::draw(&mut choices);
            if choices.chance(2) {
                // Most draws exceed something: from the ceiling itself, one axis at a time is changed.
                asked = ceiling.mixed_with(&asked, choices.below(7));
            }
            let exceeds = asked.exceeds(&ceiling);
            match issue(manager, &actor, &asked, start) {
                Ok(_) => {
                    assert_eq!(exceeds, None, "issued above the ceiling");
                    issued += 1;
                }
                Err(axis) => {
                    // Quotas are compared one with one, which for those that are drawn is no stricter.
                    assert_eq!(exceeds, Some(axis), "refused for nothing");
                    refused += 1;
                }
            }
        }
    }
    assert!(
        issued > operations / 10 && refused > operations / 10,
        "{issued} issued, {refused} refused"
    );
}

#[test]
fn the_oracle_catches_planted_bugs() {
    let (fixture, start) = begin();
    let manager = fixture.keyward.manager();
    // Each is a comparison that does not see what it should: it judges a key that is weaker than the one asked for.
    type Blind = Box<dyn Fn(&Powers, &Powers) -> Powers>;
    let mut planted: Vec<Blind> = (0..7)
        .map(|axis| -> Blind { Box::new(move |asked, ceiling| asked.mixed_with(ceiling, axis)) })
        .collect();
    planted.push(Box::new(|asked, ceiling| {
        let mut blind = *asked;
        if blind.resources == 0 {
            blind.resources = ceiling.resources;
        }
        blind
    }));
    planted.push(Box::new(|asked, ceiling| {
        let mut blind = *asked;
        for kind in [0b0011, 0b1100] {
            if asked.resources != 0 && asked.resources & kind == 0 {
                blind.resources |= ceiling.resources & kind;
            }
        }
        blind
    }));
    for (number, blind) in planted.iter().enumerate() {
        let mut choices = Choices::new(2_100);
        let caught = (0..20_000).any(|_| {
            let ceiling = Powers::draw(&mut choices);
            let asked = ceiling.mixed_with(&Powers::draw(&mut choices), choices.below(7));
            let actor = Actor::user("alice", tenant(), ceiling.ceiling(start)).unwrap();
            let granted = issue(manager, &actor, &blind(&asked, &ceiling), start).is_ok();
            granted && asked.exceeds(&ceiling).is_some()
        });
        assert!(caught, "planted bug {number}");
    }
}

#[test]
fn a_key_cannot_make_a_stronger_key() {
    let (fixture, start) = begin();
    let manager = fixture.keyward.manager();
    let mut choices = Choices::new(2_101);
    for _ in 0..2_000 {
        let mut own = Powers::draw(&mut choices);
        own = own.as_key();
        let record = issue(manager, &actor(), &own, start).unwrap();
        assert_eq!(Powers::of(&record, start), own);
        let ceiling = Ceiling::Limited(Limits::of_key(&record));
        let actor = Actor::integration("robot", tenant(), ceiling).unwrap();
        assert!(
            issue(manager, &actor, &own, start).is_ok(),
            "an equal of itself"
        );
        let asked = own.mixed_with(&Powers::draw(&mut choices), choices.below(7));
        if issue(manager, &actor, &asked, start).is_ok() {
            assert_eq!(asked.exceeds(&own), None);
        }
    }
}

#[test]
fn actors_issue_for_their_tenants_only() {
    let (fixture, _) = begin();
    let other = keyward::key::TenantId::new("other-inc").unwrap();
    let actor = Actor::user("alice", other, Ceiling::Unlimited).unwrap();
    let refused = fixture.keyward.manager().issue(&actor, new_key());
    assert!(matches!(now(refused), Err(ManageError::Refused)));
}
