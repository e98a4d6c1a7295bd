//! A clean stop: no response that has begun is cut short.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use example_driver::text;
use serde_json::{Value, json};

use crate::PROGRAM;
use crate::wire::{Wire, address, pair, status};

/// The head of a request that makes a payment, and its body.
fn request(key: &Value, reference: &str) -> (String, String) {
    let order = json!({ "account": "acc-000003", "amount": 100, "currency": "EUR", "reference": reference });
    let (body, pair) = (order.to_string(), pair(key));
    let head = format!(
        "POST /payments HTTP/1.1\r\nhost: localhost\r\n{pair}\
         content-type: application/json\r\ncontent-length: {}\r\n",
        body.len()
    );
    (head, body)
}

#[test]
fn it_finishes_open_requests_first() {
    let product = PROGRAM.start();
    let (address, key) = (address(&product), product.key("Settlement run"));
    let (head, body) = request(&key, "Invoice");
    let mut wire = Wire::connect(&address).unwrap();
    wire.send(&format!("{head}expect: 100-continue\r\n\r\n"))
        .unwrap();
    let (head, _) = wire.answer(false).unwrap().unwrap();
    assert_eq!(status(&head), 100, "it has begun with the request");

    product.server.interrupt();
    let begun = Instant::now();
    while Wire::connect(&address).is_ok() {
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "it goes on listening"
        );
    }
    wire.send(&body).unwrap();
    let (head, body) = wire.answer(true).unwrap().expect("it is answered");
    assert_eq!(status(&head), 201, "{head}");
    let payment: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(text(&payment, "reference"), "Invoice");
    assert!(product.server.stop().success());
}

#[test]
fn writes_under_load_are_answered_whole() {
    const CALLERS: usize = 8;
    let product = PROGRAM.start();
    let (address, key) = (address(&product), product.key("Settlement run"));
    let answered = AtomicUsize::new(0);
    let call = |caller: usize| {
        let mut wire = Wire::connect(&address).unwrap();
        let mut made = Vec::new();
        loop {
            let reference = format!("Invoice {caller}-{}", made.len());
            let (head, body) = request(&key, &reference);
            if wire.send(&format!("{head}\r\n{body}")).is_err() {
                return made;
            }
            // A response that ends before it is complete is an error here.
            let Some((head, body)) = wire.answer(true).unwrap() else {
                return made;
            };
            assert_eq!(status(&head), 201, "{head}");
            let payment: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(text(&payment, "reference"), reference);
            made.push(text(&payment, "id").to_owned());
            answered.fetch_add(1, Ordering::Relaxed);
        }
    };
    let made: Vec<String> = thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|number| scope.spawn(move || call(number)))
            .collect();
        while answered.load(Ordering::Relaxed) < 40 * CALLERS {
            assert!(!callers.iter().any(thread::ScopedJoinHandle::is_finished));
            thread::yield_now();
        }
        product.server.interrupt();
        callers
            .into_iter()
            .flat_map(|caller| caller.join().unwrap())
            .collect()
    });
    assert_eq!(made.iter().collect::<HashSet<_>>().len(), made.len());
    assert_eq!(
        product.server.stop_and_read_log(),
        "",
        "no request was refused"
    );
}
