//! The product is asked to stop while it is busy.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::PROGRAM;
use crate::slow::Slow;

#[test]
fn it_finishes_open_requests_first() {
    let product = PROGRAM.start();
    let asking = product.with_key("write:editions");
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
    let product = PROGRAM.start();
    let download = "/v1/outputs/p-1-b1-e001-o1/download";
    product.stops_cleanly_under_load("admin", download, |reply| {
        let file = reply.body.as_str().unwrap();
        let length = file.len().to_string();
        assert_eq!(reply.header("content-length"), Some(&*length));
        assert!(file.ends_with("end,20000,\n"));
    });
}
