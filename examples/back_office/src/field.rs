//! Types of form fields. A parsed value is always valid.

use serde::{Deserialize, Deserializer, Serialize};

/// Maximum length of a line of text, in characters.
const LONGEST: usize = 100;

/// One line of text: 1 to 100 characters, without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Text(String);

/// An email address, as far as it can be checked without sending mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Text")]
pub(crate) struct Email(Text);

/// An amount of money in the smallest unit of its currency, such as cents: 1 to 1,000,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64")]
pub(crate) struct Amount(u64);

/// The currencies that accounts are held in (ISO 4217).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Currency {
    Eur,
    Gbp,
    Usd,
}

/// Reads a field that may be absent but not null: no field in these forms can be removed.
pub(crate) fn present<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

impl Amount {
    const LARGEST: u64 = 1_000_000_000;

    pub(crate) const fn units(self) -> u64 {
        self.0
    }
}

impl TryFrom<String> for Text {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let length = text.chars().count();
        if !(1..=LONGEST).contains(&length) || text.contains(char::is_control) {
            return Err("a text is one line of 1 to 100 characters");
        }
        Ok(Self(text))
    }
}

impl TryFrom<Text> for Email {
    type Error = &'static str;

    fn try_from(text: Text) -> Result<Self, Self::Error> {
        match text.0.split_once('@') {
            Some((name, host)) if !name.is_empty() && host.contains('.') => Ok(Self(text)),
            _ => Err("this is no address of mail"),
        }
    }
}

impl TryFrom<u64> for Amount {
    type Error = &'static str;

    fn try_from(units: u64) -> Result<Self, Self::Error> {
        if !(1..=Self::LARGEST).contains(&units) {
            return Err("an amount is 1 to 1,000,000,000 of the smallest unit");
        }
        Ok(Self(units))
    }
}
