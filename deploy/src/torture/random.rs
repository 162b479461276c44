//! Randomness that a seed repeats.

/// A small generator (SplitMix64): a seed tells the whole story.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// What this seed leads to, for one purpose: streams for different purposes do not disturb each other.
    pub(super) fn new(seed: u64, purpose: &str) -> Self {
        let salt = purpose
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self(seed ^ salt)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `from` up to and without `to`.
    pub(super) fn within(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % to.saturating_sub(from).max(1)
    }

    /// The same for small numbers.
    pub(super) fn small(&mut self, from: u8, to: u8) -> u8 {
        u8::try_from(self.within(from.into(), to.into())).unwrap_or(from)
    }

    /// Yes, in so many of a hundred cases.
    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.within(0, 100) < percent
    }

    /// One of several; there is at least one.
    pub(super) fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        let index = self.within(0, u64::try_from(choices.len()).unwrap_or(1));
        &choices[usize::try_from(index).unwrap_or_default()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself_and_purposes_differ() {
        let numbers = |seed, purpose| {
            let mut random = Random::new(seed, purpose);
            [0; 8].map(|_| random.within(5, 1_000))
        };
        assert_eq!(numbers(7, "visits"), numbers(7, "visits"));
        assert_ne!(numbers(7, "visits"), numbers(8, "visits"));
        assert_ne!(numbers(7, "visits"), numbers(7, "faults"));
        assert!(numbers(7, "visits").iter().all(|number| (5..1_000).contains(number)));
    }
}
