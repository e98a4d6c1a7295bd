//! A new key with its text, as the host application sends it once to the client.

use std::fmt;

use serde::Serialize;

use super::Issued;
use crate::key::KeyView;

/// A newly issued key, to send to the client that asked for it.
///
/// Serializes as its [`KeyView`] with two more members: `api_key`, the key as one text, and `secret`, which with `id`
/// is the key as two. In axum and actix it is a response with status 201 that caches must not store.
///
/// # Security
/// The serialized form contains the key: send it once, over TLS, and store it nowhere. `Debug` shows neither member.
#[derive(Serialize)]
pub struct Revealed<'a> {
    #[serde(flatten)]
    view: KeyView,
    api_key: &'a str,
    secret: &'a str,
}

impl Issued {
    /// Returns the key's text and its displayable fields, for the one answer that contains both.
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
