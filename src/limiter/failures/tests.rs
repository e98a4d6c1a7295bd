use super::*;
use crate::testkit::SeededRandom;

const SECOND: u64 = 1_000_000_000;

fn failures(limit: u32) -> Failures {
    Failures::new(NonZeroU32::new(limit).unwrap())
}

/// Fails once from this address; returns whether it was allowed to.
fn fail(failures: &Failures, client: &str, now: u64) -> bool {
    fail_from(failures, client.parse().unwrap(), now)
}

fn fail_from(failures: &Failures, client: IpAddr, now: u64) -> bool {
    match failures.begin(client, now) {
        Begun::Yes(place) => {
            place.fail(now);
            true
        }
        Begun::Later(_) => panic!("nothing is in progress"),
        Begun::No(_) => false,
    }
}

fn retry_after(failures: &Failures, client: &str, now: u64) -> Option<u64> {
    match failures.begin(client.parse().unwrap(), now) {
        Begun::No(after) => Some(after.as_nanos().try_into().unwrap()),
        _ => None,
    }
}

#[test]
fn an_ipv4_address_has_its_own_limit() {
    let failures = failures(3);
    for _ in 0..3 {
        assert!(fail(&failures, "203.0.113.7", SECOND));
    }
    assert!(!fail(&failures, "203.0.113.7", SECOND));
    assert!(fail(&failures, "203.0.113.8", SECOND));
    // Other forms of the same address.
    assert!(!fail(&failures, "::ffff:203.0.113.7", SECOND));
    assert!(!fail(&failures, "64:ff9b::203.0.113.7", SECOND));
    assert!(fail(&failures, "64:ff9b::203.0.113.9", SECOND));
}

#[test]
fn an_ipv6_64_has_its_own_limit() {
    let failures = failures(3);
    for host in 1..=3 {
        assert!(fail(&failures, &format!("2001:db8::{host}"), SECOND));
    }
    assert!(!fail(&failures, "2001:db8::ffff:ffff:ffff:ffff", SECOND));
    assert!(fail(&failures, "2001:db8:0:1::1", SECOND));
}

#[test]
fn an_ipv6_56_has_four_times_as_much() {
    let failures = failures(3);
    let from = |network: u32| format!("2001:db8:0:{network:x}::1");
    for network in 0..12 {
        assert!(fail(&failures, &from(network), SECOND), "{network}");
    }
    assert!(!fail(&failures, &from(12), SECOND));
    assert!(!fail(&failures, &from(0xff), SECOND));
    assert!(fail(&failures, &from(0x100), SECOND), "the next /56");
}

#[test]
fn an_ipv6_48_has_sixteen_times_as_much() {
    let failures = failures(3);
    let from = |network: u32| format!("2001:db8:0:{network:x}00::1");
    for network in 0..48 {
        assert!(fail(&failures, &from(network), SECOND), "{network}");
    }
    assert!(!fail(&failures, &from(48), SECOND));
    assert!(!fail(&failures, &from(0xff), SECOND));
    assert!(fail(&failures, "2001:db8:1::1", SECOND), "the next /48");
}

#[test]
fn a_refusal_counts_in_no_network() {
    let failures = failures(2);
    for _ in 0..2 {
        assert!(fail(&failures, "2001:db8::1", SECOND));
    }
    for _ in 0..100 {
        assert!(!fail(&failures, "2001:db8::1", SECOND));
    }
    for network in 1..7 {
        assert!(fail(&failures, &format!("2001:db8:0:{network}::1"), SECOND));
    }
}

#[test]
fn who_waits_as_told_is_not_refused() {
    let failures = failures(3);
    for at in [5, 20, 50] {
        assert!(fail(&failures, "203.0.113.7", at * SECOND));
    }
    let now = 55 * SECOND;
    let after = retry_after(&failures, "203.0.113.7", now).unwrap();
    assert!((10 * SECOND..=11 * SECOND).contains(&after), "{after}");
    assert!(retry_after(&failures, "203.0.113.7", now + after - 1).is_some());
    assert!(fail(&failures, "203.0.113.7", now + after));
    assert!(!fail(&failures, "203.0.113.7", now + after));
}

#[test]
fn no_minute_has_more_than_the_limit() {
    let (failures, random) = (failures(5), SeededRandom::new(7));
    let mut allowed: Vec<u64> = Vec::new();
    let mut now = 0;
    for _ in 0..20_000 {
        now += u64::from(draw(&random)) % (8 * SECOND);
        if fail(&failures, "203.0.113.7", now) {
            allowed.push(now);
        }
    }
    assert!(allowed.len() > 1_000);
    for six in allowed.windows(6) {
        assert!(six[5] - six[0] >= 60 * SECOND, "{six:?}");
    }
}

#[test]
fn a_place_that_is_given_back_leaves_nothing() {
    let failures = failures(2);
    for client in ["203.0.113.7", "2001:db8::1"] {
        for _ in 0..10 {
            let (first, second) = (begun(&failures, client), begun(&failures, client));
            assert!(matches!(
                failures.begin(client.parse().unwrap(), SECOND),
                Begun::Later(_)
            ));
            drop((first, second));
        }
    }
    assert_eq!(failures.entries(), 0);
}

fn begun<'a>(failures: &'a Failures, client: &str) -> Place<'a> {
    match failures.begin(client.parse().unwrap(), SECOND) {
        Begun::Yes(place) => place,
        _ => panic!("there is a place"),
    }
}

#[test]
fn a_flood_of_addresses_takes_bounded_memory() {
    let addresses = std::env::var("KEYWARD_FAILING_ADDRESSES");
    let addresses = addresses.map_or(100_000_u32, |text| text.parse().unwrap());
    let (failures, random) = (failures(3), SeededRandom::new(11));
    for _ in 0..3 {
        assert!(fail(&failures, "203.0.113.7", SECOND));
    }
    for _ in 0..3 {
        assert!(fail(&failures, "2001:db8::1", SECOND));
    }
    for number in 0..addresses {
        let bits = u128::from(draw(&random)) << 96 | u128::from(draw(&random)) << 64;
        let client = match number % 2 {
            0 => Ipv4Addr::from_bits(draw(&random)).into(),
            _ => std::net::Ipv6Addr::from_bits(bits).into(),
        };
        fail_from(&failures, client, SECOND + u64::from(number));
    }
    assert!(failures.entries() <= SHARDS * MOST_IN_SHARD);
    assert!(failures.entries() > SHARDS * MOST_IN_SHARD / 2);
    // The worst are not forgotten for the others.
    let now = SECOND + u64::from(addresses);
    assert!(!fail(&failures, "203.0.113.7", now));
    assert!(!fail(&failures, "2001:db8::1", now));
    // Requests free the memory, without any other work.
    for _ in 0..SHARDS {
        drop(failures.begin("198.51.100.1".parse().unwrap(), now + 62 * SECOND));
    }
    assert_eq!(failures.entries(), 0);
    let shards = failures.shards.iter();
    let capacity: usize = shards.map(|shard| lock(shard).entries.capacity()).sum();
    assert!(capacity <= 8, "{capacity}");
}

#[test]
fn the_background_work_frees_what_has_drained() {
    let failures = failures(3);
    assert!(fail(&failures, "203.0.113.7", SECOND));
    assert!(fail(&failures, "2001:db8::1", SECOND));
    failures.sweep(30 * SECOND);
    assert_eq!(failures.entries(), 4);
    failures.sweep(62 * SECOND);
    assert_eq!(failures.entries(), 0);
}

fn draw(random: &SeededRandom) -> u32 {
    use crate::random::RandomSource as _;

    let mut bytes = [0; 4];
    random.fill(&mut bytes).unwrap();
    u32::from_le_bytes(bytes)
}
