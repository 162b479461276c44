//! `bench` in short: both ways in, each with its figures and what explains them. How fast is no matter here.

use std::process::Command;

use serde_json::Value;

#[test]
fn a_short_bench_measures_checkouts_and_what_they_take() {
    let output = Command::new(crate::SERVICE)
        .args([
            "bench",
            "--json",
            "--runs",
            "1",
            "--in-flight",
            "4",
            "--skus",
            "2",
            "--warm-up",
            "500ms",
            "--measure",
            "2s",
        ])
        .output()
        .expect("run the bench");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(report["raw"][0]["pipelined_per_second"].as_f64() > Some(0.0), "{report}");
    let cases = report["cases"].as_array().expect("cases");
    let modes: Vec<&str> = cases.iter().filter_map(|case| case["case"]["mode"].as_str()).collect();
    assert_eq!(modes, ["engine", "http"]);
    for case in cases {
        let run = &case["runs"][0];
        let checkouts = run["checkouts"].as_u64().expect("a number");
        assert!(checkouts > 0, "{case}");
        assert!(run["to_session"]["p50_ms"].as_f64() <= run["to_settled"]["p50_ms"].as_f64(), "{case}");
        // Five records for each. Some belong to checkouts that began before or ended after, and on a busy machine the counters
        // are read a while after the window's end.
        let records = run["cost"]["messages"]["HISTORY"].as_u64().expect("a number");
        assert!((checkouts * 2..=checkouts * 12 + 40).contains(&records), "{case}");
        assert!(run["cost"]["cpu_ms"]["nats-server"].as_u64() > Some(0), "{case}");
        let commits = run["cost"]["commits"].as_object().expect("commits");
        assert!(commits.values().any(|count| count.as_u64() > Some(0)), "{case}");
    }
}
