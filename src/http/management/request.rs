//! Reading a request: which endpoint it is for, whether it may be made, and its body or query.

use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde::de::value::{Error as PairsError, MapDeserializer};
use serde_json::Value;
use serde_json::error::Category;

use super::failure::Refusal;
use super::{ManagementApi, ManagementRequest};
use crate::http::HeaderSource;
use crate::http::credentials::{decoded, parameters};
use crate::key::{KeyId, RevokeReason};
use crate::manager::{KeyQueryForm, KeyUpdate, NewKeyForm, RevokeForm, Rotation};

/// A request that was read: a call of the manager.
pub(super) enum Call {
    Scopes,
    Events { after: u64, limit: u16 },
    List(KeyQueryForm),
    Issue(NewKeyForm, Option<String>),
    Get(KeyId),
    EventsOf(KeyId, u64, u16),
    Update(KeyId, KeyUpdate),
    Rotate(KeyId, Rotation, Option<String>),
    Suspend(KeyId),
    Resume(KeyId),
    Revoke(KeyId, RevokeReason),
    NoSuchKey,
}

/// The endpoint of a path.
#[derive(Clone, Copy)]
enum Endpoint {
    Keys,
    Scopes,
    Events,
    Key,
    EventsOfKey,
    Rotate,
    Suspend,
    Resume,
    Revoke,
}

impl Endpoint {
    /// Returns the methods, as `Allow` has them.
    const fn allowed(self) -> &'static str {
        match self {
            Self::Keys => "GET, HEAD, POST",
            Self::Scopes | Self::Events | Self::EventsOfKey => "GET, HEAD",
            Self::Key => "GET, HEAD, PATCH",
            Self::Rotate | Self::Suspend | Self::Resume | Self::Revoke => "POST",
        }
    }
}

/// Events on a page, unless the request asks for another number.
const EVENTS: u16 = 100;

/// Most events on a page, as of [`KeyManager::events`](crate::manager::KeyManager::events).
const MOST_EVENTS: u16 = 1_000;

impl<H: HeaderSource + ?Sized> ManagementRequest<'_, H> {
    /// Returns the id in the path. `None` if it has no id, or a text that is none.
    pub(super) fn key(&self) -> Option<KeyId> {
        self.segments().0?.parse().ok()
    }

    /// Returns the id and the action in the path, as far as it has them.
    fn segments(&self) -> (Option<&str>, Option<&str>) {
        let path = self.path.strip_prefix('/').unwrap_or(self.path);
        match path.split_once('/') {
            _ if path.is_empty() => (None, None),
            Some((id, action)) => (Some(id), Some(action)),
            None => (Some(path), None),
        }
    }

    fn endpoint(&self) -> Result<Endpoint, Refusal> {
        Ok(match self.segments() {
            (None, _) => Endpoint::Keys,
            (Some("scopes"), None) => Endpoint::Scopes,
            (Some("events"), None) => Endpoint::Events,
            (Some(_), None) => Endpoint::Key,
            (Some(_), Some("events")) => Endpoint::EventsOfKey,
            (Some(_), Some("rotate")) => Endpoint::Rotate,
            (Some(_), Some("suspend")) => Endpoint::Suspend,
            (Some(_), Some("resume")) => Endpoint::Resume,
            (Some(_), Some("revoke")) => Endpoint::Revoke,
            (Some(_), Some(_)) => return Err(Refusal::UnknownEndpoint),
        })
    }

    fn reads(&self) -> bool {
        matches!(self.method, "GET" | "HEAD")
    }

    /// Reads the body as JSON.
    fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        if self.body.is_empty() {
            return Err(Refusal::Body("it is missing".to_owned()));
        }
        let mut types = self.headers.values("content-type");
        match (types.next(), types.next()) {
            (Some(one), None) if is_json(one) => {}
            _ => return Err(Refusal::MediaType),
        }
        serde_json::from_slice(self.body).map_err(|error| {
            let words = error.to_string();
            let place = format!(" at line {} column {}", error.line(), error.column());
            match error.classify() {
                // A form's own rule, which names the member.
                Category::Data => {
                    Refusal::Body(words.strip_suffix(&place).unwrap_or(&words).to_owned())
                }
                _ => Refusal::MalformedJson(words),
            }
        })
    }

    /// Reads a body that may be missing.
    fn json_if_any<T: DeserializeOwned>(&self) -> Result<Option<T>, Refusal> {
        let is_any = !self.body.is_empty();
        is_any.then(|| self.json()).transpose()
    }

    /// Refuses a body with members.
    fn no_members(&self) -> Result<(), Refusal> {
        match self.json_if_any::<Value>()? {
            None => Ok(()),
            Some(Value::Object(members)) if members.is_empty() => Ok(()),
            Some(_) => Err(Refusal::Body("it must be empty, or `{}`".to_owned())),
        }
    }

    /// Returns the parameters of the query, decoded.
    fn parameters(&self) -> impl Iterator<Item = (String, String)> {
        let text = |written| String::from_utf8_lossy(&decoded(written)).into_owned();
        let pairs = parameters(self.query.unwrap_or_default());
        pairs.map(move |(name, value)| (text(name), text(value)))
    }

    fn list_query(&self) -> Result<KeyQueryForm, Refusal> {
        let pairs = MapDeserializer::<_, PairsError>::new(self.parameters());
        KeyQueryForm::deserialize(pairs).map_err(|error| Refusal::Query(error.to_string()))
    }

    /// Reads from which event on and how many are asked for.
    fn events_query(&self) -> Result<(u64, u16), Refusal> {
        let refused = |words: &str| Refusal::Query(words.to_owned());
        let (mut after, mut limit) = (None, None);
        for (name, value) in self.parameters() {
            let number = match value.bytes().all(|byte| byte.is_ascii_digit()) {
                true => value.parse::<u64>().ok(),
                false => None,
            };
            let earlier = match &*name {
                "after" => {
                    let number = number.ok_or_else(|| refused("`after` must be a whole number"))?;
                    after.replace(number)
                }
                "limit" => {
                    let range = 1..=u64::from(MOST_EVENTS);
                    let number = number.filter(|number| range.contains(number));
                    let rule = || refused("`limit` must be a whole number from 1 to 1000");
                    limit.replace(number.ok_or_else(rule)?)
                }
                _ => {
                    return Err(refused(
                        "it has an unknown member; it may have `after`, `limit`",
                    ));
                }
            };
            if earlier.is_some() {
                return Err(refused("a member is given twice"));
            }
        }
        let limit = limit.and_then(|limit| u16::try_from(limit).ok());
        Ok((after.unwrap_or_default(), limit.unwrap_or(EVENTS)))
    }

    fn no_query(&self) -> Result<(), Refusal> {
        match parameters(self.query.unwrap_or_default()).next() {
            None => Ok(()),
            Some(_) => Err(Refusal::Query("it has an unknown member".to_owned())),
        }
    }

    /// Reads the request id of a request that makes a key.
    fn idempotency_key(&self) -> Result<Option<String>, Refusal> {
        let mut values = self.headers.values("idempotency-key");
        let value = match (values.next(), values.next()) {
            (None, _) => return Ok(None),
            (Some(value), None) => value,
            (Some(_), Some(_)) => return Err(Refusal::IdempotencyKey),
        };
        let value = std::str::from_utf8(value).ok();
        let unquoted = value.and_then(unquoted).filter(|id| is_request_id(id));
        unquoted.map(Some).ok_or(Refusal::IdempotencyKey)
    }
}

impl ManagementApi {
    /// Reads a request.
    ///
    /// # Errors
    /// Why it is refused.
    pub(super) fn read<H: HeaderSource + ?Sized>(
        &self,
        request: &ManagementRequest<'_, H>,
    ) -> Result<Call, Refusal> {
        let endpoint = request.endpoint()?;
        let allowed = endpoint.allowed();
        if !allowed.split(", ").any(|method| method == request.method) {
            return Err(Refusal::MethodNotAllowed { allowed });
        }
        if !request.reads() && self.trusted.refuse(request) {
            return Err(Refusal::CrossOrigin);
        }
        if request.body.len() > Self::MAX_BODY_BYTES {
            return Err(Refusal::TooLarge);
        }
        match endpoint {
            Endpoint::Keys if request.reads() => return request.list_query().map(Call::List),
            Endpoint::Events => {
                let (after, limit) = request.events_query()?;
                return Ok(Call::Events { after, limit });
            }
            Endpoint::EventsOfKey => {
                let (after, limit) = request.events_query()?;
                let id = request.key();
                return Ok(id.map_or(Call::NoSuchKey, |id| Call::EventsOf(id, after, limit)));
            }
            _ => request.no_query()?,
        }
        let id = request.key().ok_or(());
        Ok(match (endpoint, id) {
            (Endpoint::Scopes, _) => Call::Scopes,
            (Endpoint::Keys, _) => Call::Issue(request.json()?, request.idempotency_key()?),
            // They are only read, and that was done above.
            (Endpoint::Events | Endpoint::EventsOfKey, _) => return Err(Refusal::UnknownEndpoint),
            (_, Err(())) => Call::NoSuchKey,
            (Endpoint::Key, Ok(id)) if request.reads() => Call::Get(id),
            (Endpoint::Key, Ok(id)) => Call::Update(id, request.json()?),
            (Endpoint::Rotate, Ok(id)) => {
                Call::Rotate(id, request.json()?, request.idempotency_key()?)
            }
            (Endpoint::Suspend, Ok(id)) => {
                request.no_members()?;
                Call::Suspend(id)
            }
            (Endpoint::Resume, Ok(id)) => {
                request.no_members()?;
                Call::Resume(id)
            }
            (Endpoint::Revoke, Ok(id)) => {
                let form: Option<RevokeForm> = request.json_if_any()?;
                let reason = form.map_or(RevokeReason::Requested, |form| form.reason);
                Call::Revoke(id, reason)
            }
        })
    }
}

/// Adds a part of a body to those that were read. Returns whether the body is too long, so that reading may stop.
#[cfg(any(feature = "actix", feature = "axum"))]
pub(crate) fn read_on(read: &mut Vec<u8>, part: &[u8]) -> bool {
    let room = (ManagementApi::MAX_BODY_BYTES + 1).saturating_sub(read.len());
    read.extend(part.iter().take(room));
    read.len() > ManagementApi::MAX_BODY_BYTES
}

/// Returns whether this type of content is JSON: `application/json`, or another with the suffix of RFC 6839.
fn is_json(content_type: &[u8]) -> bool {
    let content_type = std::str::from_utf8(content_type).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    let subtype = essence.strip_prefix("application/");
    subtype.is_some_and(|name| name == "json" || name.ends_with("+json"))
}

/// Returns the text of a string as RFC 9651 §3.3.3 writes it, or of one that came without quotes. `None` if its quotes
/// are not those of one string.
///
/// A client may leave the quotes away in one try and not in the next: it is the same request.
fn unquoted(value: &str) -> Option<String> {
    let Some(quoted) = value.strip_prefix('"') else {
        return Some(value.to_owned());
    };
    let mut characters = quoted.strip_suffix('"')?.chars();
    let mut text = String::new();
    while let Some(character) = characters.next() {
        text.push(match character {
            '"' => return None,
            '\\' => characters
                .next()
                .filter(|next| matches!(next, '"' | '\\'))?,
            other => other,
        });
    }
    Some(text)
}

/// Returns whether the manager takes this request id. Others are refused here, as a fault of the header.
fn is_request_id(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_of_json() {
        for yes in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/merge-patch+json",
        ] {
            assert!(is_json(yes.as_bytes()), "{yes}");
        }
        for no in [
            "",
            "text/plain",
            "text/json",
            "json",
            "application/jsonp",
            "application/x-www-form-urlencoded",
            "text/plain; application/json",
        ] {
            assert!(!is_json(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn quotes_do_not_make_another_request() {
        for (value, text) in [
            ("8e03978e-40d5", Some("8e03978e-40d5")),
            ("\"8e03978e-40d5\"", Some("8e03978e-40d5")),
            (r#""a\"b\\c""#, Some(r#"a"b\c"#)),
            (r#"a"b"#, Some(r#"a"b"#)),
            ("\"", None),
            (r#""a"#, None),
            (r#""a"b""#, None),
            (r#""a\""#, None),
            (r#""a\b""#, None),
            (r#""a"; b=1"#, None),
        ] {
            assert_eq!(unquoted(value).as_deref(), text, "{value}");
        }
    }
}
