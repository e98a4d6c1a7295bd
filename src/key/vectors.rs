//! Texts with what a parser must make of each.

use serde::Serialize;

use super::{KeyFormat, KeyId, base62, parse};

/// A text, and what a parser of its format must make of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TestVector {
    /// What the vector shows.
    pub name: &'static str,
    /// The text to parse.
    pub text: String,
    /// What must come of it.
    #[serde(flatten)]
    pub outcome: VectorOutcome,
}

/// What must come of parsing a [`TestVector`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum VectorOutcome {
    /// The text is a key text with these parts.
    Parts {
        /// The environment it names.
        environment: String,
        /// The id, hyphenated.
        id: String,
        /// The secret. Public: no key is issued with it.
        secret: String,
    },
    /// The text is refused with this [code](super::KeyTextError::code).
    Refused(&'static str),
}

pub(super) fn of(format: &KeyFormat) -> Vec<TestVector> {
    let mut vectors = Vec::new();
    for (environment, head) in format.heads() {
        let ids = [0, 1, u128::MAX, 0x0b9c_1f5e_6d0a_4c1e_9f52_3a8b_7c6d_5e4f];
        let names = ["least id", "id one", "greatest id", "a usual id"];
        for (name, id) in names.into_iter().zip(ids) {
            let id = KeyId::from_u128(id);
            let secret = public_secret(format);
            vectors.push(TestVector {
                name,
                text: text(head, &id.base62(), &secret),
                outcome: VectorOutcome::Parts {
                    environment: environment.as_str().to_owned(),
                    id: id.to_string(),
                    secret,
                },
            });
        }
    }
    if let Some((_, head)) = format.heads().next() {
        refused(format, head, &mut vectors);
    }
    vectors
}

fn refused(format: &KeyFormat, head: &str, vectors: &mut Vec<TestVector>) {
    let id = KeyId::from_u128(0x0b9c_1f5e_6d0a_4c1e_9f52_3a8b_7c6d_5e4f).base62();
    let secret = public_secret(format);
    let good = text(head, &id, &secret);
    let cut = |by: usize| good.get(..good.len() - by).unwrap_or_default().to_owned();
    let tail = |from: usize| good.get(from..).unwrap_or_default();
    let mut last_digit_changed = cut(1);
    last_digit_changed.push(if good.ends_with('0') { '1' } else { '0' });
    let foreign_head = format!("{}_elsewhere_", format.prefix());
    let mut hyphenated = secret.clone();
    hyphenated.replace_range(..1, "-");
    let padded_checksum = format!("{}zzzzzz", cut(base62::CHECKSUM_DIGITS));

    for (name, text, code) in [
        ("empty", String::new(), "empty"),
        ("the head alone", head.to_owned(), "truncated"),
        ("one character short", cut(1), "truncated"),
        ("one character long", format!("{good}0"), "extended"),
        ("white space before", format!(" {good}"), "padded"),
        ("a line feed after", format!("{good}\n"), "padded"),
        ("quoted", format!("\"{good}\""), "quoted"),
        ("longer than 256 bytes", "a".repeat(257), "oversize"),
        ("another prefix", format!("x{good}"), "prefix"),
        (
            "no such environment",
            text(&foreign_head, &id, &secret),
            "environment",
        ),
        (
            "upper-case head",
            format!("{}{}", head.to_uppercase(), tail(head.len())),
            "recased",
        ),
        (
            "a hyphen, checksum right",
            text(head, &id, &hyphenated),
            "character",
        ),
        ("last digit changed", last_digit_changed, "checksum"),
        ("a checksum of 2^32 or more", padded_checksum, "checksum"),
        (
            "an id of 2^128, checksum right",
            text(head, b"7n42DGM5Tflk9n8mt7Fhc8", &secret),
            "id",
        ),
        (
            "the greatest id digits, checksum right",
            text(head, &[b'z'; 22], &secret),
            "id",
        ),
    ] {
        vectors.push(TestVector {
            name,
            text,
            outcome: VectorOutcome::Refused(code),
        });
    }
}

/// `0123…xyz0123…`, as long as the format's secrets.
fn public_secret(format: &KeyFormat) -> String {
    let digits = base62::ALPHABET.iter().cycle();
    let digits = digits.take(format.secret_characters());
    digits.map(|digit| char::from(*digit)).collect()
}

fn text(head: &str, id: &[u8], secret: &str) -> String {
    let mut text = head.to_owned();
    text.extend(id.iter().map(|digit| char::from(*digit)));
    text.push_str(secret);
    let checksum = parse::checksum(text.as_bytes());
    text.extend(checksum.map(char::from));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Secret;

    #[test]
    fn the_parser_agrees_with_its_vectors_in_every_format() {
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
        ] {
            for vector in format.test_vectors() {
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
                    VectorOutcome::Refused(code) => {
                        assert_eq!(parsed.unwrap_err().code(), code, "{}", vector.name);
                    }
                }
            }
        }
    }
}
