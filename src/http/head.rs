//! The part of a request that the edge decides by: its headers, its connection and its query.

use std::fmt;
use std::net::IpAddr;

/// The part of a request that an adapter passes to the edge.
///
/// `Debug` shows neither the headers nor the query, since both may contain a key.
pub struct Head<'a, H: ?Sized> {
    /// The headers.
    pub headers: &'a H,
    /// The connection that the request came over, as the server sees it.
    pub connection: Connection,
    /// The query as sent, without the question mark. `None` if the target has no query.
    pub query: Option<&'a str>,
}

/// The connection, as the host's server sees it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Connection {
    /// The peer's address. `None` if there is no address, as on a Unix socket.
    pub peer: Option<IpAddr>,
    /// Whether the connection uses TLS.
    pub is_tls: bool,
}

/// The headers of a request, in any library's representation.
///
/// Slices of names and values implement it, as do the header maps of the frameworks that have an adapter. To support
/// another type, expose its headers:
///
/// ```
/// use keyward::http::HeaderSource;
///
/// struct Headers(Vec<(String, Vec<u8>)>);
///
/// impl HeaderSource for Headers {
///     fn all(&self) -> impl Iterator<Item = (&str, &[u8])> {
///         self.0.iter().map(|(name, value)| (&**name, &**value))
///     }
/// }
/// ```
///
/// # Contract
/// Return each line as it came. Do not join lines of one name (RFC 9110 §5.3 would allow it): two credentials would
/// look like one.
#[diagnostic::on_unimplemented(
    message = "Keyward cannot read request headers from `{Self}`",
    note = "use `http::HeaderMap` (feature `http`), a slice of `(&str, &str)`, or implement `HeaderSource`"
)]
pub trait HeaderSource {
    /// Returns all headers: each line's name, in any case, and its value without surrounding white space.
    fn all(&self) -> impl Iterator<Item = (&str, &[u8])>;

    /// Returns the values of one name, in the order in which they came.
    ///
    /// The given name is in lower case. It is compared to header names case-insensitively.
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.all()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> HeaderSource for [(N, V)] {
    fn all(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.iter()
            .map(|(name, value)| (name.as_ref(), value.as_ref()))
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>, const COUNT: usize> HeaderSource for [(N, V); COUNT] {
    fn all(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.as_slice().all()
    }
}

impl<H: HeaderSource + ?Sized> HeaderSource for &H {
    fn all(&self) -> impl Iterator<Item = (&str, &[u8])> {
        (**self).all()
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        (**self).values(name)
    }
}

impl<H: ?Sized> fmt::Debug for Head<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}
