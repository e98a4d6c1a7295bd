//! The programs to copy: keys are issued and revoked beside the server that they are for.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Client;

/// Longer than anything takes, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Issues a key with this program, uses it at this program as a server, and revokes it.
pub fn hello(program: &str) {
    let folder = TempDir::new().unwrap();
    let call = |arguments: &[&str]| command(program, folder.path(), arguments);
    let run = |arguments: &[&str]| -> Output { call(arguments).output().unwrap() };

    let printed = String::from_utf8(run(&["issue", "Power BI"]).stdout).unwrap();
    let (id, key) = printed.trim().split_once('\n').unwrap();

    for unknown in [
        &[][..],
        &["serve"],
        &["start"],
        &["issue", "a", "b"],
        &["--port", "1"],
    ] {
        let refused = run(unknown);
        let says = String::from_utf8(refused.stderr).unwrap();
        assert!(
            !refused.status.success() && says.contains("serve ADDRESS"),
            "{says}"
        );
    }
    let elsewhere = TempDir::new().unwrap();
    let help = command(program, elsewhere.path(), &["--help"])
        .output()
        .unwrap();
    assert!(help.status.success());
    assert!(
        String::from_utf8(help.stdout)
            .unwrap()
            .contains("serve ADDRESS")
    );
    assert_eq!(elsewhere.path().read_dir().unwrap().count(), 0);

    let mut serve = call(&["serve", "127.0.0.1:0"]);
    let mut server = Running(serve.stdout(Stdio::piped()).spawn().unwrap());
    let mut printed = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let base = printed.next().unwrap().unwrap();
    let client = Client::new(&base, None);
    assert!(client.get("/").text("").contains("/hello"));
    let taken = base.strip_prefix("http://").unwrap();
    let refused = run(&["serve", taken]);
    let says = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    assert!(
        says.contains(taken) && says.contains("name another address"),
        "{says}"
    );
    let bearer = client.with("Authorization", &format!("Bearer {key}"));

    let reply = bearer.get("/hello");
    assert_eq!((reply.status, reply.text("")), (200, "Hello, Power BI!"));
    assert_eq!(client.get("/hello").status, 401);
    // The operator hears of it.
    assert!(printed.next().unwrap().unwrap().starts_with("refused: "));

    assert!(run(&["revoke", id]).status.success());
    let begun = Instant::now();
    while bearer.get("/hello").status != 401 {
        assert!(begun.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(10));
    }
    assert!(!run(&["revoke", id]).status.success());
}

fn command(program: &str, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).args(arguments);
    command
}

/// Killed, by its id, when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
