//! Requests over real sockets, byte by byte.

use std::time::Duration;

use keyward::Keyward;
use keyward::key::{Scope, TenantId};
use keyward::manager::NewKey;
use keyward::testkit::TestKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A served application, and its Keyward with one key.
pub(crate) struct Site {
    pub(crate) address: String,
    pub(crate) keyward: Keyward,
    pub(crate) key: TestKey,
    /// The scope of each key.
    pub(crate) scope: Scope,
}

impl Site {
    pub(crate) async fn ask(&self, line: &str, headers: &[String]) -> Reply {
        ask(&self.address, line, headers, "").await
    }

    pub(crate) async fn status(&self, line: &str, headers: &[String]) -> u16 {
        self.ask(line, headers).await.status
    }

    /// The header that presents the key.
    pub(crate) fn bearer(&self) -> Vec<String> {
        vec![bearer(&self.key)]
    }

    pub(crate) async fn issue(&self, with: impl FnOnce(NewKey) -> NewKey) -> TestKey {
        let tenant = TenantId::new("acme-inc").unwrap();
        let new = NewKey::new(tenant, "another", self.scope.clone());
        TestKey::issue_as(&self.keyward, with(new)).await
    }
}

pub(crate) fn bearer(key: &TestKey) -> String {
    format!("Authorization: {}", key.bearer())
}

/// Longer than any answer takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
    /// Whether the connection ended before the response did.
    pub(crate) is_cut: bool,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).first().copied()
    }

    /// The values of all headers of this name.
    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }

    /// The absence of a response.
    pub(crate) fn none() -> Self {
        Self {
            status: 0,
            head: String::new(),
            body: String::new(),
            is_cut: true,
        }
    }

    fn of(received: &str) -> Self {
        let Some((head, body)) = received.split_once("\r\n\r\n") else {
            // Cut before anything of it was sent.
            return Self::none();
        };
        let is_chunked = head
            .to_ascii_lowercase()
            .contains("transfer-encoding: chunked");
        let (body, is_cut) = if is_chunked {
            joined(body)
        } else {
            (body.to_owned(), false)
        };
        Self {
            status: head[9..12].parse().unwrap(),
            head: head.to_owned(),
            body,
            is_cut,
        }
    }
}

/// The chunks of a body (RFC 9112 §7.1), and whether the last is missing.
fn joined(mut chunked: &str) -> (String, bool) {
    let mut body = String::new();
    while let Some((size, rest)) = chunked.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return (body, false);
        }
        body.push_str(&rest[..size]);
        chunked = &rest[size + 2..];
    }
    (body, true)
}

/// Sends these bytes.
pub(crate) async fn send(address: &str, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Sends these bytes, as far as they are taken, and reads until the connection ends.
pub(crate) async fn exchange(address: &str, request: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server may have refused before it has read all.
    let _ = stream.write_all(request).await;
    let mut received = Vec::new();
    let reading = stream.read_to_end(&mut received);
    // Bytes received before a connection was reset count.
    let _ = tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("the server neither answers nor closes");
    Reply::of(&String::from_utf8_lossy(&received))
}

/// Sends a request with this line, these headers and this body, and reads until the connection ends.
pub(crate) async fn ask(address: &str, line: &str, headers: &[String], body: &str) -> Reply {
    let headers: String = headers
        .iter()
        .map(|header| format!("{header}\r\n"))
        .collect();
    let request =
        format!("{line} HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n{headers}\r\n{body}");
    exchange(address, request.as_bytes()).await
}

/// Reads until the stream has brought this text.
pub(crate) async fn read_until(stream: &mut TcpStream, text: &str) {
    let mut received = Vec::new();
    while !String::from_utf8_lossy(&received).contains(text) {
        let mut some = [0; 256];
        let count = stream.read(&mut some).await.unwrap();
        assert_ne!(
            count,
            0,
            "it ended before: {}",
            String::from_utf8_lossy(&received)
        );
        received.extend_from_slice(&some[..count]);
    }
}

/// The statuses of a POST without a key, whose answer is read before most of its body is sent, and of a GET with this
/// bearer over the same connection; 0 where nothing came.
pub(crate) async fn goes_on_after_a_refusal(address: &str, bearer: &str) -> [u16; 2] {
    const BODY: usize = 300_000;
    let refused = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY}\r\n\r\n");
    let mut stream = send(address, &refused).await;
    stream.write_all(&[b'x'; 1_000]).await.unwrap();
    let first = status(&mut stream).await;
    // It may be closed by now.
    let rest = stream.write_all(&vec![b'x'; BODY - 1_000]).await;
    let next = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {bearer}\r\nConnection: close\r\n\r\n"
    );
    if rest.is_err() || stream.write_all(next.as_bytes()).await.is_err() {
        return [first, 0];
    }
    [first, status(&mut stream).await]
}

/// The status of the next response, which is read to the end of its body.
async fn status(stream: &mut TcpStream) -> u16 {
    let mut read = String::new();
    loop {
        if let Some((head, body)) = read.split_once("\r\n\r\n") {
            let mut lines = head.lines().map(str::to_ascii_lowercase);
            let length =
                lines.find_map(|line| Some(line.strip_prefix("content-length: ")?.to_owned()));
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return head[9..12].parse().unwrap();
            }
        }
        let mut more = [0; 4_096];
        let count = tokio::time::timeout(PATIENCE, stream.read(&mut more))
            .await
            .unwrap();
        match count {
            Ok(0) | Err(_) => return 0,
            Ok(count) => read.push_str(&String::from_utf8_lossy(&more[..count])),
        }
    }
}
