//! What holds of axum and actix alike, over HTTP/1.1 and HTTP/2: one application, written for both, and [one
//! table](cases) of what it answers.

mod answers;
mod bodies;
mod cases;
mod cors;
mod costs;
mod denials;
mod expiry;
mod faults;
mod guests;
mod inner_guards;
mod limits;
mod origins;
mod raw;
mod site;
mod usage;

use self::site::Framework;
use crate::client::Protocol;

/// A framework, and how it is spoken to.
#[derive(Debug, Clone, Copy)]
struct Served {
    framework: Framework,
    protocol: Protocol,
}

const fn served(framework: Framework, protocol: Protocol) -> Served {
    Served {
        framework,
        protocol,
    }
}

const EVERY: [Served; 4] = [
    served(Framework::Axum, Protocol::Http1),
    served(Framework::Axum, Protocol::Http2),
    served(Framework::Actix, Protocol::Http1),
    served(Framework::Actix, Protocol::Http2),
];
