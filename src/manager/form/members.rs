//! Reading the members of a JSON object one by one.
//!
//! Serde's own errors quote what they found. Here no error quotes a text of the request, which may hold a key.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime};

use super::{EXPIRY, OVERLAP};
use crate::key::{
    Access, Environment, KeyStatus, Metadata, Networks, NonEmpty, Principal, Quota, QuotaSubject,
    Resources, RevokeReason, ScopeCatalog, Title,
};
use crate::manager::{Expiry, KeyQuery, Overlap, PageCursor};

/// A rule that a member breaks.
pub(super) struct Problem {
    /// The member, such as `access.scopes[2]`; empty for the object as a whole.
    path: String,
    /// The rule.
    rule: String,
}

impl Problem {
    fn new(path: impl Into<String>, rule: impl fmt::Display) -> Self {
        Self {
            path: path.into(),
            rule: rule.to_string(),
        }
    }

    pub(super) fn missing(name: &str) -> Self {
        Self::new(name, "is missing")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.rule)
        } else {
            write!(f, "`{}` {}", self.path, self.rule)
        }
    }
}

/// The members of an object that were not read yet.
pub(super) struct Members {
    /// Where the object is: empty for the outermost, else with a dot at the end.
    within: String,
    left: Map<String, Value>,
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        match Unrepeated::deserialize(source)? {
            Unrepeated(Value::Object(left)) => Ok(Self {
                within: String::new(),
                left,
            }),
            Unrepeated(_) => Err(de::Error::custom("it must be a JSON object")),
        }
    }
}

impl Members {
    fn of(path: &str, value: Value) -> Result<Self, Problem> {
        match value {
            Value::Object(left) => Ok(Self {
                within: format!("{path}."),
                left,
            }),
            _ => Err(Problem::new(path, "must be an object")),
        }
    }

    /// Refuses members that are not among these.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        if self.left.keys().all(|name| known.contains(&&**name)) {
            return Ok(());
        }
        let rule = format!(
            "has an unknown member; it may have `{}`",
            known.join("`, `")
        );
        match self.within.strip_suffix('.') {
            Some(path) => Err(Problem::new(path, rule)),
            None => Err(Problem::new("", format!("it {rule}"))),
        }
    }

    /// Takes a member out, with its path.
    fn take(&mut self, name: &str) -> Option<(String, Value)> {
        let value = self.left.remove(name)?;
        Some((format!("{}{name}", self.within), value))
    }

    fn required(&mut self, name: &str) -> Result<(String, Value), Problem> {
        let missing = Problem::missing(&format!("{}{name}", self.within));
        self.take(name).ok_or(missing)
    }

    /// Takes a member out and reads it.
    fn read<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str, Value) -> Result<T, Problem>,
    ) -> Result<Option<T>, Problem> {
        let taken = self.take(name);
        taken.map(|(path, value)| read(&path, value)).transpose()
    }

    pub(super) fn title(&mut self) -> Result<Option<Title>, Problem> {
        self.read("title", parsed)
    }

    pub(super) fn environment(&mut self) -> Result<Option<String>, Problem> {
        self.read("environment", |path, value| {
            let name = text(path, value)?;
            match Environment::new(&name) {
                Ok(_) => Ok(name),
                Err(error) => Err(is_malformed(path, error)),
            }
        })
    }

    pub(super) fn access(&mut self) -> Result<Option<Access>, Problem> {
        let most = ScopeCatalog::MAX_SCOPES;
        let access = self.read("access", |path, value| {
            choice(path, value, ["full", "scopes"], "scopes", most)
        })?;
        Ok(access.map(|scopes| scopes.map_or(Access::Full, Access::Scopes)))
    }

    pub(super) fn resources(&mut self) -> Result<Option<Resources>, Problem> {
        let resources = self.read("resources", |path, value| {
            choice(path, value, ["any", "only"], "resources", Resources::MAX)
        })?;
        Ok(resources.map(|list| list.map_or(Resources::Any, Resources::Only)))
    }

    pub(super) fn networks(&mut self) -> Result<Option<Networks>, Problem> {
        let networks = self.read("networks", |path, value| {
            choice(path, value, ["any", "only"], "networks", Networks::MAX)
        })?;
        Ok(networks.map(|list| list.map_or(Networks::Any, Networks::Only)))
    }

    pub(super) fn quotas(&mut self) -> Result<Option<Vec<Quota>>, Problem> {
        self.read("quotas", |path, value| {
            let list = list(path, value, Quota::MAX_PER_KEY)?;
            let quotas = list.map(|(path, value)| quota(&path, value));
            let quotas = quotas.collect::<Result<Vec<_>, _>>()?;
            let mut names: Vec<_> = quotas.iter().map(Quota::name).collect();
            names.sort_unstable();
            names.dedup();
            if names.len() < quotas.len() {
                return Err(Problem::new(path, "has two quotas of the same name"));
            }
            Ok(quotas)
        })
    }

    /// Reads the limit on concurrent requests. `Some(None)` if the member is `null`.
    pub(super) fn concurrency(&mut self) -> Result<Option<Option<NonZeroU32>>, Problem> {
        self.read("concurrency", |path, value| {
            let limit = (!value.is_null()).then(|| positive(path, &value));
            limit.transpose()
        })
    }

    pub(super) fn metadata(&mut self) -> Result<Option<Metadata>, Problem> {
        self.read("metadata", |path, value| {
            Metadata::try_from(value).map_err(|error| is_malformed(path, error))
        })
    }

    /// Reads an instant. `Some(None)` if the member is `null`.
    pub(super) fn instant(
        &mut self,
        name: &str,
    ) -> Result<Option<Option<OffsetDateTime>>, Problem> {
        self.read(name, |path, value| {
            if value.is_null() {
                return Ok(None);
            }
            let parsed = OffsetDateTime::parse(&text(path, value)?, &Rfc3339);
            let rule = "must be an instant of RFC 3339, such as `2027-03-31T00:00:00Z`";
            parsed.map(Some).map_err(|_| Problem::new(path, rule))
        })
    }

    /// Reads how long a key and its successor are both valid, which one of two members names.
    pub(super) fn overlap(&mut self) -> Result<Overlap, Problem> {
        let [seconds, until] = OVERLAP;
        let seconds = self.read(seconds, seconds_in)?.map(|time| match time {
            Duration::ZERO => Overlap::None,
            time => Overlap::For(time),
        });
        let until = self.instant(until)?;
        let until = until.map(|until| until.map_or(Overlap::UntilRevoked, Overlap::Until));
        match (seconds, until) {
            (Some(overlap), None) | (None, Some(overlap)) => Ok(overlap),
            _ => {
                let rule = format!("it must have one of `{}`", OVERLAP.join("`, `"));
                Err(Problem::new("", rule))
            }
        }
    }

    pub(super) fn reason(&mut self) -> Result<Option<RevokeReason>, Problem> {
        self.read("reason", |path, value| {
            let name: Title = parsed(path, value)?;
            Ok(RevokeReason::from_stored(name.as_str()))
        })
    }

    /// Takes out the members without a text, as browsers send them for the fields of a form that are left empty.
    pub(super) fn skip_empty(&mut self) {
        self.left.retain(|_, value| *value != "");
    }

    pub(super) fn cursor(&mut self) -> Result<Option<PageCursor>, Problem> {
        self.read("after", parsed)
    }

    /// Reads the size of a page.
    pub(super) fn limit(&mut self) -> Result<Option<u16>, Problem> {
        self.read("limit", |path, value| {
            let limit = digits(&value).and_then(|limit| u16::try_from(limit).ok());
            let limit = limit.filter(|limit| (1..=KeyQuery::MAX_LIMIT).contains(limit));
            let rule = format!("must be a whole number from 1 to {}", KeyQuery::MAX_LIMIT);
            limit.ok_or_else(|| Problem::new(path, rule))
        })
    }

    pub(super) fn owner(&mut self) -> Result<Option<Principal>, Problem> {
        self.read("owner", parsed)
    }

    /// Reads the beginning of a text.
    pub(super) fn start(&mut self, name: &str) -> Result<Option<String>, Problem> {
        self.read(name, |path, value| {
            let start = text(path, value)?;
            if start.chars().count() <= Title::MAX_CHARACTERS {
                return Ok(start);
            }
            let rule = format!("has more than {} characters", Title::MAX_CHARACTERS);
            Err(Problem::new(path, rule))
        })
    }

    pub(super) fn status(&mut self) -> Result<Option<KeyStatus>, Problem> {
        const STATES: [(&str, KeyStatus); 5] = [
            ("active", KeyStatus::Active),
            ("not_yet_valid", KeyStatus::NotYetValid),
            ("suspended", KeyStatus::Suspended),
            ("expired", KeyStatus::Expired),
            ("revoked", KeyStatus::Revoked),
        ];
        self.read("status", |path, value| {
            let wanted = text(path, value)?;
            let known = STATES.iter().find(|(name, _)| *name == wanted);
            let rule = "must be `active`, `not_yet_valid`, `suspended`, `expired` or `revoked`";
            let (_, status) = known.ok_or_else(|| Problem::new(path, rule))?;
            Ok(*status)
        })
    }

    /// Reads yes or no.
    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>, Problem> {
        self.read(name, |path, value| match value {
            Value::Bool(is_set) => Ok(is_set),
            Value::String(text) if text == "true" => Ok(true),
            Value::String(text) if text == "false" => Ok(false),
            _ => Err(Problem::new(path, "must be `true` or `false`")),
        })
    }

    pub(super) fn seconds(&mut self, name: &str) -> Result<Option<Duration>, Problem> {
        self.read(name, |path, value| {
            let rule = "must be a whole number of seconds";
            let seconds = digits(&value).ok_or_else(|| Problem::new(path, rule))?;
            Ok(Duration::from_secs(seconds))
        })
    }

    /// Reads the member that names the expiry. `Some(None)` if it is `null`.
    pub(super) fn expiry(&mut self) -> Result<Option<Option<Expiry>>, Problem> {
        let [at, on, within] = EXPIRY;
        let at = self.instant(at)?.map(|at| at.map(Expiry::At));
        let on = self.read(on, day)?.map(|day| Some(Expiry::On(day)));
        let within = self.read(within, seconds_in)?;
        let within = within.map(|time| Some(Expiry::In(time)));
        let mut named = [at, on, within].into_iter().flatten();
        let expiry = named.next();
        if named.next().is_some() {
            let rule = format!("it has more than one of `{}`", EXPIRY.join("`, `"));
            return Err(Problem::new("", rule));
        }
        Ok(expiry)
    }
}

fn seconds_in(path: &str, value: Value) -> Result<Duration, Problem> {
    match value {
        Value::Number(number) => number.as_u64().map(Duration::from_secs),
        _ => None,
    }
    .ok_or_else(|| Problem::new(path, "must be a whole number of seconds"))
}

/// Reads a whole number, which a URL query holds as text.
fn digits(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        value => value.as_u64(),
    }
}

fn text(path: &str, value: Value) -> Result<String, Problem> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(Problem::new(path, "must be a text")),
    }
}

fn is_malformed(path: &str, error: impl fmt::Display) -> Problem {
    Problem::new(path, format_args!("is refused: {error}"))
}

fn parsed<T: FromStr<Err: fmt::Display>>(path: &str, value: Value) -> Result<T, Problem> {
    let parsed = text(path, value)?.parse();
    parsed.map_err(|error| is_malformed(path, error))
}

fn positive(path: &str, value: &Value) -> Result<NonZeroU32, Problem> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    let rule = "must be a whole number from 1 to 4294967295";
    let number = number.and_then(NonZeroU32::new);
    number.ok_or_else(|| Problem::new(path, rule))
}

/// Reads the last day of a key, written as `full-date` of RFC 3339.
fn day(path: &str, value: Value) -> Result<Date, Problem> {
    let rule = "must be a day, such as `2027-03-31`";
    let midnight = format!("{}T00:00:00Z", text(path, value)?);
    let midnight = OffsetDateTime::parse(&midnight, &Rfc3339);
    midnight
        .map(OffsetDateTime::date)
        .map_err(|_| Problem::new(path, rule))
}

/// Returns the elements of a list, each with its path.
fn list(
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

/// Reads a choice between everything and a list, such as [`Access`]. `None`: everything.
fn choice<T: FromStr<Err: fmt::Display> + Ord>(
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

fn quota(path: &str, value: Value) -> Result<Quota, Problem> {
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

/// A JSON value in which no object has two members of the same name. Of two, one reader believes the first, and another
/// the last.
struct Unrepeated(Value);

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
