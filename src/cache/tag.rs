//! The tag that a verified secret leaves in memory.

use std::fmt;

use sha2::block_api::compress256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::random::{RandomError, RandomSource};

const BLOCK: usize = 64;

/// SHA-256 of one block of key followed by the secret.
///
/// It is as hard to find a secret for a tag as for the digest that the tag replaces, and a tag is of no use outside
/// this process. The whole of the key is one block, so that its state is computed once (FIPS 180-4 §6.2). Lengths
/// cannot be confused, since the padding holds them. A longer message could be forged from a tag, which does not
/// matter, since no tag leaves the process.
#[derive(Clone, Copy)]
pub(crate) struct Tag([u64; 4]);

impl Tag {
    /// Returns whether both are of one secret, in time that does not depend on where they differ.
    pub(crate) fn matches(&self, other: &Self) -> bool {
        let difference = self.0.iter().zip(other.0);
        let difference = difference.fold(0, |difference, (a, b)| difference | (a ^ b));
        difference.ct_eq(&0).into()
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tag([redacted])")
    }
}

/// Computes tags. Its key is drawn at start and never stored.
pub(crate) struct Tagger {
    keyed: [u32; 8],
}

impl Tagger {
    pub(crate) fn new(random: &dyn RandomSource) -> Result<Self, RandomError> {
        let mut key = Zeroizing::new([[0_u8; BLOCK]]);
        random.fill(key.as_flattened_mut())?;
        let mut keyed = INITIAL;
        compress256(&mut keyed, key.as_slice());
        Ok(Self { keyed })
    }

    /// Computes the tag of a secret.
    #[inline]
    pub(crate) fn tag(&self, secret: &[u8]) -> Tag {
        let mut state = self.keyed;
        let mut rest = secret;
        while let Some((block, after)) = rest.split_first_chunk::<BLOCK>() {
            compress256(&mut state, std::array::from_ref(block));
            rest = after;
        }
        // FIPS 180-4 §5.1.1: a one, zeros, and the length in bits, which ends a block.
        let bits = 8 * u64::try_from(BLOCK + secret.len()).unwrap_or(u64::MAX);
        let mut last = [[0; BLOCK]];
        let block = last.as_flattened_mut();
        if let Some((start, [one, ..])) = block.split_at_mut_checked(rest.len()) {
            start.copy_from_slice(rest);
            *one = 0x80;
        }
        if rest.len() + 1 + 8 > BLOCK {
            compress256(&mut state, &last);
            last = [[0; BLOCK]];
        }
        if let Some(length) = last.as_flattened_mut().last_chunk_mut() {
            *length = bits.to_be_bytes();
        }
        compress256(&mut state, &last);
        let [a, b, c, d, e, f, g, h] = state.map(u64::from);
        Tag([a << 32 | b, c << 32 | d, e << 32 | f, g << 32 | h])
    }
}

/// The initial hash value of FIPS 180-4 §5.3.3.
const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::SeededRandom;
    use sha2::{Digest, Sha256};

    #[test]
    fn a_tag_is_sha_256_of_key_and_secret() {
        let tagger = Tagger::new(&SeededRandom::new(7)).unwrap();
        let mut key = [0; BLOCK];
        SeededRandom::new(7).fill(&mut key).unwrap();
        for length in 0..=256 {
            let secret: Vec<u8> = (0..=250).cycle().take(length).collect();
            let expected: [u8; 32] = Sha256::new()
                .chain_update(key)
                .chain_update(&secret)
                .finalize()
                .into();
            let tag = tagger.tag(&secret).0.map(u64::to_be_bytes);
            assert_eq!(tag.as_flattened(), expected, "{length}");
        }
    }

    #[test]
    fn tags_match_in_every_bit() {
        let tag = Tag([1, 2, 3, 4]);
        assert!(tag.matches(&tag));
        for bit in 0..256 {
            let mut other = tag;
            other.0[bit / 64] ^= 1 << (bit % 64);
            assert!(!tag.matches(&other), "{bit}");
        }
    }
}
