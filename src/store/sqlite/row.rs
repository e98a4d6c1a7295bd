//! One key as its row stores it.
//!
//! A row that was edited by hand into nonsense is not read as if it were whole, and does not break the list that
//! contains it: it is read as [`StoredKey::damaged`].

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use time::OffsetDateTime;

use super::fault::Fault;
use super::meta::{signed, unsigned};
use crate::clock::{from_unix_micros, unix_micros};
use crate::key::{Digest, KeyId, Principal, Revocation, RevokeReason, StoredKey, TenantId, Title};

/// The columns of a key, in this order; the last is the latest cutoff that binds it.
macro_rules! columns {
    () => {
        "id, tenant, owner, title, created_at, revoked_at, revoke_reason, revoked_position, expires_at, predecessor, \
         lineage, digest, revision, schema, document, \
         (SELECT max(instant) FROM keyward_cutoffs \
          WHERE scope IN ('all', 'tenant ' || tenant, 'owner ' || tenant || ' ' || owner))"
    };
}
pub(super) use columns;

/// Reads the key with this id; `None` if the id is unknown.
pub(super) fn find(connection: &Connection, id: KeyId) -> Result<Option<StoredKey>, Fault> {
    let sql = concat!("SELECT ", columns!(), " FROM keyward_keys WHERE id = ?1");
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_row([id.to_bytes()], |row| Ok(read(row)));
    found.optional()?.transpose()
}

/// Reads the key from a row of `columns!`.
pub(super) fn read(row: &Row<'_>) -> Result<StoredKey, Fault> {
    let text = |column| row.get_ref(column).ok()?.as_str().ok();
    let tenant = text(1).and_then(|tenant| TenantId::new(tenant).ok());
    // Without the tenant, the key cannot be attributed.
    let tenant = tenant.ok_or(Fault::Unreadable("the tenant of a key"))?;
    let owner: Option<Principal> = text(2).and_then(|owner| owner.parse().ok());
    let title = text(3).and_then(|title| Title::new(title).ok());
    let digest = text(11).and_then(|digest| Digest::new(digest).ok());
    let schema = u16::try_from(row.get::<_, i64>(13)?).ok();
    let revocation = match (row.get(5)?, row.get(7)?) {
        (None, None) => None,
        (Some(at), Some(position)) => Some(Revocation {
            at: instant(at)?,
            reason: RevokeReason::from_stored(text(6).unwrap_or_default()),
            position: unsigned(position)?,
        }),
        _ => return Err(Fault::Unreadable("the revocation of a key")),
    };
    let damaged = StoredKey {
        revocation,
        expires_at: row.get::<_, Option<i64>>(8)?.map(instant).transpose()?,
        predecessor: row.get::<_, Option<[u8; 16]>>(9)?.map(KeyId::from_bytes),
        lineage: KeyId::from_bytes(row.get(10)?),
        revision: unsigned(row.get(12)?)?,
        cutoff: row.get::<_, Option<i64>>(15)?.map(instant).transpose()?,
        ..StoredKey::damaged(
            KeyId::from_bytes(row.get(0)?),
            tenant,
            instant(row.get(4)?)?,
        )
    };
    let (Some(owner), Some(title), Some(digest), Some(schema)) = (owner, title, digest, schema)
    else {
        return Ok(damaged);
    };
    let document = row.get_ref(14)?.as_blob().unwrap_or_default().into();
    Ok(StoredKey {
        owner,
        title,
        digest,
        schema,
        document,
        ..damaged
    })
}

/// Inserts a new row for the key.
pub(super) fn insert(connection: &Connection, key: &StoredKey) -> Result<(), Fault> {
    write(
        connection,
        "INSERT INTO keyward_keys (id, tenant, owner, title, created_at, revoked_at, revoke_reason, revoked_position, \
         expires_at, predecessor, lineage, digest, revision, schema, document) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        key,
    )
}

/// Overwrites the key's row.
pub(super) fn replace(connection: &Connection, key: &StoredKey) -> Result<(), Fault> {
    write(
        connection,
        "UPDATE keyward_keys SET tenant = ?2, owner = ?3, title = ?4, created_at = ?5, revoked_at = ?6, \
         revoke_reason = ?7, revoked_position = ?8, expires_at = ?9, predecessor = ?10, lineage = ?11, digest = ?12, \
         revision = ?13, schema = ?14, document = ?15 WHERE id = ?1",
        key,
    )
}

/// Writes the revocation of a key, and leaves the rest of its row as it is, readable or not.
pub(super) fn revoke(connection: &Connection, key: &StoredKey) -> Result<(), Fault> {
    let Some(revocation) = &key.revocation else {
        return Err(Fault::Unwritable("a revocation"));
    };
    let mut statement = connection.prepare_cached(
        "UPDATE keyward_keys SET revoked_at = ?2, revoke_reason = ?3, revoked_position = ?4, revision = ?5
         WHERE id = ?1",
    )?;
    statement.execute(params![
        key.id.to_bytes(),
        unix_micros(revocation.at),
        revocation.reason.as_str(),
        signed(revocation.position)?,
        signed(key.revision)?,
    ])?;
    Ok(())
}

fn write(connection: &Connection, sql: &str, key: &StoredKey) -> Result<(), Fault> {
    let revocation = key.revocation.as_ref();
    let position = revocation.map(|revocation| signed(revocation.position));
    let mut statement = connection.prepare_cached(sql)?;
    statement.execute(params![
        key.id.to_bytes(),
        key.tenant.as_str(),
        key.owner.to_string(),
        key.title.as_str(),
        unix_micros(key.created_at),
        revocation.map(|revocation| unix_micros(revocation.at)),
        revocation.map(|revocation| revocation.reason.as_str()),
        position.transpose()?,
        key.expires_at.map(unix_micros),
        key.predecessor.map(KeyId::to_bytes),
        key.lineage.to_bytes(),
        key.digest.expose(),
        signed(key.revision)?,
        key.schema,
        &*key.document,
    ])?;
    Ok(())
}

/// Converts from microseconds since the Unix epoch.
pub(super) fn instant(micros: i64) -> Result<OffsetDateTime, Fault> {
    from_unix_micros(micros).ok_or(Fault::Unreadable("an instant"))
}
