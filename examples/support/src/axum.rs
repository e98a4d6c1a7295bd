//! The office's routes, extractors and responses for axum.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use keyward::audit::SealedEvent;
use keyward::http::Connection;
use keyward::key::KeyId;
use keyward::manager::{Issued, Revoked};

use crate::office::CHALLENGE;
use crate::{CodeForm, EventQuery, LoggedIn, NotDone, Office, ROOT, RotateForm, Session};

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

/// Returns a product's office: these routes, and those that all products have.
pub fn office_routes(office: Office, own: Router) -> Router {
    Router::new()
        .route("/", get(async || ROOT))
        .route("/admin/login", post(log_in))
        .route("/admin/keys/{id}/rotate", post(rotate))
        .route("/admin/keys/{id}/revoke", post(revoke))
        .route("/admin/events", get(events))
        .with_state(office)
        .merge(own)
        .layer(map_response(no_store))
}

/// Forbids caching of responses: an office's lists are for the logged-in person, and caches do not know that
/// `X-Session` is a credential.
async fn no_store(mut response: Response) -> Response {
    let no_store = HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, no_store);
    response
}

type Desk = State<Office>;

async fn log_in(
    State(office): Desk,
    Json(form): Json<CodeForm>,
) -> Result<Json<LoggedIn>, NotDone> {
    Ok(Json(office.log_in(&form)?))
}

async fn rotate(
    State(office): Desk,
    session: Session,
    Path(id): Path<KeyId>,
    Json(form): Json<RotateForm>,
) -> Result<Issued, NotDone> {
    // The successor ends when the old key would have, and the form has no field to change that.
    office.rotate(&session, id, &form).await
}

async fn revoke(
    State(office): Desk,
    session: Session,
    Path(id): Path<KeyId>,
    body: Bytes,
) -> Result<Json<Revoked>, NotDone> {
    Ok(Json(office.revoke(&session, id, &body).await?))
}

async fn events(
    State(office): Desk,
    session: Session,
    Query(query): Query<EventQuery>,
) -> Result<Json<Vec<SealedEvent>>, NotDone> {
    Ok(Json(office.events(&session, &query).await?))
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
