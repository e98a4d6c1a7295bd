//! Reading API keys from HTTP requests and answering as the standards require.
//!
//! An [`Edge`] connects a framework to the [verifier](crate::verifier). It depends on no framework: it reads headers
//! through a small trait, and answers with a status, headers and a body.
//!
//! ```
//! use keyward::http::{Connection, Edge, Head, KeyIn};
//! use keyward::verifier::{Attempt, Requirement};
//! # use keyward::{Keyward, key::{KeyFormat, TenantId}, manager::{Actor, AllowAll, NewKey}, store::MemoryStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let keyward = Keyward::builder(MemoryStore::new())
//! #     .format(KeyFormat::new("acme")?.environment("live")?).policy(AllowAll).open().await?;
//! # let new = NewKey::new(TenantId::new("acme-inc")?, "documented", keyward::key::Access::Full);
//! # let issued = keyward.manager().issue(&Actor::system("docs"), new).await?;
//! # let key = issued.api_key().expose();
//! let edge = Edge::new(&keyward).accept(KeyIn::bearer()).accept(KeyIn::header("X-API-Key")?);
//! let need = Requirement::any_key();
//! let connection = Connection { peer: Some("203.0.113.7".parse()?), is_tls: true };
//!
//! let headers = [("x-api-key", key)]; // whatever the framework keeps them in
//! let head = Head { headers: headers.as_slice(), connection, query: None };
//! let admission = edge.admit(&head, Attempt::of(&need)).await.expect("the key is valid");
//! assert_eq!(admission.grant().title().as_str(), "documented");
//!
//! let head = Head { headers: &headers[1..], ..head }; // no key at all
//! let rejection = edge.admit(&head, Attempt::of(&need)).await.expect_err("no key came");
//! assert_eq!(rejection.answer.status, 401);
//! # Ok(())
//! # }
//! ```
//!
//! # How a request is processed
//! `credentials.rs` reads the credential, and `client.rs` determines where the request came from. The verifier
//! decides. `answer.rs` writes the answer for the caller:
//!
//! - Before the caller has proven that it holds the key, the answer reveals only whether the request carried a
//!   credential, and the [class](crate::verifier::DenialClass) of the denial. Callers that are refused alike get the
//!   same words and headers.
//! - After that, a 403 for a missing scope names the required scopes in the Bearer challenge (RFC 6750).
//! - The edge also answers by itself: 403 `https_required`, 404 and 503 for look-ups, 413, and 500 for a handler's
//!   mistake.
//!
//! Details for the operator go to the [observer](Edge::observe).

mod admission;
mod answer;
mod caching;
#[cfg(any(feature = "actix", feature = "http"))]
mod caller;
mod client;
mod credentials;
mod edge;
mod expiry;
mod forwarded;
#[cfg(any(feature = "actix", feature = "tower"))]
mod gate;
mod guard;
mod head;
#[cfg(any(feature = "actix", feature = "http"))]
pub(crate) mod in_flight;
mod key_in;
mod limits;
mod management;
mod near_miss;
mod reason;
mod rejection;
#[cfg(any(feature = "actix", feature = "http"))]
mod response_body;
#[cfg(feature = "http")]
mod serving;
#[cfg(feature = "http")]
mod types;

pub use self::admission::{Admission, Refused};
pub use self::answer::{Answer, GrpcStatus, Problem, ProblemJson, Renderer};
pub use self::caching::ResponseHeader;
#[cfg(any(feature = "actix", feature = "axum"))]
pub(crate) use self::caller::at_once;
#[cfg(any(feature = "actix", feature = "axum"))]
pub use self::caller::{Belongs, Permitted};
#[cfg(any(feature = "actix", feature = "http"))]
pub use self::caller::{Caller, Visitor};
pub use self::client::{Origin, Proxies};
pub use self::edge::Edge;
#[cfg(feature = "tower")]
pub(crate) use self::guard::BoxError;
pub use self::guard::{Guard, IntoSource, Source, lookup};
pub use self::head::{Connection, Head, HeaderSource};
pub use self::key_in::{KeyIn, KeyInError};
pub use self::limits::LimitHeaders;
pub use self::management::{
    ManagementApi, ManagementFailure, ManagementRequest, ManagementSession,
};
#[cfg(any(feature = "actix", feature = "axum"))]
pub(crate) use self::management::{Refusal, read_on};
pub use self::near_miss::NearMiss;
pub use self::reason::RejectionReason;
pub use self::rejection::{Rejection, RejectionEvent};
#[cfg(feature = "actix")]
pub(crate) use self::response_body::BodyMonitor;
#[cfg(any(feature = "actix", feature = "http"))]
pub use self::response_body::{BodyCut, ResponseBody};
#[cfg(feature = "http")]
pub use self::serving::Serving;
#[cfg(feature = "tower")]
pub(crate) use self::serving::finish;
#[cfg(feature = "axum")]
pub(crate) use self::serving::monitor;
#[cfg(any(feature = "actix", feature = "tower"))]
pub(crate) use self::{
    admission::Passage,
    edge::Decided,
    gate::{Answering, Decision, Gate, Incoming},
    guard::Values,
    in_flight::InFlight,
};
