//! Every reachable state is visited once, breadth first, so that what it finds is the shortest way there.
//!
//! Afterwards the graph is walked backwards from the states in which nothing is left to do: a state that is not met on
//! that walk can never end. Only what the system does by itself counts as a way to the end, no customer and no luck.
//! (A general checker offers `eventually` on single paths, which misses such states where paths join.)

use std::{
    collections::{BTreeSet, HashMap},
    hash::BuildHasher as _,
};

use super::{
    bounds::Bounds,
    promises::{Broken, broken, broken_at_rest, status_of},
    rules::Rules,
    state::State,
    step::{By, Step, steps},
};

/// What a check has found.
#[derive(Debug, Clone)]
pub struct Report {
    /// Different states.
    pub states: usize,
    /// Ways from one to the next.
    pub steps: usize,
    /// The longest of the shortest ways.
    pub depth: usize,
    /// States in which nothing was left to do.
    pub ends: usize,
    /// The real checkout's states that were met.
    pub real_states: usize,
    /// The public words that they go by.
    pub statuses: BTreeSet<&'static str>,
    /// The first promise that is broken, with the way there.
    pub found: Option<Finding>,
}

/// A promise that is broken, and how.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Which.
    pub broken: Broken,
    /// What happened, one line each, from the beginning.
    pub way: Vec<String>,
}

/// The graph, without the states themselves: a state is known again by its hash of 64 bits. Among ten million states
/// two share one with a probability of about 1 in 400,000.
struct Graph {
    numbers: HashMap<u64, u32, foldhash::fast::FixedState>,
    parents: Vec<u32>,
    hashes: Vec<u64>,
    /// Steps that the system takes by itself.
    progress: Vec<(u32, u32)>,
    steps: usize,
}

/// Visit every state of a world.
///
/// # Panics
/// When there are more states than fit into 32 bits.
pub fn check(bounds: &Bounds, mut seen: impl FnMut(usize)) -> Report {
    let mut rules = Rules::new(bounds.stock);
    let beginning = State::beginning(bounds, rules.not_started(), rules.ledger.delivered());
    let mut graph = Graph::new(&beginning);
    let (mut level, mut next_level) = (vec![(0, beginning)], Vec::new());
    let (mut ends, mut depth, mut found) = (Vec::new(), 0, None);
    let mut possible = Vec::new();
    'levels: while !level.is_empty() {
        for (number, state) in &level {
            if let Some(broken) = broken(state, &mut rules, bounds) {
                found = Some((broken, *number));
                break 'levels;
            }
            steps(state, &mut rules, bounds, &mut possible);
            if possible.iter().all(|step| step.by == By::Outside) {
                ends.push(*number);
                if let Some(broken) = broken_at_rest(state, &mut rules, bounds) {
                    found = Some((broken, *number));
                    break 'levels;
                }
            }
            for step in &possible {
                if let Some(new) = graph.add(*number, step) {
                    next_level.push((new, step.to));
                }
            }
        }
        seen(graph.parents.len());
        level = std::mem::take(&mut next_level);
        depth += usize::from(!level.is_empty());
    }
    let found = found.or_else(|| Some((Broken::CannotEnd, graph.cannot_end(&ends)?)));
    let found = found.map(|(broken, at)| Finding { broken, way: graph.way_to(at, beginning, &mut rules, bounds) });
    Report {
        states: graph.parents.len(),
        steps: graph.steps,
        depth,
        ends: ends.len(),
        real_states: rules.met().count(),
        statuses: rules.met().filter_map(status_of).map(|status| status.as_str()).collect(),
        found,
    }
}

fn hash_of(state: &State) -> u64 {
    foldhash::quality::FixedState::default().hash_one(state)
}

impl Graph {
    fn new(beginning: &State) -> Self {
        let hash = hash_of(beginning);
        Self {
            numbers: [(hash, 0)].into_iter().collect(),
            parents: vec![0],
            hashes: vec![hash],
            progress: Vec::new(),
            steps: 0,
        }
    }

    /// A step from a state; the number of the state that it leads to if that is new.
    fn add(&mut self, from: u32, step: &Step) -> Option<u32> {
        let hash = hash_of(&step.to);
        let next = u32::try_from(self.parents.len()).expect("fewer than four thousand million states");
        let to = *self.numbers.entry(hash).or_insert(next);
        self.steps += 1;
        if step.by == By::System {
            self.progress.push((from, to));
        }
        (to == next).then(|| {
            self.parents.push(from);
            self.hashes.push(hash);
            next
        })
    }

    /// The first state, in the order of discovery, from which the system does not come to rest by itself.
    fn cannot_end(&mut self, ends: &[u32]) -> Option<u32> {
        self.progress.sort_unstable_by_key(|(_, to)| *to);
        let mut ends_some_day = vec![false; self.parents.len()];
        let mut open = ends.to_vec();
        while let Some(state) = open.pop() {
            if std::mem::replace(&mut ends_some_day[index(state)], true) {
                continue;
            }
            let first = self.progress.partition_point(|(_, to)| *to < state);
            let leading_here = self.progress[first..].iter().take_while(|(_, to)| *to == state);
            open.extend(leading_here.map(|(from, _)| *from).filter(|from| !ends_some_day[index(*from)]));
        }
        let first = ends_some_day.iter().position(|ends| !ends)?;
        u32::try_from(first).ok()
    }

    /// What happened on the way to a state, found again by walking it.
    fn way_to(&self, at: u32, beginning: State, rules: &mut Rules, bounds: &Bounds) -> Vec<String> {
        let mut numbers = vec![at];
        while let Some(&last) = numbers.last()
            && last != 0
        {
            numbers.push(self.parents[index(last)]);
        }
        let (mut state, mut way, mut possible) = (beginning, Vec::new(), Vec::new());
        for number in numbers.iter().rev().skip(1) {
            steps(&state, rules, bounds, &mut possible);
            let taken = possible.iter().find(|step| hash_of(&step.to) == self.hashes[index(*number)]);
            let Some(step) = taken else { break };
            way.push(in_words(step, rules, bounds));
            state = step.to;
        }
        way
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// One line: what happened, and where the checkouts stand then.
fn in_words(step: &Step, rules: &Rules, bounds: &Bounds) -> String {
    let stand = (0..bounds.checkouts).map(|number| {
        let its = step.to.checkout(number);
        let word = rules.checkout(its.history.newest()).status_word();
        format!("{word} (charged {}, refunded {})", its.charges, its.refunds)
    });
    let balance = rules.ledger.balance(step.to.ledger.newest());
    format!(
        "{:?} → {}; stock {}/{}/{}",
        step.what,
        stand.collect::<Vec<_>>().join(", "),
        balance.available,
        balance.reserved,
        balance.sold
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(states: usize, progress: &[(u32, u32)]) -> Graph {
        Graph {
            numbers: HashMap::default(),
            parents: vec![0; states],
            hashes: vec![0; states],
            progress: progress.to_vec(),
            steps: progress.len(),
        }
    }

    #[test]
    fn a_circle_without_a_way_out_cannot_end() {
        // 0 → 1 → 2 (the end), and 0 → 3 ⇄ 4.
        let mut lost = graph(5, &[(0, 1), (1, 2), (0, 3), (3, 4), (4, 3)]);
        assert_eq!(lost.cannot_end(&[2]), Some(3));
        let mut with_a_way_out = graph(5, &[(0, 1), (1, 2), (0, 3), (3, 4), (4, 3), (4, 1)]);
        assert_eq!(with_a_way_out.cannot_end(&[2]), None);
    }
}
