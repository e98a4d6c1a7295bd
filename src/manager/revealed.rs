//! A new key, as it is sent to whoever asked for it: once.

use std::fmt;

use serde::Serialize;

use super::Issued;
use crate::key::KeyView;

/// A key that was just issued, to be sent to whoever asked for it.
///
/// Serializes as its [`KeyView`] with two more members: `api_key`, the key as one text, and `secret`, which with `id`
/// is the key as two. In axum and actix it is a response: 201, and kept by no cache.
///
/// # Security
/// What it serializes to is the key: send it once, over TLS, and keep it nowhere. `Debug` shows neither member.
#[derive(Serialize)]
pub struct Revealed<'a> {
    #[serde(flatten)]
    view: KeyView,
    api_key: &'a str,
    secret: &'a str,
}

impl Issued {
    /// The key and what may be shown of it, for the one answer that bears both.
    ///
    /// # Security
    /// See [`Revealed`].
    #[must_use]
    pub fn reveal(&self) -> Revealed<'_> {
        let (api_key, record) = (self.api_key(), self.record());
        Revealed {
            view: record.view(record.created_at()),
            api_key: api_key.expose(),
            secret: api_key.expose_secret(),
        }
    }
}

impl fmt::Debug for Revealed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revealed")
            .field("view", &self.view)
            .finish_non_exhaustive()
    }
}
