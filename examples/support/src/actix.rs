//! The office's extractor and responses for actix.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::{StatusCode, header};
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest, HttpResponse, ResponseError};

use crate::office::CHALLENGE;
use crate::{LoginError, Office, Person};

/// The person of the session that `X-Session` names.
impl FromRequest for Person {
    type Error = LoginError;
    type Future = Ready<Result<Self, LoginError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let session = request.headers().get("x-session");
        let session = session.and_then(|text| text.to_str().ok());
        let client = request.peer_addr().map(|address| address.ip());
        let office = request.app_data::<Data<Office>>();
        let office = office.ok_or(LoginError::NotLoggedIn);
        ready(office.and_then(|office| office.person(session, client)))
    }
}

impl ResponseError for LoginError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::NotLoggedIn => StatusCode::UNAUTHORIZED,
            Self::Random(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::build(self.status_code())
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .insert_header((header::WWW_AUTHENTICATE, CHALLENGE))
            .finish()
    }
}
