//! A number for every value.

use std::{collections::HashMap, fmt::Debug};

/// Values with numbers; equal values have the same one. They are told apart by their `Debug` text, which names every
/// field, since real states have no hash.
pub(super) struct Interner<T> {
    values: Vec<T>,
    numbers: HashMap<String, u16>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { values: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Debug> Interner<T> {
    pub(super) fn number(&mut self, value: T) -> u16 {
        let next = u16::try_from(self.values.len()).expect("fewer than 65,536 real states");
        let number = *self.numbers.entry(format!("{value:?}")).or_insert(next);
        if number == next {
            self.values.push(value);
        }
        number
    }

    pub(super) fn get(&self, number: u16) -> &T {
        &self.values[usize::from(number)]
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.values.iter()
    }
}
