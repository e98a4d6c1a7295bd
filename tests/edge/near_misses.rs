//! "My key gives 401": what the operator is told of it, and the caller is not.

use std::sync::{Arc, Mutex};

use keyward::http::{KeyIn, NearMiss};

use crate::common::Fixture;

/// What the observer was told: the reason and the near misses.
type Told = Arc<Mutex<Vec<(String, Vec<NearMiss>)>>>;

async fn fixture() -> (Fixture, Told) {
    let told = Told::default();
    let into = Arc::clone(&told);
    let fixture = Fixture::new(move |edge| {
        edge.accept(KeyIn::bearer())
            .accept(KeyIn::header("X-API-Key").unwrap())
            .observe(move |refused| {
                let told = (refused.reason.to_string(), refused.near_misses.to_vec());
                into.lock().unwrap().push(told);
            })
    })
    .await;
    (fixture, told)
}

#[tokio::test]
async fn an_operator_sees_what_was_meant_and_all_callers_the_same() {
    let (fixture, told) = fixture().await;
    let key = fixture.text();
    let misspelt = |name: &str| NearMiss::MisspeltHeader {
        name: name.into(),
        meant: "X-API-Key".into(),
    };
    let mut answers = Vec::new();
    for (name, value, expected) in [
        ("authorization", key.clone(), NearMiss::SchemeMissing),
        (
            "authorization",
            format!("\"{key}\""),
            NearMiss::SchemeMissing,
        ),
        (
            "authorization",
            format!("Token {key}"),
            NearMiss::OtherScheme,
        ),
        ("X-Api-Kye", key.clone(), misspelt("x-api-kye")),
        ("x-apikey", key.clone(), misspelt("x-apikey")),
        ("x_api_key", key.clone(), misspelt("x_api_key")),
        ("X-API-Keys", "anything".to_owned(), misspelt("x-api-keys")),
        (
            "api-token",
            key.clone(),
            NearMiss::OtherHeader {
                name: "api-token".into(),
            },
        ),
    ] {
        let rejection = fixture
            .ask(&[(name, value.as_bytes())], None)
            .await
            .unwrap_err();
        answers.push(rejection.into_answer());
        let (reason, near_misses) = told.lock().unwrap().pop().unwrap();
        assert_eq!(
            (&*reason, near_misses),
            ("no credential came", vec![expected]),
            "{name}"
        );
    }
    fixture
        .ask(&[], Some(&format!("key={key}")))
        .await
        .unwrap_err();
    let parameter = "key".into();
    assert_eq!(
        told.lock().unwrap().pop().unwrap().1,
        [NearMiss::InQuery { parameter }]
    );
    fixture
        .ask(&[("accept", b"*/*")], Some("page=2"))
        .await
        .unwrap_err();
    assert_eq!(told.lock().unwrap().pop().unwrap().1, []);
    assert!(answers.iter().all(|answer| *answer == answers[0]));
}

#[tokio::test]
async fn an_operator_sees_what_is_wrong_with_a_key_that_came() {
    let (fixture, told) = fixture().await;
    let key = fixture.text();
    for (value, expected) in [
        (key[..60].to_owned(), "the text is 21 characters short"),
        (
            format!("\"{key}\""),
            "there are quotation marks around the key",
        ),
        (
            key.to_uppercase(),
            "the text's prefix or environment is in the wrong case",
        ),
        (
            key.replace("_test_", "_live_"),
            "the text names an environment that is not accepted here",
        ),
        (
            "sk_live_51H".to_owned(),
            "the text does not begin with this application's prefix",
        ),
        (String::new(), "the credential is empty"),
    ] {
        fixture
            .ask(&[("x-api-key", value.as_bytes())], None)
            .await
            .unwrap_err();
        let (reason, near_misses) = told.lock().unwrap().pop().unwrap();
        assert_eq!((&*reason, near_misses), (expected, vec![]));
    }
}

#[tokio::test]
async fn what_an_observer_is_told_holds_no_key() {
    let (fixture, told) = fixture().await;
    let key = fixture.text();
    let long = "k".repeat(500);
    let headers: [(&str, &[u8]); 3] = [
        ("authorization", key.as_bytes()),
        ("x-api-kye", key.as_bytes()),
        (&long, key.as_bytes()),
    ];
    fixture
        .ask(&headers, Some(&format!("{key}={key}")))
        .await
        .unwrap_err();
    let told = format!("{:?}", told.lock().unwrap());
    assert!(!told.contains(&key) && !told.contains(&long), "{told}");
}

#[test]
fn a_near_miss_is_one_line_whatever_the_caller_wrote() {
    let name = || "x-api-key\r\nforged: line".into();
    for (near_miss, expected) in [
        (NearMiss::SchemeMissing, "no scheme before it"),
        (NearMiss::OtherScheme, "a scheme that is not accepted"),
        (
            NearMiss::OtherHeader { name: name() },
            r"x-api-key\r\nforged",
        ),
        (
            NearMiss::MisspeltHeader {
                name: name(),
                meant: "X-API-Key".into(),
            },
            "perhaps to be `X-API-Key`",
        ),
        (NearMiss::InQuery { parameter: name() }, r"\r\nforged"),
    ] {
        let line = near_miss.to_string();
        assert!(line.contains(expected), "{line}");
        assert_eq!(line.lines().count(), 1);
    }
}
