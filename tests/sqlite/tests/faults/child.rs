//! Tests that need a process of their own: in a file system of their own, under a limit, or as another process.
//!
//! Such a test starts itself again, by its name, and finds in the child the directory that was made for it. Where the
//! child cannot be set up the test is left out, as [`test_support::has`] says.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::env;
use std::ffi::OsStr;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

/// The directory that the parent made for the child.
const DIR: &str = "KEYWARD_CHILD_DIR";

/// Runs in a file system namespace of its own, so that what it mounts goes away with it. `$0` is the directory.
pub(crate) const OWN_MOUNTS: &[&str] = &["unshare", "--user", "--map-root-user", "--mount"];

/// Runs as a user whom permissions bind, be it root.
pub(crate) const BOUND_BY_PERMISSIONS: &[&str] =
    &["setpriv", "--bounding-set=-all", "--inh-caps=-all"];

/// The test of this program as a child is to run it: prepared by a line of shell, in which `$0` is the directory.
pub(crate) fn command(wrapper: &[&str], prepare: &str, test: &str, dir: &Path) -> Command {
    let exe = env::current_exe().unwrap();
    let shell = format!("{prepare} && exec \"$@\"");
    let mut words: Vec<&OsStr> = wrapper.iter().map(OsStr::new).collect();
    words.extend(["sh", "-c", &shell].map(OsStr::new));
    words.extend([dir.as_os_str(), exe.as_os_str()]);
    words.extend([test, "--exact", "--nocapture"].map(OsStr::new));
    let (program, arguments) = words.split_first().unwrap();
    let mut command = Command::new(program);
    command.args(arguments).env(DIR, dir);
    command
}

/// Returns the directory of the child, in the child. Otherwise runs the test in one, and fails with its output unless
/// it passed. If the wrapper cannot be used, it is left out.
#[track_caller]
pub(crate) fn dir_or_run(wrapper: &[&str], prepare: &str, test: &str) -> Option<PathBuf> {
    let dir = dir();
    if dir.is_none() {
        run(wrapper, prepare, test);
    }
    dir
}

#[track_caller]
fn run(wrapper: &[&str], prepare: &str, test: &str) {
    let needed: &[test_support::Tool] = match wrapper {
        OWN_MOUNTS => &[test_support::OWN_MOUNTS],
        BOUND_BY_PERMISSIONS => &[test_support::SETPRIV],
        _ => &[],
    };
    if !test_support::has(needed) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let output = command(wrapper, prepare, test, dir.path()).output();
    let output = output.unwrap_or_else(|error| panic!("{wrapper:?}: {error}"));
    assert_passed(test, &output);
}

fn assert_passed(test: &str, output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{test}: {}\n{said}\n{failed}",
        output.status
    );
}

/// Returns the directory that was made for the child; `None` if this is no child.
pub(crate) fn dir() -> Option<PathBuf> {
    env::var_os(DIR).map(PathBuf::from)
}

/// A process that holds a lock until it is told to let go.
pub(crate) struct Holder(Child);

impl Holder {
    pub(crate) fn of(test: &str, dir: &Path) -> Self {
        let mut command = command(&[], "true", test, dir);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = Self(child.spawn().unwrap());
        let lines = BufReader::new(holder.0.stdout.take().unwrap()).lines();
        let mut said = lines.map(Result::unwrap);
        assert!(said.any(|line| line.contains("it is held")));
        // What else it says is read, so that it does not die of it.
        thread::spawn(move || said.for_each(drop));
        holder
    }

    pub(crate) fn let_go(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // A child of this test's own, should it fail.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In the child: holds on until the parent lets go.
pub(crate) fn hold() {
    println!("\nit is held");
    io::stdout().flush().unwrap();
    let mut line = String::new();
    io::stdin().read_line(&mut line).unwrap();
}
