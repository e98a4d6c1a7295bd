//! API keys for Rust applications.
//!
//! Keyward issues keys, shows each one once, verifies them, restricts them by scope, resource, network and time,
//! rotates and revokes them, and records every change. It is a library: the keys are in your store, and your
//! application decides who may manage them.
//!
//! ```
//! use std::time::Duration;
//! use keyward::{
//!     Keyward, key::{KeyFormat, PresentedKey, RevokeReason, Scope, TenantId},
//!     manager::{Actor, AllowAll, NewKey}, scope, store::MemoryStore,
//!     verifier::{Attempt, Requirement},
//! };
//!
//! const READ_EDITIONS: Scope = scope!("read:editions");
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let keyward = Keyward::builder(MemoryStore::new())
//!     .format(KeyFormat::new("acme")?.environment("live")?)
//!     .scopes([READ_EDITIONS.described("Read editions, sections and field values")])
//!     .policy(AllowAll) // who may manage keys; there is no default
//!     .open()
//!     .await?;
//!
//! let tenant = TenantId::new("acme-inc")?;
//! let setup = Actor::system("setup");
//! let new = NewKey::new(tenant.clone(), "Power BI dashboard", READ_EDITIONS);
//! let issued = keyward.manager().issue(&setup, new.expires_in(Duration::from_secs(90 * 86_400))).await?;
//! let text = issued.api_key().expose(); // show it to the client now: it cannot be had again
//!
//! let need = Requirement::scope(READ_EDITIONS);
//! let attempt = Attempt::new(PresentedKey::text(text), &need);
//! let admitted = keyward.verifier().verify(&attempt).await?;
//! assert_eq!(admitted.grant().title().as_str(), "Power BI dashboard");
//!
//! keyward.manager().revoke(&setup, &tenant, issued.record().id(), RevokeReason::Requested).await?;
//! let denial = keyward.verifier().verify(&attempt).await.expect_err("the key is revoked");
//! assert_eq!(denial.class().status(), 401);
//! assert_eq!(denial.to_string(), "the API key is not valid"); // what the caller may see
//! println!("{}", denial.reason()); // what the operator should see
//! # Ok(())
//! # }
//! ```
//!
//! # Modules
//! | module | subject |
//! |---|---|
//! | [`key`] | the key itself: its text, id, access, restrictions and record |
//! | [`hashing`] | how a secret is stored |
//! | [`import`] | keys that another system issued |
//! | [`manager`] | issuing, listing, changing, rotating, importing and revoking |
//! | [`verifier`] | deciding whether a request is admitted |
//! | [`limiter`] | counting requests against limits |
//! | [`http`] | reading credentials and writing standard answers, for any framework |
//! | [`store`] | where keys are stored: in memory, in SQLite, and the contract for a backend of your own |
//! | `tower` | a layer in front of tower services (feature `tower`) |
//! | `axum` | guarded routes, and the caller as an extractor (feature `axum`) |
//! | `actix` | the same for actix (feature `actix`) |
//! | [`audit`] | the events that are recorded |
//! | [`clock`], [`random`] | time and randomness, which you can replace |
//! | [`manual`] | guides: HTTP, clients, managing keys, operations, hashing, limits, migrating, backends, middleware |
//! | `testkit` | test clocks, failing stores, the suite for backends (feature `testkit`) |
//!
//! # Features
//! No feature is on by default. The core has [`MemoryStore`](store::MemoryStore) and [`http::Edge`], and no web or SQL
//! crate.
//!
//! | feature | adds |
//! |---|---|
//! | `axum` | guarded routes and extractors for axum; includes `tower` |
//! | `tower` | a layer for any tower service that uses the `http` crate's types |
//! | `actix` | guarded resources and middleware for actix |
//! | `http` | the steps of the layers, for middleware of your own with the types of the `http` crate |
//! | `sqlite-bundled` | `store::SqliteStore`, with SQLite built from source: needs a C compiler |
//! | `sqlite` | `store::SqliteStore` on the SQLite library that the program links already |
//! | `legacy-digests` | importing digests made by bcrypt, passlib, Werkzeug and Django's hashers |
//! | `testkit` | test clocks, failing stores, the suite for backends; for `[dev-dependencies]` |
//!
//! # Runtime
//! Keyward needs a tokio runtime with its timer enabled, as `#[tokio::main]` has it. [`Verifier::verify`] says what
//! works without one.
//!
//! [`Verifier::verify`]: verifier::Verifier::verify
//!
//! # More
//! The [`manual`] covers the topics that span several items: endpoints that manage keys, passing the connection to
//! Keyward (without it, keys restricted to networks are refused), upgraded connections, choosing a hash and monitoring
//! in production. `SECURITY.md` in the package lists the promises, their limits and the tests of each.
//!
//! # Reading the code
//! A request passes through four files: `http/credentials.rs` finds the credential in the request, `credential.rs`
//! reads it (`key/parse.rs` is the parser), `verifier.rs` decides, and `http/answer.rs` writes the answer.
//! `http/edge/deciding.rs` calls them in this order. The decision uses `cache.rs` for what this node knows of the key,
//! and `verifier/cold.rs` if that is not enough.

#![cfg_attr(keyward_docsrs, feature(doc_cfg))]

#[cfg(feature = "actix")]
pub mod actix;
pub mod audit;
#[cfg(feature = "axum")]
pub mod axum;
mod cache;
pub mod clock;
mod codes;
mod credential;
pub mod hashing;
pub mod http;
pub mod import;
pub mod key;
mod keyward;
pub mod limiter;
pub mod manager;
pub mod manual;
pub mod random;
pub mod store;
mod sync;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
#[cfg(feature = "tower")]
pub mod tower;
pub mod verifier;
#[cfg(all(test, target_os = "linux"))]
mod wiping;

pub use keyward::{Builder, Keyward, OpenError};

/// The attribute macro for implementations of [`KeyStore`](store::KeyStore) and [`Policy`](manager::Policy).
pub use async_trait::async_trait;
/// The crate that provides the instants and dates in this crate's signatures.
pub use time;
