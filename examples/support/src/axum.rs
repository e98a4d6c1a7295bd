//! The office's extractors and responses for axum.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Json;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keyward::http::Connection;

use crate::office::CHALLENGE;
use crate::{LoggedIn, NotDone, Session};

impl<S: Sync> FromRequestParts<S> for Session {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let text = parts
            .headers
            .get("x-session")
            .and_then(|text| text.to_str().ok());
        let connection = parts.extensions.get::<Connection>();
        let peer = connection.and_then(|connection| connection.peer);
        let info = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(Self {
            text: text.map(str::to_owned),
            client: peer.or_else(|| info.map(|info| info.0.ip())),
        })
    }
}

/// Forbids caching of responses: an office's lists are for the logged-in person, and caches do not know that
/// `X-Session` is a credential.
pub async fn kept_by_no_cache(mut response: Response) -> Response {
    let no_store = HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, no_store);
    response
}

impl IntoResponse for LoggedIn {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}

impl IntoResponse for NotDone {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Manage(error) => return error.into_response(),
            Self::Form(text) => return (StatusCode::UNPROCESSABLE_ENTITY, text).into_response(),
            Self::NotLoggedIn => StatusCode::UNAUTHORIZED,
            Self::Random(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let headers = [(header::WWW_AUTHENTICATE, CHALLENGE)];
        (status, headers).into_response()
    }
}
