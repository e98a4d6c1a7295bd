//! A handler behind a guard.
//!
//! The middleware around its route would do the same, and cost half as much again: actix boxes what each service makes
//! of each request.

use actix_web::body::{self, BodySize, BoxBody, MessageBody as _};
use actix_web::dev::{Handler, ServiceFactory, ServiceRequest, ServiceResponse, fn_service};
use actix_web::http::Method;
use actix_web::{Error, FromRequest, HttpRequest, HttpResponse, Responder};

use super::request::hand_on;
use super::response::After;
use crate::http::{Begun, Gate};

/// A service that calls this handler with what the gate lets through.
pub(super) fn guarded<F, Args>(
    gate: Gate<HttpRequest>,
    handler: F,
) -> impl ServiceFactory<
    ServiceRequest,
    Response = ServiceResponse,
    Error = Error,
    Config = (),
    InitError = (),
> + 'static
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    fn_service(move |mut request: ServiceRequest| {
        let begun = gate.begin(request.parts_mut().0);
        let (gate, handler) = (gate.clone(), handler.clone());
        async move {
            let decided = match begun {
                Begun::Decided(decided) => decided,
                // Kept out of this future, which is moved about in every request.
                Begun::Open(values) => Box::pin(gate.decide(request.parts_mut().0, values)).await,
            };
            let terms = gate.into_terms();
            let (rest, request) = match hand_on::<BoxBody>(&terms, decided, request) {
                Ok(handed_on) => handed_on,
                Err(response) => return Ok(response.map_into_boxed_body()),
            };
            let response = handle(&handler, request).await;
            Ok(match rest {
                Some(rest) => After { rest, terms }.finish_boxed(response),
                None => response,
            })
        }
    })
}

/// As actix itself calls a handler.
async fn handle<F, Args>(handler: &F, request: ServiceRequest) -> ServiceResponse
where
    F: Handler<Args>,
    Args: FromRequest,
    F::Output: Responder + 'static,
{
    let (request, mut payload) = request.into_parts();
    let mut response = match Args::from_request(&request, &mut payload).await {
        Ok(arguments) => {
            let output = handler.call(arguments).await;
            output.respond_to(&request).map_into_boxed_body()
        }
        Err(error) => HttpResponse::from_error(error),
    };
    // actix reads a body to its end that nobody will get; one that has none would keep the connection for ever.
    if request.method() == Method::HEAD && response.body().size() == BodySize::Stream {
        response = response.set_body(BoxBody::new(body::None::new()));
    }
    ServiceResponse::new(request, response)
}
