//! Determines the client address of a request and whether it came over TLS.
//!
//! Anyone can send the headers that name a client. The edge believes only the entries that the host's trusted proxies
//! wrote: it reads from the right end, where the peer wrote last, up to the first address that is not a trusted
//! proxy.

use std::net::{IpAddr, Ipv6Addr};

use super::forwarded::{self, Node};
use super::{Connection, HeaderSource};
use crate::key::Network;

/// Maximum length of a header that is believed, over all its lines, in bytes.
const MAX_LENGTH: usize = 8 * 1024;

/// Headers by which a proxy shows itself.
const OF_PROXIES: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// The trusted proxies in front of the application. By default no proxy is trusted: the client is the peer.
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
/// A trusted proxy must append to the header or overwrite it. A proxy that forwards the header unchanged lets anyone
/// claim any address. With `X-Forwarded-*`, this applies to each of the two headers.
///
/// # If a proxy is missing here
/// Then all its clients have its address, and a few of them could use up
/// [its limit of failures](crate::limiter::RateLimiting::failed_authentications). So if a request has a `Forwarded`,
/// `X-Forwarded-For`, `X-Real-IP` or `Via` header, and its peer is not a trusted proxy, its failed authentication is
/// not limited. Operators learn of it by
/// [`RejectionEvent::is_by_unlisted_proxy`](super::RejectionEvent::is_by_unlisted_proxy) and
/// [`VerifierStats::failures_not_limited`](crate::verifier::VerifierStats::failures_not_limited).
///
/// Of several proxies in a row, list all: the address of one that is missing behind a listed one counts as the
/// client's, without this warning.
///
/// A client can send such a header itself, and is not limited then. Once all proxies are known, say so: by
/// [`and_no_others`](Self::and_no_others), or by [`none`](Self::none) if there are none.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    trusted: Vec<Network>,
    family: Family,
    are_all: bool,
}

/// The header family that the proxies write. The edge ignores the other family, since anyone can send it.
#[derive(Debug, Clone, Copy, Default)]
enum Family {
    #[default]
    Forwarded,
    XForwarded,
}

/// The origin of a request: the client's address, and whether the request came over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin {
    /// The client's address, never in IPv4-mapped form. `None` if it is unknown; a key restricted to networks is then
    /// refused.
    pub client: Option<IpAddr>,
    /// Whether the request came over TLS, according to the server and the trusted proxies. Behind a trusted proxy
    /// this covers the path from the client to the last proxy, but not the host's own network.
    pub is_tls: bool,
}

impl Origin {
    const UNKNOWN: Self = Self {
        client: None,
        is_tls: false,
    };
}

/// One hop of a request, as recorded by the proxy that received it.
struct Hop {
    client: Option<IpAddr>,
    is_https: bool,
}

impl Proxies {
    /// Trusts these proxies, which write `Forwarded` (RFC 7239).
    #[must_use]
    pub fn forwarded(trusted: impl IntoIterator<Item = Network>) -> Self {
        Self {
            trusted: trusted.into_iter().collect(),
            family: Family::Forwarded,
            are_all: false,
        }
    }

    /// Trusts these proxies, which write `X-Forwarded-For` and `X-Forwarded-Proto`.
    ///
    /// No standard describes the two headers. An `X-Forwarded-Proto` with a single value applies to the whole path.
    /// With several values, it must have as many as `X-Forwarded-For` has addresses; otherwise the request counts as
    /// without TLS.
    #[must_use]
    pub fn x_forwarded(trusted: impl IntoIterator<Item = Network>) -> Self {
        Self {
            trusted: trusted.into_iter().collect(),
            family: Family::XForwarded,
            are_all: false,
        }
    }

    /// States that there is no proxy: every peer is a client.
    #[must_use]
    pub fn none() -> Self {
        Self::default().and_no_others()
    }

    /// States that there is no other proxy: every other peer is a client, whatever headers it sends.
    #[must_use]
    pub fn and_no_others(mut self) -> Self {
        self.are_all = true;
        self
    }

    /// Returns whether a request came by a proxy that is not listed here: its peer is not, and a proxy's header came.
    pub(super) fn is_by_unlisted(
        &self,
        connection: Connection,
        headers: &(impl HeaderSource + ?Sized),
    ) -> bool {
        let Some(peer) = connection.peer else {
            return false;
        };
        let has_header = |name: &&str| headers.values(name).next().is_some();
        !self.are_all && !self.trust(peer.to_canonical()) && OF_PROXIES.iter().any(has_header)
    }

    /// Determines where a request came from.
    ///
    /// If the peer is a trusted proxy, the client is the rightmost address that is not a trusted proxy, or the
    /// leftmost address if all are. The request came over TLS if every hop from the client on did. If an entry that
    /// is read is malformed or missing, or the header is longer than 8 KiB, the client is unknown and the request
    /// counts as without TLS.
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

    /// Determines the origin of a request that a trusted proxy forwarded.
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

    /// Follows the hops backwards, last hop first, as long as a trusted proxy wrote the next one. `None` if there are
    /// no hops, or a hop that was read is malformed.
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

/// Iterates over the elements of `Forwarded`, from the right.
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

/// Iterates over the addresses of `X-Forwarded-For`, from the right, each with its protocol.
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

/// Parses a node as in `Forwarded`, but also accepts IPv6 without brackets.
fn x_forwarded_node(text: &str) -> Option<Node> {
    match text.parse::<Ipv6Addr>() {
        Ok(address) => Some(Node::Address(address.into())),
        Err(_) => forwarded::node(text),
    }
}

/// Returns the lines of a header. `None` if together they are too long, or one is not ASCII.
fn lines<'a>(headers: &'a (impl HeaderSource + ?Sized), name: &'a str) -> Option<Vec<&'a str>> {
    let mut lines = Vec::new();
    let mut length = 0;
    for line in headers.values(name) {
        // Counts the comma that would join it to the others, so that a thousand empty lines exceed the maximum.
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
