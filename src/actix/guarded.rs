//! A handler behind a guard.
//!
//! The middleware around its route would do the same, and cost half as much again: actix boxes what each service makes
//! of each request.

use std::rc::Rc;

use actix_web::body::{self, BodySize, BoxBody, MessageBody as _};
use actix_web::dev::{Handler, ServiceFactory, ServiceRequest, ServiceResponse, fn_service};
use actix_web::http::Method;
use actix_web::{Error, FromRequest, HttpRequest, HttpResponse, Responder};

use super::request::{Entered, prepare_request};
use super::response::finish_boxed;
use crate::http::{Decision, Gate, Values};

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
    // One for each worker, whose requests count its holders without locks.
    let guarded = Rc::new((gate, handler));
    fn_service(move |mut request: ServiceRequest| {
        let (gate, _) = &*guarded;
        // Decided here where it can be: what is decided is less to carry into the future than what is not.
        let entered = match gate.begin(request.parts_mut().0) {
            Decision::Made(decided) => {
                Ok(prepare_request::<BoxBody>(gate.config(), decided, request))
            }
            Decision::Pending(values) => Err((request, values)),
        };
        let guarded = Rc::clone(&guarded);
        async move {
            let (gate, handler) = &*guarded;
            let entered: Entered<BoxBody> = match entered {
                Ok(entered) => entered,
                // Kept out of this future, which is moved about in every request.
                Err((request, values)) => Box::pin(wait(gate, request, values)).await,
            };
            let (completion, request) = match entered {
                Ok(entered) => entered,
                Err(response) => return Ok(response.map_into_boxed_body()),
            };
            let response = handle(handler, request).await;
            Ok(match completion {
                Some(completion) => finish_boxed(completion, gate.config(), response),
                None => response,
            })
        }
    })
}

/// Decides, where it takes time.
async fn wait(
    gate: &Gate<HttpRequest>,
    mut request: ServiceRequest,
    values: Values,
) -> Entered<BoxBody> {
    let decided = gate.decide(request.parts_mut().0, values).await;
    prepare_request(gate.config(), decided, request)
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
