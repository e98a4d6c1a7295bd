//! A client that says the same over HTTP/1.1, byte by byte, and over HTTP/2.

use std::convert::Infallible;
use std::pin::Pin;

use futures_util::stream::{self, Stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use keyward::testkit::TestKey;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::wire::{self, PATIENCE, Reply};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// A request that is yet to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Sent,
}

/// The body of a request.
#[derive(Debug, Clone)]
pub(crate) enum Sent {
    Nothing,
    /// With its length before it.
    Whole(&'static str),
    /// In chunks, or in DATA frames, and no word of their length.
    Parts(&'static [&'static str]),
    /// A length, and nothing after it.
    Announced(u64),
}

type Frames = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>;

impl Ask {
    /// A method and a target, such as `GET /projects`.
    pub(crate) fn of(line: &str) -> Self {
        let (method, target) = line.split_once(' ').unwrap();
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Sent::Nothing,
        }
    }

    /// With one more line of this name.
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref().to_vec();
        self.headers.push((name.to_owned(), value));
        self
    }

    pub(crate) fn with(self, key: &TestKey) -> Self {
        self.header("authorization", key.bearer())
    }

    /// The same of another path.
    pub(crate) fn to(mut self, path: &str) -> Self {
        let query = self.target.split_once('?').map(|(_, query)| query);
        self.target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        self
    }

    pub(crate) fn body(mut self, body: Sent) -> Self {
        self.body = body;
        self
    }

    /// Sends it and returns the response. `None` if the protocol cannot express the request.
    pub(crate) async fn send(&self, protocol: Protocol, address: &str) -> Option<Reply> {
        match protocol {
            Protocol::Http1 => Some(wire::exchange(address, &self.bytes()).await),
            Protocol::Http2 => Some(whole(self.send_http2(address).await?).await),
        }
    }

    /// Sends it, and reads the answer as far as it is asked to.
    pub(crate) async fn stream(&self, protocol: Protocol, address: &str) -> Streaming {
        match protocol {
            Protocol::Http1 => {
                let request = String::from_utf8(self.bytes()).unwrap();
                Streaming::Http1(wire::send(address, &request).await)
            }
            Protocol::Http2 => {
                let (response, connection) = self.send_http2(address).await.unwrap().unwrap();
                Streaming::Http2(response.into_body(), connection)
            }
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let (method, target) = (&self.method, &self.target);
        let head =
            format!("{method} {target} HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n");
        let mut bytes = head.into_bytes();
        for (name, value) in &self.headers {
            bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        let body = match &self.body {
            Sent::Nothing => "\r\n".to_owned(),
            Sent::Whole(body) => format!("Content-Length: {}\r\n\r\n{body}", body.len()),
            Sent::Announced(length) => format!("Content-Length: {length}\r\n\r\n"),
            Sent::Parts(parts) => {
                let chunks = parts.iter().chain(&[""]);
                let chunks = chunks.map(|part| format!("{:x}\r\n{part}\r\n", part.len()));
                let chunks: String = chunks.collect();
                format!("Transfer-Encoding: chunked\r\n\r\n{chunks}")
            }
        };
        bytes.extend(body.into_bytes());
        bytes
    }

    /// The response's head, unless the server refused to make one.
    async fn send_http2(
        &self,
        address: &str,
    ) -> Option<Result<(Response<Incoming>, Connection), hyper::Error>> {
        let request = self.request()?;
        let mut connection = connect(address).await;
        let asking = tokio::time::timeout(PATIENCE, connection.send_request(request));
        let response = asking.await.expect("the server does not answer");
        Some(response.map(|response| (response, connection)))
    }

    fn request(&self) -> Option<Request<StreamBody<Frames>>> {
        let target = self.target.starts_with('/').then_some(&self.target)?;
        let uri: Uri = format!("http://example.com{target}").parse().ok()?;
        let (length, frames): (_, Frames) = match &self.body {
            Sent::Nothing => (None, Box::pin(stream::empty())),
            Sent::Whole(body) => (Some(body.len() as u64), frames(&[body])),
            Sent::Parts(parts) => (None, frames(parts)),
            Sent::Announced(length) => (Some(*length), Box::pin(stream::pending())),
        };
        let mut request = Request::new(StreamBody::new(frames));
        *request.method_mut() = Method::from_bytes(self.method.as_bytes()).ok()?;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            headers.append(name, HeaderValue::from_bytes(value).ok()?);
        }
        if let Some(length) = length {
            headers.insert("content-length", length.into());
        }
        Some(request)
    }
}

type Connection = SendRequest<StreamBody<Frames>>;

fn frames(parts: &[&'static str]) -> Frames {
    let parts: Vec<_> = parts
        .iter()
        .map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes()))))
        .collect();
    Box::pin(stream::iter(parts))
}

/// The answers to these, asked one after the other over one connection of HTTP/2.
pub(crate) async fn over_one_connection(asks: &[Ask], address: &str) -> Vec<Reply> {
    let mut connection = connect(address).await;
    let mut replies = Vec::new();
    for ask in asks {
        let response = connection.send_request(ask.request().unwrap()).await;
        let kept = connection.clone();
        replies.push(whole(response.map(|response| (response, kept))).await);
    }
    replies
}

async fn connect(address: &str) -> Connection {
    let stream = TcpStream::connect(address).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (connection, serving) = handshake.await.unwrap();
    tokio::spawn(serving);
    connection
}

async fn whole(sent: Result<(Response<Incoming>, Connection), hyper::Error>) -> Reply {
    let Ok((response, _connection)) = sent else {
        return Reply::none();
    };
    let (head, body) = response.into_parts();
    let headers = head.headers.iter();
    let lines: String = headers
        .map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap()))
        .collect();
    let (body, is_cut) = rest_of(body).await;
    Reply {
        status: head.status.as_u16(),
        head: lines,
        body,
        is_cut,
    }
}

/// Returns the rest of a body, and whether it was cut.
async fn rest_of(mut body: Incoming) -> (String, bool) {
    let mut bytes = Vec::new();
    while let Some(frame) = tokio::time::timeout(PATIENCE, body.frame())
        .await
        .expect("the body goes on")
    {
        match frame {
            Ok(frame) => bytes.extend(frame.into_data().unwrap_or_default()),
            Err(_) => return (String::from_utf8(bytes).unwrap(), true),
        }
    }
    (String::from_utf8(bytes).unwrap(), false)
}

/// An answer on its way. Dropped, the client has gone away.
pub(crate) enum Streaming {
    Http1(TcpStream),
    Http2(Incoming, Connection),
}

impl Streaming {
    /// Reads until this has come.
    pub(crate) async fn until(&mut self, text: &str) {
        match self {
            Self::Http1(stream) => wire::read_until(stream, text).await,
            Self::Http2(body, _) => {
                let mut received = String::new();
                while !received.contains(text) {
                    let frame = body.frame().await.expect("it ended before").unwrap();
                    let data = frame.into_data().unwrap();
                    received.push_str(std::str::from_utf8(&data).unwrap());
                }
            }
        }
    }

    /// Returns whether the response ends as an incomplete one.
    pub(crate) async fn ends_cut(self) -> bool {
        match self {
            Self::Http1(mut stream) => {
                let mut rest = Vec::new();
                let ending = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest));
                let _ = ending.await.expect("it goes on");
                !rest.ends_with(b"0\r\n\r\n")
            }
            Self::Http2(mut body, _connection) => {
                let frames = async {
                    while let Some(frame) = body.frame().await {
                        if frame.is_err() {
                            return true;
                        }
                    }
                    false
                };
                let ending = tokio::time::timeout(PATIENCE, frames);
                ending.await.expect("it goes on")
            }
        }
    }
}
