//! Reading the members of a JSON object one by one.
//!
//! Serde's own errors quote what they found. Here no error quotes a text of the request, which may hold a key.

mod values;

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use self::values::{
    choice, day, digits, is_malformed, list, parsed, positive, quota, seconds_in, text,
};
use super::unrepeated::Unrepeated;
use super::{EXPIRY, OVERLAP};
use crate::key::{
    Access, Environment, KeyStatus, Metadata, Networks, Principal, Quota, Resources, RevokeReason,
    ScopeCatalog, Title,
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
