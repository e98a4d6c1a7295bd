//! Requests and responses, byte by byte.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use example_driver::{Product, text};
use serde_json::Value;

use crate::{ID, VALUE};

/// A connection to the product.
pub(crate) struct Wire {
    stream: TcpStream,
}

impl Wire {
    pub(crate) fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        // Nothing in these tests takes so long, so a hanging read fails.
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self { stream })
    }

    pub(crate) fn send(&mut self, bytes: &str) -> io::Result<()> {
        self.stream.write_all(bytes.as_bytes())
    }

    /// Returns the next response: its head and its body. `None` if the connection ended before it began.
    pub(crate) fn answer(&mut self, has_body: bool) -> io::Result<Option<(String, Vec<u8>)>> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match self.stream.read(&mut byte) {
                Ok(0) if head.is_empty() => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => head.push(byte[0]),
                Err(error) if head.is_empty() && error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        let head = String::from_utf8(head).unwrap();
        let mut body = vec![0; if has_body { length(&head) } else { 0 }];
        self.stream.read_exact(&mut body)?;
        Ok(Some((head, body)))
    }
}

/// Returns a product's response to one request on a connection of its own.
pub(crate) fn exchange(
    product: &Product,
    method: &str,
    path: &str,
    headers: &str,
) -> (String, Vec<u8>) {
    let mut wire = Wire::connect(&address(product)).unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n"
    );
    wire.send(&request).unwrap();
    wire.answer(method != "HEAD").unwrap().unwrap()
}

/// Returns the two headers of a key.
pub(crate) fn pair(key: &Value) -> String {
    let (id, secret) = (text(key, "id"), text(key, "secret"));
    format!("{ID}: {id}\r\n{VALUE}: {secret}\r\n")
}

pub(crate) fn address(product: &Product) -> String {
    product.server.base().replace("http://", "")
}

pub(crate) fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

fn length(head: &str) -> usize {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.map_or(0, |(_, length)| length.parse().unwrap())
}
