use super::*;

#[test]
fn names_are_bounded() {
    for bad in [
        "",
        "a",
        "Acme",
        "a_b",
        "a-b",
        "1acme",
        "acmé",
        "aaaaaaaaaaaaaaaaa",
    ] {
        assert!(KeyFormat::new(bad).is_err(), "{bad}");
    }
    for bad in ["", "Live", "li_ve", "1live", "aaaaaaaaaaaaaaaaa"] {
        assert!(
            KeyFormat::new("acme").unwrap().environment(bad).is_err(),
            "{bad}"
        );
    }
    assert!(KeyFormat::new("a1").unwrap().environment("x").is_ok());
}

#[test]
fn an_environment_is_declared_once() {
    let format = KeyFormat::new("acme").unwrap().environment("live").unwrap();
    assert_eq!(format.environment("live"), Err(FormatError::Repeated));
}

#[test]
fn accepted_prefixes_are_distinct() {
    let format = KeyFormat::new("acme").unwrap().environment("live").unwrap();
    let both = format.clone().accept_prefix("beta").unwrap();
    for repeated in ["acme", "beta"] {
        let again = both.clone().accept_prefix(repeated);
        assert_eq!(again, Err(FormatError::Repeated));
    }
    assert!(format.clone().accept_prefix("a_b").is_err());
    let accepting = |count: usize| {
        let mut names = (0..count).map(|n| format!("old{n}"));
        names.try_fold(format.clone(), |format, name| format.accept_prefix(&name))
    };
    assert!(accepting(16).is_ok());
    assert_eq!(accepting(17), Err(FormatError::TooManyPrefixes));
    // The order of the declarations does not matter.
    let later = format.accept_prefix("beta").unwrap().environment("test");
    let heads = later.unwrap();
    let heads: Vec<_> = heads.heads().map(|(_, _, head)| head.to_owned()).collect();
    assert_eq!(
        heads,
        ["acme_live_", "acme_test_", "beta_live_", "beta_test_"]
    );
}

#[test]
fn secret_length_is_bounded() {
    let format = KeyFormat::new("acme").unwrap().environment("live").unwrap();
    for length in [0, 21, 129, usize::MAX] {
        assert_eq!(
            format.clone().secret_length(length),
            Err(FormatError::SecretLength { length })
        );
    }
    for length in [22, 64, 128] {
        let longest = format.clone().secret_length(length).unwrap();
        let secret = Secret::new("a".repeat(length)).unwrap();
        let live = Environment::new("live").unwrap();
        let key = longest.compose(&live, KeyId::from_u128(1), &secret);
        assert!(key.unwrap().expose().len() <= crate::key::MAX_TEXT);
    }
}

#[test]
fn only_test_is_a_test_environment() {
    for (name, expected) in [
        ("test", true),
        ("live", false),
        ("testing", false),
        ("dev", false),
    ] {
        assert_eq!(Environment::new(name).unwrap().is_test(), expected);
    }
}
