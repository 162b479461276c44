use super::*;

fn report(findings: Vec<Finding>) -> Report {
    let sums = Sums { received: 5_000, kept: 2_500, returned: 2_500, paid_orders: 2_500, ..Sums::default() };
    Report {
        examined_at: Timestamp::UNIX_EPOCH,
        healthy: findings.iter().all(|finding| finding.severity != Severity::Broken),
        summary: Summary {
            checkouts: BTreeMap::from([("expired", 1), ("paid", 1)]),
            money: BTreeMap::from([("eur".to_owned(), sums)]),
            ..Summary::default()
        },
        findings,
    }
}

fn finding(severity: Severity) -> Finding {
    Finding { severity, promise: Promise::Stock, subject: "article MUG".into(), text: "count the goods".into() }
}

#[test]
fn a_healthy_shop_reads_so() {
    let report = report(Vec::new());
    assert!(report.is_healthy());
    let text = report.to_text();
    assert_eq!(text.matches(" holds ").count(), 3, "{text}");
    assert!(text.contains("received 50.00 EUR, kept 25.00 EUR, given back 25.00 EUR"), "{text}");
    assert!(text.contains("1 expired, 1 paid"), "{text}");
    assert!(!text.contains("promise 2"), "{text}");
}

#[test]
fn what_is_broken_stands_in_the_table_and_below_it() {
    let report = report(vec![finding(Severity::Broken), finding(Severity::Attention)]);
    assert!(!report.is_healthy());
    let text = report.to_text();
    assert!(text.contains("BROKEN (1)"), "{text}");
    assert!(text.contains("\nBROKEN (promise 2) article MUG: count the goods"), "{text}");
    assert!(text.contains("\nATTENTION (promise 2) article MUG"), "{text}");
}

#[test]
fn what_only_needs_a_person_is_healthy() {
    let report = report(vec![finding(Severity::Attention)]);
    assert!(report.is_healthy());
    assert!(report.to_text().contains("holds; 1 for you to look at"));
}

#[test]
fn a_flood_is_counted_and_json_has_it_all() {
    let report = report(vec![finding(Severity::Broken); 53]);
    let text = report.to_text();
    assert_eq!(text.matches("count the goods").count(), 50, "{text}");
    assert!(text.contains("… and 3 more"), "{text}");
    let json = serde_json::to_value(&report).expect("writable");
    assert_eq!(json["findings"].as_array().map(Vec::len), Some(53));
    assert_eq!(json["healthy"], false);
    assert_eq!(json["findings"][0]["promise"], 2);
    assert_eq!(json["findings"][0]["severity"], "broken");
    assert_eq!(json["summary"]["money"]["eur"]["received"], 5_000);
}
