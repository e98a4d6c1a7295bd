//! The routes for keys: reading and changing accounts and payments.

use actix_web::http::header::LOCATION;
use actix_web::web::{self, Json, Path, Query, ServiceConfig};
use actix_web::{HttpResponse, Responder};
use example_support::{Paged, Paging, tell_operator};
use keyward::Keyward;
use keyward::actix::KeyMiddleware;
use keyward::http::{Edge, KeyIn, KeyInError};
use keyward::verifier::Requirement;
use serde::Serialize;

use crate::account::{Account, AccountForm, AccountPatch};
use crate::fault::Fault;
use crate::ledger::Ledger;
use crate::payment::{Payment, PaymentForm, PaymentPatch, RefundForm};

type Books = web::Data<Ledger>;

/// Returns the routes, each of which requires a key. All keys of this product have full access.
pub(crate) fn routes(
    keyward: &Keyward,
    ledger: Ledger,
) -> Result<impl FnOnce(&mut ServiceConfig) + Clone + Send + use<>, KeyInError> {
    let pair = KeyIn::pair("X-AuthenticationKeyId", "X-AuthenticationKeyValue")?;
    let keys = KeyMiddleware::new(Edge::new(keyward).accept(pair).observe(tell_operator));
    let books = Books::new(ledger);
    let full = Requirement::full_access;
    Ok(move |app: &mut ServiceConfig| {
        app.app_data(books)
            .service(
                keys.resource("/accounts")
                    .get(full(), accounts)
                    .post(full(), open),
            )
            .service(
                keys.resource("/accounts/{id}")
                    .get(full(), account)
                    .put(full(), replace_account)
                    .patch(full(), change_account)
                    .delete(full(), close),
            )
            .service(
                keys.resource("/accounts/{id}/payments")
                    .get(full(), payments_of),
            )
            .service(
                keys.resource("/payments")
                    .get(full(), payments)
                    .post(full(), pay),
            )
            .service(
                keys.resource("/payments/{id}")
                    .get(full(), payment)
                    .put(full(), replace_payment)
                    .patch(full(), change_payment)
                    .delete(full(), remove_payment),
            )
            .service(keys.resource("/payments/{id}/refund").post(full(), refund));
    })
}

async fn accounts(books: Books, Query(paging): Query<Paging>) -> Json<Paged<Account>> {
    Json(books.accounts(&paging))
}

async fn open(books: Books, Json(form): Json<AccountForm>) -> HttpResponse {
    let account = books.open(form);
    created(&format!("/accounts/{}", account.id), &account)
}

async fn account(books: Books, id: Path<String>) -> Result<Json<Account>, Fault> {
    Ok(Json(books.account(&id)?))
}

async fn replace_account(
    books: Books,
    id: Path<String>,
    Json(form): Json<AccountForm>,
) -> Result<Json<Account>, Fault> {
    Ok(Json(books.replace_account(&id, form)?))
}

async fn change_account(
    books: Books,
    id: Path<String>,
    Json(patch): Json<AccountPatch>,
) -> Result<Json<Account>, Fault> {
    Ok(Json(books.change_account(&id, patch)?))
}

async fn close(books: Books, id: Path<String>) -> Result<impl Responder, Fault> {
    books.close(&id)?;
    Ok(HttpResponse::NoContent())
}

async fn payments_of(
    books: Books,
    id: Path<String>,
    Query(paging): Query<Paging>,
) -> Result<Json<Paged<Payment>>, Fault> {
    Ok(Json(books.payments_of(&id, &paging)?))
}

async fn payments(books: Books, Query(paging): Query<Paging>) -> Json<Paged<Payment>> {
    Json(books.payments(&paging))
}

async fn pay(books: Books, Json(form): Json<PaymentForm>) -> Result<HttpResponse, Fault> {
    let payment = books.pay(form)?;
    Ok(created(&format!("/payments/{}", payment.id), &payment))
}

async fn payment(books: Books, id: Path<String>) -> Result<Json<Payment>, Fault> {
    Ok(Json(books.payment(&id)?))
}

async fn replace_payment(
    books: Books,
    id: Path<String>,
    Json(form): Json<PaymentForm>,
) -> Result<Json<Payment>, Fault> {
    Ok(Json(books.replace_payment(&id, form)?))
}

async fn change_payment(
    books: Books,
    id: Path<String>,
    Json(patch): Json<PaymentPatch>,
) -> Result<Json<Payment>, Fault> {
    Ok(Json(books.change_payment(&id, patch)?))
}

async fn remove_payment(books: Books, id: Path<String>) -> Result<impl Responder, Fault> {
    books.remove_payment(&id)?;
    Ok(HttpResponse::NoContent())
}

async fn refund(
    books: Books,
    id: Path<String>,
    Json(form): Json<RefundForm>,
) -> Result<Json<Payment>, Fault> {
    Ok(Json(books.refund(&id, &form)?))
}

fn created(at: &str, made: &impl Serialize) -> HttpResponse {
    HttpResponse::Created()
        .insert_header((LOCATION, at))
        .json(made)
}
