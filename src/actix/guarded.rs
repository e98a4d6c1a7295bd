//! A handler behind a guard.
//!
//! The middleware around its route would do the same, but cost half as much again: actix boxes the future of each
//! service for each request.

use std::rc::Rc;
use std::sync::Arc;

use actix_web::body::{self, BodySize, BoxBody, MessageBody as _};
use actix_web::dev::{Handler, ServiceFactory, ServiceRequest, ServiceResponse, fn_service};
use actix_web::http::Method;
use actix_web::{Error, FromRequest, HttpRequest, HttpResponse, Responder};

use super::request::prepare;
use super::response::{finish_boxed, refuse};
use crate::http::{Decision, Gate, InFlight, Refused, Values};

/// Creates a service that calls this handler for requests that the gate lets through.
pub(super) fn guarded<F, Args>(
    gate: Arc<Gate<HttpRequest>>,
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
    // One for each worker, so that its requests count references without atomics.
    let guarded = Rc::new((gate, handler));
    fn_service(move |mut request: ServiceRequest| {
        let (gate, _) = &*guarded;
        // Decides here if possible: what a decision leaves is smaller to carry into the future.
        let begun = match gate.begin(request.parts_mut().0) {
            Decision::Made(decided) => Ok(prepare(gate, decided, &mut request)),
            Decision::Pending(values) => Err(values),
        };
        let guarded = Rc::clone(&guarded);
        async move {
            let (gate, handler) = &*guarded;
            let prepared = match begun {
                Ok(prepared) => prepared,
                // Boxed to keep it out of this future, which moves in every request.
                Err(values) => Box::pin(wait(gate, values, &mut request)).await,
            };
            let in_flight = match prepared {
                Ok(in_flight) => in_flight,
                Err(refused) => {
                    let response = refuse(*refused, BoxBody::new);
                    return Ok(request.into_response(response));
                }
            };
            let response = handle(handler, request).await;
            Ok(match in_flight {
                Some(in_flight) => finish_boxed(in_flight, gate, response),
                None => response,
            })
        }
    })
}

/// Decides on a pending request, and prepares it.
async fn wait(
    gate: &Gate<HttpRequest>,
    values: Values,
    request: &mut ServiceRequest,
) -> Result<Option<InFlight>, Box<Refused>> {
    let decided = gate.decide(request.parts_mut().0, values).await;
    prepare(gate, decided, request)
}

/// Calls a handler in the same way as actix itself.
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
    // actix reads a HEAD response's body to its end although it is never sent. An endless body would keep the
    // connection forever.
    if request.method() == Method::HEAD && response.body().size() == BodySize::Stream {
        response = response.set_body(BoxBody::new(body::None::new()));
    }
    ServiceResponse::new(request, response)
}
