//! The promises, each shown by the test that tries to break it. Modules bear the number and name of the promise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;
mod held_up;
mod operations;
mod t01_revoked_is_refused;
mod t03_lease;
mod t04_fill_races;
mod t08_equal_hashing;
mod t10_slow_hashes;
mod t11_malformed_costs_nothing;
mod t13_no_mutated_key;
mod t14_model;
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
