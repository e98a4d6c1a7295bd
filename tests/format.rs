//! The published format, held to its words: key texts, vectors, and the pattern for scanners.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use keyward::key::{KeyFormat, KeyId, Secret};
use keyward::testkit::{VectorOutcome, test_vectors};
use serde_json::{Value, json};

const PAGE: &str = include_str!("../docs/format.md");
const VECTORS: &str = include_str!("../docs/format-vectors.json");

fn acme() -> KeyFormat {
    let format = KeyFormat::new("acme").unwrap();
    format
        .environment("live")
        .unwrap()
        .environment("test")
        .unwrap()
}

/// What the page says under "Known answers".
fn answer(name: &str) -> &'static str {
    let line = PAGE.lines().find(|line| line.starts_with(name)).unwrap();
    line.rsplit(' ').next().unwrap()
}

#[test]
fn the_key_text_is_the_published_one() {
    let format = acme();
    let live = format.environments().next().unwrap();
    let id: KeyId = "0b9c1f5e-6d0a-4c1e-9f52-3a8b7c6d5e4f".parse().unwrap();
    let secret = Secret::new("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg").unwrap();
    let key = format.compose(live, id, &secret).unwrap();
    assert_eq!(key.expose(), answer("key text"));
    assert_eq!(key.display_prefix(), answer("display prefix"));
    assert!(key.expose().ends_with(answer("checksum")));
    assert_eq!(key.expose_secret(), secret.expose_secret());
    assert_eq!(key.expose().len(), 81);

    let parsed = format.parse(key.expose().as_bytes()).unwrap();
    assert_eq!((parsed.id(), parsed.environment()), (id, Some(live)));
    assert_eq!(parsed.expose_secret(), secret.expose_secret().as_bytes());
}

#[test]
fn the_pattern_finds_accepted_prefixes() {
    let format = KeyFormat::new("beta").unwrap().environment("live").unwrap();
    let format = format.accept_prefix("acme").unwrap();
    let regex = regex_lite::Regex::new(&format.scanner_pattern()).unwrap();
    let mut found = Vec::new();
    for vector in test_vectors(&format) {
        if matches!(vector.outcome, VectorOutcome::Parts { .. }) {
            assert_eq!(regex.find(&vector.text).unwrap().as_str(), vector.text);
            found.push(vector.text[..4].to_owned());
        }
    }
    assert!(found.contains(&"beta".to_owned()) && found.contains(&"acme".to_owned()));
}

#[test]
fn the_scanner_pattern_finds_every_key() {
    let format = acme();
    let pattern = format.scanner_pattern();
    assert!(PAGE.contains(&format!("`{pattern}`")), "{pattern}");

    let regex = regex_lite::Regex::new(&pattern).unwrap();
    for vector in test_vectors(&format) {
        let is_key = matches!(vector.outcome, VectorOutcome::Parts { .. });
        if is_key {
            for text in [
                vector.text.clone(),
                format!("key={}&x=1", vector.text),
                format!("\"{}\"", vector.text),
            ] {
                assert_eq!(regex.find(&text).unwrap().as_str(), vector.text);
            }
            assert!(
                !regex.is_match(&format!("x{}", vector.text)),
                "anchored in front"
            );
            assert!(
                !regex.is_match(&format!("{}0", vector.text)),
                "anchored behind"
            );
        }
    }
}

/// With `KEYWARD_WRITE_VECTORS=1` in the environment it writes the file instead.
#[test]
fn the_vectors_are_the_published_ones() {
    let format = acme();
    let vectors: Vec<Value> = test_vectors(&format).iter().map(|v| json!(v)).collect();
    let file = json!({
        "prefix": "acme",
        "environments": ["live", "test"],
        "secret_length": 43,
        "vectors": vectors,
    });
    let text = format!("{}\n", serde_json::to_string_pretty(&file).unwrap());
    if std::env::var_os("KEYWARD_WRITE_VECTORS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/format-vectors.json");
        std::fs::write(path, &text).unwrap();
    } else {
        assert_eq!(
            text, VECTORS,
            "run with KEYWARD_WRITE_VECTORS=1 to write the file anew"
        );
    }
}
