//! The parts of a key: its text, id, access, restrictions and record. No I/O, no async, no clock.
//!
//! | topic | types |
//! |---|---|
//! | writing and reading a key's text | [`KeyFormat`], [`ApiKey`], [`PresentedKey`] |
//! | a key's permissions and restrictions | [`Restrictions`], [`Access`], [`Resources`], [`Networks`], [`Scope`] |
//! | a key as the store keeps it | [`KeyRecord`], [`StoredKey`] |
//! | a key as a host may show it | [`KeyView`] |
//! | an instant as a host has it | [`Timestamp`] |

mod access;
mod api_key;
mod base62;
mod catalog;
mod codec;
mod digest;
mod format;
mod id;
mod metadata;
mod network;
mod non_empty;
mod parse;
mod presented;
mod principal;
mod quota;
mod record;
mod redactor;
mod resource;
mod restrictions;
mod scope;
mod secret;
mod stored;
mod tagged;
mod tenant;
mod timestamp;
mod title;
mod value_error;

pub use access::Access;
pub use api_key::ApiKey;
pub(crate) use catalog::{Bits, ScopeCatalog};
pub use catalog::{CatalogError, ScopeDeclaration};
pub use codec::{DecodeError, EncodeError};
pub use digest::Digest;
pub(crate) use format::PrefixIndex;
pub use format::{Environment, FormatError, KeyFormat, KeyPrefix};
pub use id::KeyId;
pub use metadata::Metadata;
pub use network::{Network, Networks};
pub use non_empty::NonEmpty;
pub(crate) use parse::MAX_TEXT;
pub use parse::ParsedKey;
pub use presented::{KeyTextError, PresentedKey};
pub use principal::Principal;
pub(crate) use principal::refused_in_name;
pub use quota::{Quota, QuotaSubject};
pub(crate) use record::{HasPassed, LegacyText};
pub use record::{KeyRecord, KeyStatus, KeyView, Rotated};
pub use redactor::Redactor;
pub use resource::{Resource, Resources};
pub use restrictions::Restrictions;
pub use scope::{IntoScopeRule, Scope, ScopeRule};
pub(crate) use scope::{Rule, ScopeSet};
pub use secret::{Secret, SecretOrigin};
pub use stored::{Revocation, RevokeReason, StoredKey};
pub(crate) use tagged::{present, tagged_form};
pub use tenant::TenantId;
pub use timestamp::Timestamp;
pub(crate) use timestamp::instant_of;
pub use title::Title;
pub use value_error::ValueError;
