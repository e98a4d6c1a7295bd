//! Many who ask for a key at once share reads of it, whoever of them goes away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use shuttle::thread;

use crate::explore::{Effort, explore};
use crate::world::{Ending, Said, Start, World};

/// Verifies a key by several threads at once, of which the first gives up after so many polls; how often it was read.
fn verify_together(start: Start, polls: usize) -> u64 {
    let world = World::new();
    let node = world.node(1);
    node.begin(start);
    let before = node.keyward.verifier().stats().store_reads;
    let mut threads = vec![{
        let node = node.clone();
        thread::spawn(move || {
            let said = node.verify_for(polls);
            assert!(matches!(said, None | Some(Said::Granted)), "{said:?}");
        })
    }];
    for _ in 0..2 {
        let node = node.clone();
        threads.push(thread::spawn(move || {
            assert_eq!(node.verify(), Said::Granted);
        }));
    }
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    node.keyward.verifier().stats().store_reads - before
}

/// The same while the key is revoked.
pub(crate) fn revoke_while_shared(start: Start, polls: usize) {
    let world = World::new();
    let node = world.node(1);
    node.begin(start);
    let has_ended = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for polls in [Some(polls), None, None] {
        let (node, has_ended) = (node.clone(), Arc::clone(&has_ended));
        threads.push(thread::spawn(move || {
            let is_late = has_ended.load(Ordering::SeqCst);
            let said = match polls {
                Some(polls) => node.verify_for(polls),
                None => Some(node.verify()),
            };
            assert!(
                !is_late || said != Some(Said::Granted),
                "granted after its end"
            );
        }));
    }
    threads.push({
        let node = node.clone();
        thread::spawn(move || {
            node.end(Ending::Revoke);
            has_ended.store(true, Ordering::SeqCst);
        })
    });
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    assert_eq!(node.verify(), Said::Ended, "nothing stale stays");
}

/// Somebody guesses at the key, and goes away after so many polls, while its holder verifies it; and while it is
/// revoked, if it is to be. Whoever holds it passes a stranger's read by.
fn verify_among_guesses(polls: usize, is_revoked: bool) {
    let world = World::new();
    let node = world.node(1);
    node.begin(Start::Lapsed);
    let has_ended = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for polls in [polls, 1_000] {
        let node = node.clone();
        threads.push(thread::spawn(move || {
            let said = node.guess_for(polls);
            assert!(matches!(said, None | Some(Said::Wrong)), "{said:?}");
        }));
    }
    for _ in 0..2 {
        let (node, has_ended) = (node.clone(), Arc::clone(&has_ended));
        threads.push(thread::spawn(move || {
            let is_late = has_ended.load(Ordering::SeqCst);
            match node.verify() {
                Said::Granted => assert!(!is_late, "granted after its end"),
                said => assert!(is_revoked && said == Said::Ended, "{said:?}"),
            }
        }));
    }
    if is_revoked {
        let node = node.clone();
        threads.push(thread::spawn(move || {
            node.end(Ending::Revoke);
            has_ended.store(true, Ordering::SeqCst);
        }));
    }
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    let left = if is_revoked {
        Said::Ended
    } else {
        Said::Granted
    };
    assert_eq!(node.verify(), left);
}

/// How often the first is polled: up to each step of its read, and to its end.
const POLLS: [usize; 4] = [1, 2, 3, 100];

const EFFORT: Effort = Effort {
    preemptions: 0,
    drawn: 200,
};

#[test]
fn an_abandoned_read_is_taken_over() {
    for start in [Start::Lapsed, Start::Cold] {
        for polls in POLLS {
            let fewest = Arc::new(AtomicU64::new(u64::MAX));
            let seen = Arc::clone(&fewest);
            explore(EFFORT, move || {
                seen.fetch_min(verify_together(start, polls), Ordering::Relaxed);
            });
            let fewest = fewest.load(Ordering::Relaxed);
            assert_eq!(fewest, 1, "{start:?}, {polls}: the read was shared");
        }
    }
}

#[test]
fn an_overtaken_read_grants_nothing() {
    for start in [Start::Lapsed, Start::Cold] {
        for polls in POLLS {
            explore(EFFORT, move || revoke_while_shared(start, polls));
        }
    }
}

#[test]
fn holders_are_decided_among_guesses() {
    for polls in POLLS {
        for is_revoked in [false, true] {
            explore(EFFORT, move || verify_among_guesses(polls, is_revoked));
        }
    }
}
