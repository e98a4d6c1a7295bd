//! The promises, each shown by the test that tries to break it. Modules bear the number and name of the promise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;
mod exact_limiter;
mod held_up;
mod operations;
mod request_ids;
mod t01_revoked_is_refused;
mod t03_lease;
mod t04_fill_races;
mod t05_exact_limits;
mod t06_strict_windows;
mod t08_equal_hashing;
mod t10_slow_hashes;
mod t11_malformed_costs_nothing;
mod t13_no_mutated_key;
mod t14_model;
mod t14_retries;
mod t16_dropped_futures;
mod t17_store_down;
mod t18_events;
mod t20_canary;
mod t21_no_growth_of_privilege;
mod t21_powers;
mod t21_whole_life;
mod t23_expiry;
mod t24_randomness;
mod t27_hostile_digests;
mod t28_faults;
mod t29_relabelled;
mod t30_resources;
mod t31_changed_keys;
mod t32_slow_fairness;
mod t36_purged_is_gone;
mod t_flood;
mod t_weak_brake;

/// The store under test. `sqlite.rs` has another one, and the promises that depend on it.
mod store {
    use std::time::Duration;

    pub(crate) use keyward::store::MemoryStore as Store;

    pub(crate) const IS_ON_DISK: bool = false;
    /// Time after which a call that nobody polls may have been done.
    pub(crate) const LATER: Duration = Duration::ZERO;
    /// Times after which calls are dropped.
    pub(crate) const PAUSES: [Duration; 1] = [LATER];

    /// None: a store in memory is made faster than copied.
    pub(crate) enum Image {}

    pub(crate) async fn image(_: &Store) -> Option<Image> {
        None
    }

    pub(crate) fn restored(image: &Image) -> Store {
        match *image {}
    }

    /// Opens the store once more, as another process does.
    pub(crate) fn opened_again(store: &Store) -> Store {
        store.clone()
    }

    /// Waits for what dropped calls have begun, and asserts that they left nothing open.
    pub(crate) async fn assert_settled(_: &Store) {}
}
