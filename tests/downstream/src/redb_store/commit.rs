//! Making a set of changes.
//!
//! One transaction at a time writes, and it reads what it wrote: the changes are made as they come, and a set that
//! fails is undone by dropping the transaction.

use keyward::clock::unix_micros;
use keyward::key::{KeyId, TenantId};
use keyward::store::{
    Change, ChangeSet, Changed, Committed, CutoffScope, ListPosition, Outcome, Precondition,
    StoreError,
};
use keyward::time::OffsetDateTime;
use redb::{ReadableTable, Table, WriteTransaction};

use super::events;
use super::fault::Fault;
use super::feed;
use super::list;
use super::row;
use super::tables::{
    COMMITS, CUTOFFS, KEYS, LIVE, LivePlace, META, Meta, PURGED, REVOKED, RevokedPlace, SETTINGS,
    USAGE, decode, encode,
};

const OUTCOMES: &str = "the outcomes of a commit";

/// Makes the changes, and remembers what became of them.
pub(super) fn commit(transaction: &WriteTransaction, set: &ChangeSet) -> Result<Committed, Fault> {
    let mut commits = transaction.open_table(COMMITS)?;
    if let Some(before) = commits.get(set.id().as_bytes())? {
        return decode(OUTCOMES, before.value());
    }
    let mut state = State::open(transaction)?;
    for (index, precondition) in set.preconditions().iter().enumerate() {
        if !state.holds(precondition)? {
            return Err(StoreError::PreconditionFailed { index }.into());
        }
    }
    let mut table = transaction.open_table(META)?;
    let mut meta = Meta::read(&table)?;
    let position = meta.position.saturating_add(1);
    let changes = set.changes().iter();
    let outcomes = changes
        .map(|change| match change {
            Change::CutEvents { through } => events::cut(transaction, *through, &mut state.news),
            Change::RemoveTenant { tenant } => state.remove_tenant(transaction, tenant),
            change => state.make(change, position),
        })
        .collect::<Result<Vec<_>, _>>()?;
    if outcomes.iter().any(Outcome::is_published) {
        meta.position = position;
        meta.head = events::append(transaction, set, meta.head, &outcomes)?;
        meta.write(&mut table)?;
        feed::append(transaction, position, &state.news)?;
    }
    let committed = Committed {
        position: meta.position,
        outcomes,
    };
    let remembered = encode(OUTCOMES, &committed)?;
    commits.insert(set.id().as_bytes(), remembered.as_slice())?;
    Ok(committed)
}

/// The effects of changes, and what the feed reports of them.
struct State<'t> {
    keys: Table<'t, u128, &'static [u8]>,
    live: Table<'t, LivePlace, ()>,
    revoked: Table<'t, RevokedPlace, ()>,
    purged: Table<'t, u128, ()>,
    usage: Table<'t, u128, (i64, u64, u64)>,
    cutoffs: Table<'t, &'static str, i64>,
    settings: Table<'t, &'static str, &'static [u8]>,
    news: Vec<Changed>,
}

impl<'t> State<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, Fault> {
        Ok(Self {
            keys: transaction.open_table(KEYS)?,
            live: transaction.open_table(LIVE)?,
            revoked: transaction.open_table(REVOKED)?,
            purged: transaction.open_table(PURGED)?,
            usage: transaction.open_table(USAGE)?,
            cutoffs: transaction.open_table(CUTOFFS)?,
            settings: transaction.open_table(SETTINGS)?,
            news: Vec::new(),
        })
    }

    fn holds(&self, precondition: &Precondition) -> Result<bool, Fault> {
        match precondition {
            Precondition::UnrevokedKeysBelow { tenant, limit } => {
                let limit = usize::try_from(limit.get()).unwrap_or(usize::MAX);
                let tenant = tenant.as_str().as_bytes();
                let all = (tenant, i64::MIN, u128::MIN)..=(tenant, i64::MAX, u128::MAX);
                // No further than the limit: a count of its own could differ from what it counts.
                let mut keys = 0;
                for key in self.live.range(all)?.take(limit) {
                    key?;
                    keys += 1;
                }
                Ok(keys < limit)
            }
            Precondition::NotCutOff {
                tenant,
                owner,
                issued_at,
            } => Ok(list::cutoff(&self.cutoffs, tenant, owner)? <= Some(*issued_at)),
            _ => Err(StoreError::Unsupported.into()),
        }
    }

    fn make(&mut self, change: &Change, position: u64) -> Result<Outcome, Fault> {
        match change {
            Change::Insert(_)
            | Change::Replace { .. }
            | Change::Revoke { .. }
            | Change::Rehash { .. } => {
                let id = change.key_id().ok_or(StoreError::Unsupported)?;
                self.change_key(id, change, position)
            }
            Change::Purge { id, ended_before } => self.purge(*id, *ended_before),
            Change::Cutoff { scope, before } => self.cut_off(scope, *before),
            Change::LowerCutoff { scope, from, to } => self.lower(scope, *from, *to),
            Change::Setting { name, value } => self.set(name, value),
            _ => Err(StoreError::Unsupported.into()),
        }
    }

    fn change_key(&mut self, id: KeyId, change: &Change, position: u64) -> Result<Outcome, Fault> {
        let stored = list::stored(&self.keys, id)?;
        if matches!(change, Change::Insert(_)) && self.purged.get(id.as_u128())?.is_some() {
            return Err(StoreError::AlreadyExists.into());
        }
        let applied = change.apply(stored.as_ref(), position)?;
        let Some(key) = applied.key else {
            return Ok(applied.outcome);
        };
        let tenant = key.tenant.as_str().as_bytes();
        if let Some(ListPosition::Live { created_micros, id }) =
            stored.as_ref().map(ListPosition::of)
        {
            self.live.remove((tenant, created_micros, id.as_u128()))?;
        }
        match ListPosition::of(&key) {
            ListPosition::Live { created_micros, id } => {
                self.live
                    .insert((tenant, created_micros, id.as_u128()), ())?;
            }
            ListPosition::Revoked { position, id } => {
                self.revoked.insert((tenant, position, id.as_u128()), ())?;
            }
        }
        let row = match change {
            Change::Revoke { .. } => {
                let row = self.keys.get(id.as_u128())?;
                row::revoke(row.as_ref().map_or(&[], |row| row.value()), &key)?
            }
            _ => row::write(&key)?,
        };
        self.keys.insert(id.as_u128(), row.as_slice())?;
        if applied.outcome.is_published() {
            let revision = key.revision;
            self.news.push(Changed::Key { id, revision });
        }
        Ok(applied.outcome)
    }

    fn purge(&mut self, id: KeyId, ended_before: OffsetDateTime) -> Result<Outcome, Fault> {
        let stored = list::stored(&self.keys, id)?;
        let outcome = Outcome::of_purge(stored.as_ref(), ended_before);
        let Some(key) = stored.filter(|_| outcome == Outcome::Purged) else {
            return Ok(outcome);
        };
        let tenant = key.tenant.as_str().as_bytes();
        match ListPosition::of(&key) {
            ListPosition::Live { created_micros, id } => {
                self.live.remove((tenant, created_micros, id.as_u128()))?;
            }
            ListPosition::Revoked { position, id } => {
                self.revoked.remove((tenant, position, id.as_u128()))?;
            }
        }
        self.keys.remove(id.as_u128())?;
        self.usage.remove(id.as_u128())?;
        self.purged.insert(id.as_u128(), ())?;
        let revision = key.revision.saturating_add(1);
        self.news.push(Changed::Key { id, revision });
        Ok(outcome)
    }

    fn remove_tenant(
        &mut self,
        transaction: &WriteTransaction,
        tenant: &TenantId,
    ) -> Result<Outcome, Fault> {
        let name = tenant.as_str().as_bytes();
        let live = (name, i64::MIN, u128::MIN)..=(name, i64::MAX, u128::MAX);
        let revoked = (name, u64::MIN, u128::MIN)..=(name, u64::MAX, u128::MAX);
        if self.live.range(live)?.next().is_some() || self.revoked.range(revoked)?.next().is_some()
        {
            return Ok(Outcome::TenantHasKeys);
        }
        let scope = CutoffScope::from(tenant);
        let whole = scope.to_string();
        let mut latest = self.cutoffs.get(whole.as_str())?.map(|at| at.value());
        // Names hold no space: these are the tenant's owners. `!` comes after the space.
        let (first, end) = (format!("owner {tenant} "), format!("owner {tenant}!"));
        for owners in self
            .cutoffs
            .extract_from_if(first.as_str()..end.as_str(), |_, _| true)?
        {
            latest = latest.max(Some(owners?.1.value()));
        }
        if let Some(latest) = latest {
            self.cutoffs.insert(whole.as_str(), latest)?;
        }
        feed::forget_owners(transaction, tenant)?;
        for news in &mut self.news {
            if let Changed::Cutoff { scope: told } = news
                && told.tenant() == Some(tenant)
            {
                *told = scope.clone();
            }
        }
        self.news.push(Changed::Cutoff { scope });
        Ok(Outcome::TenantRemoved)
    }

    fn cut_off(&mut self, scope: &CutoffScope, before: OffsetDateTime) -> Result<Outcome, Fault> {
        let (name, before) = (scope.to_string(), unix_micros(before));
        let stands = self.cutoffs.get(name.as_str())?.map(|at| at.value());
        if stands >= Some(before) {
            return Ok(Outcome::AlreadyCutOff);
        }
        self.cutoffs.insert(name.as_str(), before)?;
        self.news.push(Changed::Cutoff {
            scope: scope.clone(),
        });
        Ok(Outcome::CutOff)
    }

    fn lower(
        &mut self,
        scope: &CutoffScope,
        from: OffsetDateTime,
        to: OffsetDateTime,
    ) -> Result<Outcome, Fault> {
        let name = scope.to_string();
        let stands = self.cutoffs.get(name.as_str())?.map(|at| at.value());
        let stands = stands.map(row::instant).transpose()?;
        let mut keys = Vec::new();
        for place in self.live.iter()? {
            let (_, _, id) = place?.0.value();
            keys.extend(list::stored(&self.keys, KeyId::from_u128(id))?);
        }
        let outcome = Outcome::of_lowering(scope, (from, to), stands, &keys);
        if outcome == Outcome::CutoffLowered {
            self.cutoffs.insert(name.as_str(), unix_micros(to))?;
            self.news.push(Changed::Cutoff {
                scope: scope.clone(),
            });
        }
        Ok(outcome)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<Outcome, Fault> {
        let stored = self.settings.get(name)?.map(|row| row.value().to_vec());
        let stands = match stored {
            Some(stored) => {
                String::from_utf8(stored).map_err(|_| Fault::unreadable("a setting"))?
            }
            None => {
                self.settings.insert(name, value.as_bytes())?;
                value.to_owned()
            }
        };
        Ok(Outcome::Setting { stands })
    }
}
