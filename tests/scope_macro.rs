//! `scope!` refuses a malformed scope when the host runs `cargo check`, not only when it builds.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

/// Checks a package that uses keyward in this way.
fn check(name: &str, body: &str) -> Output {
    let root = env!("CARGO_MANIFEST_DIR");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(folder.join("src")).unwrap();
    let manifest = format!(
        "[package]\nname = \"{name}\"\nedition = \"2024\"\n\
         [dependencies]\nkeyward = {{ path = {root:?} }}\n[workspace]\n"
    );
    std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    std::fs::write(folder.join("src/lib.rs"), body).unwrap();
    // The versions that are here already, so that nothing is fetched.
    std::fs::copy(
        Path::new(root).join("Cargo.lock"),
        folder.join("Cargo.lock"),
    )
    .unwrap();
    Command::new(env!("CARGO"))
        .args(["check", "--offline", "--quiet"])
        .current_dir(&folder)
        .env(
            "CARGO_TARGET_DIR",
            Path::new(env!("CARGO_TARGET_TMPDIR")).join("check"),
        )
        .output()
        .unwrap()
}

#[test]
fn a_malformed_scope_fails_to_compile() {
    let good = check(
        "well_formed",
        "pub const READ: keyward::key::Scope = keyward::scope!(\"read:editions\");\n\
         pub fn scope() -> keyward::key::Scope { keyward::scope!(\"a:b-c_1.d\") }",
    );
    assert!(
        good.status.success(),
        "{}",
        String::from_utf8_lossy(&good.stderr)
    );
    for (name, text) in [
        ("spaced", "read editions"),
        ("empty", ""),
        ("unended", "read:"),
    ] {
        let bad = check(
            name,
            &format!("pub fn scope() -> keyward::key::Scope {{ keyward::scope!({text:?}) }}"),
        );
        let errors = String::from_utf8_lossy(&bad.stderr);
        assert!(!bad.status.success(), "{text:?} passed");
        assert!(errors.contains("malformed scope"), "{errors}");
    }
}
