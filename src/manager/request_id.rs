//! Requests that may be made again after a lost answer.
//!
//! The id of the new key is derived from the request, not drawn. The store keeps an id for good, so a request that is
//! made again finds the id taken, on every node and after a purge too, and no second key is issued.
//!
//! INVARIANT: the derivation covers the tenant and the principal, each with its length. A caller that chooses request
//! ids meets only keys that the same principal asked for in the same tenant: to meet another id takes a preimage of 122
//! bits of SHA-256.

use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use super::rotate::Asked;
use super::{Authorized, Expiry, InvalidKey, KeyRequest, ManageError, Overlap, Rotation};
use crate::clock::{later, normalized};
use crate::key::{KeyId, KeyRecord, SecretOrigin, TenantId, Title, ValueError};
use crate::random::RandomError;

/// Separates these hashes from all others.
const DOMAIN: &[u8] = b"keyward request 1";

/// Longest request id in characters.
const MAX_LENGTH: usize = 255;

const MALFORMED: ValueError =
    ValueError::malformed("request id", "1 to 255 visible ASCII characters");

/// The request that a new key comes from.
#[derive(Clone, Copy)]
pub(super) enum Cause<'a> {
    Issue {
        key: &'a KeyRequest,
        expiry: Option<Expiry>,
    },
    Rotate {
        predecessor: KeyId,
        rotation: &'a Rotation,
    },
}

impl Authorized<'_> {
    /// Returns the id of the key that a request with this request id asks for.
    pub(super) fn derived_id(
        &self,
        tenant: &TenantId,
        cause: Cause<'_>,
        request_id: Option<&str>,
    ) -> Result<Option<KeyId>, InvalidKey> {
        let Some(request_id) = request_id else {
            return Ok(None);
        };
        let is_visible = request_id.bytes().all(|byte| byte.is_ascii_graphic());
        if !(1..=MAX_LENGTH).contains(&request_id.len()) || !is_visible {
            return Err(InvalidKey::RequestId(MALFORMED));
        }
        let principal = self.actor().principal().to_string();
        let (operation, of) = match cause {
            Cause::Issue { .. } => ("issue", Vec::new()),
            Cause::Rotate { predecessor, .. } => ("rotate", predecessor.to_bytes().to_vec()),
        };
        let mut hash = Sha256::new();
        for part in [
            DOMAIN,
            tenant.as_str().as_bytes(),
            principal.as_bytes(),
            operation.as_bytes(),
            &of,
            request_id.as_bytes(),
        ] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        let hash: [u8; 32] = hash.finalize().into();
        let drawn = hash.first_chunk().copied().unwrap_or_default();
        let id = uuid::Builder::from_random_bytes(drawn).into_uuid();
        Ok(Some(KeyId::from_u128(id.as_u128())))
    }

    /// Returns the derived id, or draws one.
    pub(super) fn id_of_new(&self, derived: Option<KeyId>) -> Result<KeyId, RandomError> {
        match derived {
            Some(id) => Ok(id),
            None => KeyId::generate(&*self.random),
        }
    }

    /// Refuses a request that was made before, as long as its key is stored.
    pub(super) async fn refuse_repetition(
        &self,
        tenant: &TenantId,
        derived: Option<KeyId>,
        cause: Cause<'_>,
    ) -> Result<(), ManageError> {
        let Some(id) = derived else { return Ok(()) };
        let Some(stored) = self.read(id).await? else {
            return Ok(());
        };
        if stored.tenant != *tenant {
            return Err(ManageError::IdTaken { id });
        }
        let Ok(record) = KeyRecord::decode(stored) else {
            return Err(ManageError::AlreadyIssued { id });
        };
        let is_same = matches!(record.origin(), SecretOrigin::Generated { .. })
            && match cause {
                Cause::Issue { key, expiry } => self.is_of_request(&record, key, expiry),
                Cause::Rotate {
                    predecessor,
                    rotation,
                } => self.is_of_rotation(&record, predecessor, rotation).await?,
            };
        Err(if is_same {
            ManageError::AlreadyIssued { id }
        } else {
            ManageError::RequestIdReused { id }
        })
    }

    /// Returns whether the key was added; `false` if another id has to be drawn.
    ///
    /// If the same request was answered meanwhile, its key may also have taken the last place, or a cutoff may
    /// have ended it: the answer is still that it was issued.
    pub(super) async fn answered(
        &self,
        tenant: &TenantId,
        derived: Option<KeyId>,
        cause: Cause<'_>,
        inserted: Result<bool, ManageError>,
    ) -> Result<bool, ManageError> {
        let may_be_again = match &inserted {
            Ok(is_inserted) => !is_inserted,
            Err(error) => matches!(
                error,
                ManageError::TenantFull { .. }
                    | ManageError::CutOff
                    | ManageError::ClockBehindCutoff { .. }
            ),
        };
        match derived.filter(|_| may_be_again) {
            None => inserted,
            Some(id) => {
                self.refuse_repetition(tenant, derived, cause).await?;
                // The id of a purged key stays taken.
                inserted?;
                Err(ManageError::AlreadyIssued { id })
            }
        }
    }

    /// Returns whether the key may be the one that this request asks for, as far as the key shows it: a key that was
    /// changed since shows only the fields that never change.
    fn is_of_request(&self, record: &KeyRecord, key: &KeyRequest, expiry: Option<Expiry>) -> bool {
        let environment = self.format.find_environment(key.environment.as_deref());
        let owner = key.owner.as_ref().unwrap_or(self.actor().principal());
        let is_same = record.predecessor.is_none()
            && record.owner == *owner
            && environment == Some(&record.environment);
        if record.revision > 1 {
            return is_same;
        }
        let mut restrictions = key.restrictions.clone();
        restrictions.expires_at = expiry.and_then(|expiry| expiry.instant(record.created_at));
        is_same
            && Title::new(&key.title).is_ok_and(|title| title == record.title)
            && record.metadata == key.metadata
            && record.restrictions == restrictions
    }

    /// Returns whether the key may be the successor that this rotation asks for.
    async fn is_of_rotation(
        &self,
        record: &KeyRecord,
        predecessor: KeyId,
        rotation: &Rotation,
    ) -> Result<bool, ManageError> {
        let end = record.restrictions.expires_at;
        let is_same = record.predecessor == Some(predecessor)
            && match rotation.expiry {
                _ if record.revision > 1 => true,
                Asked::AsBefore => true,
                Asked::Never => end.is_none(),
                Asked::Expires(expiry) => end == expiry.instant(record.created_at),
            };
        let stored = self.read(predecessor).await?;
        let old = stored.and_then(|stored| KeyRecord::decode(stored).ok());
        let rotated = old.and_then(|old| old.rotation);
        let Some(rotated) = rotated.filter(|one| one.successor == record.id) else {
            return Ok(is_same);
        };
        // The old key's own end may have cut the overlap short.
        let is_until = |end: Option<OffsetDateTime>| {
            let is_cut = rotated.own_end.is_some() && rotated.overlap_ends < end;
            rotated.overlap_ends.is_some() && (rotated.overlap_ends == end || is_cut)
        };
        Ok(is_same
            && match rotation.overlap() {
                Overlap::None => rotated.overlap_ends == Some(rotated.at),
                Overlap::UntilRevoked => rotated.overlap_ends.is_none(),
                Overlap::Until(instant) => is_until(normalized(instant)),
                Overlap::For(time) => is_until(later(rotated.at, time).and_then(normalized)),
            })
    }
}
