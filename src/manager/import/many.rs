//! Importing many keys, several in a commit.
//!
//! Each row passes the same checks as in an import of its own. Those that pass are committed together; if such a commit
//! is refused, its rows are committed one by one, so that each gets the answer that it would have got alone.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::{Addition, Prepared};
use crate::import::ImportedKey;
use crate::key::KeyRecord;
use crate::manager::{Actor, Authorized, KeyManager, ManageError, NewKey};
use crate::store::{ChangeSet, Precondition, StoreError};

/// The answer to one row.
type Answer = Result<KeyRecord, ManageError>;

/// A prepared row, with its number.
type Row<'a> = (usize, Prepared<'a>);

/// The answers so far, each with the number of its row.
#[derive(Default)]
struct Answers {
    given: Vec<(usize, Answer)>,
    /// Whether the store failed, so that the other rows are not tried.
    is_stopped: bool,
}

impl KeyManager {
    pub(in crate::manager) async fn import_rows(
        &self,
        actor: &Actor,
        rows: Vec<(NewKey, ImportedKey)>,
    ) -> Vec<Answer> {
        let (keys, imported): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        let mut answers = Answers::default();
        let mut set = Vec::new();
        let mut latest = None;
        for (number, (key, imported)) in keys.into_iter().zip(&imported).enumerate() {
            if answers.is_stopped {
                answers.give(number, Err(not_tried()));
                continue;
            }
            let (by, row) = match self.prepare_import(actor, key, imported).await {
                Ok(prepared) => prepared,
                Err(error) => {
                    answers.give(number, Err(error));
                    continue;
                }
            };
            let is_repeated = |(_, other): &Row<'_>| other.record.id == row.record.id;
            if set.len() == ChangeSet::MAX_CHANGES || set.iter().any(is_repeated) {
                by.add_all(std::mem::take(&mut set), &mut answers).await;
            }
            set.push((number, row));
            latest = Some(by);
        }
        if let Some(by) = latest {
            by.add_all(set, &mut answers).await;
        }
        answers.in_order()
    }
}

impl Authorized<'_> {
    /// Commits the rows: together if possible, else one by one.
    async fn add_all(&self, mut rows: Vec<Row<'_>>, answers: &mut Answers) {
        // Between the two attempts, the rows that were imported before leave the set.
        for _ in 0..2 {
            if rows.len() < 2 || answers.is_stopped {
                break;
            }
            let Some(addition) = together(&rows) else {
                break;
            };
            match self.add_together(addition).await {
                Ok(true) => {
                    for (number, row) in rows {
                        answers.give(number, Ok(row.record));
                    }
                    // The store's futures may never wait.
                    tokio::task::yield_now().await;
                    return;
                }
                Ok(false) => rows = self.answer_taken(rows, answers).await,
                Err(ManageError::Store(error)) if is_down(&error) => {
                    let error = Arc::new(error);
                    for (number, _) in rows {
                        answers.give(number, Err(copy_of(&error)));
                    }
                    return;
                }
                Err(_) => break,
            }
        }
        for (number, row) in rows {
            let answer = if answers.is_stopped {
                Err(not_tried())
            } else {
                self.add_imported(row).await
            };
            answers.give(number, answer);
        }
    }

    /// Commits all rows, or none. `false` if one of the ids already exists.
    ///
    /// That one of several ids exists is not counted as a failed look-up. The answer to each row is.
    async fn add_together(&self, addition: Addition) -> Result<bool, ManageError> {
        let _lookup = self.lookups.begin(self.actor()).await?;
        self.insert(addition).await
    }

    /// Answers the rows with ids that are stored, and returns the others.
    async fn answer_taken<'a>(&self, rows: Vec<Row<'a>>, answers: &mut Answers) -> Vec<Row<'a>> {
        let mut others = Vec::new();
        for (number, row) in rows {
            // The id of a purged key is not stored, and taken.
            if !matches!(self.read(row.record.id).await, Ok(Some(_))) {
                others.push((number, row));
                continue;
            }
            let error = match self.lookups.begin(self.actor()).await {
                Ok(lookup) => self.why_taken(lookup, &row.record, &row.kept).await,
                Err(error) => error,
            };
            answers.give(number, Err(error));
        }
        others
    }
}

impl Answers {
    fn give(&mut self, number: usize, answer: Answer) {
        if let Err(ManageError::Store(error)) = &answer {
            self.is_stopped |= is_down(error);
        }
        self.given.push((number, answer));
    }

    fn in_order(mut self) -> Vec<Answer> {
        self.given.sort_by_key(|(number, _)| *number);
        self.given.into_iter().map(|(_, answer)| answer).collect()
    }
}

/// Merges the additions of rows. `None` if the cap of a tenant has no place for all its rows.
fn together(rows: &[Row<'_>]) -> Option<Addition> {
    let mut changes = Vec::with_capacity(rows.len());
    let mut conditions: Vec<Precondition> = Vec::new();
    for (_, row) in rows {
        changes.extend(row.addition.changes.iter().cloned());
        for condition in &row.addition.conditions {
            let mut known = conditions.iter_mut();
            if !known.any(|known| includes(known, condition)) {
                conditions.push(condition.clone());
            }
        }
    }
    for condition in &mut conditions {
        if let Precondition::UnrevokedKeysBelow { tenant, limit } = condition {
            // The count is taken before the commit, so there must be a place for each row.
            let of_tenant = rows.iter().filter(|(_, row)| row.record.tenant == *tenant);
            let others = u32::try_from(of_tenant.count().saturating_sub(1)).ok()?;
            *limit = NonZeroU32::new(limit.get().checked_sub(others)?)?;
        }
    }
    Some(Addition {
        changes,
        conditions,
    })
}

/// Returns whether both conditions are about the same keys, and makes the first one as strict as both.
fn includes(known: &mut Precondition, other: &Precondition) -> bool {
    match (known, other) {
        (
            Precondition::UnrevokedKeysBelow { tenant, limit },
            Precondition::UnrevokedKeysBelow {
                tenant: other,
                limit: least,
            },
        ) if tenant == other => {
            *limit = (*limit).min(*least);
            true
        }
        (
            Precondition::NotCutOff {
                tenant,
                owner,
                issued_at,
            },
            Precondition::NotCutOff {
                tenant: other,
                owner: others,
                issued_at: earliest,
            },
        ) if tenant == other && owner == others => {
            *issued_at = (*issued_at).min(*earliest);
            true
        }
        _ => false,
    }
}

/// Returns whether the store will hardly take the next commit.
fn is_down(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Unavailable(_) | StoreError::Indeterminate(_)
    )
}

/// Returns the error of a commit for one of its rows.
fn copy_of(error: &Arc<StoreError>) -> ManageError {
    let source = Box::new(Arc::clone(error));
    ManageError::Store(match **error {
        StoreError::Indeterminate(_) => StoreError::Indeterminate(source),
        _ => StoreError::Unavailable(source),
    })
}

fn not_tried() -> ManageError {
    let cause = "the store failed for an earlier row; this row was not tried";
    ManageError::Store(StoreError::Unavailable(cause.into()))
}
