//! Keys survive the process, however it ends.

use crate::PROGRAM;

#[test]
fn answered_changes_survive_restarts() {
    PROGRAM.changes_survive_restarts("Settlement run");
}

#[test]
fn a_person_is_helped() {
    PROGRAM.start().helps_a_person();
}
