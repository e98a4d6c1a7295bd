//! Accounts that payments come from.

use serde::{Deserialize, Serialize};

use crate::field::{Currency, Email, Text, present};

/// A customer's account.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Account {
    pub(crate) id: String,
    #[serde(flatten)]
    pub(crate) details: AccountForm,
}

/// The fields of an account that callers set, when they open or replace it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccountForm {
    pub(crate) holder: Text,
    pub(crate) email: Email,
    pub(crate) currency: Currency,
    #[serde(default)]
    pub(crate) status: AccountStatus,
}

/// Changes to an account.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccountPatch {
    #[serde(default, deserialize_with = "present")]
    holder: Option<Text>,
    #[serde(default, deserialize_with = "present")]
    email: Option<Email>,
    #[serde(default, deserialize_with = "present")]
    currency: Option<Currency>,
    #[serde(default, deserialize_with = "present")]
    status: Option<AccountStatus>,
}

/// Whether new payments can come from an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AccountStatus {
    #[default]
    Open,
    Frozen,
}

impl AccountForm {
    /// Applies these changes.
    pub(crate) fn with(self, patch: AccountPatch) -> Self {
        Self {
            holder: patch.holder.unwrap_or(self.holder),
            email: patch.email.unwrap_or(self.email),
            currency: patch.currency.unwrap_or(self.currency),
            status: patch.status.unwrap_or(self.status),
        }
    }
}
