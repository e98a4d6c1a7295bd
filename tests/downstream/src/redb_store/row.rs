//! One key, as the file has it: its columns as a line of JSON, then the unchanged document.

use keyward::key::{
    Digest, KeyId, Principal, Revocation, RevokeReason, StoredKey, TenantId, Title,
};
use keyward::time::OffsetDateTime;
use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::tables::{decode, encode};

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

/// The row of this key.
pub(super) fn write(key: &StoredKey) -> Result<Vec<u8>, Fault> {
    let revocation = key.revocation.as_ref().map(|revocation| {
        Ok::<_, Fault>(Revoked {
            at: micros(revocation.at)?,
            reason: revocation.reason.clone(),
            position: revocation.position,
        })
    });
    let columns = Columns {
        id: key.id,
        tenant: key.tenant.clone(),
        owner: key.owner.clone(),
        title: key.title.clone(),
        created_at: micros(key.created_at)?,
        revocation: revocation.transpose()?,
        expires_at: key.expires_at.map(micros).transpose()?,
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

/// Returns the key of this row, which has this id. The row does not contain its cutoff.
pub(super) fn read(id: KeyId, row: &[u8]) -> Result<StoredKey, Fault> {
    let mut parts = row.splitn(2, |byte| *byte == END);
    let (Some(columns), Some(document)) = (parts.next(), parts.next()) else {
        return Err(Fault::unreadable(WHAT));
    };
    let columns: Columns = decode(WHAT, columns)?;
    // A row under another's id would let one key pass as the other.
    if columns.id != id || columns.document_bytes != document.len() {
        return Err(Fault::unreadable(WHAT));
    }
    let revocation = columns.revocation.map(|revoked| {
        Ok::<_, Fault>(Revocation {
            at: instant(revoked.at)?,
            reason: revoked.reason,
            position: revoked.position,
        })
    });
    Ok(StoredKey {
        id,
        tenant: columns.tenant,
        owner: columns.owner,
        title: columns.title,
        created_at: instant(columns.created_at)?,
        revocation: revocation.transpose()?,
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

/// Microseconds since the Unix epoch.
pub(super) fn micros(at: OffsetDateTime) -> Result<i64, Fault> {
    let micros = at.unix_timestamp_nanos().div_euclid(1_000);
    i64::try_from(micros).map_err(|_| Fault::Unwritable { what: "an instant" })
}

/// The instant so many microseconds after the Unix epoch.
pub(super) fn instant(micros: i64) -> Result<OffsetDateTime, Fault> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000)
        .map_err(|_| Fault::unreadable("an instant"))
}
