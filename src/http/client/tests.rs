use super::*;

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

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A connection without TLS, from a trusted proxy.
fn plain() -> Connection {
    Connection {
        peer: Some(ip("10.0.0.1")),
        is_tls: false,
    }
}

fn tls(client: &str) -> Origin {
    Origin {
        client: Some(ip(client)),
        is_tls: true,
    }
}

fn http(client: &str) -> Origin {
    Origin {
        client: Some(ip(client)),
        is_tls: false,
    }
}

const HIDDEN_OVER_TLS: Origin = Origin {
    client: None,
    is_tls: true,
};

#[test]
fn forwarded_is_read_from_the_right() {
    let two_tls = "for=203.0.113.7;proto=https,for=10.0.0.2;proto=https";
    let inner_plain = "for=203.0.113.7;proto=https,for=10.0.0.2;proto=http";
    let outer_plain = "for=203.0.113.7;proto=http,for=10.0.0.2;proto=https";
    let mapped = r#"for="[::ffff:203.0.113.7]:80", for="[::ffff:10.0.0.2]""#;
    let unnamed = "for=6.6.6.6, proto=https, for=10.0.0.2;proto=https";
    let empty = "for=6.6.6.6;proto=https, , for=10.0.0.2;proto=https";
    for (lines, expected) in [
        (&["for=203.0.113.7;proto=https"][..], tls("203.0.113.7")),
        (
            &["for=6.6.6.6;proto=http, for=203.0.113.7;proto=https"],
            tls("203.0.113.7"),
        ),
        (
            &["for=6.6.6.6;proto=https", "for=203.0.113.7"],
            http("203.0.113.7"),
        ),
        (&[two_tls], tls("203.0.113.7")),
        (&[inner_plain], http("203.0.113.7")),
        (&[outer_plain], http("203.0.113.7")),
        (
            &["for=10.0.0.3;proto=https", "for=10.0.0.2;proto=https"],
            tls("10.0.0.3"),
        ),
        (&[mapped], http("203.0.113.7")),
        (
            &[r#"FOR="[2001:db8::1]:443";PROTO="HTTPS""#],
            tls("2001:db8::1"),
        ),
        (&["for=6.6.6.6, for=_hidden;proto=https"], HIDDEN_OVER_TLS),
        (&["for=6.6.6.6, for=unknown;proto=https"], HIDDEN_OVER_TLS),
        (&[unnamed], HIDDEN_OVER_TLS),
        (&[empty], Origin::UNKNOWN),
        (
            &["for=6.6.6.6;proto=https, for=10.0.0;proto=https"],
            Origin::UNKNOWN,
        ),
        (
            &["for=6.6.6.6;proto=https, for=::1;proto=https"],
            Origin::UNKNOWN,
        ),
        (&["for=6.6.6.6;proto=https", ""], Origin::UNKNOWN),
        (&[], Origin::UNKNOWN),
    ] {
        let headers: Vec<_> = lines.iter().map(|line| ("Forwarded", *line)).collect();
        let origin = forwarded().origin(plain(), &headers[..]);
        assert_eq!(origin, expected, "{lines:?}");
    }
}

#[test]
fn x_forwarded_is_read_from_the_right() {
    for (addresses, expected) in [
        (&["203.0.113.7"][..], tls("203.0.113.7")),
        (&["6.6.6.6, 203.0.113.7"], tls("203.0.113.7")),
        (&["6.6.6.6", "203.0.113.7"], tls("203.0.113.7")),
        (&["203.0.113.7,10.0.0.2"], tls("203.0.113.7")),
        (&["10.0.0.3, 10.0.0.2"], tls("10.0.0.3")),
        (&["203.0.113.7:5678"], tls("203.0.113.7")),
        (
            &["[2001:db8::1]:443,\t2001:db8:ffff::1"],
            tls("2001:db8::1"),
        ),
        (&["::ffff:203.0.113.7, ::ffff:10.0.0.2"], tls("203.0.113.7")),
        (&["6.6.6.6, unknown, 10.0.0.2"], HIDDEN_OVER_TLS),
        (&["6.6.6.6, \"10.0.0.2\""], Origin::UNKNOWN),
        (&["6.6.6.6, 10.0.0.2,"], Origin::UNKNOWN),
        (&["6.6.6.6, 10.0.0.256"], Origin::UNKNOWN),
        (&["6.6.6.6", ""], Origin::UNKNOWN),
        (&[""], Origin::UNKNOWN),
        (&[], Origin::UNKNOWN),
    ] {
        let mut headers: Vec<_> = addresses
            .iter()
            .map(|one| ("X-Forwarded-For", *one))
            .collect();
        headers.push(("x-forwarded-proto", "https"));
        let origin = x_forwarded().origin(plain(), &headers[..]);
        assert_eq!(origin, expected, "{addresses:?}");
    }
}

#[test]
fn x_forwarded_proto_is_one_or_per_hop() {
    for (addresses, protocols, is_tls) in [
        ("203.0.113.7", &["https"][..], true),
        ("203.0.113.7", &["HTTPS"], true),
        ("203.0.113.7", &["https;"], false),
        ("203.0.113.7", &[""], false),
        ("203.0.113.7", &[], false),
        ("203.0.113.7", &["https,https"], false),
        ("203.0.113.7,10.0.0.2", &["https"], true),
        ("203.0.113.7,10.0.0.2", &["http"], false),
        ("203.0.113.7,10.0.0.2", &["https, https"], true),
        ("203.0.113.7,10.0.0.2", &["http", "https"], false),
        ("203.0.113.7,10.0.0.2", &["https", "http"], false),
        ("6.6.6.6,203.0.113.7", &["http,https"], true),
        ("6.6.6.6,203.0.113.7", &["https,http"], false),
        ("1.1.1.1,6.6.6.6,203.0.113.7", &["https,https"], false),
    ] {
        let mut headers = vec![("X-Forwarded-For", addresses)];
        headers.extend(protocols.iter().map(|one| ("X-Forwarded-Proto", *one)));
        let origin = x_forwarded().origin(plain(), &headers[..]);
        assert_eq!(origin.client, Some(ip("203.0.113.7")));
        assert_eq!(origin.is_tls, is_tls, "{headers:?}");
    }
}

#[test]
fn other_header_names_are_ignored() {
    let aliases = [
        ("X_Forwarded_For", "6.6.6.6"),
        ("X_Forwarded_Proto", "https"),
        ("X-Forwarded", "for=6.6.6.6;proto=https"),
        ("X-Real-IP", "6.6.6.6"),
    ];
    let family = [
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Proto", "https"),
    ];
    let other = [("Forwarded", "for=6.6.6.6;proto=https")];
    for (proxies, others) in [(forwarded(), &family[..]), (x_forwarded(), &other[..])] {
        let headers = [&aliases[..], others].concat();
        let origin = proxies.origin(plain(), &headers[..]);
        assert_eq!(origin, Origin::UNKNOWN);
    }
}

#[test]
fn long_or_non_ascii_headers_are_ignored() {
    let client = b"203.0.113.7".to_vec();
    let pad = |length: usize| [vec![b' '; length], client.clone()].concat();
    let most = MAX_LENGTH - client.len() - 1;
    for (lines, expected) in [
        (vec![pad(most)], http("203.0.113.7")),
        (vec![pad(most + 1)], Origin::UNKNOWN),
        (vec![pad(most / 2), pad(most / 2)], Origin::UNKNOWN),
        (
            [vec![vec![]; MAX_LENGTH], vec![client.clone()]].concat(),
            Origin::UNKNOWN,
        ),
        (vec!["é".into(), client.clone()], Origin::UNKNOWN),
        (vec![vec![0xff], client.clone()], Origin::UNKNOWN),
    ] {
        let headers: Vec<_> = lines.iter().map(|line| ("X-Forwarded-For", line)).collect();
        assert_eq!(x_forwarded().origin(plain(), &headers[..]), expected);
    }
    let protocol = [b"https".as_slice(), &[b' '; MAX_LENGTH]].concat();
    let headers = [("X-Forwarded-For", client), ("X-Forwarded-Proto", protocol)];
    let origin = x_forwarded().origin(plain(), &headers);
    assert_eq!(origin, http("203.0.113.7"));
}
