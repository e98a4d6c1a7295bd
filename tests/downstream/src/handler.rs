//! A route that reads editions, as an application without a web framework writes it.

use http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use keyward::Keyward;
use keyward::key::{PresentedKey, Scope};
use keyward::scope;
use keyward::verifier::{Admitted, Attempt, Denial, Requirement};

/// The scope that the route needs.
pub const READ_EDITIONS: Scope = scope!("read:editions");

/// Answers with the editions if the request has a key that may read them.
pub async fn handle(keyward: &Keyward, request: Request<()>) -> Response<String> {
    match admit(keyward, &request).await {
        // Until the end of this arm the request counts as one of the key's in flight.
        Ok(admitted) => {
            let title = admitted.grant().title();
            answer(StatusCode::OK, format!("the editions, for {title}"))
        }
        Err(denial) => refuse(&denial),
    }
}

async fn admit(keyward: &Keyward, request: &Request<()>) -> Result<Admitted, Denial> {
    let need = Requirement::scope(READ_EDITIONS);
    let credentials = request.headers().get_all(AUTHORIZATION);
    let presented = PresentedKey::only_one_of(credentials.iter().filter_map(bearer));
    keyward
        .verifier()
        .verify(&Attempt::new(presented, &need))
        .await
}

/// The key of a header such as `Bearer acme_live_…`; the scheme's case does not matter (RFC 9110 §11.1).
fn bearer(value: &HeaderValue) -> Option<PresentedKey<'_>> {
    const SCHEME: &[u8] = b"Bearer ";
    let (scheme, key) = value.as_bytes().split_at_checked(SCHEME.len())?;
    scheme
        .eq_ignore_ascii_case(SCHEME)
        .then(|| PresentedKey::text(key.trim_ascii()))
}

fn refuse(denial: &Denial) -> Response<String> {
    let status = StatusCode::from_u16(denial.class().status());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = answer(status, denial.to_string());
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

fn answer(status: StatusCode, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}
