//! The lines that a person can try.

use std::path::Path;

use example_support::Line;
use keyward::time::{Duration, OffsetDateTime};

/// The product's address, and the people who can log in.
#[derive(Debug)]
pub(crate) struct Printed<'a> {
    pub(crate) url: &'a str,
    pub(crate) plain_url: &'a str,
    pub(crate) certificate: &'a Path,
    pub(crate) administrator: &'a str,
    pub(crate) member: &'a str,
    pub(crate) other: &'a str,
}

impl Printed<'_> {
    fn curl(&self, path: &str) -> String {
        let certificate = self.certificate.display();
        format!(
            r#"curl -s -i --cacert '{certificate}' "{}/{path}""#,
            self.url
        )
    }

    fn log_in(&self, code: &str) -> String {
        let curl = self.curl("admin/login");
        format!(r#"{curl} -H 'Content-Type: application/json' -d '{{"code":"{code}"}}'"#)
    }

    fn manage(&self, session: &str, path: &str) -> String {
        let curl = self.curl(&format!("admin/{path}"));
        format!(r#"{curl} -H "X-Session: ${session}""#)
    }

    fn post(&self, path: &str, body: &str) -> String {
        let line = self.manage("ADMIN", path);
        format!("{line} -H 'Content-Type: application/json' -d '{body}'")
    }

    fn ask(&self, key: &str, path: &str) -> String {
        let curl = self.curl(&format!("v1/{path}"));
        format!(r#"{curl} -H "Authorization: Bearer ${key}""#)
    }

    /// Returns the lines, in the order in which to try them.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let mut lines = self.issuing();
        lines.extend(self.using());
        lines.extend(self.rotating());
        lines.extend(self.others());
        lines
    }

    fn issuing(&self) -> Vec<Line> {
        let day = OffsetDateTime::now_utc().date();
        let day = day.saturating_add(Duration::days(90));
        let scopes = r#"["read:workspace","read:editions","write:editions"]"#;
        let form = format!(
            r#"{{"name":"Nightly sync","scopes":{scopes},"projects":["p-1"],"expires_on":"{day}"}}"#
        );
        vec![
            Line::new(
                200,
                "log in as an administrator of Meridian, once",
                self.log_in(self.administrator),
            )
            .keeping(&[("session", "ADMIN")]),
            Line::new(
                200,
                "the scopes that there are to choose from",
                self.manage("ADMIN", "scopes"),
            ),
            Line::new(
                422,
                "a key without any scope",
                self.post("keys", r#"{"name":"Nightly sync"}"#),
            ),
            Line::new(
                201,
                "a key with three scopes, for one project, that ends in 90 days; it is shown this once",
                self.post("keys", &form),
            )
            .keeping(&[("api_key", "KEY"), ("id", "KEY_ID")]),
            Line::new(
                201,
                "a key for the outputs of all projects",
                self.post("keys", r#"{"name":"Archive","scopes":["read:outputs"]}"#),
            )
            .keeping(&[("api_key", "OUTPUTS")]),
        ]
    }

    fn using(&self) -> Vec<Line> {
        let create = self.ask("KEY", "editions?project=p-1");
        let json = "-H 'Content-Type: application/json'";
        let outputs = self.ask("OUTPUTS", "outputs/p-1-b1-e001-o1/download");
        vec![
            Line::new(
                200,
                "the projects, of which the key sees one",
                self.ask("KEY", "projects"),
            ),
            Line::new(
                200,
                "editions, in pages",
                self.ask("KEY", "editions?limit=5"),
            ),
            Line::new(
                201,
                "create an edition in the project",
                format!(r#"{create} {json} -d '{{"blueprint":"p-1-b1","title":"Next quarter"}}'"#),
            ),
            Line::new(
                200,
                "submit a draft",
                format!("{} -X POST", self.ask("KEY", "editions/p-1-b1-e012/submit")),
            ),
            Line::new(
                200,
                "download an output; only what was answered is shown",
                outputs.replacen("-i", "-D - -o /dev/null", 1),
            ),
            Line::new(401, "no key", self.curl("v1/editions")),
            Line::new(
                403,
                "a scope that the key has not: the answer names it",
                self.ask("KEY", "projects/p-1/blueprints"),
            ),
            Line::new(
                403,
                "another project",
                self.ask("KEY", "blueprints/p-2-b1/editions"),
            ),
            Line::new(
                413,
                "more than 5 MB",
                format!("head -c 5000001 /dev/zero | {create} {json} --data-binary @-"),
            ),
            Line::new(
                500,
                "an output of more than 10 MB: the operator is told",
                self.ask("OUTPUTS", "outputs/p-1-b3-e001-o1/download"),
            ),
            Line::new(
                403,
                "plain HTTP: refused, never redirected, and the operator is told to rotate the key",
                format!(
                    r#"curl -s -i "{}/v1/projects" -H "Authorization: Bearer $KEY""#,
                    self.plain_url
                ),
            ),
        ]
    }

    fn rotating(&self) -> Vec<Line> {
        vec![
            Line::new(
                201,
                "rotate the key: both are good for a week, if nobody revokes the old one before",
                self.post("keys/$KEY_ID/rotate", r#"{"overlap_seconds": 604800}"#),
            )
            .keeping(&[("api_key", "NEXT")]),
            Line::new(200, "the old key works", self.ask("KEY", "projects")),
            Line::new(200, "and so does the new one", self.ask("NEXT", "projects")),
            Line::new(
                200,
                "revoke the old one",
                self.post("keys/$KEY_ID/revoke", ""),
            ),
            Line::new(
                401,
                "it is refused from now on",
                self.ask("KEY", "projects"),
            ),
            Line::new(
                200,
                "and its successor is not",
                self.ask("NEXT", "projects"),
            ),
            Line::new(
                409,
                "nothing is revoked twice",
                self.post("keys/$KEY_ID/revoke", ""),
            ),
            Line::new(
                200,
                "keys that are older than a year",
                self.manage("ADMIN", "keys/due?days=365"),
            ),
            Line::new(
                200,
                "all keys, the revoked ones last",
                self.manage("ADMIN", "keys"),
            ),
            Line::new(
                200,
                "what was done, and by whom",
                self.manage("ADMIN", "events"),
            ),
        ]
    }

    fn others(&self) -> Vec<Line> {
        vec![
            Line::new(
                200,
                "log in as a member of Meridian",
                self.log_in(self.member),
            )
            .keeping(&[("session", "MEMBER")]),
            Line::new(
                403,
                "who may not even see the list",
                self.manage("MEMBER", "keys"),
            ),
            Line::new(
                200,
                "log in as an administrator of Borealis",
                self.log_in(self.other),
            )
            .keeping(&[("session", "BOREALIS")]),
            Line::new(
                200,
                "who sees no key of Meridian's",
                self.manage("BOREALIS", "keys"),
            ),
        ]
    }
}
