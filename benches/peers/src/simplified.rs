//! `api-keys-simplified`: [`ApiKeyManagerV0::verify`].

use std::error::Error;
use std::time::Duration;

use api_keys_simplified::{
    ApiKeyManagerV0, Environment, ExposeSecret, HashConfig, KeyConfig, KeyStatus, SecureString,
};

/// A key in use, and its hash.
pub(crate) struct Simplified {
    manager: ApiKeyManagerV0,
    text: String,
    hash: String,
}

impl Simplified {
    pub(crate) fn by_default() -> Result<Self, Box<dyn Error>> {
        Self::with(ApiKeyManagerV0::init_default_config("acme")?)
    }

    /// Creates a manager with these parameters of Argon2id instead of its defaults.
    pub(crate) fn like(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, Box<dyn Error>> {
        let hashing = HashConfig::custom(memory_kib, passes, lanes)?;
        let (format, grace) = (KeyConfig::default(), Duration::from_secs(10));
        Self::with(ApiKeyManagerV0::init("acme", format, hashing, grace)?)
    }

    fn with(manager: ApiKeyManagerV0) -> Result<Self, Box<dyn Error>> {
        let key = manager.generate(Environment::production())?;
        Ok(Self {
            text: key.key().expose_secret().to_owned(),
            hash: key.expose_hash().hash().clone(),
            manager,
        })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn admits(&self, text: &str) -> bool {
        let presented = SecureString::from(text);
        matches!(
            self.manager.verify(&presented, &self.hash),
            Ok(KeyStatus::Valid)
        )
    }
}
