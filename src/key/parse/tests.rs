use super::*;
use crate::key::base62::{ALPHABET, encode};

fn encoded(value: u128) -> [u8; ID_DIGITS] {
    let mut digits = [0; ID_DIGITS];
    encode(value, &mut digits);
    digits
}

#[test]
fn accepted_prefixes_are_the_formats_own() {
    let format = KeyFormat::new("beta").unwrap().environment("live").unwrap();
    let format = format.accept_prefix("acme").unwrap();
    for (text, expected) in [
        (&b"acme_live_x"[..], KeyTextError::Truncated { missing: 70 }),
        (b"acme_test_x", KeyTextError::Environment),
        (b"ACME_live_x", KeyTextError::Recased),
        (b"acme_l", KeyTextError::Truncated { missing: 75 }),
        (b"acm_live_x", KeyTextError::Prefix),
    ] {
        assert_eq!(format.parse(text).unwrap_err(), expected);
    }
    // What near misses, and legacy formats, go by.
    assert_eq!(format.strip_any_prefix(b"acme_x"), Some(&b"x"[..]));
    assert_eq!(format.strip_any_prefix(b"beta_x"), Some(&b"x"[..]));
    assert_eq!(format.strip_any_prefix(b"other_x"), None);
    assert!(format.resembles(b"\"acme_live_x") && format.resembles(b"beta_live_x"));
}

#[test]
fn every_value_reads_back() {
    let mut value: u128 = 1;
    for _ in 0..2_000 {
        value = value
            .wrapping_mul(0x2d99_787a_9e3f_0f53_8de1_9ac3_71b2_4c5d)
            .rotate_left(7);
        assert_eq!(decode(&encoded(value)), Some(value));
    }
}

#[test]
fn values_beyond_128_bits_are_refused() {
    assert_eq!(decode(b"7n42DGM5Tflk9n8mt7Fhc7"), Some(u128::MAX));
    assert_eq!(decode(b"7n42DGM5Tflk9n8mt7Fhc8"), None);
    assert_eq!(decode(b"zzzzzzzzzzzzzzzzzzzzzz"), None);
}

#[test]
fn an_invalid_byte_is_found_anywhere() {
    for length in [1, 7, 8, 9, 15, 16, 17, 71] {
        let good = vec![b'z'; length];
        assert!(are_digits(&good));
        for at in 0..length {
            for byte in 0..=u8::MAX {
                let mut bytes = good.clone();
                bytes[at] = byte;
                assert_eq!(
                    are_digits(&bytes),
                    is_digit(byte),
                    "{byte} at {at} of {length}"
                );
            }
        }
    }
}

#[test]
fn each_digit_counts_in_each_place() {
    for place in 0..ID_DIGITS {
        let weight = 62_u128.pow(u32::try_from(ID_DIGITS - 1 - place).unwrap());
        for (value, digit) in (0..).zip(ALPHABET) {
            let mut digits = [b'0'; ID_DIGITS];
            digits[place] = *digit;
            assert_eq!(
                decode(&digits),
                weight.checked_mul(value),
                "{value} at {place}"
            );
        }
    }
}

#[test]
fn a_checksum_reads_back() {
    for value in [0, 1, 61, 62, 0xcbf4_3926, u32::MAX] {
        let mut digits = [0; CHECKSUM_DIGITS];
        encode(value.into(), &mut digits);
        assert_eq!(decode_checksum(&digits), u64::from(value));
    }
    assert_eq!(decode_checksum(b"zzzzzz"), 62_u64.pow(6) - 1);
}

#[test]
fn a_display_prefix_bounds_the_ids() {
    let format = KeyFormat::new("acme").unwrap().environment("live").unwrap();
    let every = Some((KeyId::from_u128(0), KeyId::from_u128(u128::MAX)));
    for (start, ids) in [
        ("", every),
        ("acme_l", every),
        ("acme_live_", every),
        ("acme_test_", None),
        ("other", None),
        ("acme_live_é", None),
        ("acme_live_zzzzzzzz", None),
        ("acme_live_123456789", None),
    ] {
        assert_eq!(format.ids_displayed_as(start), ids, "{start}");
    }
    for id in [0, 1, u128::MAX / 3, u128::MAX] {
        let id = KeyId::from_u128(id);
        let digits = String::from_utf8(id.base62().to_vec()).unwrap();
        for shown in 1..=DISPLAYED_ID_DIGITS {
            let start = format!("acme_live_{}", &digits[..shown]);
            let (first, last) = format.ids_displayed_as(&start).unwrap();
            assert!(first <= id && id <= last, "{start}");
            assert!(shown < 8 || last.as_u128() - first.as_u128() < 1 << 84);
        }
    }
}
