//! Making a set of changes.
//!
//! One transaction at a time writes, and it reads its own writes: it makes the changes in their order, and dropping the
//! transaction undoes a set that fails.

use rusqlite::{OptionalExtension as _, Transaction, params};
use time::OffsetDateTime;

use super::fault::Fault;
use super::meta::Meta;
use super::row::{self, instant};
use super::{events, feed, purge};
use crate::clock::unix_micros;
use crate::key::{KeyId, Principal, TenantId};
use crate::store::{
    Change, ChangeId, ChangeSet, Changed, Committed, CutoffScope, Outcome, Precondition, StoreError,
};

const OUTCOMES: &str = "the outcomes of a commit";

/// The treatment of a set's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Events {
    Appended,
    /// The set only revokes keys, and a failure of the log would undo the whole transaction.
    LeftOut,
}

/// Makes the changes, and remembers their outcomes.
pub(super) fn commit(
    transaction: &mut Transaction<'_>,
    set: &ChangeSet,
    events: Events,
) -> Result<Committed, Fault> {
    let mut meta = Meta::read(transaction)?;
    if let Some(before) = remembered(transaction, set.id())? {
        return Ok(before);
    }
    for (index, precondition) in set.preconditions().iter().enumerate() {
        if !holds(transaction, precondition)? {
            return Err(StoreError::PreconditionFailed { index }.into());
        }
    }
    let position = meta.position.saturating_add(1);
    let mut news = Vec::new();
    let changes = set.changes().iter();
    let outcomes = changes
        .map(|change| make(transaction, change, position, &mut news))
        .collect::<Result<Vec<_>, _>>()?;
    if outcomes.iter().any(Outcome::is_published) {
        meta.position = position;
        if events == Events::Appended {
            meta.head = events::append(transaction, set, meta.head, &outcomes)?;
        }
        meta.write(transaction)?;
        feed::append(transaction, position, &news)?;
    }
    let committed = Committed {
        position: meta.position,
        outcomes,
    };
    remember(transaction, set.id(), &committed)?;
    Ok(committed)
}

fn remembered(transaction: &Transaction<'_>, id: ChangeId) -> Result<Option<Committed>, Fault> {
    let sql = "SELECT committed FROM keyward_commits WHERE id = ?1";
    let mut statement = transaction.prepare_cached(sql)?;
    let text: Option<String> = statement
        .query_row([id.as_bytes()], |row| row.get(0))
        .optional()?;
    let read = |text: String| serde_json::from_str(&text);
    text.map(read)
        .transpose()
        .map_err(|_| Fault::Unreadable(OUTCOMES))
}

/// Remembers the result of a commit under its id.
///
/// Ids are kept while they are among the last 100,000, and for at least a day: a clock that jumps forgets none of the
/// latest, and a burst of commits none of today's. An instant more than a day in the future comes from a wrong clock,
/// and counts as old.
fn remember(
    transaction: &Transaction<'_>,
    id: ChangeId,
    committed: &Committed,
) -> Result<(), Fault> {
    let text = serde_json::to_string(committed).map_err(|_| Fault::Unwritable(OUTCOMES))?;
    transaction
        .prepare_cached(
            "INSERT INTO keyward_commits (id, made_at, committed) VALUES (?1, unixepoch(), ?2)",
        )?
        .execute(params![id.as_bytes(), text])?;
    // Two for each that is added, so that a backlog shrinks, and no commit takes long.
    transaction
        .prepare_cached(
            "DELETE FROM keyward_commits WHERE abs(made_at - unixepoch()) > 86400 AND number IN \
             (SELECT number FROM keyward_commits WHERE number <= ?1 ORDER BY number LIMIT 2)",
        )?
        .execute([transaction.last_insert_rowid() - 100_000])?;
    Ok(())
}

fn holds(transaction: &Transaction<'_>, precondition: &Precondition) -> Result<bool, Fault> {
    match precondition {
        Precondition::UnrevokedKeysBelow { tenant, limit } => {
            // The count stops at the limit. A stored count could differ from the keys.
            let mut statement = transaction.prepare_cached(
                "SELECT count(*) FROM (SELECT 1 FROM keyward_keys \
                 WHERE tenant = ?1 AND revoked_position IS NULL LIMIT ?2)",
            )?;
            let count: i64 =
                statement.query_row(params![tenant.as_str(), limit.get()], |row| row.get(0))?;
            Ok(count < i64::from(limit.get()))
        }
        Precondition::NotCutOff {
            tenant,
            owner,
            issued_at,
        } => Ok(cutoff(transaction, tenant, owner)? <= Some(*issued_at)),
        #[expect(
            unreachable_patterns,
            reason = "a kind that is added is refused until it is known here"
        )]
        _ => Err(StoreError::Unsupported.into()),
    }
}

/// Returns the latest cutoff that binds keys of this tenant and owner.
fn cutoff(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    owner: &Principal,
) -> Result<Option<OffsetDateTime>, Fault> {
    let mut latest = None;
    for scope in CutoffScope::binding(tenant, owner) {
        latest = latest.max(stands(transaction, &scope)?);
    }
    latest.map(instant).transpose()
}

fn stands(transaction: &Transaction<'_>, scope: &CutoffScope) -> Result<Option<i64>, Fault> {
    let sql = "SELECT instant FROM keyward_cutoffs WHERE scope = ?1";
    let mut statement = transaction.prepare_cached(sql)?;
    let stands = statement.query_row([scope.to_string()], |row| row.get(0));
    Ok(stands.optional()?)
}

fn make(
    transaction: &Transaction<'_>,
    change: &Change,
    position: u64,
    news: &mut Vec<Changed>,
) -> Result<Outcome, Fault> {
    match change {
        Change::Insert(_)
        | Change::Replace { .. }
        | Change::Revoke { .. }
        | Change::Rehash { .. } => {
            let id = change.key_id().ok_or(StoreError::Unsupported)?;
            change_key(transaction, id, change, position, news)
        }
        Change::Purge { id, ended_before } => purge::purge(transaction, *id, *ended_before, news),
        Change::RemoveTenant { tenant } => purge::remove_tenant(transaction, tenant, news),
        Change::CutEvents { through } => events::cut(transaction, *through, news),
        Change::Cutoff { scope, before } => cut_off(transaction, scope, *before, news),
        Change::LowerCutoff { scope, from, to } => lower(transaction, scope, *from, *to, news),
        Change::Setting { name, value } => set(transaction, name, value),
        #[expect(
            unreachable_patterns,
            reason = "a kind that is added is refused until it is known here"
        )]
        _ => Err(StoreError::Unsupported.into()),
    }
}

fn change_key(
    transaction: &Transaction<'_>,
    id: KeyId,
    change: &Change,
    position: u64,
    news: &mut Vec<Changed>,
) -> Result<Outcome, Fault> {
    let stored = row::find(transaction, id)?;
    if matches!(change, Change::Insert(_)) && purge::is_purged(transaction, id)? {
        return Err(StoreError::AlreadyExists.into());
    }
    let applied = change.apply(stored.as_ref(), position)?;
    let Some(key) = applied.key else {
        return Ok(applied.outcome);
    };
    match change {
        Change::Insert(_) => row::insert(transaction, &key)?,
        Change::Revoke { .. } => row::revoke(transaction, &key)?,
        _ => row::replace(transaction, &key)?,
    }
    if applied.outcome.is_published() {
        let revision = key.revision;
        news.push(Changed::Key { id, revision });
    }
    Ok(applied.outcome)
}

fn cut_off(
    transaction: &Transaction<'_>,
    scope: &CutoffScope,
    before: OffsetDateTime,
    news: &mut Vec<Changed>,
) -> Result<Outcome, Fault> {
    let before = unix_micros(before);
    if stands(transaction, scope)? >= Some(before) {
        return Ok(Outcome::AlreadyCutOff);
    }
    transaction
        .prepare_cached("INSERT OR REPLACE INTO keyward_cutoffs (scope, instant) VALUES (?1, ?2)")?
        .execute(params![scope.to_string(), before])?;
    let scope = scope.clone();
    news.push(Changed::Cutoff { scope });
    Ok(Outcome::CutOff)
}

/// Moves a cutoff back. It does not decode rows, so that a damaged one counts too.
fn lower(
    transaction: &Transaction<'_>,
    scope: &CutoffScope,
    from: OffsetDateTime,
    to: OffsetDateTime,
    news: &mut Vec<Changed>,
) -> Result<Outcome, Fault> {
    let stands = stands(transaction, scope)?;
    if stands != Some(unix_micros(from)) || to >= from {
        let at = stands.map(instant).transpose()?;
        return Ok(Outcome::CutoffStands { at });
    }
    let mut statement = transaction.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM keyward_keys WHERE revoked_position IS NULL \
         AND created_at >= ?1 AND created_at < ?2 AND (?3 IS NULL OR tenant = ?3) AND (?4 IS NULL OR owner = ?4))",
    )?;
    let tenant = scope.tenant().map(TenantId::as_str);
    let owner = scope.owner().map(ToString::to_string);
    let values = params![unix_micros(to), unix_micros(from), tenant, owner];
    if statement.query_row(values, |row| row.get(0))? {
        return Ok(Outcome::WouldRevive);
    }
    transaction
        .prepare_cached("UPDATE keyward_cutoffs SET instant = ?2 WHERE scope = ?1")?
        .execute(params![scope.to_string(), unix_micros(to)])?;
    let scope = scope.clone();
    news.push(Changed::Cutoff { scope });
    Ok(Outcome::CutoffLowered)
}

fn set(transaction: &Transaction<'_>, name: &str, value: &str) -> Result<Outcome, Fault> {
    transaction
        .prepare_cached("INSERT OR IGNORE INTO keyward_settings (name, value) VALUES (?1, ?2)")?
        .execute([name, value])?;
    let stands = transaction
        .prepare_cached("SELECT value FROM keyward_settings WHERE name = ?1")?
        .query_row([name], |row| row.get(0))?;
    Ok(Outcome::Setting { stands })
}
