//! Every accepted digest can be stored, is read again as the same one, and can be decided.
//!
//! Planted bugs that these catch: a digest that is kept in part, in lower case, or as another scheme's (shown below); a
//! bcrypt digest taken with any last digit, of which the crate that checks it takes one in four; hex and base64 told
//! apart by their length, so that a token in base64 is taken for a digest.

use keyward::import::{ImportedKey, LegacyDigest, LegacyError, LegacyHash};
use proptest::prelude::*;
use proptest::sample::Index;
use tokio::runtime::{Builder, Runtime};

use crate::common::{Fixture, SECRET};
use crate::samples::LegacySample;

type Read = Result<LegacyDigest, LegacyError>;

/// Every constructor, by number.
const READERS: [fn(&str) -> Read; 17] = [
    LegacyDigest::sha256,
    |text| LegacyDigest::base64(&LegacyHash::SHA256, text),
    |text| LegacyDigest::hex(&LegacyHash::SHA1, text),
    |text| LegacyDigest::hex(&LegacyHash::SHA384, text),
    |text| LegacyDigest::hex(&LegacyHash::SHA512, text),
    |text| LegacyDigest::base64(&LegacyHash::SHA512, text),
    |text| LegacyDigest::hex(&LegacyHash::SHA512_256, text),
    |text| LegacyDigest::hex(&LegacyHash::SHA1.secret_first("old"), text),
    |text| LegacyDigest::hex(&LegacyHash::SHA512_256.secret_last("old"), text),
    |text| LegacyDigest::base64(&LegacyHash::SHA384.hmac("old"), text),
    |text| LegacyDigest::hex(&LegacyHash::SHA256.hmac("old"), text),
    |text| LegacyDigest::base64(&LegacyHash::SHA256.hmac("old"), text),
    LegacyDigest::argon2,
    LegacyDigest::bcrypt,
    LegacyDigest::django,
    LegacyDigest::passlib,
    LegacyDigest::werkzeug,
];

/// What may be done to a text.
#[derive(Debug, Clone)]
enum Damage {
    Set(Index, char),
    Insert(Index, char),
    Remove(Index),
    Cut(Index),
    Repeat(Index),
}

impl Damage {
    fn apply(&self, text: &mut Vec<char>) {
        if text.is_empty() {
            return;
        }
        match self {
            Self::Set(at, one) => {
                let at = at.index(text.len());
                text[at] = *one;
            }
            Self::Insert(at, one) => text.insert(at.index(text.len() + 1), *one),
            Self::Remove(at) => drop(text.remove(at.index(text.len()))),
            Self::Cut(at) => text.truncate(at.index(text.len())),
            Self::Repeat(at) => {
                let again = text[at.index(text.len())..].to_vec();
                text.extend(again);
            }
        }
    }
}

fn character() -> impl Strategy<Value = char> {
    prop_oneof![
        6 => prop::sample::select("$,=:.+/-_09azAZvmtp2ybé\0 ".chars().collect::<Vec<_>>()),
        1 => any::<char>(),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), character()).prop_map(|(at, one)| Damage::Set(at, one)),
        2 => (at(), character()).prop_map(|(at, one)| Damage::Insert(at, one)),
        2 => at().prop_map(Damage::Remove),
        1 => at().prop_map(Damage::Cut),
        1 => at().prop_map(Damage::Repeat),
    ]
}

fn texts() -> Vec<String> {
    let mut texts: Vec<_> = LegacySample::all()
        .into_iter()
        .map(|one| one.digest)
        .collect();
    texts.push(String::new());
    texts
}

/// Digests of other libraries, damaged in up to four places, and texts of which nothing is known.
fn hostile() -> impl Strategy<Value = String> {
    let damaged = (
        prop::sample::select(texts()),
        prop::collection::vec(damage(), 0..=4),
    );
    let damaged = damaged.prop_map(|(text, damages)| {
        let mut text: Vec<char> = text.chars().collect();
        damages.iter().for_each(|damage| damage.apply(&mut text));
        text.into_iter().collect()
    });
    let part = prop::collection::vec(character(), 0..12);
    let made_up = prop::collection::vec(part, 0..8).prop_map(|parts| {
        let parts: Vec<String> = parts.iter().map(|part| part.iter().collect()).collect();
        parts.join("$")
    });
    prop_oneof![6 => damaged, 1 => made_up, 1 => any::<String>()]
}

/// What is kept of a digest, behind its tag: the scheme's name and a text.
async fn kept(fixture: &Fixture, id: &str, digest: &LegacyDigest) -> Option<(String, String)> {
    let key = ImportedKey::digest("legacy", id, digest.clone()).entropy_bits(112);
    let record = fixture.try_import(key).await.ok()?;
    let stored = fixture.digest(record.id()).await;
    let (scheme, text) = stored.splitn(6, '$').nth(5)?.split_once(':')?;
    Some((scheme.to_owned(), text.to_owned()))
}

fn read_kept(scheme: &str, text: &str) -> Read {
    let plain = |hash: LegacyHash| LegacyDigest::hex(&hash, text);
    let keyed = |hash: LegacyHash| {
        let digest = text.strip_prefix("old:").unwrap();
        LegacyDigest::hex(&hash, digest)
    };
    match scheme {
        "sha1" => plain(LegacyHash::SHA1),
        "sha256" => plain(LegacyHash::SHA256),
        "sha384" => plain(LegacyHash::SHA384),
        "sha512" => plain(LegacyHash::SHA512),
        "sha512-256" => plain(LegacyHash::SHA512_256),
        "hmac-sha1" => keyed(LegacyHash::SHA1.hmac("old")),
        "hmac-sha256" => keyed(LegacyHash::SHA256.hmac("old")),
        "hmac-sha384" => keyed(LegacyHash::SHA384.hmac("old")),
        "hmac-sha512" => keyed(LegacyHash::SHA512.hmac("old")),
        "secret-sha1" => keyed(LegacyHash::SHA1.secret_first("old")),
        "secret-sha256" => keyed(LegacyHash::SHA256.secret_first("old")),
        "sha256-secret" => keyed(LegacyHash::SHA256.secret_last("old")),
        "sha512-256-secret" => keyed(LegacyHash::SHA512_256.secret_last("old")),
        "argon2" => LegacyDigest::argon2(text),
        "bcrypt" => LegacyDigest::bcrypt(text),
        "bcrypt-sha256" => LegacyDigest::django(&format!("bcrypt_sha256${text}")),
        "pbkdf2" | "scrypt" => LegacyDigest::django(text),
        "passlib-pbkdf2" => LegacyDigest::passlib(text),
        "werkzeug-pbkdf2" | "werkzeug-scrypt" => LegacyDigest::werkzeug(text),
        salted => {
            let method = salted.strip_prefix("salted-").unwrap();
            let (salt, digest) = text.rsplit_once(':').unwrap();
            LegacyDigest::werkzeug(&format!("{method}${salt}${digest}"))
        }
    }
}

/// Whether what is kept is read as the digest that it was.
fn comes_back(digest: &LegacyDigest, scheme: &str, text: &str) -> bool {
    scheme == digest.scheme() && read_kept(scheme, text).as_ref() == Ok(digest)
}

async fn fixture() -> Fixture {
    let params = keyward::hashing::Argon2Params::new(102_400, 2, 8).unwrap();
    let hashing = keyward::hashing::Hashing::recommended().accept_argon2id(params);
    let imported = crate::common::imported([crate::common::legacy()]);
    Fixture::with(hashing, imported.site_secret("old", "key").unwrap()).await
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(4_000))]

    #[test]
    fn accepted_digests_round_trip(text in hostile()) {
        let runtime = runtime();
        for (number, read) in READERS.iter().enumerate() {
            let first = read(&text);
            prop_assert_eq!(&first, &read(&text));
            let Ok(digest) = first else { continue };
            prop_assert!(text.is_ascii());
            let kept = runtime.block_on(async {
                kept(&fixture().await, &number.to_string(), &digest).await
            });
            // What is within the constructor's bounds may still ask for more than is obeyed.
            let Some((scheme, text)) = kept else {
                prop_assert_eq!(digest.scheme(), "argon2");
                continue;
            };
            prop_assert!(comes_back(&digest, &scheme, &text), "{} {}", scheme, text);
        }
    }

    #[test]
    fn all_spellings_read_as_one_digest(bytes in prop::array::uniform32(any::<u8>())) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let read = LegacyDigest::sha256(&hex).unwrap();
        prop_assert_eq!(&LegacyDigest::sha256(&hex.to_uppercase()).unwrap(), &read);
        let standard = base64(&bytes);
        let url = standard.replace('+', "-").replace('/', "_");
        for text in [&standard, &url] {
            prop_assert_eq!(&LegacyDigest::base64(&LegacyHash::SHA256, text).unwrap(), &read);
            // 32 random bytes in base64 are what many tokens look like: only who asks for base64 gets it.
            prop_assert!(LegacyDigest::sha256(text).is_err());
            let unpadded = text.trim_end_matches('=');
            prop_assert_eq!(&LegacyDigest::base64(&LegacyHash::SHA256, unpadded).unwrap(), &read);
            for wrong in [format!("{unpadded}=="), format!(" {text}"), format!("{text}\n")] {
                prop_assert!(LegacyDigest::base64(&LegacyHash::SHA256, &wrong).is_err());
            }
        }
    }
}

#[tokio::test]
async fn the_property_catches_planted_bugs() {
    let fixture = fixture().await;
    for (number, sample) in LegacySample::all().iter().enumerate() {
        let digest = sample.read_digest();
        let id = number.to_string();
        let (scheme, text) = kept(&fixture, &id, &digest).await.unwrap();
        assert!(comes_back(&digest, &scheme, &text), "{}", sample.made_by);
        // One that is kept in part, one that is kept in lower case, one that is kept as another scheme's.
        assert!(!comes_back(&digest, &scheme, &text[..text.len() - 1]));
        let lower = text.to_lowercase();
        assert!(lower == text || !comes_back(&digest, &scheme, &lower));
        assert!(!comes_back(&digest, "sha512-", &text));
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..chunk.len()].copy_from_slice(chunk);
        let bits = three
            .iter()
            .fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        for place in 0..4 {
            let digit = DIGITS[bits >> (18 - 6 * place) & 63];
            text.push(if place <= chunk.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    text
}

/// Salts and outputs of digests that are quickly checked, with one character changed.
fn quickly_checked() -> impl Strategy<Value = (String, Index, char)> {
    let mut quick = LegacySample::all();
    quick.retain(|sample| !sample.is_slow() && sample.scheme != "drf-api-key");
    let texts: Vec<_> = quick.into_iter().map(|sample| sample.digest).collect();
    let letters = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+-_=";
    let letter = prop::sample::select(letters.chars().collect::<Vec<_>>());
    (prop::sample::select(texts), any::<Index>(), letter)
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn accepted_digests_are_decidable((text, at, one) in quickly_checked()) {
        // Only what follows the parameters: a cost that is changed may take minutes.
        let last = text.rfind('$').map_or(0, |at| at + 1);
        let at = last + at.index(text.len() - last);
        let text = format!("{}{one}{}", &text[..at], &text[at + 1..]);
        let runtime = runtime();
        for read in READERS {
            let Ok(digest) = read(&text) else { continue };
            let status = runtime.block_on(async {
                let fixture = fixture().await;
                fixture.import(ImportedKey::digest("legacy", "1", digest).entropy_bits(112)).await;
                fixture.status(&format!("1.{SECRET}")).await
            });
            prop_assert_eq!(status, 401, "{}", text);
        }
    }
}
