//! A running product with an administrator logged in, and the checks that every product has to pass.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{BASH, CURL, Client, REQUESTS, Ran, Reply, Server, has};

/// A product's program, and how its keys are used and managed.
#[derive(Debug)]
pub struct Program {
    /// The path of the program.
    pub path: &'static str,
    /// Arguments with which it listens on free ports.
    pub arguments: &'static [&'static str],
    /// The administrator, as the printed lines name this person.
    pub administrator: &'static str,
    /// Returns the form that issues a key, given a title or whatever else identifies it.
    pub form: fn(&str) -> Value,
    /// Adds a key to a client's requests.
    pub authorize: fn(&Client, &Value) -> Client,
    /// A path that each key of [`form`](Self::form) may read.
    pub readable: &'static str,
    /// The pages that administrators see, below `/admin/`.
    pub pages: &'static [&'static str],
    /// The actions on a key, below `/admin/keys/{id}/`.
    pub actions: &'static [&'static str],
}

/// A running product.
#[derive(Debug)]
pub struct Product {
    program: &'static Program,
    /// The process.
    pub server: Server,
    /// The administrator.
    pub admin: Client,
}

/// The printed lines, after all of them were run.
#[derive(Debug)]
pub struct Printed {
    ran: Vec<Ran>,
    /// The process.
    pub server: Server,
}

impl Program {
    /// Starts the product without keys.
    #[must_use]
    pub fn start(&'static self) -> Product {
        self.product(Server::start(self.path, self.arguments))
    }

    /// Starts the product with the keys in this file.
    #[must_use]
    pub fn start_over(&'static self, keys: &Path) -> Product {
        self.product(Server::start_over(keys, self.path, self.arguments))
    }

    fn product(&'static self, server: Server) -> Product {
        let admin = office(&server.client(), &server.code_of(self.administrator));
        Product {
            program: self,
            server,
            admin,
        }
    }

    /// Starts the product and runs the printed lines, unchanged. `None` if this machine lacks the shell or `curl`.
    #[must_use]
    pub fn run_printed_lines(&self) -> Option<Printed> {
        if !has(&[BASH, CURL]) {
            return None;
        }
        let server = Server::start(self.path, self.arguments);
        let ran = server.run_lines();
        Some(Printed { ran, server })
    }

    /// Checks that answered changes survive a clean stop, and a kill as in a power failure.
    pub fn changes_survive_restarts(&'static self, what: &str) {
        let folder = TempDir::new().unwrap();
        let mut keys = Vec::new();
        for round in 0..4 {
            let product = self.start_over(&folder.path().join("keys.db"));
            for (key, status) in &keys {
                assert_eq!(product.asking(key).get(self.readable).status, *status);
            }
            let (kept, revoked) = (product.key(what), product.key(what));
            assert_eq!(product.act(&revoked, "revoke").status, 200);
            keys.extend([(kept, 200), (revoked, 401)]);
            if round == 0 {
                assert!(product.server.stop().success());
            } else {
                product.server.kill();
            }
        }
    }
}

impl Printed {
    /// Returns the response to the line with this purpose.
    #[must_use]
    pub fn reply(&self, what: &str) -> &Reply {
        let mut found = self.ran.iter().filter(|one| one.what.contains(what));
        &found.next().unwrap_or_else(|| panic!("{what}")).reply
    }
}

impl Product {
    /// Returns a client without a key and without a session.
    #[must_use]
    pub fn client(&self) -> Client {
        self.server.client()
    }

    /// Logs another person in.
    #[must_use]
    pub fn person(&self, who: &str) -> Client {
        office(&self.client(), &self.server.code_of(who))
    }

    /// Issues the key that a form requests.
    #[must_use]
    pub fn issue(&self, form: &Value) -> Value {
        let issued = self.admin.post("/admin/keys", form);
        assert_eq!(issued.status, 201, "{issued:?}");
        issued.body
    }

    /// Issues a key, as the product's [form](Program::form) requests it.
    #[must_use]
    pub fn key(&self, what: &str) -> Value {
        self.issue(&(self.program.form)(what))
    }

    /// Returns a client that uses this key.
    #[must_use]
    pub fn asking(&self, key: &Value) -> Client {
        (self.program.authorize)(&self.client(), key)
    }

    /// Returns a client that uses a new key.
    #[must_use]
    pub fn with_key(&self, what: &str) -> Client {
        self.asking(&self.key(what))
    }

    /// Sends an action on a key, as the administrator.
    #[must_use]
    pub fn act(&self, key: &Value, action: &str) -> Reply {
        act(&self.admin, key, action)
    }

    /// Checks `--help`, an unknown argument, an address that is taken, and what is at `/`.
    pub fn helps_a_person(&self) {
        let run = |arguments: &[&str]| {
            let folder = tempfile::TempDir::new().unwrap();
            let mut command = std::process::Command::new(self.program.path);
            let output = command
                .current_dir(&folder)
                .args(arguments)
                .output()
                .unwrap();
            let said = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8(said).unwrap())
        };
        let (is_success, help) = run(&["--help"]);
        assert!(is_success && help.contains("--listen VALUE"), "{help}");
        for unknown in [&["--port", "1"][..], &["--listen"], &["serve"]] {
            let (is_success, says) = run(unknown);
            assert!(!is_success && says.contains("--listen VALUE"), "{says}");
        }
        let base = self.server.base();
        let taken = base
            .split_once("://")
            .unwrap()
            .1
            .replace("localhost", "127.0.0.1");
        let (is_success, says) = run(&["--listen", &taken]);
        assert!(
            !is_success && says.contains("choose another address with --listen"),
            "{says}"
        );
        let root = self.client().get("/");
        assert!(
            root.status == 200 && root.text("").contains("/v1"),
            "{root:?}"
        );
    }

    /// Rotates a key with this form, as the administrator.
    #[must_use]
    pub fn rotate(&self, key: &Value, form: &Value) -> Reply {
        self.admin.post(&at(key, "rotate"), form)
    }

    /// Runs a customer's program in Python with these environment variables, if this machine can.
    pub fn run_python(&self, program: &str, variables: &[(&str, &str)]) {
        if has(&[REQUESTS]) {
            let base = self.server.base();
            let variables = [variables, &[("BASE", &base)]].concat();
            self.server.run_python(program, &variables);
        }
    }

    /// Checks that no key is issued from any of these forms.
    pub fn refuses_forms(&self, forms: &[Value]) {
        let before = self.admin.get("/admin/keys");
        for form in forms {
            let refused = self.admin.post("/admin/keys", form);
            let is_refused = [403, 422].contains(&refused.status);
            assert!(is_refused, "{form}: {refused:?}");
        }
        assert_eq!(self.admin.get("/admin/keys").body, before.body);
    }

    /// Checks that no response but the first one contains the secret of a key, and neither does the log.
    pub fn shows_secrets_once(self, what: &str) {
        let key = self.key(what);
        let secret = text(&key, "secret");
        let asking = self.asking(&key);
        assert_eq!(asking.get(self.program.readable).status, 200);
        let pages = || {
            self.program
                .pages
                .iter()
                .map(|page| self.admin.get(&format!("/admin/{page}")))
        };
        let mut answers: Vec<_> = pages().collect();
        answers.extend(
            self.program
                .actions
                .iter()
                .map(|action| self.act(&key, action)),
        );
        answers.extend(pages());
        for answer in &answers {
            assert!([200, 201].contains(&answer.status), "{answer:?}");
        }
        answers.extend([self.act(&key, "revoke"), asking.get(self.program.readable)]);
        for answer in &answers {
            assert!(!format!("{answer:?}").contains(secret), "{answer:?}");
            assert!(
                !answer.body.to_string().contains(r#""digest":"#),
                "{answer:?}"
            );
            assert_eq!(answer.header("cache-control"), Some("no-store"));
        }
        let log = self.server.stop_and_read_log();
        assert!(log.contains("refused") && !log.contains(secret), "{log}");
    }

    /// Checks that a caller who keeps sending requests is refused from the moment at which the revocation of the key
    /// was answered, and for good. Returns the response to the revocation.
    #[must_use]
    pub fn revokes_at_once(&self, key: &Value) -> Reply {
        let asking = self.asking(key);
        for body in [
            json!({ "reason": null }),
            json!({ "because": "leaked" }),
            json!([]),
        ] {
            let refused = self.admin.post(&at(key, "revoke"), &body);
            assert_eq!(refused.status, 422, "{body}: {refused:?}");
        }
        let is_revoked = AtomicBool::new(false);
        let (begin, begun) = channel();
        let watch = || {
            let mut refused = 0;
            for number in 0..10_000 {
                let must_be_refused = is_revoked.load(Ordering::SeqCst);
                let status = asking.get(self.program.readable).status;
                assert!(
                    !must_be_refused || status == 401,
                    "granted after the revocation"
                );
                if number == 5 {
                    begin.send(()).unwrap();
                }
                refused += u32::from(status == 401);
                if refused == 50 {
                    return;
                }
            }
            panic!("never refused");
        };
        let revoked = thread::scope(|scope| {
            scope.spawn(watch);
            begun.recv_timeout(Duration::from_secs(10)).unwrap();
            let leaked = json!({ "reason": "leaked" });
            let revoked = self.admin.post(&at(key, "revoke"), &leaked);
            is_revoked.store(true, Ordering::SeqCst);
            revoked
        });
        assert_eq!(revoked.status, 200, "{revoked:?}");
        let events = self.admin.get("/admin/keys/events");
        let is_revocation = |event: &&Value| event["event"]["action"] == "key_revoked";
        let mut events = events.items("/events").iter();
        let last = events.rfind(is_revocation).unwrap();
        assert!(
            last["event"]["changes"].to_string().contains("\"leaked\""),
            "{last}"
        );
        let at = revoked.body.get("at").or(revoked.body.get("revoked_on"));
        for action in self.program.actions {
            let refused = self.act(key, action);
            assert_eq!(
                (refused.status, refused.text("/code")),
                (409, "already_revoked"),
                "{action}"
            );
            assert_eq!(refused.body.get("at"), at, "{action}");
        }
        assert_eq!(asking.get(self.program.readable).status, 401);
        revoked
    }

    /// Checks that this client can neither see nor manage keys, and does not learn which keys exist.
    pub fn refuses_to_manage(&self, client: &Client, status: u16, what: &str) {
        let key = self.key(what);
        for page in self.program.pages {
            let refused = client.get(&format!("/admin/{page}"));
            assert_eq!(refused.status, status, "{page}: {refused:?}");
        }
        let form = (self.program.form)(what);
        assert_eq!(client.post("/admin/keys", &form).status, status);
        let unknown = json!({ "id": "00000000-0000-4000-8000-000000000000" });
        for action in self.program.actions {
            let refused = act(client, &key, action);
            assert_eq!(refused.status, status, "{action}: {refused:?}");
            let unknown = act(client, &unknown, action);
            assert_eq!(unknown.body, refused.body, "{action}");
        }
        assert_eq!(self.asking(&key).get(self.program.readable).status, 200);
    }

    /// Checks that the administrator of another tenant sees and manages no key of this one.
    pub fn hides_keys_from(&self, other: &Client, what: &str) {
        let key = self.key(what);
        assert!(other.get("/admin/keys").items("/keys").is_empty());
        let events = other.get("/admin/keys/events");
        assert!(events.items("/events").is_empty());
        for action in self.program.actions {
            assert_eq!(act(other, &key, action).status, 404, "{action}");
        }
        assert_eq!(self.asking(&key).get(self.program.readable).status, 200);
    }

    /// Checks that sessions are refused on these routes for keys, and keys on the routes for sessions.
    pub fn separates_sessions_and_keys(&self, what: &str, routes: &[(&str, &str)]) {
        let session = self.admin.header("x-session").unwrap();
        let as_key = json!({ "id": session, "secret": session, "api_key": session });
        let as_key = self.asking(&as_key);
        for (client, code) in [
            (&self.admin, "missing_credential"),
            (&as_key, "invalid_credential"),
            (&as_key.with("x-session", session), "invalid_credential"),
        ] {
            for (method, path) in routes {
                let refused = client.send(method, path, None);
                assert_eq!(
                    (refused.status, refused.text("/code")),
                    (401, code),
                    "{method} {path}"
                );
            }
        }

        let key = self.key(what);
        let secret = text(&key, "secret");
        let asking = self.asking(&key);
        let listed = || self.admin.get("/admin/keys").items("/keys").len();
        let before = listed();
        let sessions = [
            secret,
            text(&key, "id"),
            key["api_key"].as_str().unwrap_or_default(),
        ];
        let clients = sessions.map(|session| asking.with("x-session", session));
        for client in [asking.clone(), self.client().with("x-session", secret)]
            .iter()
            .chain(&clients)
        {
            for page in self.program.pages {
                assert_eq!(client.get(&format!("/admin/{page}")).status, 401, "{page}");
            }
            let form = (self.program.form)(what);
            assert_eq!(client.post("/admin/keys", &form).status, 401);
            let code = json!({ "code": secret });
            assert_eq!(client.post("/admin/login", &code).status, 401);
            for action in self.program.actions {
                assert_eq!(act(client, &key, action).status, 401, "{action}");
            }
        }
        assert_eq!(listed(), before);
        assert_eq!(asking.get(self.program.readable).status, 200);
    }

    /// Checks that the product, asked to stop while it is busy, cuts no response short.
    pub fn stops_cleanly_under_load(self, what: &str, path: &str, check: fn(&Reply)) {
        let clients: Vec<_> = (0..8).map(|_| self.with_key(what)).collect();
        let (sent, answered) = channel();
        let stopped = thread::scope(|scope| {
            for client in clients {
                let sent = sent.clone();
                scope.spawn(move || {
                    while let Some(reply) = client.get_while_served(path) {
                        // A key may meet its limit while the server stops.
                        match reply.status {
                            429 => assert!(reply.header("retry-after").is_some()),
                            status => assert_eq!(status, 200, "{:?}", reply.headers),
                        }
                        if reply.status == 200 {
                            check(&reply);
                        }
                        let _ = sent.send(());
                    }
                });
            }
            for _ in 0..16 {
                answered.recv_timeout(Duration::from_secs(20)).unwrap();
            }
            self.server.stop()
        });
        assert!(stopped.success());
    }
}

/// Logs in with this code and returns the client of that person.
#[must_use]
pub fn office(client: &Client, code: &str) -> Client {
    let reply = client.post("/admin/login", &json!({ "code": code }));
    assert_eq!(reply.status, 200, "{reply:?}");
    client.with("x-session", reply.text("/session"))
}

/// Returns this member of an object, which is a text.
#[must_use]
pub fn text<'a>(object: &'a Value, member: &str) -> &'a str {
    object[member].as_str().unwrap()
}

/// Sends an action on a key. A rotation is one until the old key is revoked.
fn act(client: &Client, key: &Value, action: &str) -> Reply {
    let until_revoked = json!({ "overlap_until": null });
    let form = (action == "rotate").then_some(&until_revoked);
    client.send("POST", &at(key, action), form)
}

/// Returns the path of an action on a key.
fn at(key: &Value, action: &str) -> String {
    format!("/admin/keys/{}/{action}", text(key, "id"))
}
