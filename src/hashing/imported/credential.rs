//! The presented credential, in the application's own format or in a legacy one.

use std::fmt;

use super::ImportedKeys;
use crate::key::{Environment, KeyFormat, KeyId, KeyTextError, PresentedKey, may_be_legacy};

/// A presented credential with the id of the key that it claims to be, in the application's own format or in a legacy
/// one.
#[derive(Clone, Copy)]
pub(crate) struct Credential<'a> {
    pub(crate) id: KeyId,
    /// The environment in the text; `None` if the text names no environment.
    pub(crate) environment: Option<&'a Environment>,
    /// The part that Keyward's own digests cover.
    pub(crate) secret: &'a [u8],
    /// The whole text; for a pair, the secret.
    pub(crate) text: &'a [u8],
    /// The name of the legacy format; `None` for the application's own format.
    pub(crate) legacy: Option<&'a str>,
}

impl<'a> Credential<'a> {
    /// Reads the presented credential.
    ///
    /// # Errors
    /// [`KeyTextError`] if no accepted format can read it: its fault as a key of the application's own format.
    #[inline(always)]
    pub(crate) fn read(
        presented: PresentedKey<'a>,
        format: &'a KeyFormat,
        imported: Option<&'a ImportedKeys>,
    ) -> Result<Self, KeyTextError> {
        let error = match format.parse_presented(presented) {
            Ok(parsed) => {
                let secret = parsed.expose_secret();
                return Ok(Self {
                    id: parsed.id(),
                    environment: parsed.environment(),
                    secret,
                    text: secret,
                    legacy: None,
                });
            }
            Err(error) => error,
        };
        let Some(imported) = imported else {
            return Err(error);
        };
        let Some(text) = may_be_legacy(presented, format) else {
            return Err(error);
        };
        let read = imported.formats.iter().find_map(|format| {
            let parts = format.parse(text)?;
            Some(Self {
                id: imported.id_of(format, &parts)?,
                environment: None,
                secret: parts.secret,
                text: parts.text,
                legacy: Some(format.name()),
            })
        });
        read.ok_or(error)
    }
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("id", &self.id)
            .field("legacy", &self.legacy)
            .finish_non_exhaustive()
    }
}
