//! Fixed-width base62 in ASCII order: `0-9`, `A-Z`, `a-z`, most significant digit first.
//!
//! The fixed width gives each value exactly one spelling, which the general-purpose crates do not promise.

/// The digits in the order of their values.
pub(super) const ALPHABET: &[u8; 62] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Digits of a 128-bit id: the fewest that hold every value (62^22 > 2^128).
pub(super) const ID_DIGITS: usize = 22;

/// Digits of a 32-bit checksum: the fewest that hold every value (62^6 > 2^32).
pub(super) const CHECKSUM_DIGITS: usize = 6;

/// Writes the digits of a value right-aligned into `digits`; digits that do not fit are cut off at the top.
pub(super) fn encode(mut value: u128, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        let index = usize::try_from(value % 62).unwrap_or_default();
        *digit = ALPHABET.get(index).copied().unwrap_or(b'0');
        value /= 62;
    }
}

/// Returns the value of an id's digits; `None` if it is 2^128 or more. The caller has checked that they are digits.
#[inline]
pub(super) fn decode(digits: &[u8; ID_DIGITS]) -> Option<u128> {
    debug_assert!(are_digits(digits), "what is no digit has no value");
    let (first, rest) = digits.split_first_chunk::<6>()?;
    let (second, third) = rest.split_first_chunk::<8>()?;
    let third = third.first_chunk::<8>()?;
    let [first, second, third] = [padded(*first), *second, *third].map(decode_eight);
    // 62^14 fits in 128 bits: only the last step can overflow.
    let start = u128::from(first) * u128::from(WEIGHT) + u128::from(second);
    start
        .checked_mul(u128::from(WEIGHT))?
        .checked_add(u128::from(third))
}

/// Returns the CRC-32 (ISO-HDLC, as in zlib and PNG) of everything before it, in base62.
pub(super) fn checksum(covered: &[u8]) -> [u8; CHECKSUM_DIGITS] {
    let mut digits = [0; CHECKSUM_DIGITS];
    encode(u128::from(crc32fast::hash(covered)), &mut digits);
    digits
}

/// Returns the value of a checksum's digits. The caller has checked that they are digits.
#[inline]
pub(super) fn decode_checksum(digits: &[u8; CHECKSUM_DIGITS]) -> u64 {
    debug_assert!(are_digits(digits), "what is no digit has no value");
    decode_eight(padded(*digits))
}

/// Pads to eight digits of the same value.
#[inline]
fn padded([a, b, c, d, e, f]: [u8; 6]) -> [u8; 8] {
    [b'0', b'0', a, b, c, d, e, f]
}

/// The weight of eight digits.
const WEIGHT: u64 = 62_u64.pow(8);

/// Returns the value of eight digits, computed in parallel in the bytes of one word.
#[inline]
fn decode_eight(digits: [u8; 8]) -> u64 {
    const EVEN_BYTES: u64 = 0x00ff_00ff_00ff_00ff;
    const EVEN_PAIRS: u64 = 0x0000_ffff_0000_ffff;
    let bytes = u64::from_le_bytes(digits);
    // ASCII: digits from 0x30, capitals from 0x41, small letters from 0x61. Each step subtracts the gap before its
    // range.
    let letters = bytes >> 6 & ONES;
    let small = letters & bytes >> 5;
    let values = bytes - ONES * 0x30 - letters * 7 - small * 6;
    // The first digit is the most significant, and in the lowest byte: combine pairs, then pairs of pairs, then both
    // halves.
    let pairs = (values & EVEN_BYTES) * 62 + (values >> 8 & EVEN_BYTES);
    let fours = (pairs & EVEN_PAIRS) * 62_u64.pow(2) + (pairs >> 16 & EVEN_PAIRS);
    (fours & 0xffff_ffff) * 62_u64.pow(4) + (fours >> 32)
}

/// Returns whether the byte is a base62 digit.
pub(super) const fn is_digit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

/// Returns whether all bytes are digits. It checks a word at a time, and some of the last bytes twice.
#[inline]
pub(super) fn are_digits(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk() else {
        return bytes.iter().all(|byte| is_digit(*byte));
    };
    let (mut all, mut rest) = (digits_of(*last), bytes);
    while let Some((word, after)) = rest.split_first_chunk() {
        all &= digits_of(*word);
        rest = after;
    }
    all & HIGH_BITS == HIGH_BITS
}

const ONES: u64 = u64::MAX / 255;
const HIGH_BITS: u64 = ONES << 7;

/// Sets the high bit of each byte that is a digit; the other bits have no meaning.
#[inline]
fn digits_of(bytes: [u8; 8]) -> u64 {
    let bytes = u64::from_ne_bytes(bytes);
    // With its high bit cleared, no addition to a byte carries into the next byte.
    let ascii = bytes & !HIGH_BITS;
    let folded = ascii | (ONES * 0x20);
    let reaches = |bytes: u64, least: u8| bytes + ONES * u64::from(0x80 - least);
    let is_digit = reaches(ascii, b'0') & !reaches(ascii, b'9' + 1);
    let is_letter = reaches(folded, b'a') & !reaches(folded, b'z' + 1);
    (is_digit | is_letter) & !bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: u128) -> [u8; ID_DIGITS] {
        let mut digits = [0; ID_DIGITS];
        encode(value, &mut digits);
        digits
    }

    #[test]
    fn known_answers() {
        assert_eq!(&encoded(0), b"0000000000000000000000");
        assert_eq!(&encoded(61), b"000000000000000000000z");
        assert_eq!(&encoded(62), b"0000000000000000000010");
        assert_eq!(&encoded(u128::MAX), b"7n42DGM5Tflk9n8mt7Fhc7");
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
}
