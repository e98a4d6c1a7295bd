//! The policy, the rules, the clock and the random source fail: what may not be done is not, and a key is ended all
//! the same.

use async_trait::async_trait;
use keyward::key::TenantId;
use keyward::manager::{
    Actor, ManageError, Operation, Policy, PolicyError, RuleBook, Ruling, TenantRules,
};
use keyward::testkit::{FailingRandom, FaultyStore};

use super::management::{is_honest, kept};
use crate::common::{actor, tenant};
use crate::operations::{Op, World, assemble};

/// Answers so, where asked about one tenant or about all.
#[derive(Debug, Clone)]
struct Answers {
    with: Option<Ruling>,
    about: Option<TenantId>,
    only_revoking: bool,
}

impl Answers {
    fn always(with: Option<Ruling>) -> Self {
        Self {
            with,
            about: None,
            only_revoking: false,
        }
    }
}

#[async_trait]
impl Policy for Answers {
    async fn rule(&self, _: &Actor, asked: &Operation<'_>) -> Result<Ruling, PolicyError> {
        let is_revoking = matches!(asked, Operation::Revoke { .. });
        let is_other = self.about.is_some() && self.about.as_ref() != asked.tenant();
        if is_other || self.only_revoking && !is_revoking {
            return Ok(Ruling::Allow);
        }
        self.with.ok_or_else(|| PolicyError::new("planted"))
    }
}

#[tokio::test]
async fn without_permission_nothing_is_done() {
    for (op, with) in Op::ALL
        .into_iter()
        .flat_map(|op| [(op, None), (op, Some(Ruling::Refuse))])
    {
        let world = World::new().await;
        let store = FaultyStore::over(world.store.clone());
        let builder = assemble(store.clone(), &world.clock);
        let keyward = builder.policy(Answers::always(with)).open().await.unwrap();
        let before = store.all_calls();
        let refused = op.run(&keyward, &world).await.unwrap_err();
        match with {
            None => assert!(matches!(refused, ManageError::Policy(_)), "{op:?}"),
            Some(_) => assert!(matches!(refused, ManageError::Refused), "{op:?}"),
        }
        let read = u64::from(op.is_on_one_key());
        assert_eq!(
            store.all_calls(),
            before + read,
            "{op:?} did more than read its key"
        );
        assert!(world.told().await.is_empty(), "{op:?}");
    }
}

#[tokio::test]
async fn a_partly_refused_call_does_nothing() {
    for with in [None, Some(Ruling::Refuse)] {
        let world = World::new().await;
        // Who may look up a key's owner may not revoke it.
        let policy = Answers {
            only_revoking: true,
            ..Answers::always(with)
        };
        let builder = assemble(world.store.clone(), &world.clock);
        let keyward = builder.policy(policy).open().await.unwrap();
        assert!(Op::FindOwner.run(&keyward, &world).await.is_ok());
        assert!(Op::RevokeLeaked.run(&keyward, &world).await.is_err());
        // Of two tenants one is refused, the one that is named last.
        let store = FaultyStore::over(world.store.clone());
        let policy = Answers {
            about: Some(tenant()),
            ..Answers::always(with)
        };
        let builder = assemble(store.clone(), &world.clock);
        let keyward = builder.policy(policy).open().await.unwrap();
        let before = store.all_calls();
        let all = world.kept.iter().cloned().chain([kept(&world.live)]);
        assert!(
            keyward
                .manager()
                .replay_restrictions(&actor(), all)
                .await
                .is_err()
        );
        assert_eq!(store.all_calls(), before);
        assert!(world.told().await.is_empty());
    }
}

#[derive(Debug)]
struct NoRules;

#[async_trait]
impl RuleBook for NoRules {
    async fn rules_of(&self, _: &TenantId) -> Result<TenantRules, PolicyError> {
        Err(PolicyError::new("planted"))
    }
}

#[tokio::test]
async fn failing_rules_block_only_new_power() {
    for op in Op::ALL {
        let world = World::new().await;
        let store = FaultyStore::over(world.store.clone());
        let builder = assemble(store.clone(), &world.clock).tenant_rules(NoRules);
        let keyward = builder.open().await.unwrap();
        let before = store.all_calls();
        let answer = op.run(&keyward, &world).await;
        if op.gives_power() {
            assert!(
                matches!(answer, Err(ManageError::Policy(_))),
                "{op:?}: {answer:?}"
            );
            let read = u64::from(op.is_on_one_key());
            assert_eq!(store.all_calls(), before + read, "{op:?}");
        } else {
            assert!(answer.is_ok(), "{op:?}: {answer:?}");
        }
        is_honest(op, &world, answer, "no rules").await;
    }
}

#[tokio::test]
async fn without_a_clock_only_revoking_works() {
    for op in Op::ALL {
        let world = World::new().await;
        let keyward = world.open(world.store.clone()).await;
        world.clock.fail();
        let answer = op.run(&keyward, &world).await;
        world.clock.set(world.now);
        match op {
            Op::Get | Op::FindById | Op::Export | Op::Revoke => {
                assert!(answer.is_ok(), "{op:?}: {answer:?}");
            }
            _ => assert!(
                matches!(answer, Err(ManageError::Clock)),
                "{op:?}: {answer:?}"
            ),
        }
        is_honest(op, &world, answer, "no clock").await;
    }
}

#[tokio::test]
async fn no_randomness_stops_only_new_keys() {
    for (op, calls) in Op::ALL
        .into_iter()
        .flat_map(|op| (0..10).map(move |calls| (op, calls)))
    {
        let world = World::new().await;
        let builder = assemble(world.store.clone(), &world.clock);
        let Ok(keyward) = builder.random(FailingRandom::after(calls)).open().await else {
            continue;
        };
        let answer = op.run(&keyward, &world).await;
        let draws = matches!(op, Op::Issue | Op::Rotate | Op::RotateAway);
        assert!(answer.is_ok() || draws, "{op:?} after {calls}: {answer:?}");
        assert!(
            answer.is_err() || !draws || calls > 1,
            "{op:?} after {calls}"
        );
        is_honest(op, &world, answer, "no randomness").await;
    }
}
