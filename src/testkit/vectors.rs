//! Test vectors for parsers of a key format.

use serde::Serialize;

use crate::key::{Environment, KeyFormat, KeyId, Secret};

const DIGITS: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID_DIGITS: usize = 22;
const CHECKSUM_DIGITS: usize = 6;

/// A text with the result that a parser of its format must give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TestVector {
    /// The case that the vector tests; no two vectors of a format share a name.
    pub name: String,
    /// The text to parse.
    pub text: String,
    /// The required result.
    pub outcome: VectorOutcome,
}

/// The required result of parsing a [`TestVector`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum VectorOutcome {
    /// The text is a key text with these parts.
    Parts {
        /// The environment in the text.
        environment: String,
        /// The id in hyphenated form.
        id: String,
        /// The secret, which is public: no key is issued with it.
        secret: String,
    },
    /// The text is refused.
    Refused {
        /// The [code](crate::key::KeyTextError::code) of the refusal.
        code: &'static str,
    },
}

/// Returns texts with the result that each must give, to test parsers of a format in other languages.
///
/// The secrets in them are public: no key is ever issued with one.
#[must_use]
pub fn test_vectors(format: &KeyFormat) -> Vec<TestVector> {
    let mut vectors = Vec::new();
    for environment in format.environments() {
        let ids = [0, 1, u128::MAX, 0x0b9c_1f5e_6d0a_4c1e_9f52_3a8b_7c6d_5e4f];
        let names = ["least id", "id one", "greatest id", "a usual id"];
        for (name, id) in names.into_iter().zip(ids) {
            let id = KeyId::from_u128(id);
            let secret = public_secret(format);
            vectors.push(TestVector {
                name: format!("{name}, {environment}"),
                text: key_text(format, environment, id),
                outcome: VectorOutcome::Parts {
                    environment: environment.as_str().to_owned(),
                    id: id.to_string(),
                    secret,
                },
            });
        }
    }
    for prefix in format.prefixes().skip(1) {
        for environment in format.environments() {
            let id = KeyId::from_u128(0x0b9c_1f5e_6d0a_4c1e_9f52_3a8b_7c6d_5e4f);
            let issued = key_text(format, environment, id);
            let start = format.prefix().len() + environment.as_str().len() + 2;
            let digits = issued.get(start..start + ID_DIGITS).unwrap_or_default();
            let head = format!("{prefix}_{environment}_");
            vectors.push(TestVector {
                name: format!("the accepted prefix {prefix}, {environment}"),
                text: text(&head, digits, &public_secret(format)),
                outcome: VectorOutcome::Parts {
                    environment: environment.as_str().to_owned(),
                    id: id.to_string(),
                    secret: public_secret(format),
                },
            });
        }
    }
    if let Some(environment) = format.environments().next() {
        refused(format, environment, &mut vectors);
    }
    vectors
}

fn refused(format: &KeyFormat, environment: &Environment, vectors: &mut Vec<TestVector>) {
    let good = key_text(
        format,
        environment,
        KeyId::from_u128(0x0b9c_1f5e_6d0a_4c1e_9f52_3a8b_7c6d_5e4f),
    );
    let head = format!("{}_{environment}_", format.prefix());
    let secret = public_secret(format);
    let id = good.get(head.len()..head.len() + ID_DIGITS);
    let id = id.unwrap_or_default();
    let cut = |by: usize| good.get(..good.len() - by).unwrap_or_default().to_owned();
    let start = |length: usize| good.get(..length).unwrap_or_default().to_owned();
    let tail = |from: usize| good.get(from..).unwrap_or_default();
    let recased = |upper: usize| format!("{}{}", start(upper).to_uppercase(), tail(upper));
    let mut last_digit_changed = cut(1);
    last_digit_changed.push(if good.ends_with('0') { '1' } else { '0' });
    let other_head = format!("{}_elsewhere_", format.prefix());
    let mut hyphenated = secret.clone();
    hyphenated.replace_range(..1, "-");
    let greatest_checksum = format!("{}zzzzzz", cut(CHECKSUM_DIGITS));
    let with_id = |id: &str| text(&head, id, &secret);
    let greatest_id = "z".repeat(ID_DIGITS);
    let mut id_and_checksum = with_id(&greatest_id);
    id_and_checksum.replace_range(id_and_checksum.len() - CHECKSUM_DIGITS.., "zzzzzz");
    let prefix = format.prefix().len();

    for (name, text, code) in [
        ("empty", String::new(), "empty"),
        ("257 bytes", "a".repeat(257), "oversize"),
        ("256 bytes", "a".repeat(256), "prefix"),
        (
            "257 bytes, the first a space",
            format!(" {}", "a".repeat(256)),
            "oversize",
        ),
        ("a space before", format!(" {good}"), "padded"),
        ("a tab before", format!("\t{good}"), "padded"),
        ("a line feed after", format!("{good}\n"), "padded"),
        ("a carriage return after", format!("{good}\r"), "padded"),
        ("a form feed after", format!("{good}\u{c}"), "padded"),
        ("a vertical tab after", format!("{good}\u{b}"), "extended"),
        ("a no-break space before", format!("\u{a0}{good}"), "prefix"),
        ("in double quotes", format!("\"{good}\""), "quoted"),
        ("in single quotes", format!("'{good}'"), "quoted"),
        ("in backticks", format!("`{good}`"), "quoted"),
        ("a lone quotation mark", "\"".to_owned(), "quoted"),
        ("one quotation mark before", format!("\"{good}"), "prefix"),
        ("another prefix", format!("x{good}"), "prefix"),
        (
            "an upper-case prefix, nothing else",
            start(prefix).to_uppercase(),
            "prefix",
        ),
        ("an upper-case prefix", recased(prefix), "recased"),
        ("an upper-case head", recased(head.len()), "recased"),
        (
            "no such environment",
            text(&other_head, id, &secret),
            "environment",
        ),
        ("the prefix alone", start(prefix), "truncated"),
        ("the prefix and its end", start(prefix + 1), "truncated"),
        (
            "the head but for its end",
            start(head.len() - 1),
            "truncated",
        ),
        ("the head alone", head.clone(), "truncated"),
        ("one character short", cut(1), "truncated"),
        ("one character long", format!("{good}0"), "extended"),
        (
            "one character long, and no digit",
            format!("{good}-"),
            "extended",
        ),
        (
            "a hyphen, checksum right",
            text(&head, id, &hyphenated),
            "character",
        ),
        (
            "two bytes that are no digits",
            format!("{}é", cut(2)),
            "character",
        ),
        ("last digit changed", last_digit_changed, "checksum"),
        ("a checksum of 2^32 or more", greatest_checksum, "checksum"),
        (
            "an id and a checksum out of range",
            id_and_checksum,
            "checksum",
        ),
        ("an id of 2^128", with_id("7n42DGM5Tflk9n8mt7Fhc8"), "id"),
        ("the greatest id digits", with_id(&greatest_id), "id"),
    ] {
        vectors.push(TestVector {
            name: name.to_owned(),
            text,
            outcome: VectorOutcome::Refused { code },
        });
    }
}

/// Returns the digits `0123…xyz0123…`, as many as the format's secrets have.
fn public_secret(format: &KeyFormat) -> String {
    let digits = DIGITS.chars().cycle();
    digits.take(format.secret_characters()).collect()
}

fn key_text(format: &KeyFormat, environment: &Environment, id: KeyId) -> String {
    // The environment and the secret's length are the format's own.
    let secret = Secret::new(public_secret(format)).ok();
    let key = secret.and_then(|secret| format.compose(environment, id, &secret).ok());
    key.map_or_else(String::new, |key| key.expose().to_owned())
}

/// Composes a text with a matching checksum from parts that need not be those of a key.
fn text(head: &str, id: &str, secret: &str) -> String {
    let text = format!("{head}{id}{secret}");
    let mut checksum = crc32fast::hash(text.as_bytes());
    let mut digits = ['0'; CHECKSUM_DIGITS];
    for digit in digits.iter_mut().rev() {
        let value = usize::try_from(checksum % 62).unwrap_or_default();
        *digit = DIGITS.chars().nth(value).unwrap_or_default();
        checksum /= 62;
    }
    text + &String::from_iter(digits)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_parser_matches_every_vector() {
        for format in [
            KeyFormat::new("acme").unwrap().environment("live").unwrap(),
            KeyFormat::new("b2").unwrap().environment("test").unwrap(),
            KeyFormat::new("abcdefghijklmnop")
                .unwrap()
                .environment("abcdefghijklmno1")
                .unwrap()
                .environment("live")
                .unwrap()
                .secret_length(128)
                .unwrap(),
            KeyFormat::new("acme")
                .unwrap()
                .environment("live")
                .unwrap()
                .secret_length(22)
                .unwrap(),
            KeyFormat::new("beta")
                .unwrap()
                .environment("live")
                .unwrap()
                .accept_prefix("acme")
                .unwrap(),
        ] {
            let vectors = test_vectors(&format);
            let names: HashSet<_> = vectors.iter().map(|vector| &vector.name).collect();
            assert_eq!(names.len(), vectors.len(), "each has a name of its own");
            for vector in vectors {
                let parsed = format.parse(vector.text.as_bytes());
                match vector.outcome {
                    VectorOutcome::Parts {
                        environment,
                        id,
                        secret,
                    } => {
                        let parsed = parsed.unwrap();
                        assert_eq!(parsed.environment().unwrap().as_str(), environment);
                        assert_eq!(parsed.id().to_string(), id);
                        assert_eq!(parsed.expose_secret(), secret.as_bytes());
                        Secret::new(secret).unwrap();
                    }
                    VectorOutcome::Refused { code } => {
                        assert_eq!(parsed.unwrap_err().code(), code, "{}", vector.name);
                    }
                }
            }
        }
    }
}
