//! Promise 4: a fill that raced a revocation never brings the key back. And promises 1 and 3 over schedules: what the
//! node that revokes, its news and the bound of the lease promise holds in whatever order threads meet.
//!
//! Whole Keywards are explored as they are, on shuttle's locks and atomics, over a store that lets others go on before
//! and after the effect of each of its calls:
//! ```text
//! RUSTFLAGS="--cfg keyward_shuttle" cargo test -p keyward_tests --test schedules
//! ```
//! Some 112,000 schedules, in about a minute; `KEYWARD_SCHEDULES=10` draws ten times as many.
//!
//! | module | what is explored | schedules |
//! |---|---|---|
//! | `here` | the node that revokes, cuts off or suspends; its key warm, lapsed or cold | 31,000 |
//! | `elsewhere` | another node does; news, pages, news that begin anew, the bound | 40,000 |
//! | `together` | shared reads, leaders of them that go away, and guesses at the key | 17,000 |
//! | `gone` | a `revoke` that is dropped at every poll, or is never answered, whose commit takes place later | 24,000 |
//!
//! `tests/schedules/plant.sh` shows that they catch these faults, which it plants in a copy of the library, one at a
//! time (`planted`):
//! - `here`: a fill that checks and then inserts, or inserts and then checks again; a read that is dated after its
//!   answer; a slot that goes while what was read is still held; an answer that is joined without looking at the fence;
//!   a read that is answered while others still find it under way, and look for it without end.
//! - `elsewhere`: a round that is dated after its answer, that counts before its news are applied or with pages
//!   missing; entries that outlive their history, or are vouched for by a later one's round; a cutoff that is passed
//!   over; an older revision that takes a newer one's place.
//! - `together`: an answer that is joined without looking at the fence.
//! - `gone`: a fence that is put up after the commit, or lifted when its caller goes away or gets no answer.
#![cfg(keyward_shuttle)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod elsewhere;
mod explore;
mod gone;
mod here;
#[cfg(any())] // `faults.patch` lets it compile
mod planted;
mod stage;
mod together;
mod world;
