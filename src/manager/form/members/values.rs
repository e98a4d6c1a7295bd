//! Reading the values of members.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime};

use super::{Members, Problem};
use crate::key::{NonEmpty, Quota, QuotaSubject};

pub(super) fn seconds_in(path: &str, value: Value) -> Result<Duration, Problem> {
    match value {
        Value::Number(number) => number.as_u64().map(Duration::from_secs),
        _ => None,
    }
    .ok_or_else(|| Problem::new(path, "must be a whole number of seconds"))
}

/// Reads a whole number, which a URL query holds as text.
pub(super) fn digits(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        value => value.as_u64(),
    }
}

pub(super) fn text(path: &str, value: Value) -> Result<String, Problem> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(Problem::new(path, "must be a text")),
    }
}

pub(super) fn is_malformed(path: &str, error: impl fmt::Display) -> Problem {
    Problem::new(path, format_args!("is refused: {error}"))
}

pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(
    path: &str,
    value: Value,
) -> Result<T, Problem> {
    let parsed = text(path, value)?.parse();
    parsed.map_err(|error| is_malformed(path, error))
}

pub(super) fn positive(path: &str, value: &Value) -> Result<NonZeroU32, Problem> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    let rule = "must be a whole number from 1 to 4294967295";
    let number = number.and_then(NonZeroU32::new);
    number.ok_or_else(|| Problem::new(path, rule))
}

/// Reads the last day of a key, written as `full-date` of RFC 3339.
pub(super) fn day(path: &str, value: Value) -> Result<Date, Problem> {
    let rule = "must be a day, such as `2027-03-31`";
    let midnight = format!("{}T00:00:00Z", text(path, value)?);
    let midnight = OffsetDateTime::parse(&midnight, &Rfc3339);
    midnight
        .map(OffsetDateTime::date)
        .map_err(|_| Problem::new(path, rule))
}

/// Returns the elements of a list, each with its path.
pub(super) fn list(
    path: &str,
    value: Value,
    most: usize,
) -> Result<impl Iterator<Item = (String, Value)>, Problem> {
    let Value::Array(elements) = value else {
        return Err(Problem::new(path, "must be a list"));
    };
    if elements.len() > most {
        return Err(Problem::new(
            path,
            format_args!("has more than {most} elements"),
        ));
    }
    let numbered = elements.into_iter().enumerate();
    Ok(numbered.map(move |(index, element)| (format!("{path}[{index}]"), element)))
}

/// Reads a choice between everything and a list, such as [`Access`](crate::key::Access). `None`: everything.
pub(super) fn choice<T: FromStr<Err: fmt::Display> + Ord>(
    path: &str,
    value: Value,
    [all, some]: [&str; 2],
    name: &str,
    most: usize,
) -> Result<Option<NonEmpty<T>>, Problem> {
    let mut members = Members::of(path, value)?;
    members.only(&["type", name])?;
    let (at, r#type) = members.required("type")?;
    let r#type = text(&at, r#type)?;
    if r#type == all {
        return match members.left.is_empty() {
            true => Ok(None),
            false => Err(Problem::new(
                path,
                format_args!("of type `{all}` has no `{name}`"),
            )),
        };
    }
    if r#type != some {
        return Err(Problem::new(
            at,
            format_args!("must be `{all}` or `{some}`"),
        ));
    }
    let (path, value) = members.required(name)?;
    let elements = list(&path, value, most)?.map(|(path, value)| parsed(&path, value));
    let elements = elements.collect::<Result<Vec<T>, _>>()?;
    let set = NonEmpty::new(elements);
    set.map(Some).map_err(|_| Problem::new(path, "is empty"))
}

pub(super) fn quota(path: &str, value: Value) -> Result<Quota, Problem> {
    const SUBJECTS: [(&str, QuotaSubject); 4] = [
        ("key", QuotaSubject::Key),
        ("lineage", QuotaSubject::Lineage),
        ("owner", QuotaSubject::Owner),
        ("tenant", QuotaSubject::Tenant),
    ];
    let mut members = Members::of(path, value)?;
    members.only(&["name", "limit", "window_seconds", "subject"])?;
    let (at, name) = members.required("name")?;
    let name = text(&at, name)?;
    let (at, limit) = members.required("limit")?;
    let limit = positive(&at, &limit)?;
    let (at, window) = members.required("window_seconds")?;
    let window = positive(&at, &window)?;
    let subject = members.read("subject", |at, subject| {
        let subject = text(at, subject)?;
        let known = SUBJECTS.iter().find(|(name, _)| *name == subject);
        let rule = "must be `key`, `lineage`, `owner` or `tenant`";
        let (_, subject) = known.ok_or_else(|| Problem::new(at, rule))?;
        Ok(*subject)
    })?;
    let window = Duration::from_secs(window.get().into());
    let quota = Quota::new(&name, limit, window).map_err(|error| is_malformed(path, error))?;
    Ok(quota.per(subject.unwrap_or(QuotaSubject::Key)))
}
