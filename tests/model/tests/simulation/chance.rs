//! Chance that repeats itself: the same seed, the same throws.

/// Throws of one seed.
#[derive(Debug, Clone)]
pub struct Chance(fastrand::Rng);

impl Chance {
    /// The throws of a seed. What libraries throw for themselves on this thread (the jitter of waits) follows it, too.
    pub fn of(seed: u64) -> Self {
        fastrand::seed(seed);
        Self(fastrand::Rng::with_seed(seed))
    }

    /// 0 up to, and not including, `most`; 0 for none.
    pub fn below(&mut self, most: usize) -> usize {
        if most == 0 { 0 } else { self.0.usize(..most) }
    }

    /// True so many times in a hundred.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of some, by their weights.
    pub fn weighted<T: Copy>(&mut self, choices: &[(usize, T)]) -> Option<T> {
        let sum = choices.iter().map(|(weight, _)| weight).sum();
        let mut thrown = self.below(sum);
        choices.iter().find_map(|(weight, choice)| {
            let is_it = thrown < *weight;
            thrown = thrown.saturating_sub(*weight);
            is_it.then_some(*choice)
        })
    }
}
