//! Asks a product, one request at a time.

use std::io::Read;

use serde_json::{Value, json};
use ureq::http::request::Builder;
use ureq::http::{HeaderName, HeaderValue, Method, Request, Response};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, SendBody};

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Names in lower case, and values, in their order.
    pub headers: Vec<(String, String)>,
    /// The body: as JSON if it is that, else as a string.
    pub body: Value,
}

impl Reply {
    /// The one header of this name; none if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().filter(|(other, _)| other == name);
        let value = named.next().map(|(_, value)| value.as_str());
        assert!(named.next().is_none(), "{name} came twice: {self:?}");
        value
    }

    /// The text at this path of the body, such as `/keys/0/id`.
    #[must_use]
    pub fn text(&self, pointer: &str) -> &str {
        let value = self.body.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_else(|| panic!("no text at {pointer}: {self:?}"))
    }

    /// The items at this path of the body.
    #[must_use]
    pub fn items(&self, pointer: &str) -> &[Value] {
        let value = self.body.pointer(pointer).and_then(Value::as_array);
        value.unwrap_or_else(|| panic!("no list at {pointer}: {self:?}"))
    }

    /// The texts of this member of each item at this path.
    #[must_use]
    pub fn each(&self, pointer: &str, member: &str) -> Vec<&str> {
        let items = self.items(pointer).iter();
        items
            .map(|item| item[member].as_str().unwrap_or_default())
            .collect()
    }
}

/// Sends requests to one server, with the same headers each.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    base: String,
    certificate: Option<Vec<u8>>,
    headers: Vec<(String, String)>,
}

impl Client {
    /// A client of the server at `base`, such as `https://localhost:8443`, whose certificate is this one (PEM), if it
    /// is one of its own. It takes a new connection for each request: a server may close one whose request it has not
    /// read to its end.
    #[must_use]
    pub fn new(base: &str, certificate: Option<&[u8]>) -> Self {
        Self {
            agent: agent(certificate, 0),
            base: base.to_owned(),
            certificate: certificate.map(<[u8]>::to_vec),
            headers: Vec::new(),
        }
    }

    /// The same, keeping its connection for the next request.
    #[must_use]
    pub fn keeping_alive(&self) -> Self {
        Self {
            agent: agent(self.certificate.as_deref(), 1),
            ..self.clone()
        }
    }

    /// The same, sending this header too.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.push((name.to_owned(), value.to_owned()));
        client
    }

    /// GET.
    #[must_use]
    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, None)
    }

    /// POST, with a body of JSON.
    #[must_use]
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, Some(body))
    }

    /// Any method, with a body of JSON or none.
    #[must_use]
    pub fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let body = body.map(|body| ("application/json", body.to_string().into_bytes()));
        self.send_bytes(method, path, body)
    }

    /// Any method, with any body, or none.
    #[must_use]
    pub fn send_bytes(&self, method: &str, path: &str, body: Option<(&str, Vec<u8>)>) -> Reply {
        self.try_send_bytes(method, path, body).unwrap()
    }

    /// The same, of a server that may close the connection over it.
    ///
    /// # Errors
    /// If it is not answered.
    pub fn try_send_bytes(
        &self,
        method: &str,
        path: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Reply, ureq::Error> {
        let request = self.request(method, path);
        let answered = match body {
            Some((content_type, body)) => {
                let request = request.header("content-type", content_type);
                self.agent.run(request.body(body).unwrap())
            }
            None => self.agent.run(request.body(()).unwrap()),
        };
        answered.map(reply)
    }

    /// POST, with a body of JSON that is sent as it is read, and whose length nobody knows before.
    #[must_use]
    pub fn post_reader(&self, path: &str, body: impl Read + 'static) -> Reply {
        let request = self.request("POST", path);
        let request = request.header("content-type", "application/json");
        let request = request.body(SendBody::from_owned_reader(body)).unwrap();
        reply(self.agent.run(request).unwrap())
    }

    /// GET, of a server that is being stopped: none if it was gone before it answered. What it has begun to answer has
    /// to be whole.
    #[must_use]
    pub fn get_while_served(&self, path: &str) -> Option<Reply> {
        let request = self.request("GET", path);
        self.agent.run(request.body(()).unwrap()).ok().map(reply)
    }

    fn request(&self, method: &str, path: &str) -> Builder {
        let method: Method = method.parse().unwrap();
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        let headers = self.headers.iter();
        headers.fold(request, |request, (name, value)| {
            request.header(name, value)
        })
    }
}

fn agent(certificate: Option<&[u8]>, idle_connections: usize) -> Agent {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_idle_connections(idle_connections);
    if let Some(pem) = certificate {
        let certificate = Certificate::from_pem(pem).unwrap();
        let roots = RootCerts::new_with_certs(&[certificate]);
        config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
    }
    config.build().into()
}

fn reply(mut response: Response<Body>) -> Reply {
    let header = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.to_string(), value.to_str().unwrap().to_owned())
    };
    let headers = response.headers().iter().map(header).collect();
    // As much as any product answers.
    let body = response
        .body_mut()
        .with_config()
        .limit(64_000_000)
        .read_to_string();
    let body = body.unwrap();
    Reply {
        status: response.status().as_u16(),
        headers,
        body: serde_json::from_str(&body).unwrap_or(Value::String(body)),
    }
}

/// The client of somebody who has logged in with this code.
#[must_use]
pub fn office(client: &Client, code: &str) -> Client {
    let reply = client.post("/admin/login", &json!({ "code": code }));
    assert_eq!(reply.status, 200, "{reply:?}");
    client.with("x-session", reply.text("/session"))
}
