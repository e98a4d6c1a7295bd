//! The titles of keys.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ValueError;

const EMPTY: ValueError = ValueError::Empty { value: "title" };
const TOO_LONG: ValueError = ValueError::TooLarge {
    value: "title",
    limit: Title::MAX_CHARACTERS,
    unit: "characters",
};
const CHARACTER: ValueError = ValueError::Character {
    value: "title",
    refused: "a control, invisible or direction-turning character",
};

/// A key's name for people, such as `Power BI dashboard`.
///
/// A title need not be unique, and Keyward decides nothing by it.
///
/// It is 1 to 100 characters of text in one line; outer white space is removed. Control characters are refused, and so
/// are characters that are invisible or change the direction of text, with which one title can imitate another
/// (Unicode Technical Report #36). A title is still text that a person typed: escape it where you show it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Title(Arc<str>);

impl Title {
    /// Longest title in characters (Unicode scalar values).
    pub(crate) const MAX_CHARACTERS: usize = 100;

    /// Creates a title from this text.
    ///
    /// # Errors
    /// [`ValueError`] if the text is empty, too long or contains a refused character.
    pub fn new(text: impl AsRef<str>) -> Result<Self, ValueError> {
        let text = text.as_ref();
        // Check the size in bytes first, so that an enormous text costs nothing.
        if text.len() > 16 * Self::MAX_CHARACTERS {
            return Err(TOO_LONG);
        }
        let text = text.trim();
        if text.chars().all(is_joiner) {
            return Err(EMPTY);
        }
        if text.chars().count() > Self::MAX_CHARACTERS {
            return Err(TOO_LONG);
        }
        if text.chars().any(is_refused) {
            return Err(CHARACTER);
        }
        Ok(Self(text.into()))
    }

    /// Returns the placeholder for stored words that cannot be read.
    pub(crate) fn unreadable() -> Self {
        Self("unreadable".into())
    }

    /// Returns the title's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns whether the character only alters its neighbours: joiners and variation selectors.
fn is_joiner(character: char) -> bool {
    matches!(
        character,
        '\u{200c}'..='\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}'
    )
}

/// Returns whether the character is refused: control characters, line and paragraph separators, direction marks,
/// blanks that are not white space, and Unicode's default ignorable characters. Joiners are allowed, since some
/// scripts and emoji need them.
fn is_refused(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'
                | '\u{200e}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{2800}'
                | '\u{3164}'
                | '\u{ffa0}'
                | '\u{feff}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e00ff}'
                | '\u{e01f0}'..='\u{e0fff}'
        )
}

impl FromStr for Title {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl TryFrom<String> for Title {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl From<Title> for String {
    fn from(title: Title) -> Self {
        title.as_str().to_owned()
    }
}

impl fmt::Display for Title {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Title {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Title({:?})", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_one_visible_line() {
        for (text, expected) in [
            ("Power BI dashboard", "Power BI dashboard"),
            ("  padded\t", "padded"),
            ("Näḥtliche Übertragung 夜", "Näḥtliche Übertragung 夜"),
            ("👩\u{200d}🔬 lab", "👩\u{200d}🔬 lab"),
        ] {
            assert_eq!(Title::new(text).unwrap().as_str(), expected);
        }
        for (text, error) in [
            ("", EMPTY),
            (" \n\t ", EMPTY),
            ("a\nb", CHARACTER),
            ("a\u{0}b", CHARACTER),
            ("a\u{1b}[31mb", CHARACTER),
            ("a\u{85}b", CHARACTER),
            ("a\u{202e}b", CHARACTER),
            ("a\u{2066}b", CHARACTER),
            ("a\u{200b}b", CHARACTER),
            ("\u{200b}", CHARACTER),
            ("\u{3164}", CHARACTER),
            ("\u{2800}", CHARACTER),
            ("\u{115f}", CHARACTER),
            ("\u{200d}", EMPTY),
            ("\u{fe0f}\u{200c}", EMPTY),
        ] {
            assert_eq!(Title::new(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn length_counts_characters() {
        assert!(Title::new("é".repeat(100)).is_ok());
        assert_eq!(Title::new("é".repeat(101)), Err(TOO_LONG));
        assert_eq!(Title::new("x".repeat(1 << 20)), Err(TOO_LONG));
    }
}
