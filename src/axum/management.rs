//! The endpoints that manage keys, as axum's routes.

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::uri::Authority;
use http_body_util::{BodyExt as _, LengthLimitError};

use crate::http::{
    Answer, ManagementApi, ManagementFailure, ManagementRequest, ManagementSession, Refusal,
    read_on,
};
use crate::tower::drain;

/// Returns the [endpoints](ManagementApi#endpoints) with which signed-in users manage keys, to be nested in a router.
///
/// `U` is the application's own extractor of the user who is signed in. If it rejects a request, the answer is its
/// own. The routes take a [`Keyward`](crate::Keyward), or a [`ManagementApi`] with settings. Nest them, and do not
/// merge them: they answer every path.
///
/// ```
/// use axum::{Router, extract::FromRequestParts, http::{StatusCode, request::Parts}};
/// use keyward::axum::management_routes;
/// use keyward::http::ManagementSession;
/// use keyward::{Keyward, key::TenantId, manager::Actor};
///
/// /// The user of the session. Your login middleware puts it into the request's extensions.
/// #[derive(Clone)]
/// struct SignedIn { actor: Actor, tenant: TenantId }
///
/// impl<S: Sync> FromRequestParts<S> for SignedIn {
///     type Rejection = StatusCode;
///
///     async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
///         parts.extensions.get().cloned().ok_or(StatusCode::UNAUTHORIZED)
///     }
/// }
///
/// impl From<SignedIn> for ManagementSession {
///     fn from(user: SignedIn) -> Self {
///         Self::new(user.actor, user.tenant)
///     }
/// }
///
/// fn app(keyward: &Keyward) -> Router {
///     Router::new().nest("/keys", management_routes::<SignedIn, _>(keyward))
/// }
/// # let _ = app;
/// ```
///
/// The response to a request that was refused or failed has an `Arc<ManagementFailure>` among its extensions, for a
/// layer that logs.
pub fn management_routes<U, S>(api: impl Into<ManagementApi>) -> Router<S>
where
    U: FromRequestParts<S> + Into<ManagementSession> + Send + 'static,
    S: Clone + Send + Sync + 'static,
{
    let api: ManagementApi = api.into();
    let serve = move |user: U, request: Request| serve(api.clone(), user.into(), request);
    // Routes of their own, since a layer of the application may apply to routes only, and not to a fallback.
    Router::new()
        .route("/", any(serve.clone()))
        .route("/{key_id}", any(serve.clone()))
        .route("/{key_id}/{action}", any(serve.clone()))
        .fallback(serve)
}

async fn serve(api: ManagementApi, session: ManagementSession, request: Request) -> Response {
    let (parts, mut body) = request.into_parts();
    let read = match read(&mut body).await {
        Ok(read) => read,
        Err(refusal) => return session.failure(refusal, None).into_response(),
    };
    let request = ManagementRequest {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query(),
        authority: parts.uri.authority().map(Authority::as_str),
        headers: &parts.headers,
        body: &read,
    };
    let answer = api.answer(session, request).await;
    if read.len() > ManagementApi::MAX_BODY_BYTES {
        drain(Request::from_parts(parts, body));
    }
    match answer {
        Ok(answer) => Response::from(answer),
        Err(failure) => failure.into_response(),
    }
}

/// Reads a body, or as much of it as shows that it is too long.
async fn read(body: &mut Body) -> Result<Vec<u8>, Refusal> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            if is_too_long(&error) {
                Refusal::TooLarge
            } else {
                Refusal::Unread
            }
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if read_on(&mut read, &data) {
            break;
        }
    }
    Ok(read)
}

/// Returns whether a layer of the application has cut the body.
fn is_too_long(error: &(dyn Error + 'static)) -> bool {
    let mut error = Some(error);
    while let Some(inner) = error {
        if inner.is::<LengthLimitError>() {
            return true;
        }
        error = inner.source();
    }
    false
}

/// Responds with the failure's [`Answer`]. The response's extensions contain the failure as an
/// `Arc<ManagementFailure>`, for the host's log.
impl IntoResponse for ManagementFailure {
    fn into_response(self) -> Response {
        let mut response = Response::from(Answer::from(&self));
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}
