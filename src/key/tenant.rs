//! The tenants that keys belong to.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ValueError;
use super::value_error::text_form;

const MALFORMED: ValueError =
    ValueError::malformed("tenant id", "1 to 128 visible ASCII characters");

/// The customer that a key belongs to: a partner, a workspace, an account.
///
/// An id is 1 to 128 visible ASCII characters, case-sensitive. Every management call and every query names exactly
/// one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// Creates a tenant id.
    ///
    /// # Errors
    /// [`ValueError`] unless it is 1 to 128 visible ASCII characters.
    pub fn new(text: impl AsRef<str>) -> Result<Self, ValueError> {
        let text = text.as_ref();
        if is_name(text) {
            Ok(Self(text.into()))
        } else {
            Err(MALFORMED)
        }
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns whether the text is 1 to 128 visible ASCII characters: safe in logs, headers and columns of any database.
fn is_name(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

impl FromStr for TenantId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_form!(TenantId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_ids_are_bounded() {
        let longest = "a".repeat(128);
        for good in ["a", "acme-inc", "Org/7:x", &longest] {
            assert_eq!(TenantId::new(good).unwrap().as_str(), good);
        }
        let too_long = "a".repeat(129);
        for bad in ["", " ", "a b", "a\n", "é", "a\0", &too_long] {
            assert_eq!(TenantId::new(bad), Err(MALFORMED), "{bad:?}");
        }
    }
}
