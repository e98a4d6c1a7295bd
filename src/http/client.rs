//! Where a request came from, and whether over TLS.
//!
//! Anyone can send the headers that name a client. They count only as far as proxies that the host has named wrote
//! them: from the right end, where the proxy that is the peer wrote last, up to the first address that is no such
//! proxy.

use std::net::{IpAddr, Ipv6Addr};

use crate::key::Network;

use super::HeaderSource;
use super::forwarded::{self, Node};

/// Longest header that is believed, all its lines together, in bytes.
const MAX_LENGTH: usize = 8 * 1024;

/// Which proxies in front of the application are believed. By default none is.
///
/// ```
/// use keyward::http::{Connection, Proxies};
///
/// let proxies = Proxies::x_forwarded(["10.0.0.0/8".parse()?]);
/// let connection = Connection { peer: Some("10.0.0.1".parse()?), is_tls: false };
/// let headers = [("X-Forwarded-For", "6.6.6.6, 203.0.113.7"), ("X-Forwarded-Proto", "https")];
///
/// let origin = proxies.origin(connection, &headers);
/// assert_eq!(origin.client, Some("203.0.113.7".parse()?)); // the proxy's word, not the client's
/// assert!(origin.is_tls);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Security
/// A proxy that is believed must append to the header or overwrite it. One that hands on what it was sent lets
/// anyone claim any address; and for `X-Forwarded-*`, that holds for each of the two headers.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    trusted: Vec<Network>,
    family: Family,
}

/// The headers that the proxies write. The other family's are anyone's.
#[derive(Debug, Clone, Copy, Default)]
enum Family {
    #[default]
    Forwarded,
    XForwarded,
}

/// The connection as the host's server knows it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Connection {
    /// The address at the other end; `None` where there is none, as on a Unix socket.
    pub peer: Option<IpAddr>,
    /// Whether the connection is TLS.
    pub is_tls: bool,
}

/// What is known of where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin {
    /// The client's address, never in IPv4-mapped form; `None` if it is not known, and a key that is restricted to
    /// networks is then refused.
    pub client: Option<IpAddr>,
    /// Whether the request came over TLS, as far as those who are believed can tell. Behind a trusted proxy that is
    /// the way from the client to the last proxy; the host's own network is not asked about.
    pub is_tls: bool,
}

impl Origin {
    const UNKNOWN: Self = Self {
        client: None,
        is_tls: false,
    };
}

/// One step of a request's way, as the proxy at its end wrote it down.
struct Hop {
    client: Option<IpAddr>,
    is_https: bool,
}

impl Proxies {
    /// No header is believed: the client is the peer.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// These are believed, and write `Forwarded` (RFC 7239).
    #[must_use]
    pub fn forwarded(trusted: impl IntoIterator<Item = Network>) -> Self {
        Self {
            trusted: trusted.into_iter().collect(),
            family: Family::Forwarded,
        }
    }

    /// These are believed, and write `X-Forwarded-For` and `X-Forwarded-Proto`.
    ///
    /// No standard describes the two. An `X-Forwarded-Proto` of one value speaks for the whole way; one of several
    /// must have as many as `X-Forwarded-For` has addresses, or the request did not come over TLS.
    #[must_use]
    pub fn x_forwarded(trusted: impl IntoIterator<Item = Network>) -> Self {
        Self {
            trusted: trusted.into_iter().collect(),
            family: Family::XForwarded,
        }
    }

    /// Where a request came from.
    ///
    /// If the peer is a trusted proxy, the client is the rightmost address that is none, or the leftmost if all are.
    /// It came over TLS if every step from there on did. Whatever was read and is malformed, missing or longer than
    /// 8 KiB makes the client unknown and the way insecure.
    #[inline(always)]
    #[must_use]
    pub fn origin(&self, connection: Connection, headers: &(impl HeaderSource + ?Sized)) -> Origin {
        let peer = connection.peer.map(|peer| peer.to_canonical());
        if !peer.is_some_and(|peer| self.trust(peer)) {
            return Origin {
                client: peer,
                is_tls: connection.is_tls,
            };
        }
        self.origin_behind(headers)
    }

    /// Where a request came from that a trusted proxy has handed on.
    fn origin_behind(&self, headers: &(impl HeaderSource + ?Sized)) -> Origin {
        let origin = match self.family {
            Family::Forwarded => {
                lines(headers, "forwarded").and_then(|lines| self.follow(forwarded_hops(&lines)))
            }
            Family::XForwarded => lines(headers, "x-forwarded-for").and_then(|addresses| {
                let protocols = lines(headers, "x-forwarded-proto").unwrap_or_default();
                self.follow(x_forwarded_hops(&addresses, &protocols))
            }),
        };
        origin.unwrap_or(Origin::UNKNOWN)
    }

    fn trust(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// Goes back along the hops, the last one first, as long as the next was written by a trusted proxy. `None` if
    /// there are no hops, or one of those read is malformed.
    fn follow(&self, hops: impl Iterator<Item = Option<Hop>>) -> Option<Origin> {
        let mut origin: Option<Origin> = None;
        for hop in hops {
            let Hop { client, is_https } = hop?;
            let is_tls = is_https && origin.is_none_or(|so_far| so_far.is_tls);
            origin = Some(Origin { client, is_tls });
            if !client.is_some_and(|client| self.trust(client)) {
                break;
            }
        }
        origin
    }
}

/// The elements of `Forwarded`, from the right.
fn forwarded_hops(lines: &[&str]) -> impl Iterator<Item = Option<Hop>> {
    let elements = lines
        .iter()
        .rev()
        .flat_map(|line| forwarded::elements_from_right(line));
    elements.map(|element| {
        element.map(|element| Hop {
            client: element.client.address(),
            is_https: element.is_https,
        })
    })
}

/// The addresses of `X-Forwarded-For`, from the right, each with the protocol that belongs to it.
fn x_forwarded_hops(addresses: &[&str], protocols: &[&str]) -> impl Iterator<Item = Option<Hop>> {
    let count = entries_from_right(addresses).count();
    let protocols: Vec<bool> = entries_from_right(protocols).map(is_https).collect();
    entries_from_right(addresses)
        .enumerate()
        .map(move |(at, entry)| {
            let is_https = match protocols.as_slice() {
                [for_all] => *for_all,
                each => each.len() == count && each.get(at) == Some(&true),
            };
            let client = x_forwarded_node(entry)?.address();
            Some(Hop { client, is_https })
        })
}

fn entries_from_right<'a>(lines: &[&'a str]) -> impl Iterator<Item = &'a str> {
    lines.iter().rev().flat_map(|line| {
        line.rsplit(',')
            .map(|entry| entry.trim_matches([' ', '\t']))
    })
}

fn is_https(protocol: &str) -> bool {
    protocol.eq_ignore_ascii_case("https")
}

/// As in `Forwarded`, but that IPv6 may stand without brackets.
fn x_forwarded_node(text: &str) -> Option<Node> {
    match text.parse::<Ipv6Addr>() {
        Ok(address) => Some(Node::Address(address.into())),
        Err(_) => forwarded::node(text),
    }
}

/// The lines of a header, or `None` if together they are too long, or one is not ASCII.
fn lines<'a>(headers: &'a (impl HeaderSource + ?Sized), name: &'a str) -> Option<Vec<&'a str>> {
    let mut lines = Vec::new();
    let mut length = 0;
    for line in headers.values(name) {
        // The comma that would join it to the others counts too: a thousand empty lines are long.
        length += line.len() + 1;
        if length > MAX_LENGTH || !line.is_ascii() {
            return None;
        }
        lines.push(std::str::from_utf8(line).ok()?);
    }
    Some(lines)
}

#[cfg(test)]
mod tests;
