//! `bench` in short: every question that it answers, with its figures and what explains them. How fast is no matter here.

use std::process::Command;

use serde_json::Value;

/// The figures of `bench` with some arguments.
fn bench(arguments: &str) -> Value {
    let output = Command::new(crate::SERVICE)
        .args(["bench"])
        .args(arguments.split_whitespace())
        .arg("--json")
        .output()
        .expect("run the bench");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn a_short_bench_measures_checkouts_and_what_they_take() {
    let page = tempfile::NamedTempFile::new().expect("a file for the page");
    let path = page.path().to_str().expect("a path of plain text");
    let report = bench(&format!("--runs 1 --in-flight 4 --skus 2 --warm-up 500ms --measure 2s --html-file {path}"));
    let page = std::fs::read_to_string(path).expect("the page");
    assert_eq!(page.matches("<svg").count(), 4, "two plots for each way in");
    assert!(page.contains("engine, 4 in flight"), "{page}");
    // It opens without a network.
    assert!(["src=", "href=", "@import", "url("].iter().all(|needs| !page.contains(needs)), "{page}");
    assert!(report["raw"][0]["pipelined_per_second"].as_f64() > Some(0.0), "{report}");
    let cases = report["cases"].as_array().expect("cases");
    let modes: Vec<&str> = cases.iter().filter_map(|case| case["case"]["mode"].as_str()).collect();
    assert_eq!(modes, ["engine", "http"]);
    for case in cases {
        let run = &case["runs"][0];
        let checkouts = run["checkouts"].as_u64().expect("a number");
        assert!(checkouts > 0, "{case}");
        assert!(run["to_session"]["p50_ms"].as_f64() <= run["to_settled"]["p50_ms"].as_f64(), "{case}");
        let stages = run["stages_ms"].as_array().expect("stages");
        assert!(stages.len() == 5 && stages.iter().all(|ms| ms.as_f64() > Some(0.0)), "{case}");
        // Five records for each. Some belong to checkouts that began before or ended after, and on a busy machine the counters
        // are read a while after the window's end.
        let records = run["cost"]["messages"]["HISTORY"].as_u64().expect("a number");
        assert!((checkouts * 2..=checkouts * 12 + 40).contains(&records), "{case}");
        assert!(run["cost"]["cpu_ms"]["nats-server"].as_u64() > Some(0), "{case}");
        let histories = run["cost"]["histories"].as_object().expect("histories");
        assert!(histories["at hand"].as_u64() > Some(0) && histories["assumed new"].as_u64() > Some(0), "{case}");
        let commits = run["cost"]["commits"].as_object().expect("commits");
        assert!(commits.values().any(|count| count.as_u64() > Some(0)), "{case}");
    }
}

#[test]
fn checkouts_that_start_at_a_rate_are_measured_from_when_they_were_to_start() {
    let report = bench("--runs 1 --mode engine --rate 20 --warm-up 500ms --measure 2s");
    let case = &report["cases"][0];
    assert_eq!(case["case"]["load"]["per_second"], 20, "{case}");
    let checkouts = case["runs"][0]["checkouts"].as_u64().expect("a number");
    // Forty start in two seconds; on a busy machine some are settled later.
    assert!((10..=60).contains(&checkouts), "{case}");
}

#[test]
fn a_server_that_stages_batches_on_disk_is_measured() {
    let report = bench("--runs 1 --mode engine --in-flight 32 --batches-on-disk --warm-up 500ms --measure 2s");
    let case = &report["cases"][0];
    assert_eq!(case["case"]["batches_on_disk"], true, "{case}");
    assert!(case["runs"][0]["checkouts"].as_u64() > Some(0), "{case}");
}

#[test]
fn what_waiting_checkouts_cost_is_measured() {
    let figures = bench("waiting --count 100 --rest 1s --measure 1s");
    assert_eq!(figures["waiting"], 100);
    assert!(figures["disk_each"].as_u64() > Some(500), "three records, a start, a wake-up call: {figures}");
    assert!(figures["new_checkout_after"]["checkouts"].as_u64() > Some(0), "{figures}");
}

#[test]
fn a_recovery_from_the_death_of_everybody_is_measured() {
    let figures = bench("recovery --waiting 60 --mid-step 20");
    assert_eq!((figures["waiting"].as_u64(), figures["findings"].as_u64()), (Some(60), Some(0)), "{figures}");
    assert!(figures["first_settled_ms"].as_f64() <= figures["all_settled_ms"].as_f64(), "{figures}");
    assert!(figures["all_sessions_ms"].as_f64() > Some(0.0), "{figures}");
}

#[test]
fn finished_checkouts_are_written_and_new_ones_are_measured_beside_them() {
    let figures = bench("history --finished 600 --in-flight 2 --runs 1 --warm-up 500ms --measure 1s");
    assert_eq!(figures["finished"], 600);
    for start in ["inventory_start_from_ledger_ms", "inventory_start_from_snapshot_ms"] {
        assert!(figures[start].as_f64() > Some(0.0), "{figures}");
    }
    let compared = &figures["cases"][0];
    for side in ["empty", "full"] {
        assert!(compared[side][0]["checkouts"].as_u64() > Some(0), "{figures}");
    }
}

#[test]
fn past_the_limit_starts_are_refused_and_what_was_accepted_settles() {
    let all = bench("overload --rate 5,300 --max-waiting 2 --measure 2s");
    for figures in all.as_array().expect("figures of each rate") {
        let number = |name: &str| figures[name].as_u64().expect("a number");
        assert_eq!(number("accepted") + number("shed"), number("came"), "{figures}");
        assert!(number("accepted") > 0, "{figures}");
        assert!(figures["peak_memory_mb"]["gateway"].as_u64() > Some(0), "{figures}");
    }
    assert!(all[1]["shed"].as_u64() > Some(0), "{all}");
}

#[test]
fn each_way_of_listening_is_measured_with_few_and_many_gateways() {
    let all = bench("listening --gateways 1,3 --checkouts 600");
    let ways: Vec<&str> = all.as_array().expect("figures").iter().filter_map(|one| one["way"].as_str()).collect();
    assert_eq!(ways, ["one_for_all", "one_for_each", "answer", "one_for_all", "one_for_each", "answer"]);
    assert!(all.as_array().expect("figures").iter().all(|one| one["per_second"].as_f64() > Some(0.0)), "{all}");
}
