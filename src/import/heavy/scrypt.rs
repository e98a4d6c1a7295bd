//! scrypt (RFC 7914) in reused memory.
//!
//! The crate `scrypt` allocates and frees memory for each hash, and glibc's allocator then keeps more than was ever in
//! use at a time. Salsa20/8 and PBKDF2 come from RustCrypto; this module only mixes their blocks.

use argon2::Block;
use pbkdf2::pbkdf2_hmac;
use salsa20::SalsaCore;
use salsa20::cipher::StreamCipherCore;
use salsa20::cipher::typenum::U4;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::hashing::HashingError;
use crate::hashing::argon2id::Memory;

/// 64 bytes, the input and output size of Salsa20/8.
type Unit = [u32; 16];

/// Number of units in a block of memory.
const UNITS: usize = Block::SIZE / 64;

/// Fills the output with the hash. `n` is a power of two.
pub(super) fn fill(
    (n, r, p): (usize, usize, usize),
    salt: &[u8],
    secret: &[u8],
    output: &mut [u8],
    memory: &mut Memory,
) -> Result<(), HashingError> {
    let mut lanes = Zeroizing::new(vec![0; p * r * 128]);
    pbkdf2_hmac::<Sha256>(secret, salt, 1, &mut lanes);
    let blocks = memory.blocks((n * r * 2).div_ceil(UNITS));
    let blocks = blocks.ok_or(HashingError::Unfinished)?;
    for lane in lanes.chunks_exact_mut(r * 128) {
        mix(lane, n, blocks).ok_or(HashingError::Unfinished)?;
    }
    pbkdf2_hmac::<Sha256>(secret, &lanes, 1, output);
    Ok(())
}

/// Computes the RFC's `scryptROMix`: writes the successive states of the lane into memory, then mixes parts of the
/// memory, which the lane itself selects, back into the lane. `None` if there is not enough memory.
fn mix(lane: &mut [u8], n: usize, blocks: &mut [Block]) -> Option<()> {
    let units: Vec<Unit> = arrays(lane).map(from_bytes).collect();
    let mut from = Zeroizing::new(units);
    let mut to = from.clone();
    {
        let mut places = blocks
            .iter_mut()
            .flat_map(|block| arrays_mut::<_, 8>(block.as_mut()));
        for _ in 0..n {
            for (unit, place) in from.iter().zip(places.by_ref()) {
                *place = packed(unit);
            }
            block_mix(&from, &mut to);
            std::mem::swap(&mut from, &mut to);
        }
    }
    for _ in 0..n {
        let low = usize::try_from(*from.last()?.first()?).ok()?;
        let first = (low & (n - 1)) * from.len();
        for (index, unit) in (first..).zip(from.iter_mut()) {
            let block: &[u64] = blocks.get(index / UNITS)?.as_ref();
            let place = block.get(index % UNITS * 8..)?.first_chunk()?;
            *unit = xor(unit, &unpacked(place));
        }
        block_mix(&from, &mut to);
        std::mem::swap(&mut from, &mut to);
    }
    for (bytes, unit) in arrays_mut(lane).zip(from.iter()) {
        *bytes = to_bytes(unit);
    }
    Some(())
}

/// Computes the RFC's `scryptBlockMix`: the results of the even units come first, then those of the odd ones.
fn block_mix(from: &[Unit], to: &mut [Unit]) {
    let Some(mut last) = from.last().copied() else {
        return;
    };
    let (even, odd) = to.split_at_mut(from.len() / 2);
    for (([first, second], even), odd) in arrays(from).zip(even).zip(odd) {
        *even = salsa20_8(xor(&last, first));
        *odd = salsa20_8(xor(even, second));
        last = *odd;
    }
}

/// Iterates over the slice in arrays, without the remainder.
#[inline(always)]
fn arrays<T, const N: usize>(slice: &[T]) -> impl Iterator<Item = &[T; N]> {
    slice
        .chunks_exact(N)
        .filter_map(|chunk| chunk.first_chunk())
}

#[inline(always)]
fn arrays_mut<T, const N: usize>(slice: &mut [T]) -> impl Iterator<Item = &mut [T; N]> {
    slice
        .chunks_exact_mut(N)
        .filter_map(|chunk| chunk.first_chunk_mut())
}

#[inline(always)]
fn salsa20_8(unit: Unit) -> Unit {
    let mut bytes = [0; 64];
    SalsaCore::<U4>::from_raw_state(unit).write_keystream_block((&mut bytes).into());
    from_bytes(&bytes)
}

#[inline(always)]
fn xor(a: &Unit, b: &Unit) -> Unit {
    let mut both = *a;
    for (a, b) in both.iter_mut().zip(b) {
        *a ^= b;
    }
    both
}

#[inline(always)]
fn from_bytes(bytes: &[u8; 64]) -> Unit {
    let mut unit = [0; 16];
    for (word, bytes) in unit.iter_mut().zip(arrays(bytes)) {
        *word = u32::from_le_bytes(*bytes);
    }
    unit
}

#[inline(always)]
fn to_bytes(unit: &Unit) -> [u8; 64] {
    let mut bytes = [0; 64];
    for (bytes, word) in arrays_mut(&mut bytes).zip(unit) {
        *bytes = word.to_le_bytes();
    }
    bytes
}

/// Packs a unit in the form of Argon2's memory blocks.
#[inline(always)]
fn packed(unit: &Unit) -> [u64; 8] {
    let mut packed = [0; 8];
    for (both, [low, high]) in packed.iter_mut().zip(arrays(unit)) {
        *both = u64::from(*low) | (u64::from(*high) << 32);
    }
    packed
}

#[inline(always)]
fn unpacked(packed: &[u64; 8]) -> Unit {
    let mut unit = [0; 16];
    for ([low, high], both) in arrays_mut(&mut unit).zip(packed) {
        let [a, b, c, d, e, f, g, h] = both.to_le_bytes();
        *low = u32::from_le_bytes([a, b, c, d]);
        *high = u32::from_le_bytes([e, f, g, h]);
    }
    unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_rfc_7914_vectors() {
        // Section 12, except for the largest vector. The last one is from Python's hashlib, with lanes that end within
        // a block.
        let mut memory = Memory::default();
        for (secret, salt, n, r, p, expected) in [
            (
                "pleaseletmein",
                "SodiumChloride",
                16_384,
                8,
                1,
                "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2\
                 d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887",
            ),
            (
                "",
                "",
                16,
                1,
                1,
                "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442\
                 fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906",
            ),
            (
                "password",
                "NaCl",
                1_024,
                8,
                16,
                "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162\
                 2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640",
            ),
            (
                "pw",
                "NaCl",
                32,
                3,
                2,
                "c9b39565e5b4b6e603a869452a884fc10f0358f90cf4ba4d7ca2a4ab9cee0f06\
                 0ac9d0ff3bbaa048fbf926352685dac9749ff1dc9abbc1f964166cc2fc935a1c",
            ),
        ] {
            let mut output = [0; 64];
            fill(
                (n, r, p),
                salt.as_bytes(),
                secret.as_bytes(),
                &mut output,
                &mut memory,
            )
            .unwrap();
            assert_eq!(
                base16ct::lower::encode_string(&output),
                expected,
                "{n} {r} {p}"
            );
        }
    }
}
