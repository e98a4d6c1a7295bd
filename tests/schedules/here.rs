//! The node that ends a key: once that has returned, no verification that starts there is granted, and nothing stale
//! stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shuttle::thread;

use crate::explore::{Effort, explore};
use crate::world::{Ending, Said, Start, World};

/// Ends a key while it is verified, so many times after each other by so many threads.
pub(crate) fn end_while_verified(start: Start, ending: Ending, threads: usize, times: usize) {
    let world = World::new();
    let node = world.node(1);
    node.begin(start);
    let has_ended = Arc::new(AtomicBool::new(false));
    let verifying = (0..threads).map(|_| {
        let (node, has_ended) = (node.clone(), Arc::clone(&has_ended));
        thread::spawn(move || {
            for _ in 0..times {
                let is_late = has_ended.load(Ordering::SeqCst);
                let said = node.verify();
                assert!(!is_late || said != Said::Granted, "granted after its end");
            }
        })
    });
    let verifying: Vec<_> = verifying.collect();
    let ending = {
        let node = node.clone();
        thread::spawn(move || {
            node.end(ending);
            has_ended.store(true, Ordering::SeqCst);
        })
    };
    ending.join().unwrap();
    assert_ne!(node.verify(), Said::Granted, "granted after its end");
    for thread in verifying {
        thread.join().unwrap();
    }
    for _ in 0..2 {
        assert_eq!(node.verify(), Said::Ended, "nothing stale stays");
    }
}

#[test]
fn local_endings_are_refused() {
    let near = Effort {
        preemptions: 2,
        drawn: 200,
    };
    let wide = Effort {
        preemptions: 0,
        drawn: 300,
    };
    for start in [Start::Warm, Start::Lapsed, Start::Cold] {
        for ending in [Ending::Revoke, Ending::CutOff, Ending::Suspend] {
            explore(wide, move || end_while_verified(start, ending, 2, 2));
        }
        explore(near, move || {
            end_while_verified(start, Ending::Revoke, 1, 1);
        });
    }
}
