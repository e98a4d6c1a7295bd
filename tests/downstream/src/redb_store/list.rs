//! Reading keys, one by one and page by page.

use std::ops::Bound;

use keyward::key::{KeyId, Principal, StoredKey, TenantId};
use keyward::store::{CutoffScope, KeyFilter, ListPosition, ListQuery, Page, StoreError};
use keyward::time::OffsetDateTime;
use redb::{ReadTransaction, ReadableTable};

use super::fault::Fault;
use super::row;
use super::tables::{CUTOFFS, KEYS, LIVE, LivePlace, REVOKED, RevokedPlace};

/// The key as last committed, with its cutoff.
pub(super) fn get(transaction: &ReadTransaction, id: KeyId) -> Result<Option<StoredKey>, Fault> {
    let cutoffs = transaction.open_table(CUTOFFS)?;
    let key = stored(&transaction.open_table(KEYS)?, id)?;
    key.map(|key| with_cutoff(&cutoffs, key)).transpose()
}

/// The key, as its row has it.
pub(super) fn stored(
    keys: &impl ReadableTable<u128, &'static [u8]>,
    id: KeyId,
) -> Result<Option<StoredKey>, Fault> {
    let row = keys.get(id.as_u128())?;
    row.map(|row| row::read(id, row.value())).transpose()
}

/// The latest cutoff that binds the keys of this tenant and owner.
pub(super) fn cutoff(
    cutoffs: &impl ReadableTable<&'static str, i64>,
    tenant: &TenantId,
    owner: &Principal,
) -> Result<Option<OffsetDateTime>, Fault> {
    let mut latest = None;
    for scope in CutoffScope::binding(tenant, owner) {
        let cutoff = cutoffs.get(scope.to_string().as_str())?;
        latest = latest.max(cutoff.map(|cutoff| cutoff.value()));
    }
    latest.map(row::instant).transpose()
}

fn with_cutoff(
    cutoffs: &impl ReadableTable<&'static str, i64>,
    mut key: StoredKey,
) -> Result<StoredKey, Fault> {
    key.cutoff = cutoff(cutoffs, &key.tenant, &key.owner)?;
    Ok(key)
}

/// One page of a tenant's keys.
pub(super) fn list(
    transaction: &ReadTransaction,
    query: &ListQuery,
) -> Result<Page<StoredKey>, Fault> {
    if !query.filters().iter().all(is_known) {
        return Err(StoreError::Unsupported.into());
    }
    let keys = transaction.open_table(KEYS)?;
    let cutoffs = transaction.open_table(CUTOFFS)?;
    let live = transaction.open_table(LIVE)?;
    let revoked = transaction.open_table(REVOKED)?;
    let mut page = Page {
        items: Vec::new(),
        next: None,
    };
    for place in live_places(&live, query)?.chain(revoked_places(&revoked, query)?) {
        let place = place?;
        let key = key_at(&keys, query.tenant(), place)?;
        if !query.admits(&key) {
            continue;
        }
        if page.items.len() == query.page_size() {
            page.next = page.items.last().map(ListPosition::of);
            break;
        }
        page.items.push(with_cutoff(&cutoffs, key)?);
    }
    Ok(page)
}

/// The tenants that have keys, live or revoked, in the order of their names.
pub(super) fn tenants(
    transaction: &ReadTransaction,
    after: Option<&TenantId>,
    limit: usize,
) -> Result<Vec<TenantId>, Fault> {
    let live = transaction.open_table(LIVE)?;
    let revoked = transaction.open_table(REVOKED)?;
    let mut tenants: Vec<TenantId> = Vec::new();
    while tenants.len() < limit {
        let last = tenants
            .last()
            .or(after)
            .map(|last| last.as_str().as_bytes());
        // Over all keys of the last one at once.
        let start = |last| Bound::Excluded((last, i64::MAX, u128::MAX));
        let start = last.map_or(Bound::Unbounded, start);
        let next_live = match live.range((start, Bound::Unbounded))?.next() {
            Some(place) => Some(tenant(place?.0.value().0)?),
            None => None,
        };
        let start = |last| Bound::Excluded((last, u64::MAX, u128::MAX));
        let start = last.map_or(Bound::Unbounded, start);
        let next_revoked = match revoked.range((start, Bound::Unbounded))?.next() {
            Some(place) => Some(tenant(place?.0.value().0)?),
            None => None,
        };
        let Some(next) = next_live.into_iter().chain(next_revoked).min() else {
            break;
        };
        tenants.push(next);
    }
    Ok(tenants)
}

fn tenant(name: &[u8]) -> Result<TenantId, Fault> {
    let name = std::str::from_utf8(name).ok();
    let tenant = name.and_then(|name| TenantId::new(name).ok());
    tenant.ok_or(Fault::unreadable("a tenant"))
}

/// Whether this version knows what the filter means.
fn is_known(filter: &KeyFilter) -> bool {
    matches!(
        filter,
        KeyFilter::Owner(_)
            | KeyFilter::TitleStartsWith(_)
            | KeyFilter::IdBetween(..)
            | KeyFilter::IssuedBy(_)
            | KeyFilter::ExpiresBy(_)
    )
}

/// The key that an index has at this place. A row that says otherwise is damaged: it might be another tenant's.
fn key_at(
    keys: &impl ReadableTable<u128, &'static [u8]>,
    tenant: &TenantId,
    place: ListPosition,
) -> Result<StoredKey, Fault> {
    let (ListPosition::Live { id, .. } | ListPosition::Revoked { id, .. }) = place;
    stored(keys, id)?
        .filter(|key| key.tenant == *tenant && ListPosition::of(key) == place)
        .ok_or(Fault::unreadable("the list of a tenant's keys"))
}

type Place = Result<ListPosition, Fault>;

/// The places of the live keys that the query asks for, newest first.
fn live_places(
    table: &impl ReadableTable<LivePlace, ()>,
    query: &ListQuery,
) -> Result<impl Iterator<Item = Place>, Fault> {
    let tenant = query.tenant().as_str().as_bytes();
    let end = match query.position() {
        _ if !query.lists_live() => None,
        None => Some(Bound::Included((tenant, i64::MAX, u128::MAX))),
        Some(ListPosition::Live { created_micros, id }) => {
            Some(Bound::Excluded((tenant, created_micros, id.as_u128())))
        }
        Some(ListPosition::Revoked { .. }) => None,
    };
    let start = Bound::Included((tenant, i64::MIN, u128::MIN));
    let places = end.map(|end| table.range((start, end))).transpose()?;
    let places = places.into_iter().flat_map(Iterator::rev);
    Ok(places.map(|place| {
        let (place, _) = place?;
        let (_, created_micros, id) = place.value();
        let id = KeyId::from_u128(id);
        Ok(ListPosition::Live { created_micros, id })
    }))
}

/// The places of the revoked keys that the query asks for, in the order in which they were revoked.
fn revoked_places(
    table: &impl ReadableTable<RevokedPlace, ()>,
    query: &ListQuery,
) -> Result<impl Iterator<Item = Place>, Fault> {
    let tenant = query.tenant().as_str().as_bytes();
    let start = match query.position() {
        _ if !query.lists_revoked() => None,
        None | Some(ListPosition::Live { .. }) => {
            Some(Bound::Included((tenant, u64::MIN, u128::MIN)))
        }
        Some(ListPosition::Revoked { position, id }) => {
            Some(Bound::Excluded((tenant, position, id.as_u128())))
        }
    };
    let end = Bound::Included((tenant, u64::MAX, u128::MAX));
    let places = start.map(|start| table.range((start, end))).transpose()?;
    Ok(places.into_iter().flatten().map(|place| {
        let (place, _) = place?;
        let (_, position, id) = place.value();
        let id = KeyId::from_u128(id);
        Ok(ListPosition::Revoked { position, id })
    }))
}
