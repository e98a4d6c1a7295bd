//! The routes for keys: reading, making and changing payments.

use actix_web::error::{ErrorNotFound, InternalError, JsonPayloadError};
use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::web::{self, Json, JsonConfig, Path, Query, ServiceConfig};
use actix_web::{Error, HttpResponse, Responder};
use example_support::{Paged, Paging, tell_operator};
use keyward::Keyward;
use keyward::actix::KeyMiddleware;
use keyward::http::{Edge, KeyIn, KeyInError};
use keyward::verifier::Requirement;

use crate::payment::{Payment, PaymentForm, PaymentPatch, Payments};

type Books = web::Data<Payments>;

/// Returns the routes, each of which requires a key. All keys of this product have full access.
pub(crate) fn routes(
    keyward: &Keyward,
    payments: Payments,
) -> Result<impl FnOnce(&mut ServiceConfig) + Clone + Send + use<>, KeyInError> {
    let pair = KeyIn::pair("X-AuthenticationKeyId", "X-AuthenticationKeyValue")?;
    let keys = KeyMiddleware::new(Edge::new(keyward).accept(pair).observe(tell_operator));
    let books = Books::new(payments);
    let full = Requirement::full_access;
    Ok(move |app: &mut ServiceConfig| {
        let payments = keys
            .resource("/payments")
            .get(full(), list)
            .post(full(), pay);
        let payment = keys
            .resource("/payments/{id}")
            .get(full(), payment)
            .put(full(), replace)
            .patch(full(), change)
            .delete(full(), remove);
        app.app_data(books).service(payments).service(payment);
    })
}

/// Returns the configuration of JSON bodies: one that is no valid form is 422.
pub(crate) fn bodies() -> JsonConfig {
    JsonConfig::default().error_handler(|error, _| match error {
        JsonPayloadError::Deserialize(error) if error.is_data() => {
            InternalError::new(error, StatusCode::UNPROCESSABLE_ENTITY).into()
        }
        error => error.into(),
    })
}

async fn list(books: Books, Query(paging): Query<Paging>) -> Json<Paged<Payment>> {
    Json(books.page(&paging))
}

async fn pay(books: Books, Json(form): Json<PaymentForm>) -> HttpResponse {
    let payment = books.pay(form);
    HttpResponse::Created()
        .insert_header((LOCATION, format!("/payments/{}", payment.id)))
        .json(payment)
}

async fn payment(books: Books, id: Path<String>) -> Result<Json<Payment>, Error> {
    found(books.get(&id))
}

async fn replace(
    books: Books,
    id: Path<String>,
    Json(form): Json<PaymentForm>,
) -> Result<Json<Payment>, Error> {
    found(books.replace(&id, form))
}

async fn change(
    books: Books,
    id: Path<String>,
    Json(patch): Json<PaymentPatch>,
) -> Result<Json<Payment>, Error> {
    found(books.change(&id, patch))
}

async fn remove(books: Books, id: Path<String>) -> Result<impl Responder, Error> {
    found(books.remove(&id))?;
    Ok(HttpResponse::NoContent())
}

fn found(payment: Option<Payment>) -> Result<Json<Payment>, Error> {
    payment
        .map(Json)
        .ok_or_else(|| ErrorNotFound("no such payment"))
}
