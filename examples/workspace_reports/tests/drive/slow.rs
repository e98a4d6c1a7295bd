//! Requests that stay in flight for as long as a test needs.

use std::io::{self, Cursor, Read};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use example_driver::{Client, Reply};

/// A request that a handler has begun to read and that has not ended.
pub(crate) struct Slow {
    end: Sender<()>,
    answer: JoinHandle<Reply>,
}

impl Slow {
    /// Sends a request, and returns once the server asks for the body.
    pub(crate) fn post(asking: &Client, path: &'static str, body: Vec<u8>) -> Self {
        let (begin, begun) = channel();
        let (end, ended) = channel();
        let asking = asking.with("expect", "100-continue");
        let body = Begun(begin).chain(Cursor::new(body)).chain(Ending(ended));
        let answer = thread::spawn(move || asking.post_reader(path, body));
        begun.recv_timeout(Duration::from_secs(10)).unwrap();
        Self { end, answer }
    }

    /// Lets the request end, and returns the response.
    pub(crate) fn end(self) -> Reply {
        drop(self.end);
        self.answer.join().unwrap()
    }
}

/// An empty reader that reports its first read.
struct Begun(Sender<()>);

impl Read for Begun {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        let _ = self.0.send(());
        Ok(0)
    }
}

/// A reader that ends when the other side is dropped.
struct Ending(Receiver<()>);

impl Read for Ending {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(0)
    }
}
