//! Whatever a client forges, the origin is the one that the proxies saw.

use std::net::IpAddr;

use keyward::http::{Connection, Origin, Proxies};
use keyward::key::Network;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn proxies(make: fn(Vec<Network>) -> Proxies) -> Proxies {
    let trusted = ["10.0.0.0/8", "2001:db8:ffff::/48"];
    make(trusted.map(|net| net.parse().unwrap()).to_vec())
}

fn forwarded() -> Proxies {
    proxies(Proxies::forwarded)
}

fn x_forwarded() -> Proxies {
    proxies(Proxies::x_forwarded)
}

/// Any of these addresses, as written or in IPv4-mapped form.
fn any_form(of: &'static [&'static str]) -> impl Strategy<Value = IpAddr> {
    (select(of), any::<bool>()).prop_map(|(text, is_mapped)| match text.parse().unwrap() {
        IpAddr::V4(v4) if is_mapped => v4.to_ipv6_mapped().into(),
        other => other,
    })
}

fn stranger() -> impl Strategy<Value = IpAddr> {
    any_form(&[
        "203.0.113.7",
        "9.255.255.255",
        "11.0.0.0",
        "2001:db8:fffe::1",
        "::1",
    ])
}

fn trusted() -> impl Strategy<Value = IpAddr> {
    any_form(&["10.0.0.1", "10.255.255.255", "2001:db8:ffff::1"])
}

/// A value that a client might send to pass for another.
fn forged() -> impl Strategy<Value = String> {
    let pieces = [
        "for=",
        "For=\"",
        "10.0.0.1",
        "6.6.6.6",
        "[::ffff:10.0.0.1]",
        "\"",
        "\\",
        ",",
        ", ",
        ";",
        "proto=https",
        "https",
        "unknown",
        "_x",
        ":80",
        "host=\"",
        "::1",
        "=",
    ];
    let pieces = vec(select(pieces.to_vec()), 0..12);
    prop_oneof![pieces.prop_map(|pieces| pieces.concat()), "[ -~]{0,60}"]
}

fn forged_header() -> impl Strategy<Value = (&'static str, String)> {
    let names = [
        "Forwarded",
        "forwarded",
        "X-Forwarded-For",
        "X-FORWARDED-FOR",
        "X-Forwarded-Proto",
        "X-Forwarded",
        "X_Forwarded_For",
        "X_Forwarded_Proto",
        "X-Real-IP",
    ];
    (select(names.to_vec()), forged())
}

/// Headers outside the family with this prefix.
fn forged_beside(family: &'static str) -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let is_beside = move |(name, _): &(&str, String)| !name.to_lowercase().starts_with(family);
    vec(
        forged_header().prop_filter("the family's own", is_beside),
        0..4,
    )
}

#[derive(Debug)]
struct Step {
    address: IpAddr,
    port: Option<u16>,
    is_https: bool,
    is_on_own_line: bool,
}

/// A client outside the trusted networks, and the trusted proxies on the path from it.
fn way() -> impl Strategy<Value = Vec<Step>> {
    fn step(address: impl Strategy<Value = IpAddr>) -> impl Strategy<Value = Step> {
        // Mostly https; otherwise long paths over TLS would be rare.
        let is_https = prop::bool::weighted(0.8);
        (address, option::of(any::<u16>()), is_https, any::<bool>()).prop_map(
            |(address, port, is_https, is_on_own_line)| Step {
                address,
                port,
                is_https,
                is_on_own_line,
            },
        )
    }
    (step(stranger()), vec(step(trusted()), 0..4)).prop_map(|(first, mut rest)| {
        rest.insert(0, first);
        rest
    })
}

fn expected(way: &[Step]) -> Origin {
    Origin {
        client: way.first().map(|step| step.address.to_canonical()),
        is_tls: way.iter().all(|step| step.is_https),
    }
}

impl Step {
    fn protocol(&self) -> &'static str {
        if self.is_https { "https" } else { "http" }
    }

    fn forwarded(&self, host: &str) -> String {
        let node = match (self.address, self.port) {
            (IpAddr::V4(v4), None) => v4.to_string(),
            (IpAddr::V4(v4), Some(port)) => format!("\"{v4}:{port}\""),
            (IpAddr::V6(v6), None) => format!("\"[{v6}]\""),
            (IpAddr::V6(v6), Some(port)) => format!("\"[{v6}]:{port}\""),
        };
        format!("for={node};host=\"{host}\";proto={}", self.protocol())
    }

    fn x_forwarded_for(&self) -> String {
        match (self.address, self.port) {
            (address, None) => address.to_string(),
            (IpAddr::V4(v4), Some(port)) => format!("{v4}:{port}"),
            (IpAddr::V6(v6), Some(port)) => format!("[{v6}]:{port}"),
        }
    }

    /// Appends this proxy's own entry to the lines that it received.
    fn append(&self, lines: &mut Vec<String>, own: &str) {
        match lines.last_mut() {
            Some(last) if !self.is_on_own_line => *last = format!("{last}, {own}"),
            _ => lines.push(own.to_owned()),
        }
    }
}

fn entries(lines: &[String]) -> usize {
    lines.iter().map(|line| line.split(',').count()).sum()
}

proptest! {
    #[test]
    fn untrusted_peers_change_nothing(
        peer in option::of(stranger()),
        is_tls: bool,
        headers in vec(forged_header(), 0..6),
    ) {
        let client = peer.map(|peer| peer.to_canonical());
        for proxies in [Proxies::default(), forwarded(), x_forwarded()] {
            let origin = proxies.origin(Connection { peer, is_tls }, &headers[..]);
            prop_assert_eq!(origin, Origin { client, is_tls });
        }
    }

    #[test]
    fn headers_need_a_trusted_proxy(
        peer in trusted(),
        is_tls: bool,
        headers in vec(forged_header(), 0..6),
    ) {
        let (peer, client) = (Some(peer), Some(peer.to_canonical()));
        for proxies in [Proxies::default(), Proxies::forwarded([]), Proxies::x_forwarded([])] {
            let origin = proxies.origin(Connection { peer, is_tls }, &headers[..]);
            prop_assert_eq!(origin, Origin { client, is_tls });
        }
    }

    #[test]
    fn forged_forwarded_changes_nothing(
        peer in trusted(),
        is_tls: bool,
        mut lines in vec(forged(), 0..4),
        way in way(),
        host in "[ -~]{0,12}",
        beside in forged_beside("forwarded"),
    ) {
        let host = host.replace('\\', r"\\").replace('"', "\\\"");
        for step in &way {
            step.append(&mut lines, &step.forwarded(&host));
        }
        let own = lines.into_iter().map(|line| ("Forwarded", line));
        let headers: Vec<_> = beside.into_iter().chain(own).collect();
        let connection = Connection { peer: Some(peer), is_tls };
        prop_assert_eq!(forwarded().origin(connection, &headers[..]), expected(&way));
    }

    #[test]
    fn forged_x_forwarded_changes_nothing(
        peer in trusted(),
        is_tls: bool,
        mut addresses in vec(forged(), 0..4),
        mut protocols in vec(forged(), 0..4),
        is_overwritten: bool,
        way in way(),
        beside in forged_beside("x-forwarded-"),
    ) {
        for step in &way {
            step.append(&mut addresses, &step.x_forwarded_for());
            step.append(&mut protocols, step.protocol());
        }
        let mut expected = expected(&way);
        if is_overwritten {
            let protocol = if expected.is_tls { "https" } else { "http" };
            protocols = vec![protocol.to_owned()];
        } else {
            // Forged entries can make the counts differ, which takes TLS away but never grants it.
            let (each, of) = (entries(&protocols), entries(&addresses));
            expected.is_tls &= each == 1 || each == of;
        }
        let addresses = addresses.into_iter().map(|line| ("X-Forwarded-For", line));
        let protocols = protocols.into_iter().map(|line| ("X-Forwarded-Proto", line));
        let headers: Vec<_> = beside.into_iter().chain(addresses).chain(protocols).collect();
        let connection = Connection { peer: Some(peer), is_tls };
        prop_assert_eq!(x_forwarded().origin(connection, &headers[..]), expected);
    }
}
