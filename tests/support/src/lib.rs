//! What tests share: a [`fixture`], stores [around](passes_on) others, sizes, and tools outside of Rust that may be
//! missing.
//!
//! A test that needs a tool begins with `if !has(&[CURL]) { return; }`. Where a tool is missing, the test is left out
//! and standard error says so, past the harness, which hides what a passing test prints. If `KEYWARD_REQUIRE_ALL` is
//! set, the test fails instead.

use std::io::{self, Write};
use std::panic::Location;
use std::process::{Command, Stdio};
use std::{env, thread};

#[doc(hidden)]
pub mod around;
pub mod fixture;

/// The shell in which the printed lines of the examples run.
pub const BASH: Tool = Tool::new("bash", &["bash", "-c", "true"]);
/// The client that the printed lines of the examples call.
pub const CURL: Tool = Tool::new("curl", &["curl", "--version"]);
/// Python with its module for SQLite, which checks database files independently of the crate.
pub const PYTHON: Tool = Tool::new(
    "python3 with its module sqlite3",
    &["python3", "-c", "import sqlite3"],
);
/// Python with the HTTP client that the programs of the examples use.
pub const REQUESTS: Tool = Tool::new(
    "python3 with the package requests",
    &["python3", "-c", "import requests"],
);
/// Python with the parser of structured fields that the programs of the examples use.
pub const SFV: Tool = Tool::new(
    "python3 with the package http-sfv",
    &["python3", "-c", "import http_sfv"],
);
/// Python with a validator of JSON Schema, which checks the published schema.
pub const JSON_SCHEMA: Tool = Tool::new(
    "python3 with the package jsonschema",
    &["python3", "-c", "import jsonschema"],
);
/// A mount namespace of the test's own.
pub const OWN_MOUNTS: Tool = Tool::new(
    "unshare and mount in a user namespace",
    &[
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "mount",
        "-t",
        "tmpfs",
        "none",
        "/tmp",
    ],
);
/// A process that file permissions bind even if it runs as root.
pub const SETPRIV: Tool = Tool::new(
    "setpriv that may drop capabilities",
    &["setpriv", "--bounding-set=-all", "--inh-caps=-all", "true"],
);

/// A tool or service, and the command that succeeds where it can be used.
#[derive(Debug, Clone, Copy)]
pub struct Tool {
    name: &'static str,
    probe: &'static [&'static str],
}

impl Tool {
    /// A tool of this name that can be used if this command succeeds.
    #[must_use]
    pub const fn new(name: &'static str, probe: &'static [&'static str]) -> Self {
        Self { name, probe }
    }

    fn is_there(&self) -> bool {
        let Some((program, arguments)) = self.probe.split_first() else {
            return true;
        };
        let mut command = Command::new(program);
        let command = command.args(arguments).stdin(Stdio::null());
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }
}

/// Returns whether all the tools are there. If not, reports on standard error that the calling test is left out.
///
/// # Panics
/// If a tool is missing and `KEYWARD_REQUIRE_ALL` is set.
#[must_use]
#[track_caller]
pub fn has(tools: &[Tool]) -> bool {
    let file = Location::caller().file();
    let current = thread::current();
    let test = format!("{} in {file}", current.name().unwrap_or("a test"));
    let is_required = env::var_os("KEYWARD_REQUIRE_ALL").is_some_and(|value| !value.is_empty());
    // The print macros are captured, writing to the stream is not.
    has_or_report(tools, &test, is_required, &mut io::stderr())
}

/// Returns the size of a test that draws or repeats: the number in this variable of the environment, or a small one.
///
/// `.ci/full` sets the full sizes.
///
/// # Panics
/// If the variable holds no number.
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
#[must_use]
pub fn size(variable: &str, small: u32) -> u32 {
    let set = env::var(variable).ok();
    set.map_or(small, |text| text.parse().expect("a size is a number"))
}

#[expect(clippy::panic, reason = "a test fails by panicking")]
#[track_caller]
fn has_or_report(tools: &[Tool], test: &str, is_required: bool, out: &mut dyn Write) -> bool {
    let missing = tools
        .iter()
        .filter(|tool| !tool.is_there())
        .map(|tool| tool.name);
    let missing: Vec<_> = missing.collect();
    if missing.is_empty() {
        return true;
    }
    let missing = missing.join(", and ");
    assert!(
        !is_required,
        "KEYWARD_REQUIRE_ALL is set, and {test} needs {missing}"
    );
    let line = format!("LEFT OUT: {test} needs {missing}\n");
    // One write, so that lines of other tests do not come in between.
    if let Err(error) = out.write_all(line.as_bytes()) {
        panic!("cannot report that {test} is left out: {error}");
    }
    false
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    const PRESENT: Tool = Tool::new("cargo", &[env!("CARGO"), "--version"]);
    const FAILING: Tool = Tool::new("cargo with wings", &[env!("CARGO"), "--no-such-option"]);
    /// Set in the process that a test starts of itself.
    const CHILD: &str = "KEYWARD_CHILD";

    const ABSENT: Tool = Tool::new("no such program", &["keyward-no-such-program"]);

    #[test]
    fn a_present_tool_is_not_reported() {
        let mut out = Vec::new();
        assert!(has_or_report(&[PRESENT], "it", true, &mut out));
        assert!(has_or_report(&[], "it", true, &mut out));
        assert_eq!(out, b"");
    }

    #[test]
    fn each_missing_tool_is_one_line() {
        let mut out = Vec::new();
        assert!(!has_or_report(
            &[PRESENT, FAILING, ABSENT],
            "it",
            false,
            &mut out
        ));
        let said = String::from_utf8(out).unwrap();
        assert_eq!(
            said,
            "LEFT OUT: it needs cargo with wings, and no such program\n"
        );
    }

    #[test]
    fn a_missing_required_tool_fails() {
        for tool in [FAILING, ABSENT] {
            let failed =
                catch_unwind(|| has_or_report(&[PRESENT, tool], "it", true, &mut Vec::new()));
            let message = failed.unwrap_err();
            assert!(
                message
                    .downcast_ref::<String>()
                    .unwrap()
                    .contains(tool.name)
            );
        }
    }

    #[test]
    fn a_report_is_not_captured() {
        if env::var_os(CHILD).is_some() {
            assert!(!has(&[ABSENT]));
            return;
        }
        for (require, is_passed) in [("", true), ("1", false)] {
            let mut again = Command::new(env::current_exe().unwrap());
            let again = again.args(["tests::a_report_is_not_captured", "--exact"]);
            let again = again.env(CHILD, "").env("KEYWARD_REQUIRE_ALL", require);
            let output = again.output().unwrap();
            assert_eq!(output.status.success(), is_passed);
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(said.contains("LEFT OUT: "), is_passed, "{said}");
            assert_eq!(said.contains("needs no such program"), is_passed, "{said}");
        }
    }
}
