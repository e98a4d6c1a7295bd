//! How much was used in the window of one quota.
//!
//! # Why is it strict?
//! The window is cut into 60 parts. A ring of 61 counters holds the part that has begun and the 60 before it. They
//! cover at least one whole window back from any instant, so that no more than the limit is ever used in an interval
//! of the window's length. A use leaves the ring at the end of the 60th part after its own: at most one part, a
//! sixtieth of the window, later than a log of exact timestamps would let it go.
//!
//! Parts begin at multiples of a sixtieth of the window, counted from the start of the monotonic clock.

/// Parts of a window.
const PARTS: u64 = 60;

/// Counters of a ring.
const SLOTS: usize = 61;

/// A third of a part of a window of one second, times 20, in nanoseconds: a part of `s` seconds lasts `s * THIRDS / 3`
/// nanoseconds, which need not be whole.
const THIRDS: u64 = 50_000_000;

/// The use of one window, in 61 parts.
///
/// The present part has a counter of its own. Most requests touch no other, and a subject that is used in one part only
/// needs no other.
#[derive(Debug)]
pub(super) struct Ring {
    /// The length of the window in seconds.
    seconds: u32,
    /// The use in the present part.
    present: u32,
    /// The present part, and the first instant after it.
    part: u64,
    ends: u64,
    sum: u64,
    /// The use in the parts before.
    past: Counts,
}

/// The counters, as wide as the largest count needs. Index `part % 61`.
#[derive(Debug)]
enum Counts {
    /// All are zero.
    None,
    Narrow(Box<[u8; SLOTS]>),
    Middle(Box<[u16; SLOTS]>),
    Wide(Box<[u32; SLOTS]>),
}

impl Ring {
    pub(super) fn new(seconds: u32) -> Self {
        Self {
            seconds,
            present: 0,
            part: 0,
            ends: start_of(seconds, 1),
            sum: 0,
            past: Counts::None,
        }
    }

    /// Moves on to the part that this instant is in. An instant before the present part is in the present part: time
    /// does not run back.
    pub(super) fn advance(&mut self, now: u64) {
        self.try_advance(now, |_| true);
    }

    /// Moves on to the part that this instant is in, if there is memory for the counters that it takes; returns whether
    /// there is.
    #[inline]
    pub(super) fn try_advance(&mut self, now: u64, reserve: impl FnOnce(usize) -> bool) -> bool {
        now < self.ends || self.advance_to(part_of(self.seconds, now), reserve)
    }

    #[cold]
    fn advance_to(&mut self, part: u64, reserve: impl FnOnce(usize) -> bool) -> bool {
        let passed = part - self.part;
        if passed == 0 {
            return true; // The end of the present part is beyond the range of the clock.
        }
        if passed > PARTS {
            self.clear();
        } else if self.sum > 0 {
            let bytes = Counts::bytes_for(self.present).saturating_sub(self.past.bytes());
            if bytes > 0 && !reserve(bytes) {
                return false;
            }
            self.past.set(slot_of(self.part), self.present);
            self.present = 0;
            for gone in self.part + 1..=part {
                self.sum -= u64::from(self.past.take(slot_of(gone)));
            }
        }
        (self.part, self.ends) = (part, start_of(self.seconds, part + 1));
        true
    }

    /// Returns the ring of a window of another length, with all that this one counts. Nothing was added after `latest`.
    ///
    /// A use in a part counts as made at the end of the part, or at `latest` if that is earlier.
    pub(super) fn with_window(&self, seconds: u32, latest: u64) -> Self {
        let mut changed = Self::new(seconds);
        changed.advance(latest);
        for (part, used) in self.parts() {
            let at = part_of(seconds, start_of(self.seconds, part + 1).min(latest));
            if used > 0 && at + PARTS >= changed.part {
                changed.add_in(at, used);
            }
        }
        changed
    }

    /// Returns the parts, oldest first, each with its use.
    fn parts(&self) -> impl Iterator<Item = (u64, u32)> {
        let past = (self.part.saturating_sub(PARTS)..self.part)
            .map(|part| (part, self.past.get(slot_of(part))));
        past.chain([(self.part, self.present)])
    }

    /// Returns how much is used in the present part and those before.
    #[inline]
    pub(super) fn used(&self) -> u64 {
        self.sum
    }

    /// Returns how much is used at an instant, unless that is after the present part.
    #[inline(always)]
    pub(super) fn used_in_present(&self, now: u64) -> Option<u64> {
        (now < self.ends).then_some(self.sum)
    }

    /// Returns how much is used at an instant that is not before the present part.
    pub(super) fn used_at(&self, now: u64) -> u64 {
        if now < self.ends {
            return self.sum;
        }
        let first = part_of(self.seconds, now).saturating_sub(PARTS);
        let counted = self.parts().filter(|(part, _)| *part >= first);
        counted.map(|(_, used)| u64::from(used)).sum()
    }

    /// Returns the bytes of the counters.
    pub(super) fn bytes(&self) -> usize {
        self.past.bytes()
    }

    /// Adds to the present part.
    #[inline]
    pub(super) fn add(&mut self, cost: u32) {
        let after = self.present.saturating_add(cost);
        self.sum += u64::from(after - self.present);
        self.present = after;
    }

    fn add_in(&mut self, part: u64, cost: u32) {
        if part == self.part {
            self.add(cost);
            return;
        }
        let before = self.past.get(slot_of(part));
        let after = before.saturating_add(cost);
        self.past.set(slot_of(part), after);
        self.sum += u64::from(after - before);
    }

    /// Takes back an addition at an instant, as far as it is still counted there.
    pub(super) fn take_back(&mut self, at: u64, cost: u32) {
        let part = part_of(self.seconds, at);
        if part == self.part {
            let after = self.present.saturating_sub(cost);
            self.sum -= u64::from(self.present - after);
            self.present = after;
        } else if part < self.part && part + PARTS >= self.part {
            self.sum -= u64::from(self.past.subtract(slot_of(part), cost));
        }
    }

    /// Returns the first instant at which at most this much is used, if nothing is added. It is in the past if that
    /// much is not used any more.
    pub(super) fn drops_to(&self, most: u64) -> u64 {
        let mut used = self.sum;
        if used <= most {
            return 0;
        }
        let after = |part| start_of(self.seconds, part + PARTS + 1);
        if u64::from(self.present) > most {
            return after(self.part);
        }
        for (part, count) in self.parts() {
            used -= u64::from(count);
            if used <= most {
                return after(part);
            }
        }
        0
    }

    /// Forgets the use, and returns the number of bytes that this frees.
    pub(super) fn free(&mut self) -> usize {
        let bytes = self.past.bytes();
        self.clear();
        self.past = Counts::None;
        bytes
    }

    fn clear(&mut self) {
        (self.sum, self.present) = (0, 0);
        self.past.clear();
    }
}

fn slot_of(part: u64) -> usize {
    (part % (PARTS + 1)) as usize
}

/// Returns the part that an instant is in.
fn part_of(seconds: u32, at: u64) -> u64 {
    at.saturating_mul(3) / (u64::from(seconds) * THIRDS)
}

/// Returns the first instant of a part.
fn start_of(seconds: u32, part: u64) -> u64 {
    part.saturating_mul(u64::from(seconds) * THIRDS).div_ceil(3)
}

impl Counts {
    fn bytes_for(count: u32) -> usize {
        SLOTS
            * match count {
                0 => 0,
                1..=0xff => 1,
                0x100..=0xffff => 2,
                _ => 4,
            }
    }

    fn bytes(&self) -> usize {
        SLOTS
            * match self {
                Self::None => 0,
                Self::Narrow(_) => 1,
                Self::Middle(_) => 2,
                Self::Wide(_) => 4,
            }
    }

    fn get(&self, slot: usize) -> u32 {
        match self {
            Self::None => 0,
            Self::Narrow(counts) => counts.get(slot).copied().unwrap_or(0).into(),
            Self::Middle(counts) => counts.get(slot).copied().unwrap_or(0).into(),
            Self::Wide(counts) => counts.get(slot).copied().unwrap_or(0),
        }
    }

    /// Writes a count; returns whether it fits.
    fn put(&mut self, slot: usize, count: u32) -> bool {
        fn write<T: TryFrom<u32>>(place: Option<&mut T>, count: u32) -> bool {
            match (place, T::try_from(count)) {
                (Some(place), Ok(count)) => {
                    *place = count;
                    true
                }
                _ => false,
            }
        }
        match self {
            Self::None => count == 0,
            Self::Narrow(counts) => write(counts.get_mut(slot), count),
            Self::Middle(counts) => write(counts.get_mut(slot), count),
            Self::Wide(counts) => write(counts.get_mut(slot), count),
        }
    }

    fn set(&mut self, slot: usize, count: u32) {
        if !self.put(slot, count) {
            self.widen(count);
            self.put(slot, count);
        }
    }

    /// Subtracts, at most down to zero, and returns how much was subtracted.
    fn subtract(&mut self, slot: usize, cost: u32) -> u32 {
        let before = self.get(slot);
        let after = before.saturating_sub(cost);
        self.put(slot, after);
        before - after
    }

    fn take(&mut self, slot: usize) -> u32 {
        self.subtract(slot, u32::MAX)
    }

    fn clear(&mut self) {
        match self {
            Self::None => {}
            Self::Narrow(counts) => **counts = [0; SLOTS],
            Self::Middle(counts) => **counts = [0; SLOTS],
            Self::Wide(counts) => **counts = [0; SLOTS],
        }
    }

    /// Makes the counters wide enough for this count.
    #[cold]
    fn widen(&mut self, count: u32) {
        let mut wider = match Self::bytes_for(count) / SLOTS {
            1 => Self::Narrow(Box::new([0; SLOTS])),
            2 => Self::Middle(Box::new([0; SLOTS])),
            _ => Self::Wide(Box::new([0; SLOTS])),
        };
        for slot in 0..SLOTS {
            wider.put(slot, self.get(slot));
        }
        *self = wider;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::random::RandomSource as _;
    use crate::testkit::SeededRandom;

    const SECOND: u64 = 1_000_000_000;

    /// A log of exact timestamps.
    #[derive(Default)]
    struct Log(VecDeque<(u64, u32)>);

    impl Log {
        fn used(&self, after: u64) -> u64 {
            self.0
                .iter()
                .filter(|(at, _)| *at >= after)
                .map(|(_, cost)| u64::from(*cost))
                .sum()
        }
    }

    fn draw(random: &SeededRandom, below: u64) -> u64 {
        let mut bytes = [0; 8];
        random.fill(&mut bytes).unwrap();
        u64::from_le_bytes(bytes) % below
    }

    /// In random sequences, a use is counted for at least the window and at most a sixtieth longer.
    #[test]
    fn uses_are_counted_as_long_as_promised() {
        let random = SeededRandom::new(17);
        for seconds in [1, 2, 7, 60, 3_600, 86_400, 366 * 86_400] {
            let window = u64::from(seconds) * SECOND;
            let (mut ring, mut log) = (Ring::new(seconds), Log::default());
            let mut now = draw(&random, 100 * SECOND);
            for _ in 0..3_000 {
                now += match draw(&random, 4) {
                    0 => 0,
                    1 => draw(&random, window / 60 + 1),
                    2 => draw(&random, window / 4),
                    _ => draw(&random, 3),
                };
                if draw(&random, 300) == 0 {
                    now += draw(&random, 3 * window);
                }
                let before = ring.used_at(now);
                ring.advance(now);
                assert_eq!(ring.used_at(now), before, "moving on changes nothing");
                let least = log.used(now.saturating_sub(window));
                let most = log.used((now + 1).saturating_sub(window + window.div_ceil(60)));
                assert!(
                    least <= ring.used() && ring.used() <= most,
                    "{least} {} {most}",
                    ring.used()
                );
                let limit = draw(&random, ring.used() + 1);
                let at = ring.drops_to(limit);
                if at > 0 {
                    assert!(at > now && at <= now + window + window.div_ceil(60));
                }
                let below = match draw(&random, 3) {
                    0 => 3,
                    1 => 300,
                    _ => 70_000,
                };
                let cost = u32::try_from(draw(&random, below)).unwrap();
                ring.add(cost);
                log.0.push_back((now, cost));
                while log.0.front().is_some_and(|(at, _)| at + 2 * window < now) {
                    log.0.pop_front();
                }
            }
        }
    }

    #[test]
    fn room_is_told_to_the_nanosecond() {
        for seconds in [1, 60, 3_600] {
            let mut ring = Ring::new(seconds);
            for part in [0, 5, 17] {
                ring.advance(start_of(seconds, part));
                ring.add(1);
            }
            for most in [2, 1, 0] {
                let at = ring.drops_to(most);
                ring.advance(at - 1);
                assert!(ring.used() > most, "{seconds}");
                ring.advance(at);
                assert_eq!(ring.used(), most, "{seconds}");
            }
            assert_eq!(ring.drops_to(0), 0);
            assert!(ring.free() > 0);
        }
    }

    #[test]
    fn another_window_forgets_nothing() {
        for (from, to) in [(60, 3_600), (3_600, 60), (1, 366 * 86_400), (60, 7)] {
            let mut ring = Ring::new(from);
            let now = 1_000_000 * SECOND;
            ring.advance(now);
            ring.add(70_000);
            let mut ring = ring.with_window(to, now);
            assert_eq!(ring.used(), 70_000);
            ring.advance(now + u64::from(to) * SECOND);
            assert_eq!(
                ring.used(),
                70_000,
                "{to}: it is counted for the window that is now in force"
            );
            ring.advance(now + u64::from(to) * SECOND * 61 / 60 + 1);
            assert_eq!(ring.used(), 0);
        }
    }

    #[test]
    fn what_is_taken_back_is_not_counted() {
        let mut ring = Ring::new(60);
        ring.advance(100 * SECOND);
        ring.add(300);
        ring.advance(130 * SECOND);
        ring.add(5);
        ring.take_back(100 * SECOND, 200);
        assert_eq!(ring.used(), 105);
        ring.take_back(100 * SECOND, u32::MAX);
        assert_eq!(ring.used(), 5, "no more than was added there");
        ring.advance(190 * SECOND);
        ring.take_back(100 * SECOND, 5);
        ring.take_back(300 * SECOND, 5);
        assert_eq!(ring.used(), 5);
    }

    #[test]
    fn without_memory_nothing_moves() {
        let mut ring = Ring::new(60);
        ring.add(300);
        let later = 30 * SECOND;
        assert!(!ring.try_advance(later, |bytes| bytes < 122));
        assert_eq!((ring.used_at(later), ring.bytes()), (300, 0));
        assert!(ring.try_advance(later, |bytes| bytes == 122));
        ring.add(5);
        assert_eq!((ring.used_at(later), ring.bytes()), (305, 122));
        assert_eq!(ring.used_at(62 * SECOND), 5);
        assert!(
            ring.try_advance(62 * SECOND, |_| false),
            "it has the memory"
        );
        assert_eq!((ring.used(), ring.free(), ring.used()), (5, 122, 0));
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let mut ring = Ring::new(366 * 86_400);
        ring.advance(u64::MAX);
        ring.add(u32::MAX);
        ring.add(u32::MAX);
        assert_eq!(ring.used(), u64::from(u32::MAX));
        ring.advance(u64::MAX);
        assert_eq!(ring.used(), u64::from(u32::MAX));
        ring.take_back(u64::MAX, 1);
        assert_eq!(ring.used(), u64::from(u32::MAX) - 1);
    }
}
