//! Limit headers, read back by a parser of structured fields that is not ours.

use std::num::NonZeroU32;
use std::time::Duration;

use keyward::http::{LimitHeaders, QuotaState};
use keyward::key::Quota;
use keyward::time::OffsetDateTime;
use proptest::collection::vec;
use proptest::prelude::*;
use sfv::{BareItem, List, ListEntry, Parser};

/// The greatest integer of a structured field (RFC 9651, section 3.3.1).
const MAX_INTEGER: u128 = 999_999_999_999_999;

fn value<'a>(headers: &'a [(&'static str, String)], name: &str) -> &'a str {
    let mut found = headers.iter().filter(|(other, _)| *other == name);
    let (_, value) = found.next().unwrap();
    assert!(found.next().is_none(), "{name} twice");
    value
}

type Item = (String, Vec<(String, i64)>);

/// Parses a list of strings with integer parameters, as the `sfv` crate reads it.
fn parse(text: &str) -> Vec<Item> {
    let list: List = Parser::new(text).parse().unwrap();
    let item = |entry: ListEntry| {
        let ListEntry::Item(item) = entry else {
            panic!("an inner list in {text}");
        };
        let BareItem::String(name) = item.bare_item else {
            panic!("no string in {text}");
        };
        let parameters = item.params.into_iter().map(|(key, value)| match value {
            BareItem::Integer(number) => (key.as_str().to_owned(), number.into()),
            other => panic!("no integer: {other:?}"),
        });
        (name.as_str().to_owned(), parameters.collect())
    };
    list.into_iter().map(item).collect()
}

fn item(name: &str, parameters: [(&str, u128); 2]) -> Item {
    let number = |number: u128| i64::try_from(number.min(MAX_INTEGER)).unwrap();
    let parameters = parameters.map(|(key, value)| (key.to_owned(), number(value)));
    (name.to_owned(), parameters.into())
}

/// A quota, what remains of it, and the time until it resets.
fn any_state() -> impl Strategy<Value = (Quota, u32, Duration)> {
    let quota = ("[a-z0-9_-]{1,32}", 1..=u32::MAX, 1_u64..=366 * 86_400);
    let quota = quota.prop_map(|(name, limit, window)| {
        let limit = NonZeroU32::new(limit).unwrap();
        Quota::new(&name, limit, Duration::from_secs(window)).unwrap()
    });
    let days = (0..100 * 86_400_u64, 0..1_000_000_000_u32);
    let days = days.prop_map(|(seconds, nanos)| Duration::new(seconds, nanos));
    let reset_after = prop_oneof![days, any::<Duration>()];
    (quota, any::<u32>(), reset_after)
}

proptest! {
    #[test]
    fn structured_fields_round_trip(states in vec(any_state(), 1..9)) {
        let shown: Vec<_> = states.iter().cloned().map(|(quota, remaining, reset_after)| {
            QuotaState::new(quota, remaining, reset_after)
        }).collect();
        let headers = LimitHeaders::All.render(&shown, OffsetDateTime::UNIX_EPOCH);
        let policies: Vec<Item> = states.iter().map(|(quota, ..)| {
            let window = quota.window().as_secs();
            item(quota.name(), [("q", quota.limit().get().into()), ("w", window.into())])
        }).collect();
        let limits: Vec<Item> = states.iter().map(|(quota, remaining, reset_after)| {
            let seconds = reset_after.as_nanos().div_ceil(1_000_000_000);
            let remaining = (*remaining).min(quota.limit().get());
            item(quota.name(), [("r", remaining.into()), ("t", seconds)])
        }).collect();
        prop_assert_eq!(parse(value(&headers, "ratelimit-policy")), policies);
        prop_assert_eq!(parse(value(&headers, "ratelimit")), limits);
    }
}
