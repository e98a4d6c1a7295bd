//! Promise 22: where a request came from is what the connection says, and what proxies say that the host has named.

use std::net::TcpListener;

use keyward::http::Proxies;
use keyward::key::Network;
use keyward::testkit::TestKey;

use super::EVERY;
use super::site::{Plan, Site};
use crate::client::Ask;

/// What anybody can send, to be elsewhere or over TLS.
const FORGED: [(&str, &str); 14] = [
    ("forwarded", "for=198.51.100.9;proto=https"),
    ("forwarded", "for=\"[::ffff:198.51.100.9]:443\";proto=https"),
    ("x-forwarded-for", "198.51.100.9"),
    ("x-forwarded-for", "198.51.100.9, 127.0.0.1"),
    ("x-forwarded-for", "::ffff:198.51.100.9"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-ssl", "on"),
    ("front-end-https", "on"),
    ("x_forwarded_for", "198.51.100.9"),
    ("x_forwarded_proto", "https"),
    ("x-real-ip", "198.51.100.9"),
    ("x-client-ip", "198.51.100.9"),
    ("true-client-ip", "198.51.100.9"),
    ("cf-connecting-ip", "198.51.100.9"),
];

/// A key for use from this network alone.
async fn within(site: &Site, network: &str) -> TestKey {
    let network: Network = network.parse().unwrap();
    site.issue(|new| new.networks(network)).await
}

fn everything_forged(ask: Ask) -> Ask {
    let forged = FORGED.iter();
    forged.fold(ask, |ask, (name, value)| ask.header(name, value))
}

/// Proxies on this machine are believed.
fn local() -> Proxies {
    Proxies::x_forwarded(["127.0.0.0/8".parse().unwrap()])
}

#[tokio::test]
async fn forged_headers_change_no_address() {
    for served in EVERY {
        let site = Site::open(served).await;
        let here = within(&site, "127.0.0.0/8").await;
        let there = within(&site, "198.51.100.0/24").await;
        for (key, status) in [(&here, 200), (&there, 401)] {
            let ask = || Ask::of("GET /echo").with(key);
            assert_eq!(site.ask(ask()).await.status, status, "{served:?}");
            for (name, value) in FORGED {
                let reply = site.ask(ask().header(name, value)).await;
                assert_eq!(reply.status, status, "{served:?} {name}: {value}");
            }
            let reply = site.ask(everything_forged(ask())).await;
            assert_eq!(reply.status, status, "{served:?}");
        }
    }
}

#[tokio::test]
async fn forged_headers_are_no_tls() {
    for served in EVERY {
        let plan = Plan {
            edge: |edge| edge.require_tls(),
            ..Plan::default()
        };
        let site = Site::planned(served, plan).await;
        let before = site.keyward.verifier().stats();
        let ask = || Ask::of("GET /echo").with(&site.key);
        let forged = FORGED.map(|(name, value)| ask().header(name, value));
        for ask in forged.into_iter().chain([ask(), everything_forged(ask())]) {
            let reply = site.try_ask(&ask).await.unwrap();
            assert_eq!(reply.status, 403, "{served:?} {ask:?}");
            assert_eq!(
                reply.header("location"),
                None,
                "it would send the key twice"
            );
            let told = site.told();
            let id = site.key.id();
            assert_eq!(told, [format!("the key {id} came without TLS: rotate it")]);
        }
        assert_eq!(site.ask(Ask::of("GET /echo")).await.status, 403);
        let after = site.keyward.verifier().stats();
        assert_eq!(
            (after.store_reads, after.fast_hashes, site.acts()),
            (before.store_reads, before.fast_hashes, 0)
        );
    }
}

#[tokio::test]
async fn the_last_untrusted_address_counts() {
    for served in EVERY {
        let plan = Plan {
            edge: |edge| edge.trust_proxies(local()),
            ..Plan::default()
        };
        let site = Site::planned(served, plan).await;
        let there = within(&site, "198.51.100.0/24").await;
        for (forwarded, status) in [
            (&["198.51.100.9"][..], 200),
            (&["::ffff:198.51.100.9"], 200),
            (&["[::ffff:198.51.100.9]:443"], 200),
            (&["198.51.100.9:443"], 200),
            (&["203.0.113.7, 198.51.100.9"], 200),
            (&["203.0.113.7", "198.51.100.9"], 200),
            (&["198.51.100.9, 127.0.0.2"], 200),
            (&["198.51.100.9, ::ffff:127.0.0.2"], 200),
            (&["rubbish, 198.51.100.9"], 200),
            (&["203.0.113.7"], 401),
            (&["198.51.100.9, 203.0.113.7"], 401),
            (&["198.51.100.9", "203.0.113.7"], 401),
            (&["198.51.100.9, 203.0.113.7, 127.0.0.2"], 401),
            (&["198.51.100.9, rubbish"], 401),
            (&["198.51.100.9,"], 401),
            (&["2001:db8::1"], 401),
            (&["unknown"], 401),
            (&[""], 401),
            (&[], 401),
        ] {
            let ask = Ask::of("GET /echo").with(&there);
            let ask = forwarded
                .iter()
                .fold(ask, |ask, line| ask.header("x-forwarded-for", line));
            let reply = site.ask(ask).await;
            assert_eq!(reply.status, status, "{served:?} {forwarded:?}");
        }
        // The other family is anybody's, and so is what is only spelt alike.
        for (name, value) in [
            ("forwarded", "for=198.51.100.9"),
            ("x_forwarded_for", "198.51.100.9"),
            ("x-real-ip", "198.51.100.9"),
        ] {
            let ask = Ask::of("GET /echo").with(&there).header(name, value);
            assert_eq!(site.ask(ask).await.status, 401, "{served:?} {name}");
            let ask = Ask::of("GET /echo").with(&there).header(name, value);
            let ask = ask.header("x-forwarded-for", "203.0.113.7");
            assert_eq!(site.ask(ask).await.status, 401, "{served:?} {name}");
        }
    }
}

#[tokio::test]
async fn trusted_proxies_decide_on_tls() {
    for served in EVERY {
        let plan = Plan {
            edge: |edge| edge.trust_proxies(local()).require_tls(),
            ..Plan::default()
        };
        let site = Site::planned(served, plan).await;
        for (addresses, protocols, status) in [
            ("203.0.113.7", &["https"][..], 200),
            ("203.0.113.7, 127.0.0.2", &["https"], 200),
            ("203.0.113.7, 127.0.0.2", &["https, https"], 200),
            ("203.0.113.7, 127.0.0.2", &["https, http"], 403),
            ("203.0.113.7, 127.0.0.2", &["http", "https"], 403),
            ("203.0.113.7", &["https, https"], 403),
            ("203.0.113.7", &["http"], 403),
            ("203.0.113.7", &[""], 403),
            ("203.0.113.7", &[], 403),
            ("rubbish", &["https"], 403),
        ] {
            let ask = Ask::of("GET /echo").with(&site.key);
            let ask = ask.header("x-forwarded-for", addresses);
            let ask = protocols
                .iter()
                .fold(ask, |ask, line| ask.header("x-forwarded-proto", line));
            let reply = site.ask(ask).await;
            assert_eq!(reply.status, status, "{served:?} {addresses} {protocols:?}");
        }
        let unnamed = Ask::of("GET /echo").with(&site.key);
        let unnamed = unnamed.header("x-forwarded-proto", "https");
        assert_eq!(site.ask(unnamed).await.status, 403, "{served:?}");
    }
}

#[tokio::test]
async fn ipv4_peers_of_dual_sockets_match() {
    if TcpListener::bind("[::]:0").is_err() {
        return; // a host without IPv6 has no such sockets
    }
    for served in EVERY {
        let plan = Plan {
            edge: |edge| edge.trust_proxies(local()),
            listen: "[::]:0",
            ..Plan::default()
        };
        let site = Site::planned(served, plan).await;
        let there = within(&site, "198.51.100.0/24").await;
        let ask = || Ask::of("GET /echo").with(&there);
        let forwarded = ask().header("x-forwarded-for", "198.51.100.9");
        assert_eq!(site.ask(forwarded).await.status, 200, "{served:?}");
        assert_eq!(site.ask(ask()).await.status, 401, "{served:?}");

        let plan = Plan {
            listen: "[::]:0",
            ..Plan::default()
        };
        let site = Site::planned(served, plan).await;
        let here = within(&site, "127.0.0.0/8").await;
        assert_eq!(site.status("GET /echo", &here).await, 200, "{served:?}");
    }
}
