//! JSON values without repeated members.

use std::fmt;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};

/// A JSON value in which no object has two members of the same name. Of two, one reader believes the first, and another
/// the last.
pub(super) struct Unrepeated(pub(super) Value);

impl<'de> Deserialize<'de> for Unrepeated {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(ValueVisitor).map(Self)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Value, E> {
        plain_number(&value.to_string()).ok_or_else(unreadable)
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Value, E> {
        plain_number(&value.to_string()).ok_or_else(unreadable)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unrepeated(element)) = elements.next_element()? {
            list.push(element);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Unrepeated(value))) = members.next_entry::<String, _>()? {
            if object.insert(name, value).is_some() {
                return Err(de::Error::custom("a member is given twice"));
            }
        }
        without_features(object).ok_or_else(unreadable)
    }
}

fn unreadable<E: de::Error>() -> E {
    E::custom("a number is out of range, or a member has a reserved name")
}

/// Returns the value of this object in a program that enables no feature of `serde_json`.
///
/// With `arbitrary_precision`, numbers come as objects. `None` if the number cannot be read without it, or if other
/// programs take a member for such a number: stored, it would make the key unreadable there.
fn without_features(object: Map<String, Value>) -> Option<Value> {
    if !object.keys().any(|name| name.starts_with("$serde_json::")) {
        return Some(Value::Object(object));
    }
    let digits = object.get("$serde_json::private::Number")?.as_str()?;
    (object.len() == 1).then(|| plain_number(digits))?
}

fn plain_number(digits: &str) -> Option<Value> {
    let number: Number = digits.parse().ok()?;
    if let Some(whole) = number.as_u64() {
        return Some(whole.into());
    }
    if let Some(negative) = number.as_i64().filter(|number| *number < 0) {
        return Some(negative.into());
    }
    number
        .as_f64()
        .and_then(Number::from_f64)
        .map(Value::Number)
}
