//! Failures, as callers see them: problem details (RFC 9457).

use actix_web::error::{JsonPayloadError, QueryPayloadError};
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError, web};
use serde::Serialize;

/// Maximum length of a request body, in bytes.
const LONGEST_BODY: usize = 16_384;

/// The reason why an operation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("There is no such {0}.")]
    NotFound(&'static str),
    /// The object is not in a state for the operation.
    #[error("{0}")]
    Conflict(&'static str),
    /// The requested values are invalid.
    #[error("{0}")]
    Invalid(String),
    #[error("Send JSON, with its content type.")]
    NotJson,
    /// A body or a query could not be read.
    #[error("{1}")]
    Unreadable(StatusCode, String),
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: String,
}

impl ResponseError for Fault {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Unreadable(status, _) => *status,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let status = self.status_code();
        HttpResponse::build(status)
            .content_type("application/problem+json")
            .json(Problem {
                r#type: "about:blank",
                title: status.canonical_reason().unwrap_or_default(),
                status: status.as_u16(),
                detail: self.to_string(),
            })
    }
}

impl From<JsonPayloadError> for Fault {
    fn from(error: JsonPayloadError) -> Self {
        match error {
            JsonPayloadError::ContentType => Self::NotJson,
            JsonPayloadError::Deserialize(error) if error.is_data() => {
                Self::Invalid(error.to_string())
            }
            error => Self::Unreadable(error.status_code(), error.to_string()),
        }
    }
}

impl From<QueryPayloadError> for Fault {
    fn from(error: QueryPayloadError) -> Self {
        Self::Unreadable(error.status_code(), error.to_string())
    }
}

/// Returns the configuration for reading bodies.
pub(crate) fn bodies() -> web::JsonConfig {
    let config = web::JsonConfig::default().limit(LONGEST_BODY);
    config.error_handler(|error, _| Fault::from(error).into())
}

/// Returns the configuration for reading queries.
pub(crate) fn queries() -> web::QueryConfig {
    web::QueryConfig::default().error_handler(|error, _| Fault::from(error).into())
}

/// Returns the configuration for reading paths. Only paths with a key's id can be malformed.
pub(crate) fn paths() -> web::PathConfig {
    web::PathConfig::default().error_handler(|_, _| Fault::NotFound("key").into())
}
