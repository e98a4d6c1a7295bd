//! Promise 21, for issuing: no growth of privilege. A key that is issued may do nothing that the actor's ceiling
//! does not let it do, on any axis.
//!
//! The oracle knows nothing of sets and subsets: it lists concrete deeds (this scope on this route, touching
//! these two things, from this address, at this time, so many requests in such a time, so many at once), and asks
//! of each whether a key would let it happen. A key is too strong if it lets a deed happen that a key with the
//! ceiling's own powers would not.
//!
//! Planted bugs that it catches: a comparison that forgets one axis (each of the seven in turn); one that takes a
//! key without a restriction for a key with an empty one; one that lets a restriction in one kind stand for
//! a restriction in another.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use keyward::key::{
    Access, Environment, KeyRecord, Network, Networks, Quota, Resource, Resources, Scope,
};
use keyward::manager::{Actor, Axis, Ceiling, KeyManager, Limits, ManageError, NewKey};
use keyward::scope;
use keyward::time::OffsetDateTime;

use crate::common::{Choices, House, READ, WRITE, now, tenant};

const OPERATIONS: u32 = 1_000_000;

/// What a key may do, as drawn: kept apart from the library's own types.
#[derive(Clone, Default)]
struct Powers {
    full: bool,
    /// For a key, the environment it is for; for a ceiling, the one that it is bound to.
    environment: Option<&'static str>,
    scopes: Vec<usize>,
    resources: Vec<(&'static str, &'static str)>,
    networks: Vec<&'static str>,
    expires_after: Option<u64>,
    quotas: Vec<(u32, u64)>,
    concurrency: Option<u32>,
}

/// `read` and `write`, `all` which implies both, and `edit` which implies `write`.
const SCOPES: [Scope; 4] = [READ, WRITE, scope!("admin"), scope!("edit")];
const KINDS: [(&str, [&str; 2]); 2] = [("project", ["p1", "p2"]), ("client", ["c1", "c2"])];
const NETWORKS: [&str; 4] = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "2001:db8::/32"];
const ADDRESSES: [&str; 5] = [
    "10.9.9.9",
    "10.1.9.9",
    "10.1.2.3",
    "2001:db8::1",
    "192.0.2.1",
];
const QUOTAS: [(u32, u64); 4] = [(10, 60), (100, 60), (10, 3_600), (100, 3_600)];

impl Powers {
    fn draw(choices: &mut Choices) -> Self {
        let mut powers = Self {
            full: choices.chance(4),
            environment: choices
                .chance(2)
                .then(|| ["test", "sandbox"][choices.below(2)]),
            scopes: (0..SCOPES.len()).filter(|_| choices.chance(2)).collect(),
            ..Self::default()
        };
        if powers.scopes.is_empty() {
            powers.scopes.push(choices.below(SCOPES.len()));
        }
        for (kind, values) in KINDS {
            if choices.chance(2) {
                powers.resources.extend(values.map(|value| (kind, value)));
                powers
                    .resources
                    .retain(|(of, _)| *of != kind || choices.chance(2));
            }
        }
        if choices.chance(2) {
            powers.networks = NETWORKS.into_iter().filter(|_| choices.chance(2)).collect();
        }
        powers.expires_after = choices.chance(2).then(|| 100 * (1 + choices.next() % 3));
        powers.quotas = QUOTAS.into_iter().filter(|_| choices.chance(4)).collect();
        powers.concurrency = choices
            .chance(2)
            .then(|| 1 + u32::try_from(choices.below(3)).unwrap());
        powers
    }

    fn access(&self) -> Access {
        let scopes = self.scopes.iter().map(|index| SCOPES[*index].clone());
        if self.full {
            Access::Full
        } else {
            Access::scopes(scopes).unwrap()
        }
    }

    fn resource_rule(&self) -> Resources {
        let resources = self.resources.iter();
        let resources = resources.map(|(kind, value)| Resource::new(kind, value).unwrap());
        Resources::only(resources).unwrap_or(Resources::Any)
    }

    fn network_rule(&self) -> Networks {
        let networks = self
            .networks
            .iter()
            .map(|text| text.parse::<Network>().unwrap());
        Networks::only(networks).unwrap_or(Networks::Any)
    }

    fn quota_rules(&self) -> impl Iterator<Item = Quota> {
        self.quotas
            .iter()
            .enumerate()
            .map(|(index, (limit, seconds))| {
                let limit = NonZeroU32::new(*limit).unwrap();
                Quota::new(&format!("q{index}"), limit, Duration::from_secs(*seconds)).unwrap()
            })
    }

    fn new_key(&self, start: OffsetDateTime) -> NewKey {
        let mut key = NewKey::new(tenant(), "drawn", self.access())
            .environment(self.environment.unwrap_or("test"))
            .resources(self.resource_rule())
            .networks(self.network_rule());
        for quota in self.quota_rules() {
            key = key.quota(quota);
        }
        if let Some(limit) = self.concurrency.and_then(NonZeroU32::new) {
            key = key.concurrency(limit);
        }
        match self.expires_after {
            Some(seconds) => key.expires_at(start + Duration::from_secs(seconds)),
            None => key,
        }
    }

    fn ceiling(&self, start: OffsetDateTime) -> Ceiling {
        let mut limits = Limits::new(self.access())
            .resources(self.resource_rule())
            .networks(self.network_rule());
        for quota in self.quota_rules() {
            limits = limits.quota(quota);
        }
        if let Some(limit) = self.concurrency.and_then(NonZeroU32::new) {
            limits = limits.concurrency(limit);
        }
        if let Some(name) = self.environment {
            limits = limits.environments(Environment::new(name).unwrap());
        }
        Ceiling::Limited(match self.expires_after {
            Some(seconds) => limits.expires_by(start + Duration::from_secs(seconds)),
            None => limits,
        })
    }

    // The deeds, axis by axis: a deed is let happen if each axis lets it, so axes can be listed one by one.

    fn lets_scope(&self, needed: usize) -> bool {
        let implies = |held: &usize| match held {
            2 => true,
            3 => needed == 3 || needed == 1,
            held => *held == needed,
        };
        self.full || self.scopes.iter().any(implies)
    }

    /// As a key, whether it is good in the environment; as a ceiling, whether it lets keys be good there.
    fn lets_into(&self, environment: &str, is_ceiling: bool) -> bool {
        let bound = if is_ceiling {
            self.environment
        } else {
            self.environment.or(Some("test"))
        };
        bound.is_none_or(|bound| bound == environment)
    }

    fn lets_touch(&self, kind: &str, value: &str) -> bool {
        let mut of_kind = self
            .resources
            .iter()
            .filter(|(of, _)| *of == kind)
            .peekable();
        of_kind.peek().is_none() || of_kind.any(|(_, listed)| *listed == value)
    }

    fn lets_come_from(&self, address: &str) -> bool {
        let bits = |text: &str| match text.parse::<IpAddr>().unwrap() {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 4),
            IpAddr::V6(v6) => (v6.to_bits(), 6),
        };
        let (address, family) = bits(address);
        let within = |network: &&'static str| {
            let (net, length) = network.split_once('/').unwrap_or((network, "32"));
            let (net, of) = bits(net);
            let length: u32 = length.parse().unwrap();
            of == family && (net ^ address).leading_zeros() >= length
        };
        self.networks.is_empty() || self.networks.iter().any(within)
    }

    fn lets_live(&self, seconds: u64) -> bool {
        self.expires_after.is_none_or(|end| seconds < end)
    }

    /// Whether this many requests, evenly spread over this many seconds, are let through.
    fn lets_repeat(&self, requests: u64, over: u64) -> bool {
        self.quotas.iter().all(|(limit, window)| {
            let in_a_window = if over <= *window {
                requests
            } else {
                requests * window / over
            };
            in_a_window <= u64::from(*limit)
        })
    }

    fn lets_at_once(&self, requests: u32) -> bool {
        self.concurrency.is_none_or(|limit| requests <= limit)
    }

    /// The first axis on which this lets a deed happen that `ceiling` does not.
    fn exceeds(&self, ceiling: &Self) -> Option<Axis> {
        let scopes = 0..SCOPES.len();
        let access = (self.full && !ceiling.full)
            || scopes
                .clone()
                .any(|one| self.lets_scope(one) && !ceiling.lets_scope(one));
        let environment = ["test", "sandbox"]
            .into_iter()
            .any(|name| self.lets_into(name, false) && !ceiling.lets_into(name, true));
        let resources = KINDS.into_iter().any(|(kind, values)| {
            let mut values = values.into_iter().chain(["some other"]);
            values.any(|value| self.lets_touch(kind, value) && !ceiling.lets_touch(kind, value))
        });
        let networks = ADDRESSES
            .into_iter()
            .any(|address| self.lets_come_from(address) && !ceiling.lets_come_from(address));
        let seconds = [0, 99, 100, 199, 200, 299, 300, 399, 400, 10_000];
        let expiry = seconds
            .into_iter()
            .any(|at| self.lets_live(at) && !ceiling.lets_live(at));
        let bursts = [1, 10, 11, 100, 101, 1_000, 6_001];
        let quotas = bursts.into_iter().any(|requests| {
            [1, 59, 60, 3_599, 3_600].into_iter().any(|over| {
                self.lets_repeat(requests, over) && !ceiling.lets_repeat(requests, over)
            })
        });
        let concurrency =
            (1..=5).any(|requests| self.lets_at_once(requests) && !ceiling.lets_at_once(requests));
        [
            (Axis::Access, access),
            (Axis::Environment, environment),
            (Axis::Resources, resources),
            (Axis::Networks, networks),
            (Axis::Expiry, expiry),
            (Axis::Quotas, quotas),
            (Axis::Concurrency, concurrency),
        ]
        .into_iter()
        .find_map(|(axis, exceeds)| exceeds.then_some(axis))
    }
}

#[derive(Debug)]
struct StandsStill(OffsetDateTime);

impl keyward::clock::Clock for StandsStill {
    fn now(&self) -> Result<OffsetDateTime, keyward::clock::ClockError> {
        Ok(self.0)
    }

    fn is_for_tests(&self) -> bool {
        false
    }
}

async fn house() -> House {
    let (store, clock) = (keyward::store::MemoryStore::new(), crate::common::clock());
    // Not on the tests' own clock, which opens for `test` alone.
    let format = crate::common::format().environment("sandbox").unwrap();
    let builder = crate::common::builder(store.clone(), clock.clone())
        .format(format)
        .clock(StandsStill(keyward::clock::Clock::now(&clock).unwrap()));
    let builder = builder.scopes([scope!("edit").described("Edit").implies([WRITE])]);
    House {
        keyward: builder.open().await.unwrap(),
        store,
        clock,
    }
}

fn start(house: &House) -> OffsetDateTime {
    keyward::clock::Clock::now(&house.clock).unwrap()
}

fn issue(
    manager: &KeyManager,
    actor: &Actor,
    asked: &Powers,
    start: OffsetDateTime,
) -> Result<KeyRecord, Axis> {
    match now(manager.issue(actor, asked.new_key(start))) {
        Ok(issued) => Ok(issued.into_parts().1),
        Err(ManageError::AboveCeiling(axis)) => Err(axis),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_million_issues_never_exceed_the_ceiling() {
    let house = house().await;
    let (manager, start) = (house.keyward.manager(), start(&house));
    let mut choices = Choices::new(21);
    let (mut issued, mut refused, mut refused_in_doubt) = (0_u32, 0_u32, 0_u32);
    for _ in 0..OPERATIONS / 10 {
        let ceiling = Powers::draw(&mut choices);
        let actor = Actor::user("alice", tenant(), ceiling.ceiling(start)).unwrap();
        for _ in 0..10 {
            let mut asked = Powers::draw(&mut choices);
            if choices.chance(2) {
                // Most draws exceed something: from the ceiling itself, one axis at a time is changed.
                asked = ceiling.mixed_with(&asked, choices.below(7));
            }
            let exceeds = asked.exceeds(&ceiling);
            match issue(manager, &actor, &asked, start) {
                Ok(_) => {
                    assert_eq!(exceeds, None, "issued above the ceiling");
                    issued += 1;
                }
                Err(axis) => match exceeds {
                    Some(_) => refused += 1,
                    None => {
                        // Quotas are compared one with one, which is stricter than all with all.
                        assert_eq!(axis, Axis::Quotas);
                        refused_in_doubt += 1;
                    }
                },
            }
        }
    }
    assert!(
        issued > 100_000 && refused > 100_000,
        "{issued} issued, {refused} refused"
    );
    assert!(
        refused_in_doubt < issued / 5,
        "{refused_in_doubt} of {issued}"
    );
}

impl Powers {
    /// This with one axis of another's.
    fn mixed_with(&self, other: &Self, axis: usize) -> Self {
        let mut mixed = self.clone();
        let other = other.clone();
        match axis {
            0 => (mixed.full, mixed.scopes) = (other.full, other.scopes),
            1 => mixed.resources = other.resources,
            2 => mixed.networks = other.networks,
            3 => mixed.expires_after = other.expires_after,
            4 => mixed.quotas = other.quotas,
            5 => mixed.environment = other.environment,
            _ => mixed.concurrency = other.concurrency,
        }
        mixed
    }
}

#[tokio::test]
async fn the_oracle_catches_the_planted_bugs() {
    let house = house().await;
    let (manager, start) = (house.keyward.manager(), start(&house));
    // Each is a comparison that does not see what it should: it judges a key that is weaker than the one asked for.
    type Blind = Box<dyn Fn(&Powers, &Powers) -> Powers>;
    let mut planted: Vec<Blind> = (0..7)
        .map(|axis| -> Blind { Box::new(move |asked, ceiling| asked.mixed_with(ceiling, axis)) })
        .collect();
    planted.push(Box::new(|asked, ceiling| {
        let mut blind = asked.clone();
        if blind.resources.is_empty() {
            blind.resources.clone_from(&ceiling.resources);
        }
        blind
    }));
    planted.push(Box::new(|asked, ceiling| {
        let mut blind = asked.clone();
        for (kind, value) in &ceiling.resources {
            if !asked.resources.is_empty() && !asked.resources.iter().any(|(of, _)| of == kind) {
                blind.resources.push((*kind, *value));
            }
        }
        blind
    }));
    for (number, blind) in planted.iter().enumerate() {
        let mut choices = Choices::new(2_100);
        let caught = (0..20_000).any(|_| {
            let ceiling = Powers::draw(&mut choices);
            let asked = ceiling.mixed_with(&Powers::draw(&mut choices), choices.below(7));
            let actor = Actor::user("alice", tenant(), ceiling.ceiling(start)).unwrap();
            let granted = issue(manager, &actor, &blind(&asked, &ceiling), start).is_ok();
            granted && asked.exceeds(&ceiling).is_some()
        });
        assert!(caught, "planted bug {number}");
    }
}

#[tokio::test]
async fn a_key_cannot_make_a_stronger_key() {
    let house = house().await;
    let (manager, start) = (house.keyward.manager(), start(&house));
    let mut choices = Choices::new(2_101);
    for _ in 0..2_000 {
        let mut own = Powers::draw(&mut choices);
        own.environment.get_or_insert("test");
        let (_, record) = house.issue(own.new_key(start)).await.into_parts();
        let ceiling = Ceiling::Limited(Limits::of_key(&record));
        let actor = Actor::integration("robot", tenant(), ceiling).unwrap();
        assert!(
            issue(manager, &actor, &own, start).is_ok(),
            "an equal of itself"
        );
        let asked = own.mixed_with(&Powers::draw(&mut choices), choices.below(7));
        if issue(manager, &actor, &asked, start).is_ok() {
            assert_eq!(asked.exceeds(&own), None);
        }
    }
}

#[tokio::test]
async fn an_actor_issues_for_its_own_tenants_only() {
    let house = house().await;
    let other = keyward::key::TenantId::new("other-inc").unwrap();
    let actor = Actor::user("alice", other, Ceiling::Unlimited).unwrap();
    let refused = house
        .keyward
        .manager()
        .issue(&actor, crate::common::new_key())
        .await;
    assert!(matches!(refused, Err(ManageError::Refused)));
}
