//! The lines that a person can try, in this order.

use example_support::Line;

/// Returns the lines, which log in with these codes.
pub(crate) fn all(url: &str, administrator: &str, agent: &str) -> Vec<Line> {
    let to = Product { url };
    let mut lines = to.issuing(administrator);
    lines.extend(to.working());
    lines.extend(to.refused());
    lines.extend(to.ending());
    lines.extend(to.watching(agent));
    lines
}

/// The product, at its address.
struct Product<'a> {
    url: &'a str,
}

impl Product<'_> {
    fn issuing(&self, administrator: &str) -> Vec<Line> {
        let issue = self.manage("ADMIN", "keys", r#"{"name":"Settlement run"}"#);
        vec![
            Line::new(
                200,
                "log in as a system administrator, once",
                self.log_in(administrator),
            )
            .keeping(&[("session", "ADMIN")]),
            Line::new(201, "issue a key; its secret is shown this once", issue)
                .keeping(&[("id", "KEY_ID"), ("secret", "KEY_VALUE")]),
            Line::new(
                422,
                "the form asks for a name, and for nothing else",
                self.manage("ADMIN", "keys", r#"{"name":"x","expires_on":"2030-01-01"}"#),
            ),
        ]
    }

    fn working(&self) -> Vec<Line> {
        let ask = |rest: &str| self.ask("KEY", rest);
        let send = |method: &str, path: &str, body: &str| self.send(method, path, body);
        let account = r#"{"holder":"Fir Optics","email":"books@fir.example.com","currency":"EUR"}"#;
        let payment =
            r#"{"account":"acc-000003","amount":125000,"currency":"EUR","reference":"Invoice 7"}"#;
        let replaced =
            r#"{"account":"acc-000003","amount":99000,"currency":"EUR","reference":"Invoice 7b"}"#;
        vec![
            Line::new(200, "the first accounts", ask("'accounts?limit=3'")),
            Line::new(201, "open an account", send("POST", "accounts", account))
                .keeping(&[("id", "ACCOUNT")]),
            Line::new(201, "make a payment", send("POST", "payments", payment))
                .keeping(&[("id", "PAYMENT")]),
            Line::new(
                200,
                "replace it",
                send("PUT", "payments/$PAYMENT", replaced),
            ),
            Line::new(
                200,
                "settle it",
                send("PATCH", "payments/$PAYMENT", r#"{"status":"settled"}"#),
            ),
            Line::new(
                409,
                "what was settled cannot be deleted",
                ask("payments/$PAYMENT -X DELETE"),
            ),
            Line::new(
                200,
                "but some of it can go back",
                send("POST", "payments/$PAYMENT/refund", r#"{"amount":9000}"#),
            ),
            Line::new(200, "read the payment", ask("payments/$PAYMENT")),
            Line::new(
                204,
                "delete the account",
                ask("accounts/$ACCOUNT -X DELETE"),
            ),
            Line::new(404, "which is gone", ask("accounts/$ACCOUNT")),
            Line::new(
                422,
                "an amount of nothing",
                send("PATCH", "payments/pay-000003", r#"{"amount":0}"#),
            ),
        ]
    }

    fn refused(&self) -> Vec<Line> {
        let url = self.url;
        let half = |header: &str| format!(r#"curl -s -i {url}/accounts -H "{header}""#);
        vec![
            Line::new(401, "no key", format!("curl -s -i {url}/accounts")),
            Line::new(
                401,
                "the id alone, which is half a key",
                half("X-AuthenticationKeyId: $KEY_ID"),
            ),
            Line::new(
                401,
                "the secret alone, which is the other half",
                half("X-AuthenticationKeyValue: $KEY_VALUE"),
            ),
            Line::new(
                401,
                "a wrong secret",
                format!(
                    "{} {}",
                    half("X-AuthenticationKeyId: $KEY_ID"),
                    WRONG_SECRET
                ),
            ),
        ]
    }

    fn ending(&self) -> Vec<Line> {
        let post = |action: &str, body: &str| {
            self.manage("ADMIN", &format!("keys/$KEY_ID/{action}"), body)
        };
        let list = || self.look("ADMIN", "keys");
        vec![
            Line::new(200, "the list before, with one active key", list()),
            Line::new(
                201,
                "give the key a successor; both work until the old one is revoked",
                post("rotate", "{}"),
            )
            .keeping(&[("id", "NEXT_ID"), ("secret", "NEXT_VALUE")]),
            Line::new(200, "revoke the old one", post("revoke", "")),
            Line::new(
                401,
                "it is refused from now on",
                self.ask("KEY", "accounts"),
            ),
            Line::new(
                200,
                "and its successor is not",
                self.ask("NEXT", "'payments?limit=2'"),
            ),
            Line::new(409, "nothing is revoked twice", post("revoke", "")),
            Line::new(409, "nor given a successor", post("rotate", "{}")),
            Line::new(409, "nor switched on again", post("resume", "")),
            Line::new(
                200,
                "the list after, with the revoked key at the bottom",
                list(),
            ),
            Line::new(
                200,
                "what was done, and by whom",
                self.look("ADMIN", "events"),
            ),
        ]
    }

    fn watching(&self, agent: &str) -> Vec<Line> {
        vec![
            Line::new(200, "log in as a support agent", self.log_in(agent))
                .keeping(&[("session", "AGENT")]),
            Line::new(
                403,
                "who may not even see the list",
                self.look("AGENT", "keys"),
            ),
            Line::new(
                403,
                "nor revoke a key",
                self.manage("AGENT", "keys/$NEXT_ID/revoke", ""),
            ),
        ]
    }

    fn log_in(&self, code: &str) -> String {
        let url = self.url;
        format!(r#"curl -s -i {url}/admin/login {JSON} -d '{{"code":"{code}"}}'"#)
    }

    fn look(&self, session: &str, rest: &str) -> String {
        let url = self.url;
        format!(r#"curl -s -i {url}/admin/{rest} -H "X-Session: ${session}""#)
    }

    fn manage(&self, session: &str, rest: &str, body: &str) -> String {
        format!("{} {JSON} -d '{body}'", self.look(session, rest))
    }

    /// Formats a request with the key stored under this name.
    fn ask(&self, key: &str, rest: &str) -> String {
        let url = self.url;
        let (id, secret) = ("X-AuthenticationKeyId", "X-AuthenticationKeyValue");
        format!(r#"curl -s -i {url}/{rest} -H "{id}: ${key}_ID" -H "{secret}: ${key}_VALUE""#)
    }

    fn send(&self, method: &str, path: &str, body: &str) -> String {
        format!("{} {JSON} -X {method} -d '{body}'", self.ask("KEY", path))
    }
}

const JSON: &str = "-H 'Content-Type: application/json'";

/// The secret with its last three characters replaced.
const WRONG_SECRET: &str = r#"-H "X-AuthenticationKeyValue: ${KEY_VALUE%???}---""#;
