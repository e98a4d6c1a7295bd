//! Runs the program as a person does: issues and revokes keys while the server runs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use example_driver::Client;

/// Longer than any step takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_actix_hello"));
    command.current_dir(folder).args(arguments);
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    program(folder, arguments).output().unwrap()
}

/// A server process that is killed by its id on drop.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_key_is_issued_used_and_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let issued = run(folder, &["issue", "Power BI"]);
    let printed = String::from_utf8(issued.stdout).unwrap();
    let (id, key) = printed.trim().split_once('\n').unwrap();

    let mut child = program(folder, &["serve", "127.0.0.1:0"]);
    let mut server = Server(child.stdout(Stdio::piped()).spawn().unwrap());
    let mut printed = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let client = Client::new(&printed.next().unwrap().unwrap(), None);
    let bearer = client.with("Authorization", &format!("Bearer {key}"));

    let reply = bearer.get("/hello");
    assert_eq!((reply.status, reply.text("")), (200, "Hello, Power BI!"));
    assert_eq!(client.get("/hello").status, 401);
    // The operator sees the refusal.
    assert!(printed.next().unwrap().unwrap().starts_with("refused: "));

    assert!(run(folder, &["revoke", id]).status.success());
    let begun = Instant::now();
    while bearer.get("/hello").status != 401 {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!run(folder, &["revoke", id]).status.success());
    assert!(!run(folder, &["serve"]).status.success());
}
