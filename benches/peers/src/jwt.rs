//! `jsonwebtoken`: [`decode`] checks signature and expiry, and handwritten code checks the scope.

use std::error::Error;
use std::hint::black_box;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use jsonwebtoken::crypto::{CryptoProvider, aws_lc, rust_crypto};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use crate::SCOPE;

/// The faster backend of each algorithm. It is faster by some 15 percent.
static FASTEST: LazyLock<CryptoProvider> = LazyLock::new(|| CryptoProvider {
    verifier_factory: |algorithm, key| {
        let backend = match algorithm {
            Algorithm::HS256 => &rust_crypto::DEFAULT_PROVIDER,
            _ => &aws_lc::DEFAULT_PROVIDER,
        };
        (backend.verifier_factory)(algorithm, key)
    },
    ..aws_lc::DEFAULT_PROVIDER.clone()
});

/// Makes the process verify with the faster backend of each algorithm.
pub(crate) fn choose_fastest_backends() -> Result<(), Box<dyn Error>> {
    let chosen = FASTEST.install_default();
    chosen.map_err(|_| "a backend was chosen already".into())
}

/// A token in use, with an expiry and a scope.
pub(crate) struct Jwt {
    text: String,
    key: DecodingKey,
    validation: Validation,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    sub: String,
    /// Separated by spaces (RFC 8693, section 4.2).
    scope: String,
    exp: u64,
}

/// The prefix of the 32 bytes of an Ed25519 private key in PKCS #8 (RFC 8410, section 7).
const ED25519_PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

impl Jwt {
    pub(crate) fn hs256() -> Result<Self, Box<dyn Error>> {
        let secret = [0x5a; 32];
        let signing = EncodingKey::from_secret(&secret);
        Self::signed(
            Algorithm::HS256,
            &signing,
            DecodingKey::from_secret(&secret),
        )
    }

    pub(crate) fn eddsa() -> Result<Self, Box<dyn Error>> {
        let private = [ED25519_PKCS8.as_slice(), &[0x5a; 32]].concat();
        let signing = EncodingKey::from_ed_der(&private);
        let public = Jwk::from_encoding_key(&signing, Algorithm::EdDSA)?;
        Self::signed(Algorithm::EdDSA, &signing, DecodingKey::from_jwk(&public)?)
    }

    fn signed(
        algorithm: Algorithm,
        signing: &EncodingKey,
        key: DecodingKey,
    ) -> Result<Self, Box<dyn Error>> {
        let end = SystemTime::now() + Duration::from_hours(24 * 365);
        let claims = Claims {
            sub: "acme-inc".to_owned(),
            scope: SCOPE.to_owned(),
            exp: end.duration_since(SystemTime::UNIX_EPOCH)?.as_secs(),
        };
        Ok(Self {
            text: encode(&Header::new(algorithm), &claims, signing)?,
            key,
            validation: Validation::new(algorithm),
        })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn admits(&self, text: &str) -> bool {
        let token = black_box(decode::<Claims>(text, &self.key, &self.validation));
        token.is_ok_and(|token| token.claims.scope.split(' ').any(|held| held == SCOPE))
    }
}
