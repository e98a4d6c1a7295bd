//! An edge in front of a Keyward with one key.

use std::sync::{Arc, Mutex};

use keyward::http::{Connection, Edge, Head, NearMiss, Rejection};
use keyward::key::Scope;
use keyward::testkit::{TestKey, keyward_with_key};
use keyward::verifier::{Admitted, Attempt, Grant, Requirement};
use keyward::{Keyward, scope};

pub(crate) const READ: Scope = scope!("read:editions");

pub(crate) struct Fixture {
    pub(crate) keyward: Keyward,
    pub(crate) key: TestKey,
    pub(crate) edge: Edge,
}

impl Fixture {
    /// With a key that may read, and the edge that `accept` makes.
    pub(crate) async fn new(accept: impl FnOnce(Edge) -> Edge) -> Self {
        let (keyward, key) = keyward_with_key([READ.described("For tests")], READ).await;
        let edge = accept(Edge::new(&keyward));
        Self { keyward, key, edge }
    }

    pub(crate) fn text(&self) -> String {
        self.key.text().to_owned()
    }

    /// The key's id and secret, as the two-value form has them.
    pub(crate) fn pair(&self) -> (String, String) {
        let text = self.text();
        let parsed = self.keyward.format().parse(text.as_bytes()).unwrap();
        let secret = std::str::from_utf8(parsed.expose_secret()).unwrap();
        (parsed.id().to_string(), secret.to_owned())
    }

    /// Asks with these headers and this query, over TLS.
    pub(crate) async fn ask(
        &self,
        headers: &[(&str, &[u8])],
        query: Option<&str>,
    ) -> Result<Admitted, Box<Rejection>> {
        self.ask_for(&Requirement::scope(READ), headers, query)
            .await
    }

    /// Returns the grant of a request with this key as a bearer token.
    pub(crate) async fn granted(&self, need: &Requirement, key: &TestKey) -> Grant {
        let admitted = admit(&self.edge, key, need).await.unwrap();
        admitted.into_parts().0
    }

    pub(crate) async fn ask_for(
        &self,
        need: &Requirement,
        headers: &[(&str, &[u8])],
        query: Option<&str>,
    ) -> Result<Admitted, Box<Rejection>> {
        let head = Head {
            headers,
            connection: over_tls(),
            query,
        };
        self.edge.admit(&head, Attempt::of(need)).await
    }
}

/// Asks an edge with this key as a bearer token, over TLS.
pub(crate) async fn admit(
    edge: &Edge,
    key: &TestKey,
    need: &Requirement,
) -> Result<Admitted, Box<Rejection>> {
    let headers = [("authorization", key.bearer())];
    let head = Head {
        headers: headers.as_slice(),
        connection: over_tls(),
        query: None,
    };
    edge.admit(&head, Attempt::of(need)).await
}

pub(crate) fn over_tls() -> Connection {
    Connection {
        peer: Some("203.0.113.7".parse().unwrap()),
        is_tls: true,
    }
}

/// The values of a header of an answer.
pub(crate) fn values<'a>(rejection: &'a Rejection, name: &str) -> Vec<&'a str> {
    let headers = rejection.answer.headers.iter();
    headers
        .filter(|(other, _)| *other == name)
        .map(|(_, value)| &**value)
        .collect()
}

/// The reports to an observer: the reason, the client and the near misses.
pub(crate) type Events = Arc<Mutex<Vec<(String, Option<String>, Vec<NearMiss>)>>>;

/// Records the reports to an observer.
pub(crate) fn recording(edge: Edge, told: &Events) -> Edge {
    let into = Arc::clone(told);
    edge.observe(move |event| {
        into.lock().unwrap().push((
            event.reason.to_string(),
            event.client.map(|client| client.to_string()),
            event.near_misses.to_vec(),
        ));
    })
}

/// Puts the values in the places of their names, in one pass: a key may hold a name by chance.
pub(crate) fn filled(template: &str, values: &[(&str, String)]) -> String {
    let mut filled = String::new();
    let mut rest = template;
    while let Some(first) = rest.chars().next() {
        let name = values.iter().find(|(name, _)| rest.starts_with(name));
        let (value, length) = match name {
            Some((name, value)) => (value.clone(), name.len()),
            None => (first.to_string(), first.len_utf8()),
        };
        filled.push_str(&value);
        rest = &rest[length..];
    }
    filled
}
