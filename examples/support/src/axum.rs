//! The office's routes and extractor for axum.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRef, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use keyward::Keyward;
use keyward::axum::management_routes;
use keyward::http::Connection;

use crate::office::CHALLENGE;
use crate::{CodeForm, LoginError, Office, Person, ROOT};

/// The person of the session that `X-Session` names.
impl<S: Sync> FromRequestParts<S> for Person
where
    Office: FromRef<S>,
{
    type Rejection = LoginError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, LoginError> {
        let session = parts.headers.get("x-session");
        let session = session.and_then(|text| text.to_str().ok());
        let connection = parts.extensions.get::<Connection>();
        let peer = connection.and_then(|connection| connection.peer);
        let info = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let client = peer.or_else(|| info.map(|info| info.0.ip()));
        Office::from_ref(state).person(session, client)
    }
}

/// Returns a product's office: its login, and the library's endpoints that manage keys.
pub fn office_routes(office: Office, keyward: &Keyward) -> Router {
    Router::new()
        .route("/", get(async || ROOT))
        .route("/admin/login", post(log_in))
        .nest("/admin/keys", management_routes::<Person, _>(keyward))
        .with_state(office)
}

async fn log_in(
    State(office): State<Office>,
    Json(form): Json<CodeForm>,
) -> Result<impl IntoResponse, LoginError> {
    let logged_in = office.log_in(&form)?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(logged_in)))
}

impl IntoResponse for LoginError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NotLoggedIn => StatusCode::UNAUTHORIZED,
            Self::Random(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let headers = [
            (header::CACHE_CONTROL, "no-store"),
            (header::WWW_AUTHENTICATE, CHALLENGE),
        ];
        (status, headers).into_response()
    }
}
