//! Importing keys that another system issued.

mod many;

use time::OffsetDateTime;

use super::issue::Addition;
use super::lookups::Lookup;
use super::{
    Actor, Authorized, InvalidKey, KeyManager, KeyRequest, ManageError, ManagerParts, NewKey,
    Operation,
};
use crate::audit::{EventAction, FieldChange};
use crate::clock::{normalized, rfc3339};
use crate::credential::Credential;
use crate::hashing::{Binding, Possession, Purpose};
use crate::import::{Identified, ImportError, ImportedKey, Kept};
use crate::key::{KeyId, KeyRecord, SecretOrigin};

/// A key that passed every check, ready to be committed.
struct Prepared<'a> {
    record: KeyRecord,
    addition: Addition,
    kept: Kept<'a>,
}

impl KeyManager {
    pub(super) async fn import_one(
        &self,
        actor: &Actor,
        key: NewKey,
        imported: &ImportedKey,
    ) -> Result<KeyRecord, ManageError> {
        let (by, prepared) = self.prepare_import(actor, key, imported).await?;
        by.add_imported(prepared).await
    }

    /// Authorizes an import and makes every check that needs no commit.
    async fn prepare_import<'a>(
        &'a self,
        actor: &'a Actor,
        key: NewKey,
        imported: &'a ImportedKey,
    ) -> Result<(Authorized<'a>, Prepared<'a>), ManageError> {
        let now = self.parts.now()?;
        let key = self.parts.request(actor, key, now)?;
        let operation = Operation::Import {
            key: &key,
            imported,
        };
        let by = self.authorize(actor, operation).await?;
        let prepared = by.prepare(key, imported, now).await?;
        Ok((by, prepared))
    }
}

impl<'a> Authorized<'a> {
    async fn prepare(
        &self,
        key: KeyRequest,
        imported: &'a ImportedKey,
        now: OffsetDateTime,
    ) -> Result<Prepared<'a>, ManageError> {
        let rules = self.rules_of(&key.tenant).await?;
        let mut record = self.draft(key, now)?;
        if let Some(issued_at) = imported.issued_at {
            let issued_at = normalized(issued_at).ok_or(InvalidKey::Instant)?;
            if issued_at > now {
                return Err(ManageError::InTheFuture);
            }
            record.created_at = issued_at;
        }
        rules.check(&record, &self.catalog)?;
        self.check_ceiling(&record)?;

        let credentials = &self.parts().credentials;
        let identified = imported.identify(&self.parts().format, credentials.imported.as_ref())?;
        let Identified { id, legacy, kept } = identified;
        if let Some(legacy) = &legacy {
            self.refuse_keys("id", &legacy.shown)?;
        }
        (record.id, record.legacy) = (id, legacy);
        record.lineage = record.id;
        record.origin = SecretOrigin::Imported {
            entropy_bits: imported.entropy_bits,
        };
        let (digest, scheme) = match &kept {
            Kept::Secret { secret, .. } => {
                check_strength(secret, imported.entropy_bits)?;
                check_shows_not(&record, secret)?;
                let digest = credentials.hasher.digest(&record, secret).await?;
                (digest, "own")
            }
            Kept::Digest(by, coverage, digest) => {
                let most = credentials.hasher.most_obeyed();
                if digest.is_weak() && !record.origin.is_strong() {
                    return Err(ImportError::Weak.into());
                }
                let kept = by.keep(Binding::of(&record), *coverage, digest, most)?;
                (kept, digest.scheme())
            }
        };
        record.digest = digest;
        let mut fields = vec![FieldChange::set("digest_scheme", scheme)];
        if let Some(bits) = imported.entropy_bits {
            fields.push(FieldChange::set("declared_bits", bits.to_string()));
        }
        if imported.issued_at.is_some() {
            fields.push(FieldChange::set("issued_at", rfc3339(record.created_at)));
        }
        let addition = self.addition(EventAction::KeyImported, &record, &rules, fields)?;
        Ok(Prepared {
            record,
            addition,
            kept,
        })
    }

    /// Commits one prepared key.
    async fn add_imported(&self, prepared: Prepared<'_>) -> Result<KeyRecord, ManageError> {
        let Prepared {
            record,
            addition,
            kept,
        } = prepared;
        // A taken id reveals that the text is a key, so these answers are limited.
        let lookup = self.lookups.begin(self.actor()).await?;
        if self.insert(addition).await? {
            return Ok(record);
        }
        Err(self.why_taken(lookup, &record, &kept).await)
    }

    /// Returns the answer for a record with an id that is taken, and counts it unless it reveals nothing.
    async fn why_taken(
        &self,
        lookup: Lookup<'_>,
        record: &KeyRecord,
        kept: &Kept<'_>,
    ) -> ManageError {
        let error = match self.compare_taken(record, kept).await {
            Ok(error) | Err(error) => error,
        };
        // A repeated import of the tenant's own key, with its own secret, is no guess: a migration may be run again.
        if !matches!(error, ManageError::AlreadyImported { .. }) {
            lookup.missed();
        }
        error
    }

    /// Returns the answer for a record with an id that is taken.
    async fn compare_taken(
        &self,
        record: &KeyRecord,
        kept: &Kept<'_>,
    ) -> Result<ManageError, ManageError> {
        let id = record.id;
        let stored = self.read(id).await?;
        // Only an imported key of the same tenant, in the same legacy form, can be the key to import.
        let stored = stored.filter(|stored| stored.tenant == record.tenant);
        let there = stored.and_then(|stored| KeyRecord::decode(stored).ok());
        let there = there.filter(|there| {
            let is_imported = matches!(there.origin(), SecretOrigin::Imported { .. });
            is_imported && there.legacy == record.legacy
        });
        Ok(match there {
            None => ManageError::IdTaken { id },
            Some(there) if self.may_be_of(&there, kept).await? => {
                ManageError::AlreadyImported { id }
            }
            Some(_) => ManageError::ImportedOtherwise { id },
        })
    }

    /// Returns whether the imported secret or digest may be that of the stored key, as far as the comparison is
    /// possible.
    async fn may_be_of(&self, there: &KeyRecord, kept: &Kept<'_>) -> Result<bool, ManageError> {
        let credentials = &self.credentials;
        let (secret, text) = match kept {
            Kept::Secret { secret, text } => (secret, text),
            Kept::Digest(by, coverage, digest) => {
                let most = credentials.hasher.most_obeyed();
                return Ok(by.may_be_kept_as(there, *coverage, digest, most)?);
            }
        };
        let credential = Credential {
            id: there.id,
            prefix: None,
            environment: None,
            secret,
            text,
            legacy: None,
        };
        let compared = credentials
            .verify(there, &credential, Purpose::Trial)
            .await?;
        Ok(matches!(compared, Possession::Proven { .. }))
    }
}

impl ManagerParts {
    pub(super) fn imported_id(&self, format: &str, id: &str) -> Result<KeyId, ImportError> {
        let imported = self.credentials.imported.as_ref();
        imported.ok_or(ImportError::NotAccepted)?.id_in(format, id)
    }
}

/// Refuses a record that shows the secret in one of its texts.
fn check_shows_not(record: &KeyRecord, secret: &[u8]) -> Result<(), InvalidKey> {
    let Ok(secret) = std::str::from_utf8(secret) else {
        return Ok(());
    };
    // The metadata is JSON, in which the secret would appear escaped.
    let metadata = record.metadata().to_json();
    let resources = record.restrictions().resources.to_string();
    let escaped = serde_json::to_string(secret).unwrap_or_default();
    let escaped = escaped.trim_matches('"');
    for (field, text, secret) in [
        ("title", record.title().as_str(), secret),
        ("owner", record.owner().name(), secret),
        ("actor", record.created_by().name(), secret),
        ("metadata", metadata.as_str(), escaped),
        ("resource", resources.as_str(), secret),
    ] {
        if text.contains(secret) {
            return Err(InvalidKey::HoldsKey { field });
        }
    }
    Ok(())
}

/// Refuses a declared entropy above 6.55 bits for each byte of the secret, the most that visible ASCII characters can
/// hold.
fn check_strength(secret: &[u8], entropy_bits: Option<u16>) -> Result<(), ImportError> {
    let most = secret.len().saturating_mul(655) / 100;
    match entropy_bits {
        Some(bits) if usize::from(bits) > most => Err(ImportError::Overstated),
        _ => Ok(()),
    }
}
