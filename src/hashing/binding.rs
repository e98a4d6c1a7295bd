//! The data that a digest covers beside the secret.

use sha2::{Digest as _, Sha256};

use crate::key::{Environment, KeyId, KeyRecord};

const DOMAIN: &[u8] = b"keyward/secret/v1";

/// The key that a secret belongs to: the parts that its digest binds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Binding<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) id: KeyId,
}

impl<'a> Binding<'a> {
    pub(crate) fn of(record: &'a KeyRecord) -> Self {
        Self {
            environment: record.environment(),
            id: record.id(),
        }
    }

    /// Feeds the domain tag (17 bytes), the environment after its length (1 byte), and the id (16 bytes).
    pub(super) fn feed(&self, mut sink: impl FnMut(&[u8])) {
        let environment = self.environment.as_str().as_bytes();
        sink(DOMAIN);
        // An environment has at most 16 characters.
        sink(&[u8::try_from(environment.len()).unwrap_or(u8::MAX)]);
        sink(environment);
        sink(&self.id.to_bytes());
    }

    /// Feeds the binding, then the secret after its length (2 bytes, big-endian).
    pub(super) fn feed_with(&self, secret: &[u8], mut sink: impl FnMut(&[u8])) {
        self.feed(&mut sink);
        // A credential has at most 256 bytes.
        sink(
            &u16::try_from(secret.len())
                .unwrap_or(u16::MAX)
                .to_be_bytes(),
        );
        sink(secret);
    }

    /// Returns SHA-256 of the binding alone: Argon2's associated data, of which the crate takes 32 bytes.
    pub(super) fn associated_data(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        self.feed(|part| hash.update(part));
        hash.finalize().into()
    }
}
