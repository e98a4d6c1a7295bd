//! Whoever revokes goes away half-way, or gets no answer: once the row is revoked, no verification that starts on that
//! node is granted.

use shuttle::thread;

use crate::explore::{Effort, explore};
use crate::stage::{Commits, Feed, poll_times};
use crate::world::{Said, Start, World};

/// Gives `revoke` up after so many polls, while the key is verified.
pub(crate) fn revoke_and_go(start: Start, commits: Commits, polls: usize) {
    let world = World::with(commits, Feed::Whole);
    let node = world.node(1);
    node.begin(start);
    let revoking = {
        let node = node.clone();
        thread::spawn(move || drop(poll_times(node.revoke(), polls)))
    };
    let verifying = {
        let (world, node) = (world.clone(), node.clone());
        thread::spawn(move || {
            for _ in 0..3 {
                let is_late = world.has_ended();
                let said = node.verify();
                assert!(
                    !is_late || said != Said::Granted,
                    "granted though the row is revoked"
                );
            }
        })
    };
    revoking.join().unwrap();
    verifying.join().unwrap();
    world.store.settle();
    let said = if world.has_ended() {
        Said::Ended
    } else {
        Said::Granted
    };
    for _ in 0..2 {
        assert_eq!(node.verify(), said);
    }
}

#[test]
fn abandoned_revocations_still_hold() {
    let effort = Effort {
        preemptions: 1,
        drawn: 100,
    };
    for start in [Start::Warm, Start::Cold] {
        for polls in 0..=6 {
            explore(effort, move || revoke_and_go(start, Commits::Here, polls));
        }
        for polls in 4..=6 {
            explore(effort, move || revoke_and_go(start, Commits::Apart, polls));
        }
    }
}

/// Each try of the commit takes place by itself, and none is answered.
#[test]
fn unanswered_revocations_still_hold() {
    for start in [Start::Warm, Start::Cold] {
        for polls in [4, 5, 6, 8, 100] {
            let effort = Effort {
                preemptions: usize::from(polls == 5),
                drawn: 200,
            };
            explore(effort, move || revoke_and_go(start, Commits::Lost, polls));
        }
    }
}
