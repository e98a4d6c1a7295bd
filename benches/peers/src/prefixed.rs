//! `prefixed-api-key`: [`PrefixedApiKey::from_string`] and [`PrefixedApiKeyController::check_hash`].
//!
//! [`PrefixedApiKeyController::check_hash`]: prefixed_api_key::PrefixedApiKeyController::check_hash

use std::error::Error;
use std::hint::black_box;

use prefixed_api_key::{PakControllerOsSha256, PrefixedApiKey, PrefixedApiKeyController};

/// A key in use, and the hash of its secret.
pub(crate) struct Prefixed {
    controller: PakControllerOsSha256,
    text: String,
    hash: String,
}

impl Prefixed {
    pub(crate) fn open() -> Result<Self, Box<dyn Error>> {
        let controller = PrefixedApiKeyController::configure()
            .prefix("acme".to_owned())
            .seam_defaults()
            .finalize()?;
        let (key, hash) = controller.try_generate_key_and_hash()?;
        Ok(Self {
            controller,
            text: key.to_string(),
            hash,
        })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn admits(&self, text: &str) -> bool {
        let key = black_box(PrefixedApiKey::from_string(text));
        key.is_ok_and(|key| self.controller.check_hash(&key, &self.hash))
    }
}
