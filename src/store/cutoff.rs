//! The scope of a cutoff.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::key::{Principal, StoredKey, TenantId, ValueError};

const MALFORMED: ValueError = ValueError::malformed(
    "cutoff scope",
    "`all`, `tenant` and a tenant, or `owner`, a tenant and a principal",
);

/// The keys that a [cutoff](super::Change::Cutoff) ends.
///
/// ```
/// use keyward::{key::TenantId, store::CutoffScope};
///
/// let scope = CutoffScope::from(&TenantId::new("acme-inc")?);
/// assert_eq!(scope.to_string(), "tenant acme-inc"); // a key for a backend's table of cutoffs
/// assert_eq!(scope.to_string().parse::<CutoffScope>()?, scope);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum CutoffScope {
    /// The keys of all tenants.
    All,
    /// The keys of one tenant.
    Tenant(TenantId),
    /// The keys that one user, integration or part of the system of a tenant owns.
    Owner {
        /// The tenant.
        tenant: TenantId,
        /// The owner of the keys.
        owner: Principal,
    },
}

impl CutoffScope {
    /// Returns all scopes that hold the keys of this tenant and owner.
    ///
    /// The latest cutoff among them binds those keys.
    pub fn binding(tenant: &TenantId, owner: &Principal) -> impl Iterator<Item = Self> {
        let scopes = [
            Self::All,
            Self::Tenant(tenant.clone()),
            Self::Owner {
                tenant: tenant.clone(),
                owner: owner.clone(),
            },
        ];
        scopes.into_iter()
    }

    /// Returns whether the scope holds this key.
    pub(crate) fn holds(&self, key: &StoredKey) -> bool {
        self.binds(&key.tenant, &key.owner)
    }

    /// Returns whether the scope holds this key, or may hold it: the owner of a damaged key is unknown.
    pub(super) fn may_hold(&self, key: &StoredKey) -> bool {
        let is_unowned = key.is_damaged() && self.tenant() == Some(&key.tenant);
        is_unowned || self.holds(key)
    }

    /// Returns whether the scope holds the keys of this tenant and owner.
    pub(crate) fn binds(&self, whose: &TenantId, by: &Principal) -> bool {
        match self {
            Self::All => true,
            Self::Tenant(tenant) => whose == tenant,
            Self::Owner { tenant, owner } => whose == tenant && by == owner,
        }
    }

    /// Returns the tenant; `None` if the scope is all tenants.
    #[must_use]
    pub fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::All => None,
            Self::Tenant(tenant) | Self::Owner { tenant, .. } => Some(tenant),
        }
    }

    /// Returns the owner; `None` if the scope is not one owner.
    #[must_use]
    pub fn owner(&self) -> Option<&Principal> {
        match self {
            Self::Owner { owner, .. } => Some(owner),
            Self::All | Self::Tenant(_) => None,
        }
    }
}

impl From<&TenantId> for CutoffScope {
    fn from(tenant: &TenantId) -> Self {
        Self::Tenant(tenant.clone())
    }
}

/// Writes `all`, `tenant acme-inc` or `owner acme-inc user:alice`. A tenant holds no space; an owner may.
impl fmt::Display for CutoffScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Tenant(tenant) => write!(f, "tenant {tenant}"),
            Self::Owner { tenant, owner } => write!(f, "owner {tenant} {owner}"),
        }
    }
}

impl FromStr for CutoffScope {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let tenant = |name: &str| TenantId::new(name).map_err(|_| MALFORMED);
        // Tenants hold no space, and owners may.
        match text.splitn(3, ' ').collect::<Vec<_>>().as_slice() {
            ["all"] => Ok(Self::All),
            ["tenant", name] => Ok(Self::Tenant(tenant(name)?)),
            ["owner", name, owner] => Ok(Self::Owner {
                tenant: tenant(name)?,
                owner: owner.parse().map_err(|_| MALFORMED)?,
            }),
            _ => Err(MALFORMED),
        }
    }
}

impl TryFrom<String> for CutoffScope {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<CutoffScope> for String {
    fn from(scope: CutoffScope) -> Self {
        scope.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_read_back_in_one_spelling() {
        let (tenant, owner) = (
            TenantId::new("a:b").unwrap(),
            Principal::user("Jörg  c:d e").unwrap(),
        );
        for scope in CutoffScope::binding(&tenant, &owner) {
            assert_eq!(scope.to_string().parse::<CutoffScope>(), Ok(scope));
        }
        for bad in [
            "",
            "all ",
            "All",
            "tenant",
            "tenant a b",
            "owner a",
            "owner a alice",
        ] {
            assert_eq!(bad.parse::<CutoffScope>(), Err(MALFORMED), "{bad}");
        }
    }
}
