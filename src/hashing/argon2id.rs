//! Argon2id (RFC 9106) under bounded parameters.

use std::fmt;

use argon2::{Algorithm, Argon2, AssociatedData, Block, ParamsBuilder, Version};

use super::HashingError;
use crate::key::ValueError;

const WEAK_OR_UNBOUNDED: ValueError = ValueError::malformed(
    "Argon2id parameters",
    "7 MiB to 2 GiB of memory, 1 to 64 passes, 1 to 16 lanes, and memory times passes of 35 MiB or more",
);

/// The parameters of Argon2id: memory, passes and lanes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Argon2Params {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Argon2Params {
    /// The recommendation of OWASP's Password Storage Cheat Sheet: 19 MiB, 2 passes, 1 lane.
    pub const OWASP: Self = Self {
        memory_kib: 19 * 1024,
        passes: 2,
        lanes: 1,
    };

    /// Limit of a stored digest's parameters, unless the host configures more. 64 MiB and 4 lanes are from RFC 9106's
    /// second recommended option.
    pub(crate) const MOST_OBEYED: Self = Self {
        memory_kib: 64 * 1024,
        passes: 16,
        lanes: 4,
    };

    /// Limit of parameters that can be parsed. Lower limits decide whether a digest with them is computed.
    pub(crate) const MOST_READ: Self = Self {
        memory_kib: 2 * 1024 * 1024,
        passes: 64,
        lanes: 16,
    };

    /// Creates parameters that are no weaker than OWASP's recommendations, and bounded.
    ///
    /// # Errors
    /// [`ValueError`] unless memory is 7 MiB to 2 GiB, passes 1 to 64, lanes 1 to 16, and memory times passes
    /// at least 35 MiB, the least of OWASP's equivalent settings.
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, ValueError> {
        let bounded = (7 * 1024..=2 * 1024 * 1024).contains(&memory_kib)
            && (1..=64).contains(&passes)
            && (1..=16).contains(&lanes);
        let params = Self {
            memory_kib,
            passes,
            lanes,
        };
        if bounded && params.cost() >= 35 * 1024 {
            Ok(params)
        } else {
            Err(WEAK_OR_UNBOUNDED)
        }
    }

    /// Creates parameters read from a digest: any that Argon2 can compute, up to `most`.
    pub(crate) fn stored(
        memory_kib: u32,
        passes: u32,
        lanes: u32,
        most: Self,
    ) -> Result<Self, HashingError> {
        if memory_kib > most.memory_kib || passes > most.passes || lanes > most.lanes {
            return Err(HashingError::Excessive);
        }
        if lanes == 0 || passes == 0 || memory_kib < 8 * lanes {
            return Err(HashingError::Malformed);
        }
        Ok(Self {
            memory_kib,
            passes,
            lanes,
        })
    }

    pub(super) fn or_more(self, other: Self) -> Self {
        Self {
            memory_kib: self.memory_kib.max(other.memory_kib),
            passes: self.passes.max(other.passes),
            lanes: self.lanes.max(other.lanes),
        }
    }

    /// Returns memory times passes in KiB: the cost of a guess for an attacker, by which parameters rank.
    pub(super) fn cost(self) -> u64 {
        u64::from(self.memory_kib) * u64::from(self.passes)
    }

    /// Returns the memory in KiB.
    pub(crate) const fn memory_kib(self) -> u32 {
        self.memory_kib
    }

    /// Returns the number of passes over the memory.
    pub(crate) const fn passes(self) -> u32 {
        self.passes
    }

    /// Returns the number of lanes.
    pub(crate) const fn lanes(self) -> u32 {
        self.lanes
    }
}

impl fmt::Debug for Argon2Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Argon2Params(m={},t={},p={})",
            self.memory_kib, self.passes, self.lanes
        )
    }
}

/// The memory of one thread's slow hashes, kept for the next ones.
///
/// If each hash allocated and freed its own, blocks of this size would end up on the heap of glibc's allocator, which
/// does not always find the freed ones again.
#[derive(Default)]
pub(crate) struct Memory(Vec<Block>);

impl Memory {
    /// Returns `count` blocks; `None` if there is not enough memory.
    pub(crate) fn blocks(&mut self, count: usize) -> Option<&mut [Block]> {
        if self.0.len() < count {
            // Free the old blocks first: growing may need both sizes at once.
            self.0 = Vec::new();
            self.0.try_reserve_exact(count).ok()?;
            self.0.resize_with(count, Block::default);
        }
        self.0.get_mut(..count)
    }
}

/// Fills the output with the hash, computed in reused memory.
pub(crate) fn fill(
    argon2: &Argon2<'_>,
    secret: &[u8],
    salt: &[u8],
    output: &mut [u8],
    memory: &mut Memory,
) -> Result<(), HashingError> {
    let blocks = memory.blocks(argon2.params().block_count());
    let blocks = blocks.ok_or(HashingError::Unfinished)?;
    argon2
        .hash_password_into_with_memory(secret, salt, output, blocks)
        .map_err(|_| HashingError::Unfinished)
}

/// Computes Argon2id of the secret: 32 bytes. The binding is the associated data, the pepper Argon2's secret value.
pub(super) fn hash(
    params: Argon2Params,
    pepper: &[u8],
    salt: &[u8],
    associated_data: [u8; 32],
    secret: &[u8],
    memory: &mut Memory,
) -> Result<[u8; 32], HashingError> {
    let unfinished = |_| HashingError::Unfinished;
    let params = ParamsBuilder::new()
        .m_cost(params.memory_kib)
        .t_cost(params.passes)
        .p_cost(params.lanes)
        .data(AssociatedData::new(&associated_data).map_err(unfinished)?)
        .output_len(32)
        .build()
        .map_err(unfinished)?;
    let argon2 = Argon2::new_with_secret(pepper, Algorithm::Argon2id, Version::V0x13, params)
        .map_err(unfinished)?;
    let mut output = [0; 32];
    fill(&argon2, secret, salt, &mut output, memory)?;
    Ok(output)
}

/// Returns the parameters of a digest without a binding, with this length of output.
pub(crate) fn plain_params(
    params: Argon2Params,
    output_bytes: usize,
) -> Result<argon2::Params, HashingError> {
    let (memory, passes, lanes) = (params.memory_kib, params.passes, params.lanes);
    argon2::Params::new(memory, passes, lanes, Some(output_bytes))
        .map_err(|_| HashingError::Unfinished)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_below_owasp_are_refused() {
        // The five settings that OWASP calls equivalent.
        for (memory, passes) in [
            (47_104, 1),
            (19_456, 2),
            (12_288, 3),
            (9_216, 4),
            (7_168, 5),
        ] {
            assert!(
                Argon2Params::new(memory, passes, 1).is_ok(),
                "{memory} {passes}"
            );
        }
        for (memory, passes, lanes) in [
            (7_168, 4, 1),
            (7_167, 64, 1),
            (19_456, 0, 1),
            (19_456, 65, 1),
            (19_456, 2, 0),
            (19_456, 2, 17),
            (2_097_153, 1, 1),
            (u32::MAX, u32::MAX, u32::MAX),
        ] {
            assert_eq!(
                Argon2Params::new(memory, passes, lanes),
                Err(WEAK_OR_UNBOUNDED)
            );
        }
    }

    #[test]
    fn matches_the_rfc_9106_vector() {
        // Section 5.3: m=32, t=3, p=4, twelve bytes of associated data. Keyward's associated data always has 32 bytes,
        // so the vector goes to the library directly, to show that it implements the algorithm of the RFC.
        let params = ParamsBuilder::new()
            .m_cost(32)
            .t_cost(3)
            .p_cost(4)
            .data(AssociatedData::new(&[4; 12]).unwrap())
            .output_len(32)
            .build()
            .unwrap();
        let argon2 =
            Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params).unwrap();
        let mut output = [0; 32];
        argon2
            .hash_password_into(&[1; 32], &[2; 16], &mut output)
            .unwrap();
        let hex: String = output.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"
        );
    }
}
