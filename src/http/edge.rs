//! Connects a framework to the verifier: takes the head of a request and admits or rejects it.

mod deciding;
mod guarded;
mod limiting;
mod responding;
mod settings;

use std::fmt;
use std::sync::Arc;
#[cfg(any(feature = "actix", feature = "http"))]
use std::time::Duration;

#[cfg(any(feature = "actix", feature = "tower"))]
pub(crate) use guarded::Decided;

use super::answer::ProblemJson;
use super::client::Proxies;
use super::key_in::KeyIn;
use super::limits::LimitHeaders;
use super::rejection::Rejecting;
use crate::Keyward;
use crate::verifier::Verifier;

/// Reads credentials from requests, asks the [`Verifier`] and answers as the standards require.
///
/// An edge accepts no credential until [`accept`](Self::accept) names a form.
///
/// ```
/// use keyward::Keyward;
/// use keyward::http::{Edge, KeyIn, KeyInError};
///
/// fn edge(keyward: &Keyward) -> Result<Edge, KeyInError> {
///     let edge = Edge::new(keyward)
///         .accept(KeyIn::bearer())
///         .accept(KeyIn::header("X-API-Key")?);
///     // For the operator's log: the reason, and what the caller probably meant.
///     Ok(edge.observe(|event| eprintln!("{} {:?}", event.reason, event.near_misses)))
/// }
/// ```
#[derive(Clone)]
pub struct Edge {
    verifier: Verifier,
    forms: Vec<KeyIn>,
    proxies: Proxies,
    rejecting: Rejecting,
    requires_tls: bool,
    refuses_browsers: bool,
    may_be_cached: bool,
    limit_headers: LimitHeaders,
    shows_expiry: bool,
    vary: Box<str>,
    #[cfg(any(feature = "actix", feature = "http"))]
    pub(super) adapters: AdapterSettings,
}

/// The settings that the core does not apply.
#[cfg(any(feature = "actix", feature = "http"))]
#[derive(Clone, Copy)]
pub(super) struct AdapterSettings {
    pub(super) max_request_bytes: u64,
    pub(super) max_response_bytes: u64,
    /// How long a client may stop reading. `None`: there is no bound.
    pub(super) stall_timeout: Option<Duration>,
    pub(super) ends_with_key: bool,
    pub(super) keeps_credential: bool,
}

impl Edge {
    /// Creates an edge in front of this Keyward's verifier.
    #[must_use]
    pub fn new(keyward: &Keyward) -> Self {
        Self {
            verifier: keyward.verifier().clone(),
            forms: Vec::new(),
            proxies: Proxies::default(),
            rejecting: Rejecting {
                realm: "api".into(),
                renderer: Arc::new(ProblemJson),
                observer: None,
                is_report_only: false,
            },
            requires_tls: false,
            refuses_browsers: false,
            may_be_cached: false,
            limit_headers: LimitHeaders::All,
            shows_expiry: false,
            vary: Box::default(),
            #[cfg(any(feature = "actix", feature = "http"))]
            adapters: AdapterSettings {
                max_request_bytes: u64::MAX,
                max_response_bytes: u64::MAX,
                stall_timeout: None,
                ends_with_key: false,
                keeps_credential: false,
            },
        }
    }
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge")
            .field("forms", &self.forms)
            .field("proxies", &self.proxies)
            .field("realm", &self.rejecting.realm)
            .field("renderer", &self.rejecting.renderer)
            .field("requires_tls", &self.requires_tls)
            .field("refuses_browsers", &self.refuses_browsers)
            .field("is_report_only", &self.rejecting.is_report_only)
            .finish_non_exhaustive()
    }
}
