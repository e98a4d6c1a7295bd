//! Why a key of another system cannot be described or imported.

use crate::codes::codes;
use crate::hashing::Argon2Params;

/// Why a legacy format, a legacy digest or a key for digests is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LegacyError {
    /// The format's name is malformed.
    #[error("a legacy format's name is 1 to 32 lower-case letters, digits and hyphens")]
    Name,
    /// The separator is not a visible ASCII character.
    #[error("the separator is a visible ASCII character")]
    Separator,
    /// The prefix is too long, or not visible ASCII.
    #[error("a legacy prefix is at most 64 visible ASCII characters")]
    Prefix,
    /// The range of the secret's length is empty or out of bounds.
    #[error("a legacy secret has 8 to 256 characters")]
    SecretLength,
    /// The text is no digest of the scheme: it is malformed, truncated, has no salt, or has a wrong length.
    #[error("the digest is not {expected}")]
    MalformedDigest {
        /// The form that the constructor accepts.
        expected: &'static str,
    },
    /// The digest is of a scheme or variant that Keyward does not compute.
    #[error("digests of {scheme} are not supported")]
    UnsupportedScheme {
        /// The scheme or variant; "an unknown scheme" if it is not among the well-known ones.
        scheme: &'static str,
    },
    /// The digest's parameters exceed the bounds.
    #[error("the digest asks for more than the limit of {limit}")]
    ExcessiveDigest {
        /// The limit.
        limit: &'static str,
    },
    /// The scheme needs a feature of Keyward that is not enabled.
    #[error("digests of {scheme} need the feature `legacy-digests`")]
    NeedsFeature {
        /// The scheme.
        scheme: &'static str,
    },
    /// The name of a site secret is invalid, or the secret is empty.
    #[error(
        "a site secret has a name of 1 to 32 lower-case letters, digits and hyphens, and is not empty"
    )]
    SiteSecret,
}

codes! {
    LegacyError;
    Self::Name => "invalid_name",
    Self::Separator => "invalid_separator",
    Self::Prefix => "invalid_prefix",
    Self::SecretLength => "invalid_secret_length",
    Self::MalformedDigest { .. } => "malformed_digest",
    Self::UnsupportedScheme { .. } => "unsupported_scheme",
    Self::ExcessiveDigest { .. } => "excessive_digest",
    Self::NeedsFeature { .. } => "needs_feature",
    Self::SiteSecret => "invalid_site_secret",
}

/// Why a key cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// This Keyward accepts no imported keys.
    #[error("no imported keys are accepted here")]
    NotAccepted,
    /// This Keyward accepts no format of this name.
    #[error("no legacy format of this name is accepted here")]
    UnknownFormat,
    /// The text or the secret does not match its format: the prefix, the id, or the length of the secret is wrong.
    #[error("the text is not of its format, or its secret too short or too long for it")]
    Text,
    /// The text would be read as one of another accepted format.
    #[error("the text would be read as one of another format")]
    OtherFormat,
    /// The text begins as a key of the application's own format. It is read as nothing else, unless its legacy format
    /// has that beginning as its prefix and texts of other lengths.
    #[error(
        "the text begins as a key of the application's own format, and is read as nothing else"
    )]
    OwnFormat,
    /// The id does not match its format, is missing although the format has ids inside, or is given although it has no
    /// ids.
    #[error("the id is not one of its format")]
    Id,
    /// A key of this format cannot be found by such a digest.
    #[error("a text of this format is not found by such a digest")]
    Unfindable,
    /// The digest's Argon2 parameters exceed the accepted maximum.
    #[error(
        "the digest asks for Argon2 with m={},t={},p={}, and `Hashing::accept_argon2id` obeys at most m={},t={},p={}",
        asked.memory_kib(), asked.passes(), asked.lanes(), most.memory_kib(), most.passes(), most.lanes()
    )]
    Excessive {
        /// The parameters of the digest.
        asked: Argon2Params,
        /// The highest accepted memory, passes and lanes.
        most: Argon2Params,
    },
    /// The digest was made with a site secret that is not configured here.
    #[error("the digest needs the site secret `{name}`, which is not configured here")]
    UnknownSiteSecret {
        /// The name of the site secret.
        name: Box<str>,
    },
    /// No text of the format could be verified with the digest.
    #[error("the key could never be verified: {reason}")]
    Unverifiable {
        /// The reason.
        reason: &'static str,
    },
    /// Only the entropy of the secret protects a SHA-1 digest, and too little is declared.
    #[error("a digest of SHA-1 is imported only with a declared entropy of 112 bits or more")]
    Weak,
    /// The declared entropy is more than so short a secret can hold.
    #[error("more entropy is declared than so short a secret can hold")]
    Overstated,
}

codes! {
    ImportError;
    Self::NotAccepted => "not_accepted",
    Self::UnknownFormat => "unknown_format",
    Self::Text => "invalid_text",
    Self::OtherFormat => "other_format",
    Self::OwnFormat => "own_format",
    Self::Id => "invalid_id",
    Self::Unfindable => "unfindable",
    Self::Excessive { .. } => "excessive_digest",
    Self::UnknownSiteSecret { .. } => "unknown_site_secret",
    Self::Unverifiable { .. } => "unverifiable",
    Self::Weak => "weak_digest",
    Self::Overstated => "overstated_entropy",
}
