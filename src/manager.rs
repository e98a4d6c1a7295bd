//! The management of keys, for actors that the host's policy allows.
//!
//! | to | call |
//! |---|---|
//! | make keys | [`issue`](KeyManager::issue), [`import`][import], [`import_all`][all], [`rotate`][rotate] |
//! | look at them | [`get`][get], [`view`](KeyManager::view), [`list`](KeyManager::list) by a [`KeyQuery`] |
//! | read their events | [`events`](KeyManager::events) of a tenant, [`events_of`](KeyManager::events_of) a key |
//! | look at the tenants | [`tenants`](KeyManager::tenants) |
//! | find one without its tenant | [`find_by_id`](KeyManager::find_by_id) |
//! | change them | [`update`](KeyManager::update), [`suspend`](KeyManager::suspend), [`resume`](KeyManager::resume) |
//! | end one or many | [`revoke`](KeyManager::revoke), [`revoke_all`](KeyManager::revoke_all) |
//! | end keys by date of issue | [`deny_issued_before`][deny], [`lower_cutoff`](KeyManager::lower_cutoff) |
//! | remove them | [`purge`](KeyManager::purge), [`remove_tenant`](KeyManager::remove_tenant) |
//! | remove old events | [`cut_events`](KeyManager::cut_events) |
//! | deal with a leak | [`find_owner`](KeyManager::find_owner), [`revoke_leaked`](KeyManager::revoke_leaked) |
//! | survive a restored backup | [`export_restrictions`][export], [`replay_restrictions`][replay] |
//!
//! Every call names an [`Actor`]. The manager asks the [`Policy`] before it does anything; for a call on one key, it
//! asks after it has read the key's owner. A key of a tenant that is not the actor's and a key that does not exist
//! give the same answer. The manager checks every power that it gives, to a new key or back to an existing one,
//! against the actor's [`Ceiling`] and the [`TenantRules`]. It does not check operations that only take power away.
//!
//! If the store keeps events, each change commits together with its [`Event`](crate::audit::Event), or not at all. A
//! revocation is the one exception: it commits even if the event log cannot take its event.
//!
//! [all]: KeyManager::import_all
//! [get]: KeyManager::get
//! [rotate]: KeyManager::rotate
//! [import]: KeyManager::import
//! [deny]: KeyManager::deny_issued_before
//! [export]: KeyManager::export_restrictions
//! [replay]: KeyManager::replay_restrictions

mod actor;
mod amend;
mod authorize;
mod ceiling;
mod draft;
mod error;
mod events;
mod find;
mod form;
mod import;
mod issue;
mod leaked;
mod list;
mod lookups;
mod new_key;
mod page_cursor;
mod parts;
mod policy;
mod purge;
mod query;
mod remove_tenant;
mod replay;
mod request_id;
mod restriction;
mod revoke;
mod rotate;
mod rules;
mod update;

// The calls of the manager, in the order of its documentation.
mod making;

mod looking;

mod changing;

mod ending;

mod removing;

mod recovering;

pub use actor::{Actor, Tenants};
pub(crate) use authorize::StoreAccess;
use authorize::{Authorized, OnKey, broken_store};
pub use ceiling::{Axis, Ceiling, Limits};
pub use error::{InvalidKey, ManageError};
pub use events::KeyEvents;
pub use form::{KeyQueryForm, NewKeyForm, RevokeForm};
pub use issue::{Issued, Revealed};
pub use leaked::FoundKey;
pub use list::{KeyList, KeyListView, ListedKey};
pub(crate) use lookups::Lookups;
pub use new_key::{Expiry, KeyRequest, NewKey};
pub use page_cursor::{PageCursor, PageCursorError};
pub(crate) use parts::ManagerParts;
pub use policy::{AllowAll, KeyRef, Operation, Policy, PolicyError, Ruling};
pub use purge::Purged;
pub use query::KeyQuery;
pub use replay::{Replayed, RestrictionPage};
pub use restriction::{Bound, KeyBound};
pub use revoke::{CutoffChange, RevokeAll, Revoked, RevokedAll};
pub use rotate::{Overlap, Rotation};
pub use rules::{RuleBook, TenantRules};
pub use update::KeyUpdate;

use std::sync::Arc;

/// Issues, changes and ends keys. Cheap to clone.
///
/// ```
/// use keyward::key::{Access, RevokeReason, TenantId};
/// use keyward::manager::{Actor, KeyManager, NewKey};
///
/// # async fn f(manager: &KeyManager) -> Result<(), Box<dyn std::error::Error>> {
/// let (actor, tenant) = (Actor::system("setup"), TenantId::new("acme-inc")?);
/// let new = NewKey::new(tenant.clone(), "Power BI dashboard", Access::Full);
/// let issued = manager.issue(&actor, new).await?;
/// println!("{}", issued.api_key().expose()); // shown once
///
/// manager.revoke(&actor, &tenant, issued.record().id(), RevokeReason::Requested).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct KeyManager {
    parts: Arc<ManagerParts>,
}

impl KeyManager {
    pub(crate) fn new(parts: ManagerParts) -> Self {
        Self {
            parts: Arc::new(parts),
        }
    }
}
