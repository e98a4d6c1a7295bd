//! A log of exact timestamps of what was admitted.

use keyward::key::Quota;

/// What was admitted under one quota.
pub(super) struct Log {
    limit: u64,
    window: u64,
    /// The instants, and the costs.
    entries: Vec<(u64, u32)>,
    /// What is in the window that ends now.
    strict: Sum,
    /// What is in the window that ends now, a sixtieth longer.
    late: Sum,
}

/// The sum of the entries from one on.
#[derive(Default)]
struct Sum {
    from: usize,
    sum: u64,
}

impl Log {
    pub(super) fn of(quota: &Quota) -> Self {
        Self {
            limit: quota.limit().get().into(),
            window: u64::try_from(quota.window().as_nanos()).unwrap(),
            entries: Vec::new(),
            strict: Sum::default(),
            late: Sum::default(),
        }
    }

    /// Lets time pass until this instant.
    pub(super) fn advance(&mut self, now: u64) {
        let late = self.window + self.window.div_ceil(60);
        self.strict.advance(&self.entries, self.window, now);
        self.late.advance(&self.entries, late, now);
    }

    /// Adds what was admitted now, and returns whether it is within the limit in each interval of the window's length
    /// that ends now. Both ends belong to an interval.
    pub(super) fn add(&mut self, now: u64, cost: u32) -> bool {
        self.entries.push((now, cost));
        self.strict.sum += u64::from(cost);
        self.late.sum += u64::from(cost);
        self.strict.sum <= self.limit
    }

    /// Returns whether the request would have been refused, too, a sixtieth of the window ago.
    pub(super) fn may_refuse(&self, cost: u32) -> bool {
        self.late.sum + u64::from(cost) > self.limit
    }
}

impl Sum {
    fn advance(&mut self, entries: &[(u64, u32)], length: u64, now: u64) {
        while let Some((at, cost)) = entries.get(self.from) {
            if at + length >= now {
                break;
            }
            self.sum -= u64::from(*cost);
            self.from += 1;
        }
    }
}
