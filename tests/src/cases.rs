//! `tests/CASES.md` tells which tests prove which case. Here the table is kept true: each case stands in it once, each test
//! that it names exists and is a test, and a case without one says why in plain words.

use std::{collections::BTreeSet, path::Path};

/// How a case without a test begins to say why.
const PLAIN_WORDS: [&str; 3] = ["not built:", "not a case here:", "no test yet:"];

/// Everything in the table that is not true. `source_of` gives the text of a file, by its path from the workspace's root.
fn faults(table: &str, source_of: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for line in table.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [id, case, told_by] = cells[..] else {
            faults.push(format!("a row has id, case and test, but here are {}: {line}", cells.len()));
            continue;
        };
        if id == "id" || id.starts_with('-') {
            continue;
        }
        if !is_id(id) || case.is_empty() {
            faults.push(format!("this is no row of a case: {line}"));
        }
        if !seen.insert(id.to_owned()) {
            faults.push(format!("{id} stands twice"));
        }
        let tests: Vec<&str> = told_by.split('`').skip(1).step_by(2).collect();
        if tests.is_empty() && !PLAIN_WORDS.iter().any(|words| told_by.starts_with(words)) {
            faults.push(format!("{id} names no test and does not say why"));
        }
        faults.extend(
            tests.into_iter().filter_map(|test| fault_of_test(test, &source_of)).map(|why| format!("{id}: {why}")),
        );
    }
    faults
}

/// Letters and a number, as `A1` or `FX7`.
fn is_id(text: &str) -> bool {
    let number = text.trim_start_matches(|character: char| character.is_ascii_uppercase());
    (1..=2).contains(&(text.len() - number.len())) && number.parse::<u8>().is_ok()
}

/// What is wrong with a test's name: `file::function`, or a file alone where the whole file is one test.
fn fault_of_test(test: &str, source_of: impl Fn(&str) -> Option<String>) -> Option<String> {
    let (file, function) = test.split_once("::").map_or((test, None), |(file, function)| (file, Some(function)));
    let Some(source) = source_of(file) else { return Some(format!("there is no file {file}")) };
    match function {
        Some(function) if !has_test(&source, function) => Some(format!("{file} has no test {function}")),
        None if file.ends_with(".rs") => Some(format!("{file} has many tests: name the one")),
        _ => None,
    }
}

/// Whether a source has a test of this name that is run.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let is_its_head = |line: &str| {
        let rest = line.trim_start_matches("async ").strip_prefix("fn ").and_then(|rest| rest.strip_prefix(name));
        rest.is_some_and(|rest| rest.starts_with('('))
    };
    (0..lines.len()).filter(|place| is_its_head(lines[*place])).any(|place| {
        let above = lines[..place].iter().rev().take_while(|line| line.starts_with(['#', '/']));
        let attributes: Vec<&str> = above.copied().filter(|line| line.starts_with("#[")).collect();
        let has = |word: &str| attributes.iter().any(|attribute| attribute.contains(word));
        (has("test]") || has("test(")) && !has("ignore")
    })
}

#[test]
fn every_case_is_told_by_tests_that_exist_or_says_why_not() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let table = std::fs::read_to_string(root.join("tests/CASES.md")).expect("the table of cases");
    let faults = faults(&table, |file| std::fs::read_to_string(root.join(file)).ok());
    assert!(faults.is_empty(), "tests/CASES.md:\n{}", faults.join("\n"));
    let rows = table.lines().filter(|line| line.starts_with('|') && line.contains('`')).count();
    assert!(rows > 100, "only {rows} cases have tests: has the table another shape now?");
}

#[test]
fn what_is_not_true_is_found() {
    let source = "/// A1.\n#[rstest]\n#[case::one(1)]\n#[tokio::test(flavor = \"x\")]\nasync fn is_told() {}\n\nfn helper() {}\n\
                  \n#[test]\n#[ignore = \"slow\"]\nfn is_not_run() {}\n";
    let source_of = |file: &str| (file == "a.rs" || file == "b.mjs").then(|| source.to_owned());
    for (row, expected) in [
        ("| A1 | It is so. | `a.rs::is_told` and `b.mjs` |", None),
        ("| FX12 | It is so. | not built: nobody asked for it |", None),
        ("| A1 | It is so. | `a.rs::is_tol` |", Some("A1: a.rs has no test is_tol")),
        ("| A1 | It is so. | `a.rs::helper` |", Some("A1: a.rs has no test helper")),
        ("| A1 | It is so. | `a.rs::is_not_run` |", Some("A1: a.rs has no test is_not_run")),
        ("| A1 | It is so. | `c.rs::is_told` |", Some("A1: there is no file c.rs")),
        ("| A1 | It is so. | `a.rs` |", Some("A1: a.rs has many tests: name the one")),
        ("| A1 | It is so. | soon |", Some("A1 names no test and does not say why")),
        ("| A1 | It is so. |", Some("a row has id, case and test, but here are 2: | A1 | It is so. |")),
        ("| one | It is so. | `b.mjs` |", Some("this is no row of a case: | one | It is so. | `b.mjs` |")),
        ("| A1 | It is so. | `b.mjs` |\n| A1 | Again. | `b.mjs` |", Some("A1 stands twice")),
    ] {
        let table = format!("# Cases\n\n| id | case | told by |\n|---|---|---|\n{row}\n");
        assert_eq!(faults(&table, source_of), expected.into_iter().collect::<Vec<_>>(), "{row}");
    }
}
