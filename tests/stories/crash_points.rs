//! CASES G1, G16, FP1, FP2, FP3, FP7: each service dies at every place where something has just been, or is just going to
//! be, stored, sent, called or acked. It is started again, and everything ends as if it had not died: the same end, the
//! same events, the same books at the provider, the same stock.
//!
//! Nobody keeps a list of the places. Each way (`ways.rs`) is walked once with every service writing down the crash points
//! that it reaches; every point and every time that it was reached is a case (`matrix.rs`). A test compares what was
//! reached with the points in the code, so that no boundary can be missing.
//!
//! ```console
//! $ cargo test -p stories --test stories crash_points                                  # each point once
//! $ CHECKOUT_CRASH_SEED=7 cargo test -p stories --test stories crash_points            # the same on other ways
//! $ cargo test -p stories --test stories every_case -- --ignored --nocapture           # every way, point and time
//! $ CHECKOUT_CRASH_SHOPS=8 cargo test -p stories … every_case -- --ignored             # sooner, on a quiet machine
//! $ CHECKOUT_CRASH_ONLY='PaidLate refund' cargo test -p stories … every_case -- --ignored   # cases with these words
//! ```

mod compiled_out;
mod matrix;
mod provisioning;
mod stage;
mod ways;

use std::collections::BTreeSet;

use matrix::{Case, die_at_each, record_all};

/// Each point of the code is reached on some way, and dying at it once, on a way that the seed chooses, changes nothing.
#[tokio::test]
async fn a_death_at_any_point_changes_nothing() {
    let recorded = record_all().await;
    let seen: BTreeSet<String> = recorded.cases.iter().map(|case| case.point.clone()).collect();
    let missing: Vec<String> = points_in_the_code()
        .into_iter()
        .filter(|point| !seen.contains(point) && !provisioning::is_for(point) && !is_in_another_story(point))
        .collect();
    assert!(missing.is_empty(), "no way reaches {missing:?}: add a way to crash_points/ways.rs");

    let seed = std::env::var("CHECKOUT_CRASH_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("CHECKOUT_CRASH_SEED={seed}");
    die_at_each(&recorded, one_of_each_point(&recorded.cases, seed)).await;
}

/// Every way, every service, every point, every time that the point is reached.
#[tokio::test]
#[ignore = "takes about half an hour on two busy cores; the story above dies at each point once"]
async fn a_death_in_every_case_changes_nothing() {
    let recorded = record_all().await;
    let only = std::env::var("CHECKOUT_CRASH_ONLY").unwrap_or_default();
    let chosen = |case: &Case| only.split_whitespace().all(|word| case.to_string().contains(word));
    die_at_each(&recorded, recorded.cases.iter().filter(|case| chosen(case)).cloned().collect()).await;
}

/// One case of each point in each service, chosen by the seed.
fn one_of_each_point(cases: &[Case], seed: u64) -> Vec<Case> {
    let mut cases = cases.to_vec();
    cases.sort_by_key(|case| (case.service, case.point.clone(), shuffled(case, seed)));
    cases.dedup_by(|right, left| right.service == left.service && right.point == left.point);
    cases
}

fn shuffled(case: &Case, seed: u64) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    (seed, case.to_string()).hash(&mut hasher);
    hasher.finish()
}

/// The names of all crash points of the code, of every crate.
fn points_in_the_code() -> BTreeSet<String> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut points = BTreeSet::new();
    let crates = ["common", "gateway", "workflow-worker", "inventory-service", "deploy", "deploy/payment-sandbox"]
        .map(|name| root.join(name));
    for file in crates.iter().flat_map(|krate| files(&krate.join("src"))) {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        points
            .extend(text.split("crash_point!(\"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
    }
    assert!(points.len() > 30, "the code has crash points: {points:?}");
    points
}

/// Snapshots are written now and then, not on a way, and operators' commands have stories of their own.
fn is_in_another_story(point: &str) -> bool {
    let others = ["inventory_killed.rs", "dead_letters.rs", "repair.rs", "told_many.rs"].map(|story| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("stories").join(story);
        std::fs::read_to_string(path).expect("a story")
    });
    others.iter().any(|story| story.contains(&format!("\"{point}\"")))
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder of sources").flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
