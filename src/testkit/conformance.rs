//! A suite that checks a backend against the [contract](crate::store::KeyStore) of a store.
//!
//! ```
//! # fn main() {} // a test harness would run what the macro makes
//! use keyward::store::MemoryStore;
//!
//! keyward::testkit::conformance!(|| async { Ok(((), MemoryStore::new())) });
//! ```
//! The macro makes a `#[test]` of each case, in a module `conformance`. Each case gets its own store: the closure
//! opens an empty one, and returns it after a value that must outlive it, such as its folder. Any error converts with
//! `?`.
//!
//! Some cases fail until the suite knows how to bring a store into the state that they need: a feed that has forgotten
//! its oldest changes ([`Suite::forgetting`] or [`Suite::forgetting_nothing`]), and a damaged key
//! ([`Suite::damaging`] or [`Suite::damaging_nothing`]).
//!
//! If a store keeps no events or no usage, the cases about them pass. The last two cases are model-based: they run
//! random sequences of operations, in one task and in several tasks at once, and compare each answer with a
//! naive reference. A sequence that fails is shrunk and printed.

mod commits;
mod cutoffs;
mod damage;
mod drops;
mod events;
mod feed;
mod keys;
mod lists;
mod material;
mod model;
mod purge;
mod usage;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::key::KeyId;
use crate::store::KeyStore;

/// Maximum duration of a case. A longer one counts as a store that hangs.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// Number of random sequences in a model-based case.
const SEQUENCES: u32 = 48;

/// Passes on the names of all cases. They are listed only here, so that none can be forgotten.
#[macro_export]
#[doc(hidden)]
macro_rules! __keyward_conformance {
    (@cases $($then:tt)*) => {
        $crate::__keyward_conformance! { $($then)*
            keys a_key_reads_back_unchanged,
            keys an_unknown_key_is_missing,
            keys insert_never_overwrites,
            keys concurrent_inserts_succeed_once,
            keys replace_needs_the_read_revision,
            keys replace_changes_no_identity,
            keys concurrent_replaces_succeed_once,
            keys revoke_wins_and_is_final,
            keys concurrent_revokes_succeed_once,
            keys a_revoked_key_does_not_change,
            keys rehash_is_conditional_and_silent,
            commits a_set_is_all_or_nothing,
            commits changes_see_those_before_them,
            commits a_set_is_committed_once,
            commits a_failed_set_may_succeed_later,
            commits no_change_publishes_nothing,
            commits the_largest_set_is_committed,
            commits a_failed_precondition_is_named,
            commits preconditions_see_the_state_before,
            commits the_cap_holds_under_concurrency,
            commits a_setting_is_written_once,
            cutoffs a_cutoff_moves_forward_only,
            cutoffs lowering_a_cutoff_revives_no_key,
            cutoffs a_cutoff_binds_its_scope,
            cutoffs inserts_can_require_no_cutoff,
            cutoffs no_insert_slips_past_a_new_cutoff,
            lists tenants_are_listed_in_order,
            purge a_living_key_is_not_purged,
            purge a_purged_key_is_gone_and_published,
            purge a_purged_id_stays_taken,
            purge a_purge_is_committed_once,
            purge only_an_empty_tenant_is_removed,
            purge removal_leaves_the_latest_cutoff,
            lists newest_first_and_revoked_last,
            lists pages_of_any_size_list_every_key,
            lists a_cursor_survives_changes,
            lists a_list_holds_one_tenants_keys,
            lists filters_admit_matching_keys,
            lists a_search_finds_every_match,
            lists ids_are_ordered_unsigned,
            lists a_list_shows_every_commit,
            damage a_damaged_key_spoils_no_other,
            damage a_damaged_key_is_not_changed,
            damage revocation_keeps_a_damaged_row,
            damage a_damaged_key_counts_as_a_key,
            damage a_damaged_key_can_be_purged,
            feed changes_come_in_commit_order,
            feed a_commit_comes_whole,
            feed the_last_page_is_complete,
            feed an_unknown_cursor_resyncs,
            feed a_forgotten_cursor_resyncs,
            feed a_reader_misses_no_change,
            feed a_waiting_reader_is_woken,
            feed a_wait_without_changes_ends,
            drops a_dropped_commit_is_done_or_not,
            drops a_dropped_read_leaves_nothing_open,
            events events_are_chained_in_commit_order,
            events only_effective_changes_are_recorded,
            events events_are_read_by_tenant_in_pages,
            events the_rest_of_a_cut_log_verifies,
            events a_mismatched_cut_changes_nothing,
            events a_log_cut_during_writes_verifies,
            usage each_batch_is_merged_once,
            usage usage_of_unknown_keys_is_skipped,
            model one_task_agrees_with_the_reference,
            model several_tasks_agree_with_the_reference,
        }
    };
    (@table $($room:ident $case:ident,)*) => {
        &[ $( (stringify!($case), |suite| Box::pin($room::$case(suite))) ),* ]
    };
    (@tests $($room:ident $case:ident,)*) => {
        $(
            #[test]
            fn $case() -> ::core::result::Result<(), $crate::testkit::conformance::Failure> {
                super::conformance_suite().run(stringify!($case))
            }
        )*
    };
    (@with $suite:expr, forget: $forget:expr $(, $($more:tt)*)?) => {
        $crate::__keyward_conformance! { @with $suite.forgetting($forget) $(, $($more)*)? }
    };
    (@with $suite:expr, forgets_nothing $(, $($more:tt)*)?) => {
        $crate::__keyward_conformance! { @with $suite.forgetting_nothing() $(, $($more)*)? }
    };
    (@with $suite:expr, damage: $damage:expr $(, $($more:tt)*)?) => {
        $crate::__keyward_conformance! { @with $suite.damaging($damage) $(, $($more)*)? }
    };
    (@with $suite:expr, damages_nothing $(, $($more:tt)*)?) => {
        $crate::__keyward_conformance! { @with $suite.damaging_nothing() $(, $($more)*)? }
    };
    (@with $suite:expr $(,)?) => {
        $crate::__keyward_conformance! { @suite $suite }
    };
    (@suite $suite:expr) => {
        // Beside the module and not in it, so that it sees the items around it.
        fn conformance_suite() -> $crate::testkit::conformance::Suite {
            $suite
        }

        mod conformance {
            $crate::__keyward_conformance! { @cases @tests }
        }
    };
    ($build:expr $(, $($options:tt)*)?) => {
        $crate::__keyward_conformance! {
            @with $crate::testkit::conformance::Suite::new($build) $(, $($options)*)?
        }
    };
}

type Case = for<'a> fn(&'a Suite) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

const CASES: &[(&str, Case)] = crate::__keyward_conformance! { @cases @table };

type Building = Pin<Box<dyn Future<Output = Result<Fixture, Failure>> + Send>>;

/// The conformance suite: its cases, and a function that opens an empty store for each.
pub struct Suite {
    build: Box<dyn Fn() -> Building + Send + Sync>,
    forget: Ability<u64>,
    damage: Ability<(KeyId, String)>,
    pub(crate) sequences: u32,
}

type Doing = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// Takes the value that a store was returned with, and what to do it to.
type Doer<On> = dyn Fn(&dyn Any, On) -> Doing + Send + Sync;

/// How the suite brings a store into a state that no call of the store does.
enum Ability<On> {
    Unknown,
    Never,
    By(Box<Doer<On>>),
}

impl<On: 'static> Ability<On> {
    fn by<G, F, Done>(name: &'static str, act: F) -> Self
    where
        G: Send + 'static,
        F: Fn(&G, On) -> Done + Send + Sync + 'static,
        Done: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        Self::By(Box::new(move |guard, on| match guard.downcast_ref() {
            Some(guard) => Box::pin(act(guard, on)),
            None => failed(format!(
                "`{name}` takes another type than the stores are returned with"
            )),
        }))
    }

    /// Does it to the store. `None` if that is never done to such a store.
    fn act(&self, fixture: &Fixture, on: On, unknown: &str) -> Option<Doing> {
        match self {
            Self::Unknown => Some(failed(unknown)),
            Self::Never => None,
            Self::By(act) => Some(act(&*fixture.guard, on)),
        }
    }
}

fn failed(explanation: impl Into<String>) -> Doing {
    Box::pin(std::future::ready(Err(Failure::new(explanation))))
}

/// A store, and the value that must outlive it. The order matters: the store is dropped first.
pub(crate) struct Fixture {
    store: Arc<dyn KeyStore>,
    guard: Box<dyn Any + Send>,
}

impl Deref for Fixture {
    type Target = Arc<dyn KeyStore>;

    fn deref(&self) -> &Self::Target {
        &self.store
    }
}

impl Suite {
    /// Creates the suite for stores that this function opens. Each call opens an empty store and returns it after a
    /// value that must outlive it.
    pub fn new<F, Opening, G, S>(build: F) -> Self
    where
        F: Fn() -> Opening + Send + Sync + 'static,
        Opening: Future<Output = Result<(G, S), Failure>> + Send + 'static,
        G: Send + 'static,
        S: KeyStore,
    {
        Self {
            build: Box::new(move || {
                let opening = build();
                Box::pin(async move {
                    let (guard, store) = opening.await?;
                    Ok(Fixture {
                        store: Arc::new(store),
                        guard: Box::new(guard),
                    })
                })
            }),
            forget: Ability::Unknown,
            damage: Ability::Unknown,
            sequences: SEQUENCES,
        }
    }

    /// Sets a function that makes a store's feed forget all changes up to a position, and none after it.
    ///
    /// The function may commit changes for that. It gets the value that the store was returned with.
    #[must_use]
    pub fn forgetting<G, F, Done>(mut self, forget: F) -> Self
    where
        G: Send + 'static,
        F: Fn(&G, u64) -> Done + Send + Sync + 'static,
        Done: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        self.forget = Ability::by("forget", forget);
        self
    }

    /// States that the feed keeps every change for as long as the store exists.
    #[must_use]
    pub fn forgetting_nothing(mut self) -> Self {
        self.forget = Ability::Never;
        self
    }

    /// Sets a function that damages the stored key with this id: it writes this text in the place of the key's title,
    /// behind the store's back, and nothing else.
    ///
    /// The suite passes a control character first, which is not a title. After a revocation it passes the key's own
    /// title, to see if the rest of the row is still there. The function gets the value that the store was returned
    /// with.
    #[must_use]
    pub fn damaging<G, F, Done>(mut self, damage: F) -> Self
    where
        G: Send + 'static,
        F: Fn(&G, KeyId, String) -> Done + Send + Sync + 'static,
        Done: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let damage = move |guard: &G, (id, title)| damage(guard, id, title);
        self.damage = Ability::by("damage", damage);
        self
    }

    /// States that keys cannot be damaged, since the store keeps them in the memory of its process.
    #[must_use]
    pub fn damaging_nothing(mut self) -> Self {
        self.damage = Ability::Never;
        self
    }

    /// Sets the number of random sequences in each model-based case. The default is 48.
    #[must_use]
    pub fn sequences(mut self, count: u32) -> Self {
        self.sequences = count;
        self
    }

    /// Returns the names of the cases.
    pub fn cases() -> impl Iterator<Item = &'static str> {
        CASES.iter().map(|(name, _)| *name)
    }

    /// Runs one case, on a runtime of its own.
    ///
    /// # Errors
    /// [`Failure`] describes the difference between the store and the contract.
    pub fn run(&self, case: &str) -> Result<(), Failure> {
        let mut cases = CASES.iter();
        let (name, run) = cases
            .find(|(name, _)| *name == case)
            .ok_or_else(|| Failure::new(format!("there is no case `{case}`")))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let ended = runtime.block_on(async { tokio::time::timeout(PATIENCE, run(self)).await });
        // A task that a case left behind, such as a waiting feed poll, must not delay the next case.
        runtime.shutdown_background();
        ended.map_err(|_| Failure::new(format!("{name}: no end after {PATIENCE:?}")))?
    }

    /// Runs all cases one after the other, and reports all that fail.
    ///
    /// # Errors
    /// [`Failure`], with a line for each case that failed.
    pub fn run_all(&self) -> Result<(), Failure> {
        let failed: Vec<_> = Self::cases()
            .filter_map(|case| Some(format!("{case}: {:?}", self.run(case).err()?)))
            .collect();
        if failed.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(failed.join("\n")))
        }
    }

    pub(crate) async fn store(&self) -> Result<Fixture, Failure> {
        (self.build)().await
    }

    /// Makes the store's feed forget. `None` if it never forgets.
    fn forget(&self, fixture: &Fixture, position: u64) -> Option<Doing> {
        let unknown = "say how the feed forgets: `conformance!(…, forget: |guard, position| …)`, or `forgets_nothing`";
        self.forget.act(fixture, position, unknown)
    }

    /// Writes a text in the place of a key's title. `None` if keys cannot be damaged.
    fn damage(&self, fixture: &Fixture, id: KeyId, title: &str) -> Option<Doing> {
        let unknown = "say how to damage a key: `conformance!(…, damage: |guard, id, title| …)`, or `damages_nothing`";
        self.damage.act(fixture, (id, title.to_owned()), unknown)
    }
}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suite").finish_non_exhaustive()
    }
}

/// The difference between a store and the contract, or the reason why a store could not be opened.
///
/// `Debug` shows the plain text, since a test harness prints errors with it.
pub struct Failure(String);

impl Failure {
    /// Creates a failure with this explanation.
    pub fn new(explanation: impl Into<String>) -> Self {
        Self(explanation.into())
    }

    /// Describes two values that differ. `Debug` of a key shows neither its digest nor its document.
    fn of_difference(explanation: &str, found: &str, expected: &str) -> Self {
        let hidden = if found == expected {
            "\n  They differ in a digest or in the bytes of a document, which are not shown."
        } else {
            ""
        };
        Self(format!(
            "{explanation}\n  found:    {found}\n  expected: {expected}{hidden}"
        ))
    }
}

/// Includes all causes of the error.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(source) = cause {
            text = format!("{text}: {source}");
            cause = source.source();
        }
        Self(text)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Fails the case unless the condition holds.
macro_rules! check {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err($crate::testkit::conformance::Failure::new(format!($($text)+)));
        }
    };
}

/// Fails the case unless both are equal.
macro_rules! check_eq {
    ($left:expr, $right:expr, $($text:tt)+) => {
        match (&$left, &$right) {
            (left, right) => {
                if *left != *right {
                    return Err($crate::testkit::conformance::Failure::of_difference(
                        &format!($($text)+),
                        &format!("{left:?}"),
                        &format!("{right:?}"),
                    ));
                }
            }
        }
    };
}

use {check, check_eq};
