//! The digests that other libraries made, read from the files that the scripts beside them printed.

use keyward::import::{ImportedKey, LegacyDigest, LegacyFormat, LegacyHash};
use serde_json::Value;

const DIGESTS: &str = include_str!("../fixtures/legacy_digests.json");
const PREFIXED_API_KEY: &str = include_str!("../fixtures/legacy_prefixed_api_key.json");

pub(crate) struct LegacySample {
    pub(crate) made_by: String,
    pub(crate) scheme: String,
    pub(crate) secret: String,
    pub(crate) digest: String,
    /// All that the client sends; none where only a secret was hashed.
    pub(crate) text: Option<String>,
    pub(crate) hmac_key: Option<Vec<u8>>,
}

impl LegacySample {
    pub(crate) fn all() -> Vec<Self> {
        let file: Value = serde_json::from_str(DIGESTS).unwrap();
        let entries = file["digests"].as_array().unwrap();
        let mut all: Vec<Self> = entries.iter().map(Self::read).collect();
        all.push(Self::read(&serde_json::from_str(PREFIXED_API_KEY).unwrap()));
        assert!(all.len() > 50, "the samples were not read");
        all
    }

    /// Those of one scheme.
    pub(crate) fn of(scheme: &str) -> Vec<Self> {
        let mut of = Self::all();
        of.retain(|sample| sample.scheme == scheme);
        assert!(!of.is_empty(), "{scheme}");
        of
    }

    fn read(entry: &Value) -> Self {
        let text = |name: &str| entry[name].as_str().map(str::to_owned);
        let hashed = text("secret").unwrap();
        // This library hashed the whole text; the part before the dot is shown.
        let is_whole = text("scheme").as_deref() == Some("drf-api-key");
        let secret = hashed.split_once('.').filter(|_| is_whole);
        let secret = secret.map(|(_, secret)| secret.to_owned());
        Self {
            made_by: text("made_by").unwrap(),
            scheme: text("scheme").unwrap(),
            secret: secret.unwrap_or(hashed),
            digest: text("digest").unwrap(),
            text: text("text"),
            hmac_key: text("key_hex").map(|hex| bytes(&hex)),
        }
    }

    /// The plain hash that made the digest; `None` if it is salted.
    pub(crate) fn hash(&self) -> Option<LegacyHash> {
        let scheme = self.scheme.strip_suffix("-hex");
        Some(match scheme.or(self.scheme.strip_suffix("-base64"))? {
            "sha1" => LegacyHash::SHA1,
            "sha256" => LegacyHash::SHA256,
            "sha384" => LegacyHash::SHA384,
            "sha512" => LegacyHash::SHA512,
            "sha512-256" => LegacyHash::SHA512_256,
            "hmac-sha1" => LegacyHash::SHA1.hmac("old"),
            "hmac-sha256" => LegacyHash::SHA256.hmac("old"),
            "hmac-sha384" => LegacyHash::SHA384.hmac("old"),
            "hmac-sha512" => LegacyHash::SHA512.hmac("old"),
            "sha256-secret" => LegacyHash::SHA256.secret_last("old"),
            "secret-sha1" => LegacyHash::SHA1.secret_first("old"),
            "secret-sha256" => LegacyHash::SHA256.secret_first("old"),
            other => panic!("no hash for {other}"),
        })
    }

    /// Whether the digest is of SHA-1, which only a strong secret may have.
    pub(crate) fn is_sha1(&self) -> bool {
        let is_salted = self.scheme == "werkzeug" && self.digest.starts_with("sha1$");
        is_salted || self.scheme.contains("sha1")
    }

    pub(crate) fn read_digest(&self) -> LegacyDigest {
        let text = &*self.digest;
        match &*self.scheme {
            "sanctum" | "prefixed-api-key" => LegacyDigest::sha256(text),
            "argon2" => LegacyDigest::argon2(text),
            "bcrypt" => LegacyDigest::bcrypt(text),
            "django" | "drf-api-key" => LegacyDigest::django(text),
            "passlib" => LegacyDigest::passlib(text),
            "werkzeug" => LegacyDigest::werkzeug(text),
            plain => {
                let hash = self.hash().unwrap();
                if plain.ends_with("-hex") {
                    LegacyDigest::hex(&hash, text)
                } else {
                    LegacyDigest::base64(&hash, text)
                }
            }
        }
        .unwrap_or_else(|error| panic!("{}: {error}", self.made_by))
    }

    /// The format that the old system's keys have; that of the tests for what only hashes.
    pub(crate) fn format(&self) -> LegacyFormat {
        match &*self.scheme {
            "sanctum" => LegacyFormat::sanctum(),
            "prefixed-api-key" => LegacyFormat::prefixed_api_key("acme").unwrap(),
            "drf-api-key" => LegacyFormat::django_rest_framework(),
            _ => crate::common::legacy(),
        }
    }

    /// What the client sends, where the key has this id if it has none of its own.
    pub(crate) fn sent(&self, id: &str) -> String {
        match &self.text {
            Some(text) => text.clone(),
            None => format!("{id}.{}", self.secret),
        }
    }

    pub(crate) fn as_key(&self, id: &str) -> ImportedKey {
        let format = self.format();
        let sent = self.sent(id);
        let id = match format.name() {
            "sanctum" => sent.split('|').next(),
            "prefixed-api-key" => sent.split('_').nth(1),
            "drf-api-key" => sent.split('.').next(),
            _ => Some(id),
        };
        let key = ImportedKey::digest(format.name(), id.unwrap(), self.read_digest());
        if self.is_sha1() {
            key.entropy_bits(112)
        } else {
            key
        }
    }

    /// Whether a slow hash at a cost of today is between a secret and its digest: it takes from a tenth of a second to
    /// several.
    pub(crate) fn is_slow(&self) -> bool {
        let is_fast = ["sha", "secret", "hmac", "sanctum", "prefixed", "drf"]
            .iter()
            .any(|start| self.scheme.starts_with(start));
        let is_salted = self.scheme == "werkzeug" && !self.digest.contains(':');
        let is_fast = is_fast || is_salted;
        let is_cheap = [
            "$04$", "$1000$", "$1024$", "m=1024,", "m=8192,", ":1000$", ":1024:",
        ]
        .iter()
        .any(|sign| self.digest.contains(sign));
        !is_fast && !is_cheap
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .map(|digit| u8::try_from(digit.to_digit(16).unwrap()).unwrap())
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}
