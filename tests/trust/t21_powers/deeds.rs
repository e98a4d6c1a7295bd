//! The concrete deeds, and which of them a key with given powers lets happen.

use std::sync::LazyLock;

use keyward::manager::Axis;

use super::{Powers, QUOTAS, chosen};
use crate::common::Choices;

/// Which of the routes that need one of [`SCOPES`](super::SCOPES) each of them opens; a fifth route needs full access.
const ROUTES: [u64; 4] = [0b00001, 0b00010, 0b01111, 0b01010];
const ALL_ROUTES: u64 = 0b11111;

pub(crate) const ADDRESSES: [&str; 5] = [
    "10.9.9.9",
    "10.1.9.9",
    "10.1.2.3",
    "2001:db8::1",
    "192.0.2.1",
];
/// Which of the addresses lie in each of the [networks](super::NETWORKS).
const LIE_WITHIN: [u64; 4] = [0b00111, 0b00110, 0b00100, 0b01000];

const REQUESTS: [u64; 7] = [1, 10, 11, 100, 101, 1_000, 6_001];
const OVER: [u64; 5] = [1, 59, 60, 3_599, 3_600];

/// All instants that are drawn are multiples of this.
pub(crate) const STEP: u64 = 50;
/// The deeds in time: at the beginning and in the last second of each of these steps, and long after.
const STEPS: u64 = 20;

pub(crate) const AXES: [Axis; 7] = [
    Axis::Access,
    Axis::Environment,
    Axis::Resources,
    Axis::Networks,
    Axis::Expiry,
    Axis::Quotas,
    Axis::Concurrency,
];

/// The concrete deeds that are let happen, a bit each, axis by axis in the order of [`AXES`]: a deed is let happen if
/// each axis lets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deeds(pub(crate) [u64; 7]);

impl Deeds {
    /// The axes on which this lets a deed happen that `ceiling` does not.
    pub(crate) fn beyond(&self, ceiling: &Self) -> Vec<Axis> {
        let pairs = self.0.iter().zip(&ceiling.0).zip(AXES);
        pairs
            .filter(|((lets, allowed), _)| **lets & !**allowed != 0)
            .map(|(_, axis)| axis)
            .collect()
    }

    /// Whether all these deeds are let happen; for [one deed](Self::one), whether it is.
    pub(crate) fn hold(&self, deed: &Self) -> bool {
        deed.0
            .iter()
            .zip(&self.0)
            .all(|(deed, lets)| deed & !lets == 0)
    }

    /// One of the deeds: one bit on each axis, and of the things one of each kind. None if there are none.
    pub(crate) fn one(&self, choices: &mut Choices) -> Option<Self> {
        let mut deed = self.0;
        for (axis, bits) in deed.iter_mut().enumerate() {
            *bits = if axis == 2 {
                one_bit(*bits & 0b111, choices)? | one_bit(*bits & 0b11_1000, choices)?
            } else {
                one_bit(*bits, choices)?
            };
        }
        Some(Self(deed))
    }
}

fn one_bit(bits: u64, choices: &mut Choices) -> Option<u64> {
    if bits == 0 {
        return None;
    }
    // The first one after a place drawn, going round.
    let from = u32::try_from(choices.below(64)).unwrap();
    let turned = bits.rotate_right(from);
    Some((turned & turned.wrapping_neg()).rotate_left(from))
}

/// The seconds after the start at which the deeds in time are done.
pub(crate) fn second_of(bit: u32) -> u64 {
    match u64::from(bit) {
        bit if bit < 2 * STEPS => bit / 2 * STEP + bit % 2 * (STEP - 1),
        _ => 1_000_000,
    }
}

/// The deeds at this second and later.
pub(crate) fn from_second(second: u64) -> u64 {
    /// By steps.
    static FROM: LazyLock<Vec<u64>> = LazyLock::new(|| {
        let last = u32::try_from(2 * STEPS).unwrap();
        let from = |second| (0..=last).filter(move |bit| second_of(*bit) >= second);
        let starts = (0..=STEPS).map(|step| step * STEP);
        starts
            .map(|start| from(start).fold(0, |bits, bit| bits | 1 << bit))
            .collect()
    });
    assert_eq!(second % STEP, 0, "between two steps nothing is listed");
    FROM[usize::try_from(second / STEP).unwrap()]
}

/// The deeds while a key lives.
fn lived(start: Option<u64>, end: Option<u64>) -> u64 {
    from_second(start.unwrap_or(0)) & !end.map_or(0, from_second)
}

/// The bursts that one quota lets through: so many requests, evenly spread over so many seconds.
static BURSTS: LazyLock<[u64; 4]> = LazyLock::new(|| {
    QUOTAS.map(|(limit, window)| {
        let bursts = REQUESTS
            .iter()
            .flat_map(|count| OVER.map(|over| (*count, over)));
        let lets = bursts.map(|(count, over)| {
            let in_a_window = if over <= window {
                count
            } else {
                count * window / over
            };
            in_a_window <= u64::from(limit)
        });
        lets.enumerate()
            .fold(0, |bits, (bit, lets)| bits | u64::from(lets) << bit)
    })
});
const ALL_BURSTS: u64 = (1 << (REQUESTS.len() * OVER.len())) - 1;

impl Powers {
    /// What a key with these powers lets happen.
    pub(crate) fn deeds(&self) -> Deeds {
        self.as_key().allowed()
    }

    /// What a ceiling with these powers lets be granted: bound to no environment, it lets keys be for any.
    pub(crate) fn allowed(&self) -> Deeds {
        let held = |bits: u8, deeds: &[u64]| -> u64 {
            chosen(bits, deeds).fold(0, |all, deeds| all | deeds)
        };
        let access = if self.full {
            ALL_ROUTES
        } else {
            held(self.scopes, &ROUTES)
        };
        let of_kind = |bits: u8| if bits == 0 { 0b111 } else { u64::from(bits) };
        let resources = of_kind(self.resources & 0b11) | of_kind(self.resources >> 2) << 3;
        let networks = if self.networks == 0 {
            0b11111
        } else {
            held(self.networks, &LIE_WITHIN)
        };
        let quotas = chosen(self.quotas, &*BURSTS).fold(ALL_BURSTS, |all, lets| all & lets);
        let at_once = self
            .concurrency
            .map_or(0b11111, |limit| (1 << limit.get()) - 1);
        Deeds([
            access,
            self.environment.map_or(0b11, |index| 1 << index),
            resources,
            networks,
            lived(self.starts_after, self.expires_after),
            quotas,
            at_once,
        ])
    }

    /// The first axis on which this lets a deed happen that `ceiling` does not.
    pub(crate) fn exceeds(&self, ceiling: &Self) -> Option<Axis> {
        self.deeds().beyond(&ceiling.allowed()).first().copied()
    }
}
