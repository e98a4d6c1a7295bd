//! Why a key of another system cannot be described or imported.

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
    /// The text is no digest of the scheme: it is malformed, or has a wrong length.
    #[error("the text is no digest of this scheme")]
    MalformedDigest,
    /// The digest's parameters exceed the bounds.
    #[error("the digest asks for more passes, memory or lanes than is obeyed")]
    ExcessiveDigest,
    /// The name of an HMAC key is invalid, or the key is empty.
    #[error(
        "an HMAC key has a name of 1 to 32 lower-case letters, digits and hyphens, and is not empty"
    )]
    HmacKey,
}

/// Why a key cannot be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
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
    /// The id does not match its format, is missing although the format has ids inside, or is given although it has no
    /// ids.
    #[error("the id is not one of its format")]
    Id,
    /// A key of this format cannot be found by such a digest.
    #[error("a text of this format is not found by such a digest")]
    Unfindable,
    /// The digest's parameters exceed the accepted maximum.
    #[error(
        "the digest asks for more memory, passes or lanes than `Hashing::accept_argon2id` obeys"
    )]
    Excessive,
    /// The declared entropy is more than so short a secret can hold.
    #[error("more entropy is declared than so short a secret can hold")]
    Overstated,
}
