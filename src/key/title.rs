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

/// The flags of England, Scotland and Wales, the only emoji made of tags that Unicode recommends for interchange
/// (Unicode Technical Standard #51, annex C). Any other text in tags is invisible.
const TAG_FLAGS: [&str; 3] = [
    "\u{1f3f4}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
    "\u{1f3f4}\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}",
    "\u{1f3f4}\u{e0067}\u{e0062}\u{e0077}\u{e006c}\u{e0073}\u{e007f}",
];

/// A key's name for people, such as `Power BI dashboard`.
///
/// A title need not be unique, and Keyward decides nothing by it.
///
/// It is 1 to 100 characters (Unicode scalar values) of text in one line; outer white space is removed. Control
/// characters are refused, tabs among them, and so are characters that are invisible or change the direction of text,
/// with which one title can imitate another (Unicode Technical Report #36). The error names the character.
///
/// Other characters are kept as given. The text is not normalized, and letters of different scripts may look alike: a
/// title identifies nothing. It is still text that a person typed: escape it where you show it.
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
        let first = text.chars().take_while(|c| c.is_whitespace()).count() + 1;
        let text = text.trim();
        if text.chars().all(is_joiner) {
            return Err(EMPTY);
        }
        if text.chars().count() > Self::MAX_CHARACTERS {
            return Err(TOO_LONG);
        }
        match find_refused(text) {
            Some((index, character, refused)) => Err(ValueError::Character {
                value: "title",
                character,
                position: first + index,
                refused,
            }),
            None => Ok(Self(text.into())),
        }
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

/// Returns the index, in characters, of the first character that is refused, the character and the reason.
fn find_refused(text: &str) -> Option<(usize, char, &'static str)> {
    let (mut rest, mut index) = (text, 0);
    while let Some(character) = rest.chars().next() {
        let flag = TAG_FLAGS.iter().find(|flag| rest.starts_with(**flag));
        let taken = match (flag, refusal(character)) {
            (Some(flag), _) => flag,
            (None, Some(refused)) => return Some((index, character, refused)),
            (None, None) => rest.get(..character.len_utf8()).unwrap_or(rest),
        };
        index += taken.chars().count();
        rest = rest.strip_prefix(taken).unwrap_or_default();
    }
    None
}

/// Returns whether the character only alters its neighbours: joiners and variation selectors.
pub(super) fn is_joiner(character: char) -> bool {
    matches!(
        character,
        '\u{200c}'..='\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}'
    )
}

/// Returns why the character is refused. `None` if it is allowed.
///
/// Refused are control characters, line and paragraph separators, direction marks, blanks that are not white space, and
/// Unicode's default ignorable characters. Joiners are allowed, since some scripts and emoji need them.
pub(super) fn refusal(character: char) -> Option<&'static str> {
    Some(match character {
        '\t' => "a tab",
        '\n' | '\r' | '\u{85}' | '\u{2028}'..='\u{2029}' => "a line break",
        character if character.is_control() => "a control character",
        '\u{ad}' => "a soft hyphen, which is invisible",
        '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            "a character that changes the direction of text"
        }
        '\u{e0000}'..='\u{e007f}' => {
            "a tag, which is invisible outside the flags of England, Scotland and Wales"
        }
        '\u{34f}'
        | '\u{115f}'..='\u{1160}'
        | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'
        | '\u{2060}'..='\u{2065}'
        | '\u{206a}'..='\u{206f}'
        | '\u{2800}'
        | '\u{3164}'
        | '\u{ffa0}'
        | '\u{feff}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0080}'..='\u{e00ff}'
        | '\u{e01f0}'..='\u{e0fff}' => "an invisible character",
        _ => return None,
    })
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
            ("\u{200d}", EMPTY),
            ("\u{fe0f}\u{200c}", EMPTY),
        ] {
            assert_eq!(Title::new(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_refused_character_is_named() {
        for (text, named, at) in [
            ("a\nb", '\n', 2),
            (" a\tb", '\t', 3),
            ("a\u{0}b", '\0', 2),
            ("a\u{1b}[31mb", '\u{1b}', 2),
            ("a\u{85}b", '\u{85}', 2),
            ("é\u{ad}b", '\u{ad}', 2),
            ("a\u{202e}b", '\u{202e}', 2),
            ("a\u{2066}b", '\u{2066}', 2),
            ("a\u{200b}b", '\u{200b}', 2),
            ("\u{200b}", '\u{200b}', 1),
            ("\u{3164}", '\u{3164}', 1),
            ("\u{2800}", '\u{2800}', 1),
            ("\u{115f}", '\u{115f}', 1),
            ("a\u{e0067}", '\u{e0067}', 2),
            // A flag without its end, of another region, and with more hidden in it.
            (&TAG_FLAGS[0][..24], '\u{e0067}', 2),
            ("\u{1f3f4}\u{e0075}\u{e0073}\u{e007f}", '\u{e0075}', 2),
            (&format!("{}\u{e0067}", TAG_FLAGS[1]), '\u{e0067}', 8),
        ] {
            let Err(ValueError::Character {
                character,
                position,
                ..
            }) = Title::new(text)
            else {
                panic!("{text:?}");
            };
            assert_eq!((character, position), (named, at), "{text:?}");
        }
        let error = Title::new("soft\u{ad}ly").unwrap_err().to_string();
        let said = "title contains U+00AD at position 5: a soft hyphen, which is invisible";
        assert_eq!(error, said);
    }

    #[test]
    fn flags_made_of_tags_are_kept() {
        for flag in TAG_FLAGS {
            let text = format!("{flag} office {flag}{flag}");
            assert_eq!(Title::new(&text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn length_counts_characters() {
        assert!(Title::new("é".repeat(100)).is_ok());
        assert_eq!(Title::new("é".repeat(101)), Err(TOO_LONG));
        assert_eq!(Title::new("x".repeat(1 << 20)), Err(TOO_LONG));
    }
}
