use super::*;
use crate::key::Environment;

const SECRET: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg";

/// Answers from docs/format.md, computed by tests/fixtures/known_answers.py.
const ANSWERS: &str = include_str!("../../docs/format.md");

fn answer(name: &str) -> &'static str {
    let line = ANSWERS.lines().find(|line| line.starts_with(name)).unwrap();
    line.rsplit(' ').next().unwrap()
}

fn pepper() -> Pepper {
    Pepper::new(1, (0..32).collect::<Vec<u8>>()).unwrap()
}

#[test]
fn published_ids_and_digests_match() {
    let old = LegacyFormat::opaque("old").unwrap().prefix("sk_").unwrap();
    let imported = ImportedKeys::under(pepper())
        .accept(LegacyFormat::sanctum())
        .accept(old);
    let own = KeyFormat::new("acme").unwrap().environment("live").unwrap();
    let read = |text: &str| {
        let (format, id, _) = imported.read(text.as_bytes(), &own).unwrap();
        (id, format.name().to_owned())
    };
    let (id, format) = read(&format!("12|{SECRET}"));
    assert_eq!(
        (id.to_string().as_str(), format.as_str()),
        (answer("imported id "), "sanctum")
    );
    let (opaque, format) = read(&format!("sk_{SECRET}"));
    assert_eq!(
        (opaque.to_string().as_str(), format.as_str()),
        (answer("opaque id "), "old")
    );

    let environment = Environment::new("live").unwrap();
    let binding = Binding {
        environment: &environment,
        id,
    };
    let digest = LegacyHash::SHA256.of(SECRET.as_bytes(), b"").unwrap();
    let digest = LegacyDigest::sha256(&hex(&digest)).unwrap();
    let most = Argon2Params::MOST_OBEYED;
    let kept = imported.keep(binding, Coverage::Secret, &digest, most);
    let kept = kept.unwrap();
    assert_eq!(kept.expose(), answer("legacy digest "));
    let (coverage, read) = imported.decode(&kept, binding, most).unwrap();
    assert_eq!((coverage, read), (Coverage::Secret, digest));
}

#[test]
fn kept_digests_bind_row_and_pepper() {
    let imported = ImportedKeys::under(pepper());
    let (live, test) = (
        Environment::new("live").unwrap(),
        Environment::new("test").unwrap(),
    );
    let binding = |environment, id| Binding {
        environment,
        id: KeyId::from_u128(id),
    };
    let digest = LegacyDigest::hex(&LegacyHash::SHA512, &"ab".repeat(64)).unwrap();
    let most = Argon2Params::MOST_OBEYED;
    let kept = imported.keep(binding(&live, 7), Coverage::Text, &digest, most);
    let kept = kept.unwrap();
    assert!(imported.decode(&kept, binding(&live, 7), most).is_ok());
    assert!(imported.decode(&kept, binding(&live, 8), most).is_err());
    assert!(imported.decode(&kept, binding(&test, 7), most).is_err());
    let other = Pepper::new(1, (1..33).collect::<Vec<u8>>()).unwrap();
    let other = ImportedKeys::under(other);
    assert!(other.decode(&kept, binding(&live, 7), most).is_err());
    let as_secret = Digest::new(kept.expose().replace("$text$", "$secret$")).unwrap();
    assert!(
        imported
            .decode(&as_secret, binding(&live, 7), most)
            .is_err()
    );
}

#[test]
fn invalid_settings_fail_at_opening() {
    let by_mac = LegacyFormat::opaque("a").unwrap();
    let by_mac = by_mac.found_by(LegacyHash::SHA256.hmac("k"));
    let own = KeyFormat::new("acme").unwrap().environment("live").unwrap();
    let keys = ImportedKeys::under(pepper()).accept(by_mac);
    assert!(keys.fault(&own).unwrap().contains("`k`"));
    let keys = keys.site_secret("k", "key").unwrap();
    assert_eq!(keys.fault(&own), None);
    let again = keys.accept(LegacyFormat::opaque("a").unwrap());
    assert!(again.fault(&own).unwrap().contains("twice"));
    let keys = ImportedKeys::under(pepper());
    let twice = keys.clone().site_secret("k", "a").unwrap();
    assert!(
        twice
            .site_secret("k", "b")
            .unwrap()
            .fault(&own)
            .unwrap()
            .contains("twice")
    );
    assert!(keys.clone().site_secret("K", "key").is_err());
    assert!(keys.site_secret("k", "").is_err());
}
