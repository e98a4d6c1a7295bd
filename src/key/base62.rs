//! Fixed-width base62 in ASCII order: `0-9`, `A-Z`, `a-z`, most significant digit first.
//!
//! The fixed width gives each value exactly one spelling, which the general-purpose crates do not promise. `parse.rs`
//! reads it back.

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

/// Returns the CRC-32 (ISO-HDLC, as in zlib and PNG) of everything before it, in base62.
pub(super) fn checksum(covered: &[u8]) -> [u8; CHECKSUM_DIGITS] {
    let mut digits = [0; CHECKSUM_DIGITS];
    encode(u128::from(crc32fast::hash(covered)), &mut digits);
    digits
}

/// Returns whether the byte is a base62 digit.
pub(super) const fn is_digit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
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

    /// The check value of CRC-32/ISO-HDLC.
    #[test]
    fn a_checksum_is_a_crc_32() {
        let mut digits = [0; CHECKSUM_DIGITS];
        encode(0xcbf4_3926, &mut digits);
        assert_eq!(checksum(b"123456789"), digits);
    }
}
