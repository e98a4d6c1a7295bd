//! Masking of keys in text that is about to be logged or shown.

use std::borrow::Cow;

use super::base62;
use super::format::{DISPLAYED_ID_DIGITS, OVERHEAD};

const MASK: &str = "[redacted]";
const MAX_ENVIRONMENT: usize = 16;

/// Most characters within a key that are not letters or digits. After more, the rest is taken for other text.
const MAX_BREAKS: usize = 4;

/// A filter that masks an application's keys anywhere in a text, and leaves their display prefix.
///
/// When in doubt, the redactor masks: the prefix and environment match in any case, the environment may be any, and a
/// key that was cut short, extended or mistyped is masked as soon as it is long enough to hold one character of a
/// secret.
///
/// The redactor cannot find:
/// - the secret of the two-value form alone,
/// - a key in base64, as in `Basic` credentials,
/// - a key with a damaged prefix or environment,
/// - the rest of a key after white space, a quotation mark or more than four other characters that are not letters or
///   digits.
///
/// ```
/// use keyward::key::{KeyFormat, KeyId, Secret};
///
/// let format = KeyFormat::new("acme")?.environment("live")?; // or keyward.format()
/// let key = format.compose(
///     format.environments().next().ok_or("no environment")?,
///     KeyId::from_u128(7),
///     &Secret::new("x".repeat(43))?,
/// )?;
/// let line = format!("GET /?key={}&page=2", key.expose());
/// assert_eq!(format.redactor().redact(&line), "GET /?key=acme_live_00000000[redacted]&page=2");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Redactor {
    prefixes: Box<[Box<str>]>,
    /// Number of digits of an id, a secret and a checksum.
    body_length: usize,
}

impl Redactor {
    pub(super) fn new<'a>(prefixes: impl Iterator<Item = &'a str>, secret_length: usize) -> Self {
        Self {
            prefixes: prefixes.map(Box::from).collect(),
            body_length: OVERHEAD + secret_length,
        }
    }

    /// Returns the text with every key masked; borrowed if it contains no key.
    #[must_use]
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut masked = String::new();
        let mut copied = 0;
        // A key may begin within the masked part of the one before: its own masked part is masked, too.
        for (start, end) in self.keys(text, base62::ID_DIGITS + 1) {
            if start > copied {
                masked.push_str(text.get(copied..start).unwrap_or_default());
                masked.push_str(MASK);
            }
            copied = copied.max(end);
        }
        if copied == 0 {
            return Cow::Borrowed(text);
        }
        masked.push_str(text.get(copied..).unwrap_or_default());
        Cow::Owned(masked)
    }

    /// Returns whether the text contains a key with at least half of its secret.
    ///
    /// This is stricter than [`redact`](Self::redact): `acme_corp_nightly-snowflake-export` is a name, and must not be
    /// refused.
    pub(crate) fn finds_key(&self, text: &str) -> bool {
        let secret_length = self.body_length - OVERHEAD;
        let least = base62::ID_DIGITS + secret_length.div_ceil(2);
        self.keys(text, least).next().is_some()
    }

    /// Returns the part to mask of each key with at least `least` letters and digits, as byte positions in `text`, in
    /// the order in which the keys begin.
    fn keys(&self, text: &str, least: usize) -> impl Iterator<Item = (usize, usize)> {
        let bytes = text.as_bytes();
        (0..bytes.len()).filter_map(move |at| {
            let rest = bytes.get(at..)?;
            let after_prefix = self.strip_prefix(rest)?;
            let environment = after_prefix
                .iter()
                .take_while(|b| b.is_ascii_alphanumeric());
            let environment = environment.take(MAX_ENVIRONMENT + 1).count();
            let body = match after_prefix.get(environment..)? {
                [b'_', body @ ..] if (1..=MAX_ENVIRONMENT).contains(&environment) => body,
                _ => return None,
            };
            let start = bytes.len() - body.len();
            let (digits, length) = self.measure(text.get(start..)?);
            let shown = body.iter().take_while(|b| base62::is_digit(**b)).count();
            let shown = shown.min(DISPLAYED_ID_DIGITS);
            (digits >= least).then_some((start + shown, start + length))
        })
    }

    /// Returns the number of digits of a key's body, and its length in bytes including up to [`MAX_BREAKS`] other
    /// characters.
    ///
    /// A whole body ends with its last digit; a damaged one may continue after the characters that interrupt it.
    fn measure(&self, body: &str) -> (usize, usize) {
        let (mut digits, mut length, mut breaks) = (0, 0, 0);
        for (at, character) in body.char_indices() {
            if character.is_ascii_alphanumeric() {
                digits += 1;
                length = at + 1;
                continue;
            }
            breaks += 1;
            let is_whole = digits >= self.body_length;
            let ends = character.is_whitespace() || matches!(character, '"' | '\'' | '`');
            if is_whole || ends || breaks > MAX_BREAKS {
                break;
            }
        }
        (digits, length)
    }

    fn strip_prefix<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.prefixes.iter().find_map(|known| {
            let (prefix, rest) = bytes.split_at_checked(known.len())?;
            match rest {
                [b'_', rest @ ..] if prefix.eq_ignore_ascii_case(known.as_bytes()) => Some(rest),
                _ => None,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{ApiKey, KeyFormat, KeyId, Secret};

    fn format() -> KeyFormat {
        KeyFormat::new("acme").unwrap().environment("live").unwrap()
    }

    fn key() -> ApiKey {
        let format = format();
        let secret = Secret::new("S3cretS3cretS3cretS3cretS3cretS3cretS3cretX").unwrap();
        let environment = format.find_environment(None).unwrap().clone();
        format
            .compose(&environment, KeyId::from_u128(u128::MAX / 3), &secret)
            .unwrap()
    }

    #[test]
    fn keys_are_masked_anywhere() {
        let (key, redactor) = (key(), format().redactor());
        let text = key.expose();
        let prefix = key.display_prefix();
        for (before, after) in [
            ("", ""),
            ("", "-tail"),
            ("Bearer ", "\r\n"),
            ("{\"key\":\"", "\"}"),
            ("naïve→", "←ß"),
            ("_", "_x"),
        ] {
            let masked = redactor
                .redact(&format!("{before}{text}{after}"))
                .into_owned();
            assert_eq!(masked, format!("{before}{prefix}[redacted]{after}"));
        }
        let two = format!("{text} and {text}");
        assert_eq!(
            redactor.redact(&two),
            format!("{prefix}[redacted] and {prefix}[redacted]")
        );
    }

    #[test]
    fn keys_of_accepted_prefixes_are_masked() {
        let then = KeyFormat::new("beta").unwrap().environment("live").unwrap();
        let then = then.accept_prefix("acme").unwrap();
        let (key, text) = (key(), key().expose().to_owned());
        let both = format!("{text} {}", text.replacen("acme", "beta", 1));
        let shown = key.display_prefix();
        assert_eq!(
            then.redactor().redact(&both),
            format!(
                "{shown}[redacted] {}[redacted]",
                shown.replacen("acme", "beta", 1)
            )
        );
        assert!(then.redactor().finds_key(&text));
    }

    #[test]
    fn damaged_keys_leak_no_secret() {
        let (key, redactor) = (key(), format().redactor());
        let text = key.expose();
        let mut damaged: Vec<String> = (0..text.len()).map(|end| text[..end].to_owned()).collect();
        damaged.push(text.to_uppercase());
        damaged.push(format!("{text}abc"));
        damaged.push(text.replacen("live", "other", 1));
        // After text that looks like the beginning of a key.
        for before in [
            "acme_",
            "acme_live_",
            "acme_live_acme_live_",
            "xacme_live_",
            "acme_live_x_",
        ] {
            damaged.push(format!("{before}{text}"));
        }
        // One to four characters inserted, or replacing one, at every place of the body.
        for at in 10..text.len() {
            for broken in ["-", ".", "_", "\u{200d}", "%2D", "é"] {
                damaged.push(format!("{}{broken}{}", &text[..at], &text[at..]));
                damaged.push(format!("{}{broken}{}", &text[..at], &text[at + 1..]));
                let other = 10 + (at * 7) % (text.len() - 10);
                let mut twice = format!("{}{broken}{}", &text[..at], &text[at..]);
                twice.insert(if other < at { other } else { at }, '-');
                damaged.push(twice);
            }
        }
        for text in damaged {
            let masked = redactor.redact(&text).to_lowercase();
            assert!(!masked.contains("s3"), "{masked}");
        }
    }

    #[test]
    fn keys_within_masked_text_are_masked() {
        let (key, redactor) = (key(), format().redactor());
        let text = key.expose();
        let prefix = key.display_prefix();
        let filler = "x".repeat(23);
        for line in [
            format!("{text}{text}"),
            format!("{text}xyz{text}"),
            format!("?old_key={}&new_key={text}", &text[..40]),
            format!("{}...{text}", &text[..45]),
            format!("/acme_a_{filler}---{text}"),
            format!("/acme_a_{filler}---acme_a_{filler}---{text}{text}"),
        ] {
            let masked = redactor.redact(&line).to_lowercase();
            assert!(!masked.contains("s3"), "{masked}");
        }
        assert_eq!(
            redactor.redact(&format!("{text}{text}, and more")),
            format!("{prefix}[redacted]{}[redacted], and more", &prefix[4..])
        );

        // Random combinations.
        let mut chance: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut below = |most: usize| {
            chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            usize::try_from(chance >> 33).unwrap() % most
        };
        let between = [
            "",
            "-",
            "---",
            "_",
            "=",
            "&",
            " ",
            "acme_",
            "acme_live_",
            "acme_x_",
            "xyz",
            "new_key=",
            "é",
            &filler,
        ];
        for _ in 0..50_000 {
            let mut line = String::new();
            for _ in 0..1 + below(6) {
                line.push_str(between[below(between.len())]);
                line.push_str(&text[..[text.len(), below(text.len())][below(2)]]);
            }
            let masked = redactor.redact(&line).to_lowercase();
            assert!(!masked.contains("s3"), "{line}: {masked}");
        }
    }

    #[test]
    fn half_a_secret_is_found_as_a_key() {
        let (key, redactor) = (key(), format().redactor());
        let text = key.expose();
        let half = "acme_live_".len() + 22 + 22;
        for end in 0..=text.len() {
            assert_eq!(redactor.finds_key(&text[..end]), end >= half, "{end}");
        }
        assert!(redactor.finds_key(&format!("{}-{}", &text[..30], &text[30..])));
        assert!(!redactor.finds_key("acme_corp_nightly-snowflake-export-job"));
        assert!(!redactor.finds_key(key.display_prefix()));
    }

    #[test]
    fn other_text_is_not_copied() {
        for text in ["", "acme", "acme_live_", "acme_live_short", "über_acme_ñ_x"] {
            assert!(
                matches!(format().redactor().redact(text), Cow::Borrowed(same) if same == text)
            );
        }
    }
}
