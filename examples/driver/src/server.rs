//! A product running as a process.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Client;
use crate::lines::{Ran, Wanted, heads, ran, script};

/// A running product. On drop it is stopped or, if that fails, killed by its id.
#[derive(Debug)]
pub struct Server {
    child: Child,
    wanted: Vec<Wanted>,
    log: Option<JoinHandle<String>>,
    /// The folder of its keys, if it is used by this server alone.
    folder: Option<TempDir>,
}

impl Server {
    /// Starts this program with these arguments and without keys, and waits until it has printed its lines.
    #[must_use]
    pub fn start(program: &str, arguments: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let mut server = Self::start_over(&folder.path().join("keys.db"), program, arguments);
        server.folder = Some(folder);
        server
    }

    /// Starts this program as [`start`](Self::start) does, with the keys in this file.
    #[must_use]
    pub fn start_over(keys: &Path, program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        let command = command
            .arg("--keys")
            .arg(keys)
            // Files that it leaves behind when it is killed are removed with the keys.
            .env("TMPDIR", keys.parent().unwrap())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut log = child.stderr.take().unwrap();
        let log = thread::spawn(move || {
            let mut told = Vec::new();
            log.read_to_end(&mut told).unwrap();
            String::from_utf8(told).unwrap()
        });
        let mut printed = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut lines = Vec::new();
        loop {
            match printed.next() {
                Some(line) => lines.push(line.unwrap()),
                None => panic!("it ended: {:?}, after {lines:#?}", child.wait()),
            }
            if lines.last().is_some_and(|line| line.contains("Ctrl-C")) {
                break;
            }
        }
        // No test reads the rest of the output, but it must be consumed.
        thread::spawn(move || printed.for_each(drop));
        let wanted = heads(&lines);
        let log = Some(log);
        Self {
            child,
            wanted,
            log,
            folder: None,
        }
    }

    /// Returns the printed lines, in their order.
    #[must_use]
    pub fn lines(&self) -> &[Wanted] {
        &self.wanted
    }

    /// Runs all lines in one shell, like a person who pastes them, and checks that each status is as announced.
    ///
    /// It needs [`BASH`](crate::BASH) and [`CURL`](crate::CURL).
    #[must_use]
    pub fn run_lines(&self) -> Vec<Ran> {
        let mut bash = Command::new("bash");
        let output = bash.arg("-c").arg(script(&self.wanted)).output();
        let output = output.expect("bash and curl are installed");
        ran(&self.wanted, &String::from_utf8(output.stdout).unwrap())
    }

    /// Runs a Python program with these environment variables. It needs [`REQUESTS`](crate::REQUESTS).
    pub fn run_python(&self, program: &str, variables: &[(&str, &str)]) {
        let mut python = Command::new("python3");
        let python = python.arg(program).envs(variables.iter().copied());
        let output = python.output().unwrap();
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Returns a client of the server at its address, which trusts the server's own certificate if it has one.
    #[must_use]
    pub fn client(&self) -> Client {
        let certificate = self.certificate().map(|path| fs::read(path).unwrap());
        Client::new(&self.base(), certificate.as_deref())
    }

    /// Returns the path of the server's certificate, which its first line contains. `None` if it does not use TLS.
    #[must_use]
    pub fn certificate(&self) -> Option<&Path> {
        let (_, rest) = self.wanted[0].line.split_once("--cacert '")?;
        rest.split_once('\'').map(|(path, _)| Path::new(path))
    }

    /// Returns the server's base URL, which its first line contains.
    #[must_use]
    pub fn base(&self) -> String {
        let words = self.wanted[0].line.split_whitespace();
        let words = words.map(|word| word.trim_matches(['"', '\'']));
        let mut urls = words.filter(|word| word.starts_with("http"));
        let url = urls.next().expect("the first line says where it is");
        let path = url
            .match_indices('/')
            .nth(2)
            .map_or(url.len(), |(at, _)| at);
        url[..path].to_owned()
    }

    /// Returns the one-time code from the first line that logs this person in.
    #[must_use]
    pub fn code_of(&self, who: &str) -> String {
        let line = self.wanted.iter().find(|one| one.what.contains(who));
        let line = &line
            .unwrap_or_else(|| panic!("no line is about {who}"))
            .line;
        let (_, rest) = line.split_once(r#""code":""#).expect("it bears a code");
        rest.split_once('"').unwrap().0.to_owned()
    }

    /// Kills the server without warning, as in a power failure.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the server to stop, like Ctrl-C, and waits up to a minute until it has.
    #[must_use]
    pub fn stop(mut self) -> ExitStatus {
        self.end()
    }

    /// Stops the server and returns everything that it wrote to standard error for its operator.
    #[must_use]
    pub fn stop_and_read_log(mut self) -> String {
        assert!(self.end().success());
        self.log.take().unwrap().join().unwrap()
    }

    fn end(&mut self) -> ExitStatus {
        self.interrupt();
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "it does not stop"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends the signal of Ctrl-C.
    pub fn interrupt(&self) {
        assert!(interrupt(self.child.id()).unwrap().success());
    }
}

/// Sends SIGINT with the shell's built-in `kill`, since not every machine has the program.
fn interrupt(id: u32) -> io::Result<ExitStatus> {
    Command::new("sh")
        .args(["-c", &format!("kill -INT {id}")])
        .status()
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ask first, so that it leaves nothing behind. If it has already ended, all of this fails, which is fine.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = interrupt(self.child.id());
        }
        for _ in 0..100 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
