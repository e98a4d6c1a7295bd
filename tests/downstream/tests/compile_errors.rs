//! Mistakes that the compiler names with their fix. Only Keyward's own sentences are compared: the rest of a message is
//! the compiler's.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Compiles, so that a mistake is the only reason why another program does not.
const SOUND: &str = r#"
    pub fn scopes() -> keyward::verifier::Requirement {
        let read = keyward::scope!("read:editions");
        keyward::verifier::Requirement::scope(read.or(keyward::scope!("admin")))
    }

    pub fn bound(named: keyward::http::Source<()>) -> keyward::http::Guard<()> {
        scopes().bind("project", named).bind("client", |_: &()| None)
    }
"#;

/// Compiles the program against this crate, and returns what the compiler says. `None` if it has no objection.
fn compile(crate_file: &Path, program: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("program.rs");
    fs::write(
        &source,
        format!("#![allow(unused)] fn main() {{}}\n{program}"),
    )
    .unwrap();
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args([
        "--edition",
        "2024",
        "--crate-type",
        "bin",
        "--emit",
        "metadata",
    ]);
    rustc.arg("-L").arg(format!(
        "dependency={}",
        crate_file.parent().unwrap().display()
    ));
    rustc
        .arg("--extern")
        .arg(format!("keyward={}", crate_file.display()));
    rustc.arg("--out-dir").arg(folder.path()).arg(&source);
    // The compiler shows lines of the crate by their paths, which are relative in this workspace.
    rustc.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let output = rustc.output().unwrap();
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Returns the file of the crate as this test was built with it, or with other features: the newest one that the
/// compiler can use.
fn crate_file() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let program = env::current_exe().unwrap();
        let files = fs::read_dir(program.parent().unwrap()).unwrap();
        let mut files: Vec<_> = files
            .map(|file| file.unwrap().path())
            .filter(|path| {
                let name = path.file_name().unwrap().to_string_lossy();
                name.starts_with("libkeyward-") && name.ends_with(".rlib")
            })
            .collect();
        files.sort_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
        let mut objections = String::new();
        for file in files.into_iter().rev() {
            match compile(&file, SOUND) {
                None => return file,
                Some(objection) => objections.push_str(&objection),
            }
        }
        panic!("no crate to compile with: {objections}");
    })
}

fn assert_named(program: &str, sentences: &[&str]) {
    let says = compile(crate_file(), program).expect_objection(program);
    for sentence in sentences {
        assert!(says.contains(sentence), "{sentence}: {says}");
    }
}

trait Objection {
    fn expect_objection(self, program: &str) -> String;
}

impl Objection for Option<String> {
    fn expect_objection(self, program: &str) -> String {
        self.unwrap_or_else(|| panic!("it compiles: {program}"))
    }
}

#[test]
fn a_text_for_a_scope_names_the_macro() {
    let need = "fn need() { keyward::verifier::Requirement::scope(\"read:editions\"); }";
    let fix = "write `scope!(\"read:editions\")`";
    assert_named(need, &["`&str` is not a scope", fix]);
    let either = "fn need() { keyward::scope!(\"a\").or(\"b\"); }";
    assert_named(either, &["`&str` is not a scope", fix]);
}

#[test]
fn a_text_for_a_source_names_path() {
    let bind = "fn need(need: keyward::verifier::Requirement) -> keyward::http::Guard<()> {
        need.bind(\"project\", \"id\")
    }";
    let says = "`&str` does not say where a request names the resource";
    assert_named(
        bind,
        &[says, "`keyward::axum::path`", "`keyward::actix::path`"],
    );
}

#[test]
fn a_policy_without_the_macro_names_it() {
    let policy = "
        use keyward::manager::{Actor, Operation, Policy, PolicyError, Ruling};
        #[derive(Debug)]
        struct Mine;
        impl Policy for Mine {
            async fn rule(&self, _: &Actor, _: &Operation<'_>) -> Result<Ruling, PolicyError> {
                Ok(Ruling::Allow)
            }
        }";
    assert_named(policy, &["; // #[async_trait]"]);
    let missing = "fn open(builder: keyward::Builder) { builder.policy(7); }";
    assert_named(missing, &["is not a `Policy`", "`#[keyward::async_trait]`"]);
}

#[test]
fn what_is_no_store_names_the_stores() {
    let store = "fn open() { keyward::Keyward::builder(7); }";
    assert_named(store, &["is not a `KeyStore`", "`#[keyward::async_trait]`"]);
}
