//! Answers of endpoints that manage keys.
//!
//! A user of such an endpoint has logged in with the host. If the user's request is wrong, the answer explains it in
//! the words of [`ManageError`]. For a failure of the store, the clock or the host the words are constant, and the
//! error itself is for the operator.

use serde::Serialize;
use serde_json::{Value, json};

use crate::clock::rfc3339;
use crate::http::{Answer, Problem};
use crate::manager::{Issued, ManageError};
use crate::store::StoreError;

/// Problem details (RFC 9457) that no cache keeps.
///
/// `code` is the error's [code](ManageError::code). For a failure of the store, the clock or the host it only says
/// `unreadable` or `unavailable`. Beside it, the member `at` gives the time if the operation was already done,
/// `successor` or `id` the key to continue with, and `before` the instant to retry with.
///
/// | status | when |
/// |---|---|
/// | 400 | the cursor is of another list |
/// | 403 | the policy, the actor's tenants or its ceiling forbid it |
/// | 404 | there is no such key |
/// | 409 | the key is not in a state for it, or was just changed by another request; the tenant is full |
/// | 422 | the requested key is not possible; the request id was used for another |
/// | 429 | too many look-ups found nothing |
/// | 500, 501 | the stored data cannot be read; the store cannot do this |
/// | 503 | try again; after `outcome_unknown` look first |
impl From<&ManageError> for Answer {
    fn from(error: &ManageError) -> Self {
        let status = status(error);
        let code = shown_code(error, status);
        let detail = match status {
            500.. => constant(code).to_owned(),
            _ => error.to_string(),
        };
        let mut answer = problem(status, code, &detail, member(error));
        match status {
            429 => answer.headers.push(("retry-after", "60".to_owned())),
            503 => answer.headers.push(("retry-after", "5".to_owned())),
            _ => {}
        }
        answer
    }
}

/// Returns a problem document that no cache keeps. The words become a sentence.
pub(super) fn problem(
    status: u16,
    code: &'static str,
    words: &str,
    member: Option<(&'static str, String)>,
) -> Answer {
    let title = Problem::plain(status, code, "").title();
    let detail = sentence(words);
    let mut body = json!({
        "type": "about:blank", "title": title, "status": status, "detail": detail, "code": code,
    });
    if let (Some((name, value)), Some(members)) = (member, body.as_object_mut()) {
        members.insert(name.to_owned(), Value::String(value));
    }
    Answer {
        status,
        headers: no_store("application/problem+json"),
        body: body.to_string().into_bytes(),
    }
}

/// 201 with the key, which no cache keeps.
///
/// # Security
/// The body contains the key.
impl From<&Issued> for Answer {
    fn from(issued: &Issued) -> Self {
        json_answer(201, &issued.reveal())
    }
}

/// Returns this value as JSON that no cache keeps.
pub(super) fn json_answer(status: u16, value: &impl Serialize) -> Answer {
    // Only years beyond 9999 cannot be serialized, and no key or event has one.
    let (status, body) = match serde_json::to_vec(value) {
        Ok(body) => (status, body),
        Err(_) => (500, Vec::new()),
    };
    Answer {
        status,
        headers: no_store("application/json"),
        body,
    }
}

fn no_store(content_type: &str) -> Vec<(&'static str, String)> {
    vec![
        ("cache-control", "no-store".to_owned()),
        ("content-type", content_type.to_owned()),
    ]
}

fn status(error: &ManageError) -> u16 {
    match error {
        ManageError::Cursor(_) => 400,
        ManageError::Refused | ManageError::AboveCeiling(_) => 403,
        ManageError::NotFound => 404,
        ManageError::AlreadyRevoked { .. }
        | ManageError::Ended(_)
        | ManageError::AlreadySuspended { .. }
        | ManageError::NotSuspended
        | ManageError::Suspended
        | ManageError::AlreadyRotated { .. }
        | ManageError::AlreadyImported { .. }
        | ManageError::ImportedOtherwise { .. }
        | ManageError::IdTaken { .. }
        | ManageError::CutOff
        | ManageError::ClockBehindCutoff { .. }
        | ManageError::WouldRevive
        | ManageError::AlreadyIssued { .. }
        | ManageError::TenantFull { .. }
        | ManageError::OverlapNeedsPlace { .. } => 409,
        ManageError::RequestIdReused { .. }
        | ManageError::Import(_)
        | ManageError::InTheFuture
        | ManageError::Invalid(_) => 422,
        ManageError::TooManyLookups => 429,
        ManageError::Unreadable(_) => 500,
        ManageError::Policy(_)
        | ManageError::IdCollision
        | ManageError::Random(_)
        | ManageError::Clock
        | ManageError::Hashing(_)
        | ManageError::Unfinished { .. } => 503,
        ManageError::Store(error) => match error {
            StoreError::AlreadyExists
            | StoreError::Conflict
            | StoreError::PreconditionFailed { .. } => 409,
            StoreError::Corrupt(_) => 500,
            StoreError::Unsupported => 501,
            StoreError::Unavailable(_) | StoreError::Indeterminate(_) => 503,
        },
    }
}

/// Returns the code that the user may see: that of the error, unless it says which part of the host has failed.
fn shown_code(error: &ManageError, status: u16) -> &'static str {
    match (error, status) {
        (ManageError::Unfinished { .. } | ManageError::Store(StoreError::Indeterminate(_)), _) => {
            error.code()
        }
        (_, 500) => "unreadable",
        (_, 503) => "unavailable",
        _ => error.code(),
    }
}

/// Returns the constant words for failures that the user could not have avoided.
fn constant(code: &str) -> &'static str {
    match code {
        "unreadable" => "The stored data cannot be read.",
        "unsupported" => "This cannot be done here.",
        "unfinished" => {
            "All keys issued before then have ended, but not all are listed as revoked yet. Try again with that \
             instant."
        }
        "outcome_unknown" => "It is not known whether this was done. Look before you try again.",
        _ => "This cannot be done now. Try again later.",
    }
}

/// Returns the member that a client program can continue with.
fn member(error: &ManageError) -> Option<(&'static str, String)> {
    match error {
        ManageError::AlreadyRevoked { at } | ManageError::AlreadySuspended { at } => {
            Some(("at", rfc3339(*at)))
        }
        ManageError::Unfinished { before, .. } => Some(("before", rfc3339(*before))),
        ManageError::AlreadyRotated { successor } => Some(("successor", successor.to_string())),
        ManageError::AlreadyIssued { id }
        | ManageError::RequestIdReused { id }
        | ManageError::AlreadyImported { id }
        | ManageError::ImportedOtherwise { id } => Some(("id", id.to_string())),
        _ => None,
    }
}

/// Turns an error's words into a sentence.
fn sentence(words: &str) -> String {
    let mut characters = words.trim_end_matches('.').chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(characters).chain(['.']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyId;
    use crate::manager::InvalidKey;
    use time::OffsetDateTime;

    fn told(error: &ManageError) -> (u16, Value) {
        let answer = Answer::from(error);
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["status"], answer.status);
        assert!(
            answer
                .headers
                .contains(&("cache-control", "no-store".to_owned()))
        );
        (answer.status, body)
    }

    #[test]
    fn caller_mistakes_are_explained() {
        let at = OffsetDateTime::UNIX_EPOCH;
        let (status, body) = told(&ManageError::AlreadyRevoked { at });
        assert_eq!(status, 409);
        assert_eq!(body["title"], "Conflict");
        assert_eq!(body["at"], "1970-01-01T00:00:00Z");
        let successor = KeyId::from_u128(7);
        let (_, body) = told(&ManageError::AlreadyRotated { successor });
        assert_eq!(body["successor"], successor.to_string());
        let quoted = InvalidKey::RepeatedQuota("a\"b\n".to_owned());
        let (status, body) = told(&quoted.into());
        assert_eq!(status, 422);
        assert_eq!(body["detail"], "Two quotas are named `a\"b\n`.");
    }

    #[test]
    fn answers_have_the_errors_code() {
        let store = |error| ManageError::Store(error);
        for (error, shown) in [
            (ManageError::NotFound, "not_found"),
            (InvalidKey::Expired.into(), "invalid_key"),
            (ManageError::CutOff, "cut_off"),
            (store(StoreError::AlreadyExists), "already_exists"),
            (store(StoreError::Unsupported), "unsupported"),
            (
                store(StoreError::Indeterminate("".into())),
                "outcome_unknown",
            ),
        ] {
            assert_eq!(told(&error).1["code"], shown);
            assert_eq!(error.code(), shown);
        }
        // The part of the host that has failed is for the operator.
        for (error, shown, code) in [
            (ManageError::Clock, "unavailable", "clock_failed"),
            (
                store(StoreError::Unavailable("".into())),
                "unavailable",
                "unavailable",
            ),
            (
                store(StoreError::Corrupt("".into())),
                "unreadable",
                "corrupt",
            ),
            (
                ManageError::Hashing(crate::hashing::HashingError::Saturated),
                "unavailable",
                "hashing_saturated",
            ),
        ] {
            assert_eq!(told(&error).1["code"], shown);
            assert_eq!(error.code(), code);
        }
    }

    #[test]
    fn host_faults_are_not_explained() {
        let source = || "password=hunter2 at 10.0.0.7".into();
        for error in [
            ManageError::Store(StoreError::Unavailable(source())),
            ManageError::Store(StoreError::Indeterminate(source())),
            ManageError::Store(StoreError::Corrupt(source())),
            ManageError::Policy(crate::manager::PolicyError::new(source())),
            ManageError::Unfinished {
                before: OffsetDateTime::UNIX_EPOCH,
                source: StoreError::Unavailable(source()),
            },
        ] {
            let (status, body) = told(&error);
            assert!(status >= 500);
            assert!(!body.to_string().contains("hunter2"), "{body}");
            if body["code"] == "unfinished" {
                assert_eq!(body["before"], "1970-01-01T00:00:00Z");
            }
        }
        // The change may have been made, so the answer does not deny it.
        let (_, body) = told(&StoreError::Indeterminate(source()).into());
        assert_eq!(body["code"], "outcome_unknown");
    }
}
