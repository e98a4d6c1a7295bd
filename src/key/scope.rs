//! Permissions, and the rules that combine them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::catalog::ScopeDeclaration;
use super::{NonEmpty, ValueError};

const EMPTY: ValueError = ValueError::Empty { value: "scope" };
const TOO_LONG: ValueError = ValueError::TooLarge {
    value: "scope",
    limit: Scope::MAX_LENGTH,
    unit: "characters",
};

/// A permission, such as `read:editions`.
///
/// # Grammar
/// ```text
/// scope = 1*128( %x21 / %x23-5B / %x5D-7E )
/// ```
/// That is OAuth's `scope-token` (RFC 6749 §3.3), so that a `WWW-Authenticate` header can contain a scope as it is:
/// visible ASCII characters except `"` and `\`. `repo:status` and `https://www.googleapis.com/auth/drive.readonly` are
/// scopes.
///
/// Scopes are case-sensitive and compared byte by byte. No part of the text has a meaning to Keyward, a `*` as little
/// as any other: the [declaration](ScopeDeclaration) of a scope lists its implications, and they never follow from its
/// name.
///
/// A scope is created by [`scope!`](crate::scope) from a literal, or parsed at run time.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope(Cow<'static, str>);

/// The scopes a key holds; at least one.
pub(crate) type ScopeSet = NonEmpty<Scope>;

/// Creates a [`Scope`](crate::key::Scope) from a string literal; a malformed one does not pass `cargo check`.
///
/// ```
/// use keyward::{key::Scope, scope};
///
/// const READ_EDITIONS: Scope = scope!("read:editions");
/// assert_eq!(READ_EDITIONS.as_str(), "read:editions");
/// ```
/// ```compile_fail
/// # fn is_checked_although_never_called<T>() -> keyward::key::Scope {
/// keyward::scope!("read editions")
/// # }
/// ```
#[macro_export]
macro_rules! scope {
    ($text:literal) => {{
        // `cargo check` evaluates a constant item, but not a call of a `const fn`.
        const SCOPE: $crate::key::Scope = $crate::key::Scope::from_static($text);
        SCOPE
    }};
}

impl Scope {
    /// Longest scope in characters.
    pub(crate) const MAX_LENGTH: usize = 128;

    /// Creates a scope from a text known at compile time.
    ///
    /// Use [`scope!`](crate::scope), which checks the text earlier.
    ///
    /// # Panics
    /// If the text is malformed; in a constant, that is a compile-time error.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        assert!(
            is_well_formed_scope(text),
            "malformed scope: 1 to 128 visible ASCII characters, except `\"` and `\\`"
        );
        Self(Cow::Borrowed(text))
    }

    /// Returns the scope's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Declares the scope with the description that people see when they choose it.
    #[must_use]
    pub fn described(self, description: impl Into<String>) -> ScopeDeclaration {
        ScopeDeclaration::new(self, description.into())
    }

    /// Creates a rule that needs this scope and everything `other` needs.
    #[must_use]
    pub fn and(self, other: impl IntoScopeRule) -> ScopeRule {
        ScopeRule::from(self).and(other)
    }

    /// Creates a rule that needs this scope or everything `other` needs.
    #[must_use]
    pub fn or(self, other: impl IntoScopeRule) -> ScopeRule {
        ScopeRule::from(self).or(other)
    }
}

const fn is_well_formed_scope(text: &str) -> bool {
    let mut bytes = text.as_bytes();
    if bytes.is_empty() || bytes.len() > Scope::MAX_LENGTH {
        return false;
    }
    while let Some((byte, rest)) = bytes.split_first() {
        if !is_scope_byte(*byte) {
            return false;
        }
        bytes = rest;
    }
    true
}

const fn is_scope_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'"' && byte != b'\\'
}

/// Returns why a text is no scope.
fn why_malformed(text: &str) -> ValueError {
    if text.len() > 4 * Scope::MAX_LENGTH {
        return TOO_LONG;
    }
    let is_refused = |character: &char| !u8::try_from(*character).is_ok_and(is_scope_byte);
    let mut characters = (1..).zip(text.chars());
    match characters.find(|(_, character)| is_refused(character)) {
        Some((position, character)) => ValueError::Character {
            value: "scope",
            character,
            position,
            refused: "a scope has only visible ASCII characters, and neither `\"` nor `\\`",
        },
        None if text.is_empty() => EMPTY,
        None => TOO_LONG,
    }
}

impl FromStr for Scope {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for Scope {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if is_well_formed_scope(&text) {
            Ok(Self(Cow::Owned(text)))
        } else {
            Err(why_malformed(&text))
        }
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.0.into_owned()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({self})")
    }
}

/// Scopes combined with *and* and *or*: `READ.or(WRITE)`, `READ.and(WRITE).or(ADMIN)`.
///
/// Evaluated from left to right as written, without precedence: `a.or(b).and(c)` is `(a or b) and c`.
#[derive(Clone, PartialEq, Eq)]
pub struct ScopeRule(Rule<Scope>);

/// A rule over scopes, or over a representation of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rule<T> {
    One(T),
    Both(Box<Self>, Box<Self>),
    Either(Box<Self>, Box<Self>),
}

impl ScopeRule {
    /// Creates a rule that needs everything this rule and `other` need.
    #[must_use]
    pub fn and(self, other: impl IntoScopeRule) -> Self {
        Self(Rule::Both(Box::new(self.0), Box::new(other.into_rule().0)))
    }

    /// Creates a rule that needs everything this rule or `other` needs.
    #[must_use]
    pub fn or(self, other: impl IntoScopeRule) -> Self {
        Self(Rule::Either(
            Box::new(self.0),
            Box::new(other.into_rule().0),
        ))
    }

    /// Returns the same rule over the representation of each scope.
    pub(crate) fn map<T>(&self, mut stands_for: impl FnMut(&Scope) -> T) -> Rule<T> {
        self.0.map(&mut stands_for)
    }

    /// Returns the first scope in the rule for which `is_wanted` is true.
    pub(crate) fn find(&self, mut is_wanted: impl FnMut(&Scope) -> bool) -> Option<&Scope> {
        self.0.find(&mut is_wanted)
    }
}

impl<T> Rule<T> {
    fn map<U>(&self, stands_for: &mut impl FnMut(&T) -> U) -> Rule<U> {
        let mut map = |rule: &Self| Box::new(rule.map(stands_for));
        match self {
            Self::Both(a, b) => Rule::Both(map(a), map(b)),
            Self::Either(a, b) => Rule::Either(map(a), map(b)),
            Self::One(one) => Rule::One(stands_for(one)),
        }
    }

    fn find(&self, is_wanted: &mut impl FnMut(&T) -> bool) -> Option<&T> {
        match self {
            Self::One(one) => Some(one).filter(|one| is_wanted(one)),
            Self::Both(a, b) | Self::Either(a, b) => {
                a.find(is_wanted).or_else(|| b.find(is_wanted))
            }
        }
    }
}

impl From<Scope> for ScopeRule {
    fn from(scope: Scope) -> Self {
        Self(Rule::One(scope))
    }
}

/// A scope, or a rule of scopes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a scope",
    label = "write `scope!(\"read:editions\")`",
    note = "`keyward::scope!` checks a scope when it compiles, `text.parse::<Scope>()` when it runs"
)]
pub trait IntoScopeRule {
    /// Returns the rule.
    fn into_rule(self) -> ScopeRule;
}

impl IntoScopeRule for Scope {
    fn into_rule(self) -> ScopeRule {
        self.into()
    }
}

impl IntoScopeRule for ScopeRule {
    fn into_rule(self) -> ScopeRule {
        self
    }
}

impl fmt::Display for ScopeRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for Rule<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(one) => write!(f, "{one}"),
            Self::Both(a, b) => write!(f, "({a} and {b})"),
            Self::Either(a, b) => write!(f, "({a} or {b})"),
        }
    }
}

impl fmt::Debug for ScopeRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScopeRule({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_the_documented_one() {
        let longest = "a".repeat(128);
        for good in [
            "a",
            "read:editions",
            "repo:status",
            "https://www.googleapis.com/auth/admin.directory.device.chromeos.readonly",
            "https://graph.microsoft.com/.default",
            "patient/*.rs?category=vital-signs|x",
            "arn:aws:s3:::bucket/*",
            &longest,
        ] {
            assert_eq!(good.parse::<Scope>().unwrap().as_str(), good);
            assert!(is_well_formed_scope(good));
        }
        for byte in 0..=0x7f_u8 {
            // As the RFC writes it.
            let is_token = matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
            let text = format!("a{}", char::from(byte));
            assert_eq!(text.parse::<Scope>().is_ok(), is_token, "{text:?}");
        }
        let too_long = "a".repeat(129);
        assert_eq!(too_long.parse::<Scope>(), Err(TOO_LONG));
        assert_eq!("é".repeat(1 << 20).parse::<Scope>(), Err(TOO_LONG));
        assert_eq!("".parse::<Scope>(), Err(EMPTY));
        for (text, named, at) in [
            ("a b", ' ', 2),
            (" a", ' ', 1),
            ("a\n", '\n', 2),
            ("lesen:ü", 'ü', 7),
            ("\"a\"", '"', 1),
            ("a\\b", '\\', 2),
        ] {
            let Err(ValueError::Character {
                character,
                position,
                ..
            }) = text.parse::<Scope>()
            else {
                panic!("{text:?}");
            };
            assert_eq!((character, position), (named, at));
            assert!(!is_well_formed_scope(text));
        }
        let error = "read editions".parse::<Scope>().unwrap_err().to_string();
        assert!(
            error.starts_with("scope contains U+0020 at position 5"),
            "{error}"
        );
    }

    #[test]
    fn scopes_are_case_sensitive() {
        assert_ne!(scope!("read:x"), scope!("READ:x"));
    }

    #[test]
    fn rules_combine_as_written() {
        let rule = scope!("a").or(scope!("b")).and(scope!("c"));
        assert_eq!(rule.to_string(), "((a or b) and c)");
    }
}
