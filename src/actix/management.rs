//! The endpoints that manage keys, as a scope of actix.

use std::pin::pin;

use actix_web::body::BoxBody;
use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpRequest, HttpResponse, ResponseError, Scope, web};
use futures_core::Stream as _;

use super::response::answer;
use crate::http::{
    Answer, ManagementApi, ManagementFailure, ManagementRequest, ManagementSession, Refusal,
    read_on,
};

/// Returns the [endpoints](ManagementApi#endpoints) with which signed-in users manage keys, as a scope of an
/// application.
///
/// `U` is the application's own extractor of the user who is signed in. If it fails, the answer is its own. The scope
/// takes a [`Keyward`](crate::Keyward), or a [`ManagementApi`] with settings.
///
/// ```
/// use actix_web::App;
/// use keyward::actix::management_scope;
/// use keyward::http::ManagementSession;
/// # use std::future::{Ready, ready};
/// # use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload, error::ErrorUnauthorized};
/// # use keyward::Keyward;
/// # #[derive(Clone)]
/// # struct SignedIn(ManagementSession);
/// # impl FromRequest for SignedIn {
/// #     type Error = actix_web::Error;
/// #     type Future = Ready<Result<Self, actix_web::Error>>;
/// #     fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
/// #         ready(request.extensions().get().cloned().ok_or_else(|| ErrorUnauthorized("log in")))
/// #     }
/// # }
///
/// impl From<SignedIn> for ManagementSession { // your extractor
///     fn from(user: SignedIn) -> Self {
///         // …
/// #       user.0
///     }
/// }
///
/// # fn f(keyward: Keyward) {
/// let app = move || App::new().service(management_scope::<SignedIn>("/keys", &keyward));
/// # let _ = app;
/// # }
/// ```
///
/// The response to a request that was refused or failed has the [`ManagementFailure`] as its error
/// (`HttpResponse::error`), for a middleware that logs.
pub fn management_scope<U>(path: &str, api: impl Into<ManagementApi>) -> Scope
where
    U: FromRequest + Into<ManagementSession> + 'static,
{
    let api: ManagementApi = api.into();
    let serve = move |request: HttpRequest, user: U, payload: web::Payload| {
        serve(api.clone(), user.into(), request, payload.into_inner())
    };
    web::scope(path).default_service(web::to(serve))
}

async fn serve(
    api: ManagementApi,
    session: ManagementSession,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ManagementFailure> {
    let read = match read(payload).await {
        Ok(read) => read,
        Err(refusal) => return Err(session.failure(refusal, None)),
    };
    let request = ManagementRequest {
        method: request.method().as_str(),
        path: request.match_info().unprocessed(),
        query: request.uri().query(),
        authority: request
            .uri()
            .authority()
            .map(|authority| authority.as_str()),
        headers: request.headers(),
        body: &read,
    };
    let answered = api.answer(session, request).await?;
    Ok(answer(answered, BoxBody::new))
}

/// Reads a body, or as much of it as shows that it is too long.
async fn read(payload: Payload) -> Result<Vec<u8>, Refusal> {
    let mut payload = pin!(payload);
    let mut read = Vec::new();
    loop {
        let next = std::future::poll_fn(|context| payload.as_mut().poll_next(context)).await;
        let data = match next {
            Some(Ok(data)) => data,
            Some(Err(PayloadError::Overflow)) => return Err(Refusal::TooLarge),
            Some(Err(_)) => return Err(Refusal::Unread),
            None => return Ok(read),
        };
        if read_on(&mut read, &data) {
            return Ok(read);
        }
    }
}

/// Responds with the failure's [`Answer`]. The response carries the failure itself, for the host's log.
impl ResponseError for ManagementFailure {
    fn status_code(&self) -> StatusCode {
        let status = Answer::from(self).status;
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        answer(Answer::from(self), BoxBody::new)
    }
}
