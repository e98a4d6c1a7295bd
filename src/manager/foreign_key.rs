//! A key that another system issued, as it is to be brought in.

use std::fmt;

use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::hashing::ForeignDigest;
use crate::key::KeyId;

/// A key that clients hold already: what is known of it, and how strong it is.
///
/// The guide [Migrating to Keyward](crate::manual::migrating) goes through it case by case.
///
/// ```
/// use keyward::{hashing::ForeignDigest, manager::ForeignKey};
///
/// # let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
/// // A row of Sanctum's table: the client's text `12|x7Hq…` is not known, only the digest of what follows the bar.
/// let key = ForeignKey::digest("sanctum", "12", ForeignDigest::sha256(sha256)?).declared_bits(238);
/// # let _ = key;
/// # Ok::<(), keyward::hashing::ForeignDigestError>(())
/// ```
#[derive(Clone)]
pub struct ForeignKey {
    pub(super) form: Form,
    pub(super) declared_bits: Option<u16>,
    pub(super) issued_at: Option<OffsetDateTime>,
}

#[derive(Clone)]
pub(super) enum Form {
    /// The whole text, as the client sends it.
    Text {
        format: Box<str>,
        text: Zeroizing<Vec<u8>>,
    },
    /// The id inside, and a digest.
    Digest {
        format: Box<str>,
        id: Box<str>,
        digest: ForeignDigest,
    },
    /// A digest by which its text is found.
    OpaqueDigest {
        format: Box<str>,
        digest: ForeignDigest,
    },
    /// A key of the two-value form, with an id like Keyward's own.
    Pair {
        id: KeyId,
        secret: Zeroizing<Vec<u8>>,
    },
    PairDigest {
        id: KeyId,
        digest: ForeignDigest,
    },
}

impl ForeignKey {
    /// A key whose whole text is known, of the [foreign format](crate::key::ForeignFormat) of this name.
    #[must_use]
    pub fn text(format: &str, text: impl Into<Vec<u8>>) -> Self {
        Self::of(Form::Text {
            format: format.into(),
            text: Zeroizing::new(text.into()),
        })
    }

    /// A key of a format with ids inside, of which the id and a digest are known.
    #[must_use]
    pub fn digest(format: &str, id: &str, digest: ForeignDigest) -> Self {
        Self::of(Form::Digest {
            format: format.into(),
            id: id.into(),
            digest,
        })
    }

    /// A key of a format without ids inside, of which the digest is known by which the format finds it. A salted
    /// digest finds nothing: such a key needs an id, or its text.
    #[must_use]
    pub fn opaque_digest(format: &str, digest: ForeignDigest) -> Self {
        Self::of(Form::OpaqueDigest {
            format: format.into(),
            digest,
        })
    }

    /// A key of two values, an id of 36 characters and a secret of the length of the application's own format.
    #[must_use]
    pub fn pair(id: KeyId, secret: impl Into<Vec<u8>>) -> Self {
        Self::of(Form::Pair {
            id,
            secret: Zeroizing::new(secret.into()),
        })
    }

    /// As [`pair`](Self::pair), where a digest of the secret is known.
    #[must_use]
    pub fn pair_digest(id: KeyId, digest: ForeignDigest) -> Self {
        Self::of(Form::PairDigest { id, digest })
    }

    fn of(form: Form) -> Self {
        Self {
            form,
            declared_bits: None,
            issued_at: None,
        }
    }

    /// Vouches for this much entropy in the secret, in bits: what its generator drew, such as 238 for 40 random letters
    /// and digits. From 112 on it is kept under a fast hash; without a word it counts as weak, and is kept
    /// under Argon2id.
    ///
    /// # Security
    /// Nothing can check it. Whoever vouches for a secret that can be guessed has it guessed from a stolen backup.
    #[must_use]
    pub fn declared_bits(mut self, bits: u16) -> Self {
        self.declared_bits = Some(bits);
        self
    }

    /// The name of the foreign format that it is said to be of; none for a key of two values.
    #[must_use]
    pub fn format(&self) -> Option<&str> {
        match &self.form {
            Form::Text { format, .. }
            | Form::Digest { format, .. }
            | Form::OpaqueDigest { format, .. } => Some(format),
            Form::Pair { .. } | Form::PairDigest { .. } => None,
        }
    }

    /// The entropy that is vouched for, in bits.
    #[must_use]
    pub fn vouched_bits(&self) -> Option<u16> {
        self.declared_bits
    }

    /// When it was issued, if that is known: its age counts from there. By default from its import.
    #[must_use]
    pub fn issued_at(mut self, instant: OffsetDateTime) -> Self {
        self.issued_at = Some(instant);
        self
    }
}

/// Shows no secret and no digest.
impl fmt::Debug for ForeignKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match &self.form {
            Form::Text { .. } => "text",
            Form::Digest { .. } => "digest",
            Form::OpaqueDigest { .. } => "opaque digest",
            Form::Pair { .. } => "pair",
            Form::PairDigest { .. } => "digest of a pair",
        };
        f.debug_struct("ForeignKey")
            .field("form", &form)
            .field("declared_bits", &self.declared_bits)
            .field("issued_at", &self.issued_at)
            .finish()
    }
}
