//! The output of a hash, with its only comparison.

use subtle::ConstantTimeEq;

/// The output of a hash or MAC with which a presented value is compared.
///
/// There is no `PartialEq`: `==` stops at the first difference, and a caller could learn from its duration.
#[derive(Clone)]
pub(super) struct Output<B>(B);

impl<B: AsRef<[u8]>> Output<B> {
    pub(super) fn new(bytes: B) -> Self {
        Self(bytes)
    }

    /// Returns whether the bytes are equal, in time that does not depend on where they differ.
    pub(super) fn is(&self, computed: &[u8]) -> bool {
        self.0.as_ref().ct_eq(computed).into()
    }

    /// Returns the output, to be encoded.
    pub(super) fn expose(&self) -> &B {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_match_in_every_bit() {
        let output = Output::new([7; 32]);
        assert!(output.is(&[7; 32]));
        assert!(!output.is(&[7; 31]));
        for bit in 0..256 {
            let mut other = [7; 32];
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!output.is(&other), "{bit}");
        }
    }

    #[test]
    fn outputs_have_no_other_comparison() {
        trait Chosen<Marker> {
            fn chosen() {}
        }
        struct Comparable;
        impl<T> Chosen<()> for T {}
        impl<T: PartialEq> Chosen<Comparable> for T {}
        // Fails to compile if there is a `PartialEq`, since the choice would then be ambiguous.
        <Output<[u8; 32]> as Chosen<_>>::chosen();
        <Output<Vec<u8>> as Chosen<_>>::chosen();
        <Output<String> as Chosen<_>>::chosen();
    }
}
