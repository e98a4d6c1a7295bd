//! The owners of keys and the actors of changes.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::title::{is_joiner, refusal};
use super::value_error::text_form;
use super::{Redactor, ValueError};

const MALFORMED: ValueError = ValueError::malformed(
    "principal",
    "`user:`, `integration:` or `system:` and a name",
);
const EMPTY: ValueError = ValueError::Empty {
    value: "principal's name",
};
const TOO_LONG: ValueError = ValueError::TooLarge {
    value: "principal's name",
    limit: Principal::MAX_CHARACTERS,
    unit: "characters",
};

/// A user, an integration or a part of the system, under the host's name for it.
///
/// It is written `user:alice`, `integration:power-bi`, `system:setup`. The name is 1 to 255 characters (Unicode scalar
/// values), as in a directory: `jörg@example.com`, `CN=Jörg Müller,OU=Sales,DC=example`,
/// `arn:aws:iam::123456789012:user/anna`, the `sub` of an identity provider, the id of a row.
///
/// Refused are control characters, characters that are invisible or change the direction of text, white space other
/// than single characters U+0020 inside, and joiners. The error names the character.
///
/// Names are compared byte by byte. They are not normalized: where names come in different forms of Unicode or cases,
/// bring them into one (NFC, lower case) before you make a principal. Two forms are two principals, neither of which
/// owns the keys of the other. Letters of different scripts may look alike; a stable id is a better name than what a
/// person may choose.
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
    /// Longest name in characters.
    pub(crate) const MAX_CHARACTERS: usize = 255;

    /// Creates a principal for a person.
    ///
    /// # Errors
    /// [`ValueError`] if the name is empty, longer than 255 characters or contains a refused character.
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
        // Check the size in bytes first, so that an enormous text costs nothing.
        if name.len() > 4 * Self::MAX_CHARACTERS || name.chars().count() > Self::MAX_CHARACTERS {
            return Err(TOO_LONG);
        }
        if name.is_empty() {
            return Err(EMPTY);
        }
        let last = name.chars().count();
        for (position, character) in (1..).zip(name.chars()) {
            let is_outer = position == 1 || position == last;
            if let Some(refused) = refused_in_name(character, is_outer) {
                return Err(ValueError::Character {
                    value: "principal's name",
                    character,
                    position,
                    refused,
                });
            }
        }
        Ok(Self {
            kind,
            name: name.into(),
        })
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

/// Returns why a name cannot have this character, as its first or last one or inside. `None` if it can.
pub(crate) fn refused_in_name(character: char, is_outer: bool) -> Option<&'static str> {
    match character {
        ' ' if is_outer => Some("a space at an end"),
        ' ' => None,
        character if is_joiner(character) => Some("an invisible character"),
        character => refusal(character).or(character
            .is_whitespace()
            .then_some("white space other than a space")),
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
        let longest = format!("user:{}", "é".repeat(255));
        for text in [
            "user:alice",
            "integration:power-bi",
            "system:a:b",
            "user:jörg@example.com",
            "user:CN=Jörg Müller\\, Jr.,OU=Sales,DC=example,DC=com",
            "user:arn:aws:iam::123456789012:user/division/anna",
            "user:auth0|5f7c8ec7c33c6c004bbafe82",
            "user:李雷",
            &longest,
        ] {
            assert_eq!(text.parse::<Principal>().unwrap().to_string(), text);
        }
        for bad in ["", "alice", ":a", "User:a", "robot:a"] {
            assert_eq!(bad.parse::<Principal>(), Err(MALFORMED), "{bad:?}");
        }
        assert_eq!("user:".parse::<Principal>(), Err(EMPTY));
        for size in [256, 1 << 20] {
            assert_eq!(Principal::user(&"é".repeat(size)), Err(TOO_LONG));
        }
    }

    #[test]
    fn a_refused_character_is_named() {
        for (name, named, at) in [
            ("a\n", '\n', 2),
            ("a\tb", '\t', 2),
            (" a", ' ', 1),
            ("a ", ' ', 2),
            (" ", ' ', 1),
            ("ö\u{a0}b", '\u{a0}', 2),
            ("a\u{3000}b", '\u{3000}', 2),
            ("a\u{200d}b", '\u{200d}', 2),
            ("a\u{fe0f}", '\u{fe0f}', 2),
            ("a\u{ad}b", '\u{ad}', 2),
            ("a\u{202e}b", '\u{202e}', 2),
            ("\u{1f3f4}\u{e0067}", '\u{e0067}', 2),
        ] {
            let Err(ValueError::Character {
                character,
                position,
                ..
            }) = Principal::user(name)
            else {
                panic!("{name:?}");
            };
            assert_eq!((character, position), (named, at), "{name:?}");
        }
    }
}
