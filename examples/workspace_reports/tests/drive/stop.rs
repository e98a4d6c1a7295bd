//! The product is asked to stop while it is busy.

use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::slow::Slow;
use crate::{Product, bearer};

#[test]
fn it_finishes_open_requests_first() {
    let product = Product::start();
    let asking = product.with_scopes(&["write:editions"]);
    let body = json!({ "blueprint": "p-1-b1", "title": "x" }).to_string();
    let slow = Slow::post(&asking, "/v1/editions?project=p-1", body.into_bytes());
    product.server.interrupt();
    // The server accepts no new connection once it begins to stop.
    let address = product.server.base().replace("https://", "");
    let begun = Instant::now();
    while TcpStream::connect(&address).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(5), "it does not stop");
    }
    let created = slow.end();
    assert_eq!(created.status, 201);
    assert_eq!(created.text("/id"), "p-1-b1-e013");
    assert!(product.server.stop().success());
}

#[test]
fn it_stops_cleanly_under_load() {
    let product = Product::start();
    let client = product.client();
    // One key for each request, since a key may have at most five concurrent requests.
    let keys: Vec<_> = (0..8).map(|_| product.key(&["admin"])).collect();
    let (sent, answered) = channel();
    let busy: Vec<_> = keys
        .iter()
        .map(|key| {
            let (asking, sent) = (client.with("authorization", &bearer(key)), sent.clone());
            thread::spawn(move || {
                let mut whole = 0;
                while let Some(reply) =
                    asking.get_while_served("/v1/outputs/p-1-b1-e001-o1/download")
                {
                    assert_eq!(reply.status, 200, "{:?}", reply.headers);
                    let file = reply.body.as_str().unwrap();
                    assert_eq!(
                        reply.header("content-length"),
                        Some(&*file.len().to_string())
                    );
                    assert!(file.ends_with("end,20000,\n"));
                    whole += 1;
                    let _ = sent.send(());
                }
                whole
            })
        })
        .collect();
    for _ in 0..16 {
        answered.recv_timeout(Duration::from_secs(20)).unwrap();
    }
    assert!(product.server.stop().success());
    for one in busy {
        assert!(one.join().is_ok(), "an answer was cut");
    }
}
