//! API keys for Rust applications.
//!
//! Keyward issues keys, shows them once, verifies them, scopes and restricts them, revokes them, and keeps
//! account of all of it. It is a library: the keys live in your store, and your application decides who may
//! manage them.
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
//!     .policy(AllowAll) // who may manage keys: said, never assumed
//!     .open()
//!     .await?;
//!
//! let tenant = TenantId::new("acme-inc")?;
//! let setup = Actor::system("setup");
//! let new = NewKey::new(tenant.clone(), "Power BI dashboard", READ_EDITIONS);
//! let issued = keyward.manager().issue(&setup, new.expires_in(Duration::from_hours(24 * 90))).await?;
//! let text = issued.api_key().expose(); // show it to the client: this is the only time
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
//! # The rooms
//! | module | what it is about |
//! |---|---|
//! | [`key`] | what a key is: its text, its name, its powers, its record |
//! | [`hashing`] | how a secret is kept |
//! | [`manager`] | issuing, listing, changing, rotating, importing and revoking |
//! | [`verifier`] | deciding whether a request is admitted |
//! | [`http`] | credentials in, standards-exact answers out, for any framework |
//! | [`store`] | where keys live; what a backend must do |
//! | `tower` | a layer in front of tower services (feature `tower`) |
//! | `axum` | guarded routes, and the caller as an extractor (feature `axum`) |
//! | `actix` | the same for actix (feature `actix`) |
//! | [`audit`] | what is recorded |
//! | [`clock`], [`random`] | time and randomness, handed in |
//! | `testkit` | clocks that you set, random sources and stores that fail, for tests (feature `testkit`) |
//!
//! A request's whole way is three files: what was presented (`http/credentials.rs`, and `key/parse.rs` below it), the
//! decision (`verifier.rs`, and `verifier/cold.rs` where the store is asked), and the answer (`http/answer.rs`, with
//! what it may say in `verifier/denial.rs`).

#[cfg(feature = "actix")]
pub mod actix;
pub mod audit;
#[cfg(feature = "axum")]
pub mod axum;
pub mod clock;
pub mod hashing;
pub mod http;
pub mod key;
mod keyward;
pub mod manager;
pub mod manual;
pub mod random;
pub mod store;
mod sync;
#[cfg(keyward_shuttle)]
#[doc(hidden)]
pub use sync::{Planted, plant};
#[cfg(feature = "testkit")]
pub mod testkit;
#[cfg(feature = "tower")]
pub mod tower;
pub mod verifier;

pub use keyward::{Builder, Keyward, OpenError};

/// What an implementation of [`KeyStore`](store::KeyStore) or [`Policy`](manager::Policy) is marked with.
pub use async_trait::async_trait;
/// The crate whose instants and dates stand in this crate's signatures.
pub use time;
