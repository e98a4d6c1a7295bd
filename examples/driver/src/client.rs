//! A client that sends requests to a product, one at a time.

use std::io::Read;

use serde_json::Value;
use ureq::http::request::Builder;
use ureq::http::{HeaderName, HeaderValue, Method, Request, Response};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, SendBody};

/// A product's response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The headers in their order: names in lower case, with their values.
    pub headers: Vec<(String, String)>,
    /// The body: JSON if it parses as JSON, otherwise a string.
    pub body: Value,
}

impl Reply {
    /// Returns the only header with this name. `None` if there is no such header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().filter(|(other, _)| other == name);
        let value = named.next().map(|(_, value)| value.as_str());
        assert!(named.next().is_none(), "{name} came twice: {self:?}");
        value
    }

    /// Returns the text at this path of the body, such as `/keys/0/id`.
    #[must_use]
    pub fn text(&self, pointer: &str) -> &str {
        let value = self.body.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_else(|| panic!("no text at {pointer}: {self:?}"))
    }

    /// Returns the items at this path of the body.
    #[must_use]
    pub fn items(&self, pointer: &str) -> &[Value] {
        let value = self.body.pointer(pointer).and_then(Value::as_array);
        value.unwrap_or_else(|| panic!("no list at {pointer}: {self:?}"))
    }

    /// Returns this member of each item at this path, as text.
    #[must_use]
    pub fn each(&self, pointer: &str, member: &str) -> Vec<&str> {
        let items = self.items(pointer).iter();
        items
            .map(|item| item[member].as_str().unwrap_or_default())
            .collect()
    }
}

/// A client of one server that sends the same headers with each request.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    base: String,
    certificate: Option<Vec<u8>>,
    headers: Vec<(String, String)>,
}

impl Client {
    /// Creates a client of the server at `base`, such as `https://localhost:8443`.
    ///
    /// `certificate` is the server's own certificate (PEM), if it has one. The client opens a new connection for each
    /// request, since a server may close a connection if it has not read the request to its end.
    #[must_use]
    pub fn new(base: &str, certificate: Option<&[u8]>) -> Self {
        Self {
            agent: agent(certificate, 0),
            base: base.to_owned(),
            certificate: certificate.map(<[u8]>::to_vec),
            headers: Vec::new(),
        }
    }

    /// Returns a client that keeps its connection for the next request.
    #[must_use]
    pub fn keeping_alive(&self) -> Self {
        Self {
            agent: agent(self.certificate.as_deref(), 1),
            ..self.clone()
        }
    }

    /// Returns a client that also sends this header.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.push((name.to_owned(), value.to_owned()));
        client
    }

    /// Returns the value of a header that the client sends.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(other, _)| other == name)?;
        Some(value)
    }

    /// Sends a GET request.
    #[must_use]
    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, None)
    }

    /// Sends a POST request with a JSON body.
    #[must_use]
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, Some(body))
    }

    /// Sends a request with any method and an optional JSON body.
    #[must_use]
    pub fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let body = body.map(|body| ("application/json", body.to_string().into_bytes()));
        self.send_bytes(method, path, body)
    }

    /// Sends a request with any method and an optional body of any type.
    #[must_use]
    pub fn send_bytes(&self, method: &str, path: &str, body: Option<(&str, Vec<u8>)>) -> Reply {
        self.try_send_bytes(method, path, body).unwrap()
    }

    /// Sends a request to a server that may close the connection without a response.
    ///
    /// # Errors
    /// If there is no response.
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

    /// Sends a POST request with a JSON body that is streamed from a reader, so its length is not known in advance.
    #[must_use]
    pub fn post_reader(&self, path: &str, body: impl Read + 'static) -> Reply {
        let request = self.request("POST", path);
        let request = request.header("content-type", "application/json");
        let request = request.body(SendBody::from_owned_reader(body)).unwrap();
        reply(self.agent.run(request).unwrap())
    }

    /// Sends a GET request to a server that is being stopped. `None` if the server was gone before it responded.
    ///
    /// A response that has begun must be complete.
    #[must_use]
    pub fn get_while_served(&self, path: &str) -> Option<Reply> {
        self.try_send_bytes("GET", path, None).ok()
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
    // As large as any product's response.
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
