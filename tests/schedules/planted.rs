//! Faults planted in the library, each of which the exploration must find.
//!
//! `faults.patch` plants them in a copy of the library and lets it compile this module: see `plant.sh`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use keyward::{Planted, plant};
use shuttle::FailurePersistence;
use shuttle::scheduler::{PctScheduler, RandomScheduler};

use crate::elsewhere::{RACE, Race};
use crate::explore::{Bounded, Explorer, SEED, runner};
use crate::gone::revoke_and_go;
use crate::here::end_while_verified;
use crate::stage::{Commits, Feed};
use crate::together::revoke_while_shared;
use crate::world::{self, Ending, Start};

/// A planted fault is found by one of the explorers.
fn catches(fault: Planted, scenario: impl Fn() + Clone + Send + Sync + 'static) {
    world::prepare();
    let explorers: [Explorer; 3] = [
        Box::new(PctScheduler::new_from_seed(SEED, 3, 5_000)),
        Box::new(Bounded::new(2, 20_000)),
        Box::new(RandomScheduler::new_from_seed(SEED, 5_000)),
    ];
    plant(Some(fault));
    let is_caught = explorers.into_iter().any(|explorer| {
        let run = || runner(explorer, FailurePersistence::None).run(scenario.clone());
        catch_unwind(AssertUnwindSafe(run)).is_err()
    });
    plant(None);
    assert!(is_caught, "{fault:?} is not caught");
}

#[test]
fn local_faults_are_caught() {
    for fault in [
        Planted::CheckThenInsert,
        Planted::InsertThenRecheck,
        Planted::StampAfterAnswer,
        Planted::Unguarded,
        Planted::JoinWithoutFence,
        Planted::AnsweredBeforeLanding,
    ] {
        catches(fault, || {
            end_while_verified(Start::Cold, Ending::Revoke, 1, 1);
        });
    }
}

#[test]
fn feed_faults_are_caught() {
    let quiet = Race {
        verifying: (0, 0),
        ..RACE
    };
    let anew = Race {
        feed: Feed::Forgetful,
        ..RACE
    };
    let cut_off = Race {
        ending: Ending::CutOff,
        ..RACE
    };
    let unbounded = Race {
        start: Start::Cold,
        rounds: 0,
        lapses: false,
        ..RACE
    };
    let paged = Race {
        feed: Feed::Paged,
        ..RACE
    };
    for (fault, race) in [
        (Planted::StampAfterAnswer, quiet),
        (Planted::PartialRound, paged),
        (Planted::RoundBeforeNews, RACE),
        (Planted::HistoryForgotten, anew),
        (Planted::HistoryBeforeRound, anew),
        (Planted::CutoffPassedOver, cut_off),
        (Planted::OlderRevisionWins, unbounded),
    ] {
        catches(fault, move || race.run());
    }
}

#[test]
fn sharing_faults_are_caught() {
    catches(Planted::JoinWithoutFence, || {
        revoke_while_shared(Start::Cold, 100);
    });
}

#[test]
fn commit_faults_are_caught() {
    catches(Planted::FenceAfterCommit, || {
        revoke_and_go(Start::Warm, Commits::Apart, 5);
    });
    catches(Planted::DropLiftsFence, || {
        revoke_and_go(Start::Warm, Commits::Apart, 5);
    });
    catches(Planted::LostAnswerLiftsFence, || {
        revoke_and_go(Start::Warm, Commits::Lost, 100);
    });
}
