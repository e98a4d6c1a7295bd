//! One key, as the file has it: its columns as a line of JSON, then the unchanged document.

use keyward::clock::{from_unix_micros, unix_micros};
use keyward::key::{
    Digest, KeyId, Principal, Revocation, RevokeReason, StoredKey, TenantId, Title,
};
use keyward::time::OffsetDateTime;
use redb::{ReadableTable as _, WriteTransaction};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::fault::Fault;
use super::tables::{KEYS, decode, encode};

const WHAT: &str = "the row of a key";

/// JSON in one line holds no line feed, so that the first one ends the columns.
const END: u8 = b'\n';

/// Instants are in microseconds since the Unix epoch. No `Debug`: it holds a digest.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Columns {
    id: KeyId,
    tenant: TenantId,
    owner: Principal,
    title: Title,
    created_at: i64,
    revocation: Option<Revoked>,
    expires_at: Option<i64>,
    predecessor: Option<KeyId>,
    lineage: KeyId,
    digest: Box<str>,
    revision: u64,
    schema: u16,
    /// Shows a document that was cut.
    document_bytes: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoked {
    at: i64,
    reason: RevokeReason,
    position: u64,
}

impl Revoked {
    fn read(self) -> Result<Revocation, Fault> {
        Ok(Revocation {
            at: instant(self.at)?,
            reason: self.reason,
            position: self.position,
        })
    }
}

impl From<&Revocation> for Revoked {
    fn from(revocation: &Revocation) -> Self {
        Self {
            at: unix_micros(revocation.at),
            reason: revocation.reason.clone(),
            position: revocation.position,
        }
    }
}

/// The row of this key.
pub(super) fn write(key: &StoredKey) -> Result<Vec<u8>, Fault> {
    let revocation = key.revocation.as_ref().map(Revoked::from);
    let columns = Columns {
        id: key.id,
        tenant: key.tenant.clone(),
        owner: key.owner.clone(),
        title: key.title.clone(),
        created_at: unix_micros(key.created_at),
        revocation,
        expires_at: key.expires_at.map(unix_micros),
        predecessor: key.predecessor,
        lineage: key.lineage,
        digest: key.digest.expose().into(),
        revision: key.revision,
        schema: key.schema,
        document_bytes: key.document.len(),
    };
    let mut row = encode(WHAT, &columns)?;
    row.push(END);
    row.extend_from_slice(&key.document);
    Ok(row)
}

/// The row with the revocation and the revision of this key, and with all else as it is, readable or not.
pub(super) fn revoke(row: &[u8], key: &StoredKey) -> Result<Vec<u8>, Fault> {
    let (columns, document) = row.split_at(columns_bytes(row));
    let mut columns: Map<String, Value> = decode(WHAT, columns)?;
    let revocation = key.revocation.as_ref().map(Revoked::from);
    let unwritable = |_| Fault::unreadable(WHAT);
    let revocation = serde_json::to_value(revocation).map_err(unwritable)?;
    columns.insert("revocation".into(), revocation);
    columns.insert("revision".into(), key.revision.into());
    let mut row = encode(WHAT, &columns)?;
    row.extend_from_slice(document);
    Ok(row)
}

fn columns_bytes(row: &[u8]) -> usize {
    let end = row.iter().position(|byte| *byte == END);
    end.unwrap_or(row.len())
}

/// The columns without which a damaged key could not be listed and revoked.
#[derive(Deserialize)]
struct Essentials {
    id: KeyId,
    tenant: TenantId,
    created_at: i64,
    revocation: Option<Revoked>,
    revision: u64,
}

/// Returns the key of this row, which has this id, or [`StoredKey::damaged`]. The row does not contain its cutoff.
pub(super) fn read(id: KeyId, row: &[u8]) -> Result<StoredKey, Fault> {
    read_whole(id, row).or_else(|_| read_damaged(id, row))
}

fn read_damaged(id: KeyId, row: &[u8]) -> Result<StoredKey, Fault> {
    let (columns, _document) = row.split_at(columns_bytes(row));
    let columns: Essentials = decode(WHAT, columns)?;
    if columns.id != id {
        return Err(Fault::unreadable(WHAT));
    }
    Ok(StoredKey {
        revocation: columns.revocation.map(Revoked::read).transpose()?,
        revision: columns.revision,
        ..StoredKey::damaged(id, columns.tenant, instant(columns.created_at)?)
    })
}

fn read_whole(id: KeyId, row: &[u8]) -> Result<StoredKey, Fault> {
    let mut parts = row.splitn(2, |byte| *byte == END);
    let (Some(columns), Some(document)) = (parts.next(), parts.next()) else {
        return Err(Fault::unreadable(WHAT));
    };
    let columns: Columns = decode(WHAT, columns)?;
    // A row under another's id would let one key pass as the other.
    if columns.id != id || columns.document_bytes != document.len() {
        return Err(Fault::unreadable(WHAT));
    }
    Ok(StoredKey {
        id,
        tenant: columns.tenant,
        owner: columns.owner,
        title: columns.title,
        created_at: instant(columns.created_at)?,
        revocation: columns.revocation.map(Revoked::read).transpose()?,
        expires_at: columns.expires_at.map(instant).transpose()?,
        predecessor: columns.predecessor,
        lineage: columns.lineage,
        digest: Digest::new(columns.digest).map_err(|_| Fault::unreadable(WHAT))?,
        revision: columns.revision,
        schema: columns.schema,
        document: document.into(),
        cutoff: None,
    })
}

/// Writes the row of this key anew, as `edit` leaves it.
pub(super) fn edit(
    transaction: &WriteTransaction,
    id: KeyId,
    edit: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Result<(), Fault> {
    let mut keys = transaction.open_table(KEYS)?;
    let row = keys.get(id.as_u128())?.map(|row| edit(row.value()));
    if let Some(row) = row {
        keys.insert(id.as_u128(), row.as_slice())?;
    }
    Ok(())
}

/// The instant so many microseconds after the Unix epoch.
pub(super) fn instant(micros: i64) -> Result<OffsetDateTime, Fault> {
    from_unix_micros(micros).ok_or_else(|| Fault::unreadable("an instant"))
}
