//! Fixed-width base62 in ASCII order: `0-9`, `A-Z`, `a-z`, most significant digit first.
//!
//! Fixed width keeps one spelling for each value, which the general-purpose crates do not promise.

/// The digits, in the order of their values.
pub(super) const ALPHABET: &[u8; 62] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Digits of a 128-bit id: the fewest that hold every value (62^22 > 2^128).
pub(super) const ID_DIGITS: usize = 22;

/// Digits of a 32-bit checksum: the fewest that hold every value (62^6 > 2^32).
pub(super) const CHECKSUM_DIGITS: usize = 6;

/// The digit for each value, filling `digits` from its end; what does not fit is cut off at the top.
pub(super) fn encode(mut value: u128, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        let index = usize::try_from(value % 62).unwrap_or_default();
        *digit = ALPHABET.get(index).copied().unwrap_or(b'0');
        value /= 62;
    }
}

/// The value of a run of digits, or `None` if a byte is no digit or the value is 2^128 or more.
#[inline]
pub(super) fn decode(digits: &[u8]) -> Option<u128> {
    // Ten digits fit a u64, whose arithmetic is much cheaper than that of a u128.
    const CHUNK: usize = 10;
    let first = digits.len() % CHUNK;
    let (first, rest) = digits.split_at_checked(first)?;
    let mut value = u128::from(decode_short(first)?);
    for chunk in rest.chunks_exact(CHUNK) {
        value = value
            .checked_mul(u128::from(WEIGHT))?
            .checked_add(u128::from(decode_short(chunk)?))?;
    }
    Some(value)
}

/// 62^10.
const WEIGHT: u64 = 62_u64.pow(10);

/// The value of up to ten digits.
#[inline]
pub(super) fn decode_short(digits: &[u8]) -> Option<u64> {
    // Two at a time: what is multiplied next waits for half as many products.
    let (pairs, last) = digits.as_chunks::<2>();
    let mut value = 0_u64;
    let mut all = 0;
    for [high, low] in pairs {
        let (high, low) = (digit_value(*high), digit_value(*low));
        all |= high | low;
        value = value
            .wrapping_mul(62 * 62)
            .wrapping_add(u64::from(high) * 62 + u64::from(low));
    }
    for digit in last {
        let digit = digit_value(*digit);
        all |= digit;
        value = value.wrapping_mul(62).wrapping_add(u64::from(digit));
    }
    (all & NO_DIGIT == 0).then_some(value)
}

/// Whether the byte is one of the 62 digits.
pub(super) const fn is_digit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

/// Whether all are digits. Looks at each, so that the compiler can look at many at once.
#[inline]
pub(super) fn are_digits(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |all, byte| all & is_digit(*byte))
}

/// A bit that no digit has.
const NO_DIGIT: u8 = 0x80;

/// The value of each byte, without a branch that random digits would mispredict.
static VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        #[expect(
            clippy::indexing_slicing,
            clippy::cast_possible_truncation,
            reason = "checked when it is compiled"
        )]
        {
            values[ALPHABET[value] as usize] = value as u8;
        }
        value += 1;
    }
    values
};

fn digit_value(byte: u8) -> u8 {
    VALUES.get(usize::from(byte)).copied().unwrap_or(NO_DIGIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: u128) -> String {
        let mut digits = [0; ID_DIGITS];
        encode(value, &mut digits);
        String::from_utf8(digits.to_vec()).unwrap()
    }

    #[test]
    fn known_answers() {
        assert_eq!(encoded(0), "0000000000000000000000");
        assert_eq!(encoded(61), "000000000000000000000z");
        assert_eq!(encoded(62), "0000000000000000000010");
        assert_eq!(encoded(u128::MAX), "7n42DGM5Tflk9n8mt7Fhc7");
    }

    #[test]
    fn every_value_reads_back() {
        let mut value: u128 = 1;
        for _ in 0..2_000 {
            value = value
                .wrapping_mul(0x2d99_787a_9e3f_0f53_8de1_9ac3_71b2_4c5d)
                .rotate_left(7);
            assert_eq!(decode(encoded(value).as_bytes()), Some(value));
        }
    }

    #[test]
    fn a_value_of_2_to_the_128_or_more_is_refused() {
        assert_eq!(decode(b"7n42DGM5Tflk9n8mt7Fhc7"), Some(u128::MAX));
        assert_eq!(decode(b"7n42DGM5Tflk9n8mt7Fhc8"), None);
        assert_eq!(decode(b"zzzzzzzzzzzzzzzzzzzzzz"), None);
    }

    #[test]
    fn one_byte_that_is_no_digit_is_found_wherever_it_stands() {
        for length in [1, 15, 16, 17, 71] {
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
    fn a_byte_that_is_no_digit_is_refused() {
        for byte in 0..=u8::MAX {
            assert_eq!(decode(&[byte]).is_some(), is_digit(byte), "{byte}");
        }
    }
}
