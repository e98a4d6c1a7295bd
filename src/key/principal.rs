//! The owners of keys and the actors of changes.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::tenant::is_name;
use super::value_error::text_form;
use super::{Redactor, ValueError};

const MALFORMED: ValueError = ValueError::malformed(
    "principal",
    "`user:`, `integration:` or `system:` and 1 to 128 visible ASCII characters",
);

/// A user, an integration or a part of the system, under the host's name for it.
///
/// It is written `user:alice`, `integration:power-bi`, `system:setup`. The name is 1 to 128 visible ASCII characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Principal {
    kind: Kind,
    name: Box<str>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    User,
    Integration,
    System,
}

impl Kind {
    const ALL: [Self; 3] = [Self::User, Self::Integration, Self::System];

    const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Integration => "integration",
            Self::System => "system",
        }
    }
}

impl Principal {
    /// Creates a principal for a person.
    ///
    /// # Errors
    /// [`ValueError`] unless the name is 1 to 128 visible ASCII characters.
    pub fn user(name: &str) -> Result<Self, ValueError> {
        Self::of(Kind::User, name)
    }

    /// Creates a principal for a program that acts for a tenant.
    ///
    /// # Errors
    /// As [`user`](Self::user).
    pub fn integration(name: &str) -> Result<Self, ValueError> {
        Self::of(Kind::Integration, name)
    }

    /// Creates a principal for a part of the host application itself.
    ///
    /// # Errors
    /// As [`user`](Self::user).
    pub fn system(name: &str) -> Result<Self, ValueError> {
        Self::of(Kind::System, name)
    }

    fn of(kind: Kind, name: &str) -> Result<Self, ValueError> {
        if is_name(name) {
            Ok(Self {
                kind,
                name: name.into(),
            })
        } else {
            Err(MALFORMED)
        }
    }

    pub(crate) fn unnamed_system() -> Self {
        Self {
            kind: Kind::System,
            name: "unnamed".into(),
        }
    }

    /// Returns the principal with keys in its name masked.
    pub(crate) fn masked(&self, redactor: &Redactor) -> Self {
        match redactor.redact(&self.name) {
            Cow::Borrowed(_) => self.clone(),
            // Still a valid name: a mask is visible ASCII, and shorter than the text it replaces.
            Cow::Owned(name) => Self {
                kind: self.kind,
                name: name.into(),
            },
        }
    }

    /// Returns the name without the kind.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether it is a person.
    #[must_use]
    pub fn is_user(&self) -> bool {
        self.kind == Kind::User
    }

    /// Returns whether it is a program that acts for a tenant.
    #[must_use]
    pub fn is_integration(&self) -> bool {
        self.kind == Kind::Integration
    }

    /// Returns whether it is a part of the host application itself.
    #[must_use]
    pub fn is_system(&self) -> bool {
        self.kind == Kind::System
    }
}

impl FromStr for Principal {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, name) = text.split_once(':').ok_or(MALFORMED)?;
        let mut kinds = Kind::ALL.into_iter();
        let kind = kinds.find(|known| known.as_str() == kind);
        Self::of(kind.ok_or(MALFORMED)?, name)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.as_str(), self.name)
    }
}

text_form!(Principal);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_read_back() {
        for text in ["user:alice", "integration:power-bi", "system:a:b"] {
            assert_eq!(text.parse::<Principal>().unwrap().to_string(), text);
        }
        for bad in [
            "", "alice", "user:", ":a", "User:a", "robot:a", "user:a b", "user:a\n",
        ] {
            assert_eq!(bad.parse::<Principal>(), Err(MALFORMED), "{bad:?}");
        }
    }
}
