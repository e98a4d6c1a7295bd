//! Parses the `Forwarded` header (RFC 7239), strictly and from the right.
//!
//! The `rfc7239` crate is not used: it splits at commas and semicolons within quotation marks, lets the last of two
//! equal parameters win, and strips quotation marks that do not match.

use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Maximum number of parameters in an element. RFC 7239 defines four and lets others be registered.
const MAX_PARAMETERS: usize = 16;

/// One proxy's element. Only the parameters `for` and `proto` are interpreted; others are parsed and ignored.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) client: Node,
    pub(super) is_https: bool,
}

/// The client that a proxy names (RFC 7239 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Address(IpAddr),
    /// The proxy does not reveal the client: `unknown`, or a name of its own such as `_hidden`.
    Hidden,
}

impl Node {
    /// Returns the address, never in IPv4-mapped form.
    pub(super) fn address(self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(address.to_canonical()),
            Self::Hidden => None,
        }
    }
}

/// Iterates over the elements of a line, last one first. An item is `None` if its element is malformed.
///
/// The parser finds the start of an element from its end. Text that a client has put before it, even a quotation mark
/// that is never closed, cannot change an element that a proxy appended.
pub(super) fn elements_from_right(line: &str) -> impl Iterator<Item = Option<Element>> {
    let mut rest = Some(line);
    iter::from_fn(move || {
        let (before, last) = split_last(rest?);
        rest = before;
        Some(element(last))
    })
}

/// Splits at the last comma outside quotation marks.
fn split_last(text: &str) -> (Option<&str>, &str) {
    let mut is_quoted = false;
    for (at, byte) in text.bytes().enumerate().rev() {
        match byte {
            b'"' if is_quoted => is_quoted = is_escaped(text, at),
            b'"' => is_quoted = true,
            b',' if !is_quoted => {
                return (text.get(..at), text.get(at + 1..).unwrap_or_default());
            }
            _ => {}
        }
    }
    (None, text)
}

/// Whether an odd number of backslashes precedes the character at this position.
fn is_escaped(text: &str, at: usize) -> bool {
    let backslashes = text.bytes().take(at).rev();
    backslashes.take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Parses a `forwarded-element` of RFC 7239 §4. White space is allowed around it, but not within.
fn element(text: &str) -> Option<Element> {
    let mut element = Element {
        client: Node::Hidden,
        is_https: false,
    };
    let mut names: Vec<&str> = Vec::new();
    let mut rest = text.trim_matches([' ', '\t']);
    while !rest.is_empty() {
        // The grammar lets a parameter be absent between two semicolons.
        if let Some(next) = rest.strip_prefix(';') {
            rest = next;
            continue;
        }
        let (name, after) = token(rest)?;
        let (value, after) = value(after.strip_prefix('=')?)?;
        if !(after.is_empty() || after.starts_with(';')) {
            return None;
        }
        if names.len() == MAX_PARAMETERS || names.iter().any(|one| one.eq_ignore_ascii_case(name)) {
            return None;
        }
        names.push(name);
        if name.eq_ignore_ascii_case("for") {
            element.client = node(&value)?;
        } else if name.eq_ignore_ascii_case("proto") {
            element.is_https = value.eq_ignore_ascii_case("https");
        }
        rest = after;
    }
    Some(element)
}

/// Parses a token (RFC 9110 §5.6.2). Returns it and the rest.
fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let length = text.bytes().take_while(|byte| is_token(*byte)).count();
    text.split_at_checked(length)
        .filter(|(token, _)| !token.is_empty())
}

/// Parses a token or a quoted string (RFC 9110 §5.6.4). Returns it without quotation marks and escapes, and the rest.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return token(text).map(|(token, rest)| (token.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    loop {
        let character = match characters.next()? {
            '"' => return Some((value, characters.as_str())),
            '\\' => characters.next()?,
            other => other,
        };
        if !matches!(character, '\t' | ' '..='~') {
            return None;
        }
        value.push(character);
    }
}

/// Parses a node (RFC 7239 §6) with its optional port: `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]`, `unknown`,
/// `_name`.
pub(super) fn node(text: &str) -> Option<Node> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        return is_port_or_none(port).then_some(Node::Address(address.into()));
    }
    let (name, port) = text.split_at_checked(text.find(':').unwrap_or(text.len()))?;
    if !is_port_or_none(port) {
        return None;
    }
    if name.eq_ignore_ascii_case("unknown") || is_obfuscated(name) {
        return Some(Node::Hidden);
    }
    let address: Ipv4Addr = name.parse().ok()?;
    Some(Node::Address(address.into()))
}

/// Whether the text is empty, or a colon and a port.
fn is_port_or_none(text: &str) -> bool {
    let Some(port) = text.strip_prefix(':') else {
        return text.is_empty();
    };
    let is_number = port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && port.parse::<u16>().is_ok()) || is_obfuscated(port)
}

/// Whether the text is a name that a proxy made up (RFC 7239 §6.3).
fn is_obfuscated(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    text.strip_prefix('_')
        .is_some_and(|name| !name.is_empty() && name.bytes().all(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Vec<Option<Element>> {
        elements_from_right(line).collect()
    }

    fn from(address: &str, is_https: bool) -> Option<Element> {
        let client = Node::Address(address.parse().unwrap());
        Some(Element { client, is_https })
    }

    const HIDDEN: Option<Element> = Some(Element {
        client: Node::Hidden,
        is_https: false,
    });

    #[test]
    fn the_rfcs_own_examples_are_read() {
        for (line, expected) in [
            (r#"for="_gazonk""#, vec![HIDDEN]),
            (
                r#"For="[2001:db8:cafe::17]:4711""#,
                vec![from("2001:db8:cafe::17", false)],
            ),
            (
                "for=192.0.2.60;proto=http;by=203.0.113.43",
                vec![from("192.0.2.60", false)],
            ),
            (
                r#"for=192.0.2.43, for="[2001:db8:cafe::17]", for=unknown"#,
                vec![
                    HIDDEN,
                    from("2001:db8:cafe::17", false),
                    from("192.0.2.43", false),
                ],
            ),
            (
                "for=_hidden, for=_SEVKISEK;by=_x;host=example.com",
                vec![HIDDEN, HIDDEN],
            ),
        ] {
            assert_eq!(read(line), expected, "{line}");
        }
    }

    #[test]
    fn quoted_separators_do_not_split() {
        for line in [
            r#"host="a,b;for=6.6.6.6";for=192.0.2.1;proto=https"#,
            r#"for=192.0.2.1;host="a\",for=6.6.6.6;x=\"";proto=HTTPS"#,
            r#"x="\\";for="192.0.2.1:_port";proto="https""#,
            r#";;FOR="192\.0.2.1:65535";;Proto=https;"#,
        ] {
            assert_eq!(read(line), [from("192.0.2.1", true)], "{line}");
        }
    }

    #[test]
    fn malformed_headers_are_not_guessed() {
        for line in [
            "for",
            "for=",
            "=192.0.2.1",
            "192.0.2.1",
            "for = 192.0.2.1",
            "for=192.0.2.1; proto=https",
            "for=192.0.2.1 proto=https",
            r#"for="192.0.2.1"#,
            r#"for=192.0.2.1""#,
            r#"for="192.0.2.1"x"#,
            r#"for="192.0.2.1\"#,
            "for=\"192.0.2.1\u{1}\"",
            "for=192.0.2.1:80",
            "for=[2001:db8::1]",
            r#"for="2001:db8::1""#,
            r#"for="[192.0.2.1]""#,
            r#"for="[2001:db8::1%eth0]""#,
            r#"for="[2001:db8::1]80""#,
            r#"for="192.0.2.1:""#,
            r#"for="192.0.2.1:+80""#,
            r#"for="192.0.2.1:65536""#,
            r#"for="192.0.2.1:000080""#,
            r#"for=" 192.0.2.1""#,
            "for=192.0.2.01",
            "for=192.0.2",
            "for=3221225985",
            "for=_",
            "for=_a!",
            "for=example.com",
            "for=192.0.2.1;for=192.0.2.1",
            "for=192.0.2.1;FOR=192.0.2.2",
            "proto=http;for=192.0.2.1;proto=https",
            "a=1;b=1;c=1;d=1;e=1;f=1;g=1;h=1;i=1;j=1;k=1;l=1;m=1;n=1;o=1;p=1;q=1",
        ] {
            assert_eq!(read(line), [None], "{line}");
        }
    }

    #[test]
    fn an_open_quote_hides_no_later_hop() {
        let elements = read(r#"for="6.6.6.6, for="[2001:db8::1]:80";host="x";proto=https"#);
        assert_eq!(elements.first(), Some(&from("2001:db8::1", true)));
        let elements = read(r#"x=", for=192.0.2.1;host=";for=6.6.6.6;proto=https""#);
        assert_eq!(elements.first(), Some(&from("192.0.2.1", false)));
    }
}
