//! The office's extractors and responses for actix.

use std::convert::Infallible;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::{StatusCode, header};
use actix_web::{FromRequest, HttpRequest, HttpResponse, ResponseError};

use crate::office::CHALLENGE;
use crate::{NotDone, Session};

impl FromRequest for Session {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let text = request.headers().get("x-session");
        let text = text.and_then(|text| text.to_str().ok());
        ready(Ok(Self {
            text: text.map(str::to_owned),
            client: request.peer_addr().map(|address| address.ip()),
        }))
    }
}

impl ResponseError for NotDone {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Manage(error) => error.status_code(),
            Self::NotLoggedIn => StatusCode::UNAUTHORIZED,
            Self::Form(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Random(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn error_response(&self) -> HttpResponse {
        match self {
            Self::Manage(error) => error.error_response(),
            Self::Form(text) => HttpResponse::UnprocessableEntity().body(text.clone()),
            _ => HttpResponse::build(self.status_code())
                .insert_header((header::CACHE_CONTROL, "no-store"))
                .insert_header((header::WWW_AUTHENTICATE, CHALLENGE))
                .finish(),
        }
    }
}
