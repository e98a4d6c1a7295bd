//! The handler answers as the key that it is asked with allows.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use downstream::handler::{READ_EDITIONS, handle};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use keyward::Keyward;
use keyward::key::Scope;
use keyward::scope;
use keyward::store::MemoryStore;
use keyward::testkit::{Call, Fault, FaultyStore, TestKey, builder, keyward_with_key};

const WRITE_EDITIONS: Scope = scope!("write:editions");

async fn ask(keyward: &Keyward, authorization: &[String]) -> Response<String> {
    let mut request = Request::builder().uri("/editions");
    for value in authorization {
        request = request.header(AUTHORIZATION, value);
    }
    handle(keyward, request.body(()).unwrap()).await
}

#[tokio::test]
async fn a_key_with_the_scope_is_answered() {
    let (keyward, key) =
        keyward_with_key([READ_EDITIONS.described("For tests")], READ_EDITIONS).await;
    let answer = ask(&keyward, &[key.bearer()]).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.body(), "the editions, for a key for tests");
    let shouted = key.bearer().replace("Bearer", "BEARER");
    let answer = ask(&keyward, &[shouted]).await;
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn missing_and_invalid_keys_are_401() {
    let (keyward, key) =
        keyward_with_key([READ_EDITIONS.described("For tests")], READ_EDITIONS).await;
    for (authorization, told) in [
        (vec![], "an API key is required"),
        (vec!["Basic YTpi".to_owned()], "an API key is required"),
        (
            vec!["Bearer nonsense".to_owned()],
            "the API key is not valid",
        ),
    ] {
        let answer = ask(&keyward, &authorization).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(answer.body(), told);
        assert_eq!(answer.headers()[WWW_AUTHENTICATE], "Bearer");
    }

    key.revoke(&keyward).await;
    let answer = ask(&keyward, &[key.bearer()]).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(answer.body(), "the API key is not valid");
}

#[tokio::test]
async fn two_keys_are_a_bad_request() {
    let (keyward, key) =
        keyward_with_key([READ_EDITIONS.described("For tests")], READ_EDITIONS).await;
    let answer = ask(&keyward, &[key.bearer(), key.bearer()]).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_key_without_the_scope_is_403() {
    let (keyward, key) =
        keyward_with_key([WRITE_EDITIONS.described("For tests")], WRITE_EDITIONS).await;
    let answer = ask(&keyward, &[key.bearer()]).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(answer.body(), "the API key lacks a scope that this needs");
}

#[tokio::test]
async fn a_failing_store_is_a_503() {
    let store = FaultyStore::over(MemoryStore::new()).on(Call::Get, 0..1, Fault::Unavailable);
    let keyward = builder(store, [READ_EDITIONS]).open().await.unwrap();
    let key = TestKey::issue(&keyward, [READ_EDITIONS]).await;
    let answer = ask(&keyward, &[key.bearer()]).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.body(), "the API key cannot be checked now");
    let answer = ask(&keyward, &[key.bearer()]).await;
    assert_eq!(answer.status(), StatusCode::OK);
}
