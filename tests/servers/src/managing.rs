//! What endpoints that manage keys answer, in axum and in actix: the ready-made ones, and those that a host writes.

mod endpoints;
mod refusals;
mod site;

use std::sync::Arc;

use actix_web::{HttpRequest, Responder as _, ResponseError as _, test::TestRequest};
use axum::response::IntoResponse as _;
use http_body_util::BodyExt as _;
use keyward::http::Answer;
use keyward::key::KeyId;
use keyward::manager::{Actor, ManageError, NewKey};
use keyward::testkit::keyward_with_key;

use crate::READ;

type Pairs = Vec<(String, String)>;

fn wanted(answer: &Answer) -> Pairs {
    let headers = answer.headers.iter();
    headers
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect()
}

#[tokio::test]
async fn errors_are_problems_kept_for_logs() {
    let error = || ManageError::AlreadyRotated {
        successor: KeyId::from_u128(7),
    };
    let answer = Answer::from(&error());
    let response = error().into_response();
    assert_eq!(response.status().as_u16(), 409);
    let kept = response.extensions().get::<Arc<ManageError>>().unwrap();
    assert!(matches!(**kept, ManageError::AlreadyRotated { .. }));
    for (name, value) in wanted(&answer) {
        assert_eq!(response.headers()[&name], value);
    }
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, answer.body);

    let response = error().error_response();
    assert_eq!(error().status_code(), response.status());
    for (name, value) in wanted(&answer) {
        assert_eq!(response.headers().get(&name).unwrap(), &value);
    }
    let body = actix_web::body::to_bytes(response.into_body()).await;
    assert_eq!(body.unwrap_or_default(), answer.body);
}

#[tokio::test]
async fn a_new_key_is_created_uncached() {
    let (keyward, key) = keyward_with_key([READ.described("For tests")], READ).await;
    let tenant = key.record().tenant().clone();
    let new = NewKey::new(tenant, "shown", READ);
    let (manager, actor) = (keyward.manager(), Actor::system("test"));
    let issued = manager.issue(&actor, new.clone()).await.unwrap();
    let answer = Answer::from(&issued);

    let response = issued.into_response();
    assert_eq!(response.status().as_u16(), 201);
    assert_eq!(response.headers()["cache-control"], "no-store");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, answer.body);

    let request: HttpRequest = TestRequest::default().to_http_request();
    let issued = manager.issue(&actor, new).await.unwrap();
    let answer = Answer::from(&issued);
    let response = issued.respond_to(&request);
    assert_eq!(response.status().as_u16(), 201);
    assert_eq!(response.headers().get("cache-control").unwrap(), "no-store");
    let body = actix_web::body::to_bytes(response.into_body()).await;
    assert_eq!(body.unwrap_or_default(), answer.body);
}
