//! The life of a key: issued, used, changed, switched off, rotated, ended, listed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;
mod cutoffs;
mod expiry;
mod explain;
mod export;
mod find_by_id;
mod grants;
mod history;
mod instants;
mod issue;
mod json;
mod json_forms;
mod leaked;
mod limits;
mod list;
mod overlap;
mod pages;
mod purge;
mod refusals;
mod removal;
mod replay;
mod request_forms;
mod request_ids;
mod restore;
mod retention;
mod revoke;
mod revoke_all;
mod revoke_all_races;
mod rotate;
mod rotate_races;
mod rules;
mod shown;
mod store;
mod succession;
mod suspend;
mod tenants;
mod update;
mod update_races;
mod usage;
mod verify;
