//! The calls that make keys.

use super::{Actor, Issued, KeyManager, KeyRef, ManageError, NewKey, Operation, Rotation};
use crate::import::{ImportError, ImportedKey};
use crate::key::{KeyId, KeyRecord, TenantId};

/// # Making keys
impl KeyManager {
    /// Issues a key. Only the answer contains the key's text: nothing stored can bring it back.
    ///
    /// # Errors
    /// [`ManageError::Refused`] if the tenant is not the actor's, or by policy; [`ManageError::Invalid`] and
    /// [`ManageError::AboveCeiling`] if the request is not allowed; [`ManageError::TenantFull`],
    /// [`ManageError::CutOff`], [`ManageError::ClockBehindCutoff`]; [`ManageError::Random`],
    /// [`ManageError::IdCollision`], [`ManageError::Clock`], [`ManageError::Hashing`], [`ManageError::Store`]. An
    /// expiry that no key can have is refused before the policy is asked, as the policy sees its instant.
    ///
    /// After any of them but [`StoreError::Indeterminate`], nothing is issued. After that one, and if the answer is
    /// lost on its way to the client, the list may contain a key that no client has the text of. With a [request
    /// id](NewKey::request_id) make the same request again: [`ManageError::AlreadyIssued`] names that key, and
    /// otherwise the key is issued now. [Revoke](Self::revoke) the key, or [rotate](Self::rotate) it with
    /// [`Overlap::None`], which ends it and returns a successor.
    ///
    /// [`ManageError::RequestIdReused`] if the request id was used for a key with other fields.
    ///
    /// [`StoreError::Indeterminate`]: crate::store::StoreError::Indeterminate
    /// [`Overlap::None`]: super::Overlap::None
    pub async fn issue(&self, actor: &Actor, key: NewKey) -> Result<Issued, ManageError> {
        let now = self.parts.now()?;
        let (expiry, request_id) = (key.expiry, key.request_id.clone());
        let key = self.parts.request(actor, key, now)?;
        let by = self
            .authorize(actor, Operation::Issue { key: &key })
            .await?;
        by.issue(key, expiry, request_id.as_deref(), now).await
    }

    /// Imports a key that another system issued: its client goes on using the text it has.
    ///
    /// The manager builds the new record as for [`issue`](Self::issue) and checks it against the same bounds. The
    /// policy is asked about an operation of its own, [`Operation::Import`]. On first use, Keyward replaces a digest
    /// of another scheme by one of its own; until then it is as strong as it was.
    ///
    /// # Errors
    /// - [`ManageError::AlreadyImported`] if the tenant already has this key, so that an import that stopped can be
    ///   run again.
    /// - [`ManageError::ImportedOtherwise`] if the tenant has it with another secret. A digest can be compared only
    ///   with the one that was imported, no longer with one that has replaced it since.
    /// - [`ManageError::IdTaken`] if its id belongs to another key, of any tenant.
    /// - [`ManageError::TooManyLookups`] after 100 such answers, `IdTaken` and `ImportedOtherwise`, in a minute,
    ///   counted together with the misses of [`find_owner`](Self::find_owner).
    /// - [`ManageError::Import`] if the text or digest does not match its format, or no such format is
    ///   [accepted](crate::Builder::imported_keys).
    /// - The errors of [`issue`](Self::issue).
    ///
    /// # Security
    /// `AlreadyImported` reveals that a key belongs to the tenant, under any owner, to callers that may import for the
    /// tenant and have the key's text or digest. It does not count towards the limit, since it takes the key's own
    /// secret or the digest that was imported; once a better digest has replaced that one, any digest under the key's
    /// id gets this answer. For another tenant's key the answer is always `IdTaken`, even with the
    /// right secret.
    ///
    /// `IdTaken` reveals that a text is some tenant's key: hence the limit. Beyond it, the manager refuses every
    /// import by this principal before it asks the store. Imports run in parallel up to the limit, and wait for one
    /// another beyond it.
    pub async fn import(
        &self,
        actor: &Actor,
        key: NewKey,
        imported: ImportedKey,
    ) -> Result<KeyRecord, ManageError> {
        self.import_one(actor, key, &imported).await
    }

    /// Imports many keys, up to 16 in a commit, and returns the answer to each row in the order of the rows.
    ///
    /// Each row passes the checks of [`import`](Self::import), among them a call of the policy of its own, and gets
    /// the answer that it would get there: a row that is refused keeps no other from being imported. The cap of a
    /// tenant counts the rows before it. Give some hundreds of rows a call, from a loop over the old table: the call
    /// holds them in memory, and the guide [Migrating to Keyward](crate::manual::migrating) shows the loop.
    ///
    /// To resume an import that stopped, repeat it: rows that are imported already are answered by
    /// [`ManageError::AlreadyImported`], and nothing changes. So is a row that repeats an earlier one of the same call.
    ///
    /// # Errors
    /// Each row's are those of [`import`](Self::import). If the store is
    /// [unavailable](crate::store::StoreError::Unavailable) or a commit's outcome
    /// [unknown](crate::store::StoreError::Indeterminate), the rows of that commit get this error, and the rows after
    /// them are answered by [`StoreError::Unavailable`](crate::store::StoreError::Unavailable) without being tried.
    ///
    /// # Security
    /// As [`import`](Self::import). The limit on failed look-ups counts each row.
    pub async fn import_all(
        &self,
        actor: &Actor,
        rows: Vec<(NewKey, ImportedKey)>,
    ) -> Vec<Result<KeyRecord, ManageError>> {
        self.import_rows(actor, rows).await
    }

    /// Returns Keyward's id of the key with this id in a legacy format, to revoke here the keys revoked there.
    ///
    /// # Errors
    /// [`ImportError`] if no such format is accepted, or it has no such ids.
    pub fn imported_id(&self, format: &str, id: &str) -> Result<KeyId, ImportError> {
        self.parts.imported_id(format, id)
    }

    /// Issues a successor to a key, with the same title, owner, access, restrictions, quotas and metadata.
    ///
    /// Unless you ask for another expiry, the successor expires when the key would have without a successor. Only the
    /// answer contains the successor's text, which cannot be recovered later.
    ///
    /// Both keys change in one commit. When the overlap ends, the old key counts as revoked on every node, without a
    /// further call. To end it earlier, revoke it.
    ///
    /// A key is rotated once: to rotate again, rotate its successor. While a successor of a key has not ended,
    /// rotating the key itself returns [`ManageError::AlreadyRotated`], which names that successor. A rotation also
    /// stores as revoked those predecessors with an overlap that is over, so that they no longer count towards a
    /// tenant's [cap][cap]. At the cap, a rotation succeeds without an overlap, and with one that
    /// ends within 90 days.
    ///
    /// # Errors
    /// [`ManageError::AlreadyRotated`], [`ManageError::Suspended`], [`ManageError::OverlapNeedsPlace`];
    /// [`ManageError::NotFound`] if the tenant has no such key or is not the actor's; [`ManageError::Refused`] by
    /// policy; [`ManageError::AlreadyRevoked`] and [`ManageError::Ended`]; [`ManageError::AboveCeiling`] both for the
    /// key as it is and for the successor; and as [`issue`](Self::issue). After [`StoreError::Indeterminate`] the
    /// list may contain a successor that no client has the text of: with a [request id](Rotation::request_id) make
    /// the same request again, and rotate the successor that [`ManageError::AlreadyIssued`] names.
    ///
    /// [`StoreError::Indeterminate`]: crate::store::StoreError::Indeterminate
    /// [cap]: super::TenantRules::max_keys
    pub async fn rotate(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: KeyId,
        rotation: impl Into<Rotation>,
    ) -> Result<Issued, ManageError> {
        let rotation = rotation.into();
        let operation = Operation::Rotate {
            key: KeyRef::new(tenant, id),
            rotation: &rotation,
        };
        let key = self.authorize_on_key(actor, operation).await?;
        key.rotate(&rotation).await
    }
}
