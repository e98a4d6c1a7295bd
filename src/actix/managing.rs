//! Answers of endpoints that manage keys, as actix responses.

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, Responder, ResponseError};

use super::response::answer;
use crate::http::Answer;
use crate::manager::{ManageError, Revealed};

/// Responds with the error's [`Answer`]. The response carries the error itself, for the host's log.
impl ResponseError for ManageError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(Answer::from(self).status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        answer(Answer::from(self), BoxBody::new)
    }
}

/// 201 with the key, which no cache keeps.
impl Responder for Revealed<'_> {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        answer(Answer::from(&self), BoxBody::new)
    }
}
