//! Random sequences of operations. Each answer is compared with a naive reference.
//!
//! The world is small, so that operations meet: six ids, two tenants, two owners, a few instants. One case runs a
//! sequence in one task and compares each answer and, at the end, all keys, lists, feed items and events. The other
//! case runs sequences in three tasks at once. There the store's positions give the order of the commits: the
//! reference repeats them in that order and must get the same outcomes. Each read and each refusal must be right at
//! some moment between its call and its answer.
//!
//! A sequence that fails is shrunk to a minimal one, which is printed with its seed. Set `KEYWARD_SEED` to that seed
//! to draw the same sequences again.

mod history;
mod operation;
mod reference;

use std::sync::Arc;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use sha2::{Digest as _, Sha256};

use self::history::History;
use self::operation::{Operation, World, sequence};
use self::reference::Reference;
use super::material::{Verdict, head};
use super::{Failure, Suite};
use crate::random::{OsRandom, RandomSource};

/// Maximum number of operations in a sequence of one task.
const LENGTH: usize = 60;

/// Number of concurrent tasks, and maximum number of operations of each.
const TASKS: usize = 3;
const LENGTH_EACH: usize = 16;

pub(super) async fn one_task_agrees_with_the_reference(suite: &Suite) -> Verdict {
    search(suite.sequences, sequence(1..=LENGTH), async |operations| {
        let fixture = suite.store().await?;
        let start = head(&fixture).await?;
        let mut reference = Reference::new(start.position);
        let mut world = World::default();
        for operation in operations {
            let found = world.perform(&fixture, &operation).await;
            let expected = reference.answer(&world, &operation);
            found.compare(&expected, &operation)?;
        }
        reference.compare_all(&fixture, &start).await
    })
}

pub(super) async fn several_tasks_agree_with_the_reference(suite: &Suite) -> Verdict {
    let sequences = proptest::collection::vec(sequence(1..=LENGTH_EACH), TASKS);
    let sequences = sequences.prop_map(|mut sequences| {
        for operations in &mut sequences {
            operations.retain(Operation::is_ordered);
        }
        sequences
    });
    search(suite.sequences, sequences, async |sequences| {
        let fixture = suite.store().await?;
        let start = head(&fixture).await?;
        let history = Arc::new(History::new(start.position));
        let mut tasks = Vec::new();
        for operations in sequences {
            let (store, history) = (Arc::clone(&fixture), Arc::clone(&history));
            tasks.push(tokio::spawn(async move {
                history.perform_all(&store, operations).await
            }));
        }
        for task in tasks {
            task.await??;
        }
        let reference = history.check()?;
        reference.compare_all(&fixture, &start).await
    })
}

/// Tries this many inputs, and shrinks the first that fails.
fn search<S: Strategy>(
    cases: u32,
    strategy: S,
    mut holds: impl AsyncFnMut(S::Value) -> Verdict,
) -> Verdict
where
    S::Value: Clone,
{
    let seed = seed()?;
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    // Derives the generator's 32 bytes from 8 that a person can copy.
    let bytes: [u8; 32] = Sha256::digest(seed.to_be_bytes()).into();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let holds = std::cell::RefCell::new(&mut holds);
    let found = runner.run(&strategy, |input| {
        let verdict = tokio::task::block_in_place(|| {
            let mut holds = holds.borrow_mut();
            tokio::runtime::Handle::current().block_on(holds(input))
        });
        verdict.map_err(|failure| TestCaseError::fail(format!("{failure:?}")))
    });
    match found {
        Ok(()) => Ok(()),
        Err(TestError::Fail(reason, input)) => Err(Failure::new(format!(
            "{}\nafter {input:#?}\nwith KEYWARD_SEED={seed}",
            reason.message()
        ))),
        Err(TestError::Abort(reason)) => Err(Failure::new(reason.message())),
    }
}

fn seed() -> Result<u64, Failure> {
    if let Ok(seed) = std::env::var("KEYWARD_SEED") {
        return Ok(seed.parse()?);
    }
    let mut bytes = [0; 8];
    OsRandom.fill(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}
