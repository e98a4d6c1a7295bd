//! The oracle of promise 21: what a key may do, drawn and judged apart from the library's own types.
//!
//! It knows nothing of sets and subsets: it lists concrete deeds (this scope on this route, touching these two
//! things, from this address, at this time, so many requests in such a time, so many at once), and says of each
//! whether a key lets it happen. A key is too strong if it lets a deed happen that a key with the ceiling's own
//! powers would not. Which deeds a scope or a network lets happen stands in tables, written by hand.

mod deeds;

pub(crate) use deeds::{ADDRESSES, Deeds, STEP, from_second, second_of};

use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::time::Duration;

use keyward::clock::{Clock, ClockError};
use keyward::hashing::Pepper;
use keyward::import::{ImportedKeys, LegacyFormat};
use keyward::key::{
    Access, Environment, KeyRecord, Network, Networks, Quota, Resource, Resources, Scope, TenantId,
};
use keyward::manager::{Ceiling, Limits, NewKey};
use keyward::scope;
use keyward::store::MemoryStore;
use keyward::testkit::ManualClock;
use keyward::time::OffsetDateTime;
use test_support::size;

use crate::common::{ADMIN, Choices, Fixture, READ, WRITE, now};

/// How many operations are drawn.
pub(crate) fn operations() -> u32 {
    size("KEYWARD_OPERATIONS", 20_000)
}

/// What a key may do, or a ceiling lets be granted. Lists are bits, so that each has one spelling.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Powers {
    pub(crate) full: bool,
    /// For a key, the environment it is for; for a ceiling, the one that it is bound to.
    pub(crate) environment: Option<usize>,
    /// Bits of [`SCOPES`]; none where access is full.
    pub(crate) scopes: u8,
    /// Bits of [`RESOURCES`].
    pub(crate) resources: u8,
    /// Bits of [`NETWORKS`].
    pub(crate) networks: u8,
    /// Seconds after the start. A ceiling has none.
    pub(crate) starts_after: Option<u64>,
    pub(crate) expires_after: Option<u64>,
    /// Bits of [`QUOTAS`].
    pub(crate) quotas: u8,
    pub(crate) concurrency: Option<NonZeroU32>,
}

/// `read` and `write`, `all` which implies both, and `edit` which implies `write`.
pub(crate) const SCOPES: [Scope; 4] = [READ, WRITE, ADMIN, scope!("edit")];

const ENVIRONMENTS: [&str; 2] = ["test", "sandbox"];

/// Two kinds of things, and two things of each; every kind has a third thing, which nobody lists.
pub(crate) const KINDS: [&str; 2] = ["project", "client"];
pub(crate) const THINGS: [&str; 3] = ["p1", "p2", "some-other"];

const NETWORKS: [&str; 4] = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "2001:db8::/32"];

/// Limits and windows in seconds.
const QUOTAS: [(u32, u64); 4] = [(10, 60), (100, 60), (10, 3_600), (100, 3_600)];

/// The library's own forms of what can be drawn, made once.
struct Made {
    environments: [Environment; 2],
    resources: [Resource; 4],
    networks: [Network; 4],
    quotas: [Quota; 4],
}

static MADE: LazyLock<Made> = LazyLock::new(|| Made {
    environments: ENVIRONMENTS.map(|name| Environment::new(name).unwrap()),
    resources: [0, 1, 2, 3].map(|bit| Resource::new(KINDS[bit / 2], THINGS[bit % 2]).unwrap()),
    networks: NETWORKS.map(|text| text.parse().unwrap()),
    quotas: [0, 1, 2, 3].map(|index| {
        let (limit, seconds) = QUOTAS[index];
        let limit = NonZeroU32::new(limit).unwrap();
        Quota::new(&format!("q{index}"), limit, Duration::from_secs(seconds)).unwrap()
    }),
});

fn chosen<T: Clone>(bits: u8, from: &[T]) -> impl Iterator<Item = T> {
    let bits = (0..from.len()).filter(move |bit| bits >> bit & 1 == 1);
    bits.map(|bit| from[bit].clone())
}

fn bits_of<'a, T: PartialEq + 'a>(these: impl Iterator<Item = &'a T>, from: &[T]) -> u8 {
    these.fold(0, |bits, one| {
        bits | 1 << from.iter().position(|known| known == one).unwrap()
    })
}

/// The whole seconds from the start to this instant.
pub(crate) fn after(instant: OffsetDateTime, start: OffsetDateTime) -> u64 {
    let whole = u64::try_from((instant - start).whole_seconds()).unwrap();
    assert_eq!(instant, start + Duration::from_secs(whole));
    whole
}

impl Powers {
    /// Those of a ceiling that bounds nothing.
    pub(crate) fn unlimited() -> Self {
        Self {
            full: true,
            ..Self::default()
        }
    }

    pub(crate) fn draw(choices: &mut Choices) -> Self {
        let bits = |choices: &mut Choices| u8::try_from(choices.below(16)).unwrap();
        let mut powers = Self {
            full: choices.chance(4),
            environment: choices.chance(2).then(|| choices.below(2)),
            scopes: 0,
            resources: bits(choices),
            networks: bits(choices),
            starts_after: None,
            expires_after: choices.chance(2).then(|| 100 * (1 + choices.next() % 3)),
            quotas: bits(choices) & bits(choices),
            concurrency: choices
                .chance(2)
                .then(|| NonZeroU32::MIN.saturating_add(u32::try_from(choices.below(3)).unwrap())),
        };
        if !powers.full {
            powers.scopes = 1 + bits(choices) % 15;
        }
        if choices.chance(2) {
            powers.resources &= [0, 0b0011, 0b1100][choices.below(3)];
        }
        if choices.chance(2) {
            powers.networks = 0;
        }
        powers
    }

    /// This with one axis of another's.
    pub(crate) fn mixed_with(&self, other: &Self, axis: usize) -> Self {
        let mut mixed = *self;
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

    /// As those of a key, which is always for one environment: the first, if none was said.
    pub(crate) fn as_key(mut self) -> Self {
        self.environment.get_or_insert(0);
        self
    }

    /// What a record says that its key may do.
    pub(crate) fn of(record: &KeyRecord, start: OffsetDateTime) -> Self {
        let restrictions = record.restrictions();
        let (full, scopes) = match &restrictions.access {
            Access::Full => (true, 0),
            Access::Scopes(scopes) => (false, bits_of(scopes.iter(), &SCOPES)),
        };
        let mut environments = MADE.environments.iter();
        Self {
            full,
            environment: environments.position(|one| one == record.environment()),
            scopes,
            resources: match &restrictions.resources {
                Resources::Any => 0,
                Resources::Only(list) => bits_of(list.iter(), &MADE.resources),
            },
            networks: match &restrictions.networks {
                Networks::Any => 0,
                Networks::Only(list) => bits_of(list.iter(), &MADE.networks),
            },
            starts_after: restrictions.not_before.map(|instant| after(instant, start)),
            expires_after: restrictions.expires_at.map(|instant| after(instant, start)),
            quotas: bits_of(restrictions.quotas.iter(), &MADE.quotas),
            concurrency: restrictions.concurrency,
        }
    }

    pub(crate) fn access(&self) -> Access {
        if self.full {
            Access::Full
        } else {
            Access::scopes(chosen(self.scopes, &SCOPES)).unwrap()
        }
    }

    pub(crate) fn resource_rule(&self) -> Resources {
        Resources::only(chosen(self.resources, &MADE.resources)).unwrap_or(Resources::Any)
    }

    pub(crate) fn network_rule(&self) -> Networks {
        Networks::only(chosen(self.networks, &MADE.networks)).unwrap_or(Networks::Any)
    }

    pub(crate) fn quota_rules(&self) -> impl Iterator<Item = Quota> {
        chosen(self.quotas, &MADE.quotas)
    }

    pub(crate) fn new_key(&self, tenant: TenantId, start: OffsetDateTime) -> NewKey {
        let mut key = NewKey::new(tenant, "drawn", self.access())
            .environment(ENVIRONMENTS[self.environment.unwrap_or(0)])
            .resources(self.resource_rule())
            .networks(self.network_rule());
        for quota in self.quota_rules() {
            key = key.quota(quota);
        }
        if let Some(limit) = self.concurrency {
            key = key.concurrency(limit);
        }
        if let Some(seconds) = self.starts_after {
            key = key.not_before(start + Duration::from_secs(seconds));
        }
        match self.expires_after {
            Some(seconds) => key.expires_at(start + Duration::from_secs(seconds)),
            None => key,
        }
    }

    pub(crate) fn ceiling(&self, start: OffsetDateTime) -> Ceiling {
        let mut limits = Limits::new(self.access())
            .resources(self.resource_rule())
            .networks(self.network_rule());
        for quota in self.quota_rules() {
            limits = limits.quota(quota);
        }
        if let Some(limit) = self.concurrency {
            limits = limits.concurrency(limit);
        }
        if let Some(index) = self.environment {
            limits = limits.environments(MADE.environments[index].clone());
        }
        Ceiling::Limited(match self.expires_after {
            Some(seconds) => limits.expires_by(start + Duration::from_secs(seconds)),
            None => limits,
        })
    }

    /// Whether it ends before it starts.
    pub(crate) fn never_lives(&self) -> bool {
        let start = self.starts_after.unwrap_or(0);
        self.expires_after.is_some_and(|end| end <= start)
    }
}

/// The tests' clock, which would open for `test` alone.
#[derive(Debug)]
struct AnyEnvironment(ManualClock);

impl Clock for AnyEnvironment {
    fn now(&self) -> Result<OffsetDateTime, ClockError> {
        self.0.now()
    }

    fn is_for_tests(&self) -> bool {
        false
    }
}

/// A fixture with both environments and all that can be drawn, which accepts keys of the legacy format `legacy`.
pub(crate) fn fixture(clock: ManualClock) -> Fixture {
    let store = MemoryStore::new();
    let format = crate::common::format().environment("sandbox").unwrap();
    let lookup = Pepper::new(1, (1..33).collect::<Vec<u8>>()).unwrap();
    let legacy = LegacyFormat::with_id("legacy", '.').unwrap();
    let builder = crate::common::builder(store.clone(), clock.clone())
        .format(format)
        .scopes([scope!("edit").described("Edit").implies([WRITE])])
        .imported_keys(ImportedKeys::under(lookup).accept(legacy))
        .clock(AnyEnvironment(clock.clone()));
    Fixture {
        keyward: now(builder.open()).unwrap(),
        store,
        clock,
    }
}

pub(crate) fn start(fixture: &Fixture) -> OffsetDateTime {
    fixture.clock.now().unwrap()
}
