//! The matrix: walk each way once and write down what is reached; then walk it again and again, with one death each time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    panic::AssertUnwindSafe,
    path::Path,
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, StreamExt as _, stream};
use stories::Service;

use super::{
    stage::Stage,
    ways::{Left, Way, left_of},
};

/// Shops that are open at the same time, as beside other stories. They wait (for redelivery, for deadlines) more than they
/// compute: alone on a quiet machine there may be more (`CHECKOUT_CRASH_SHOPS=8`).
const SHOPS: usize = 4;

fn shops_at_once() -> usize {
    let asked = std::env::var("CHECKOUT_CRASH_SHOPS").ok().and_then(|number| number.parse().ok());
    asked.filter(|number| *number > 0).unwrap_or(SHOPS)
}

/// Cases that share a shop, one after the other; then a new one is opened, so that a failure spoils little.
const CASES_PER_SHOP: usize = 12;

/// Nothing is written to a tape any more when nothing was for this long after the way has ended.
const QUIET: Duration = Duration::from_millis(500);

const SERVICES: [Service; 4] = [Service::Worker(0), Service::Inventory(0), Service::Gateway(0), Service::Sandbox];

/// On this way, this service dies when it reaches this point for the n-th time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) way: Way,
    pub(super) service: Service,
    pub(super) point: String,
    time: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:?} dies at {}:{}", self.way, self.service, self.point, self.time)
    }
}

/// What happens when nobody dies.
pub(super) struct Recorded {
    pub(super) cases: Vec<Case>,
    undisturbed: BTreeMap<Way, BTreeSet<Left>>,
}

/// Walk every way undisturbed, and write down every point that every service reaches.
pub(super) async fn record_all() -> Recorded {
    let recorded: Vec<(Way, Vec<Case>, BTreeSet<Left>)> =
        stream::iter(Way::ALL).map(record).buffer_unordered(shops_at_once()).collect().await;
    let mut all = Recorded { cases: Vec::new(), undisturbed: BTreeMap::new() };
    for (way, cases, left) in recorded {
        all.cases.extend(cases);
        all.undisturbed.insert(way, left);
    }
    all.cases.sort_by_key(|case| (case.way, case.service, case.point.clone(), case.time));
    all
}

async fn record(way: Way) -> (Way, Vec<Case>, BTreeSet<Left>) {
    let mut stage = Stage::open(way.payment_timeout(), way.worker_flags()).await;
    let tapes = tempfile::tempdir().expect("a folder for the tapes");
    for (service, tape) in SERVICES.into_iter().zip(0..) {
        stage.shop.kill(service);
        stage.shop.start_to_record(service, &tapes.path().join(format!("{tape}")));
    }
    stage.until_open().await;
    let left = walk(way, &mut stage).await;
    stage.shop.is_healthy().await;
    let mut cases = Vec::new();
    for (service, tape) in SERVICES.into_iter().zip(0..) {
        let reached = until_quiet(&tapes.path().join(format!("{tape}")), way).await;
        for (point, times) in reached.into_iter().filter(|(point, _)| way.is_for(point)) {
            cases.extend((1..=times.min(way.most_times())).map(|time| Case {
                way,
                service,
                point: point.clone(),
                time,
            }));
        }
    }
    (way, cases, left)
}

/// How often each point was reached, once nothing is reached any more.
async fn until_quiet(tape: &Path, way: Way) -> BTreeMap<String, usize> {
    let mut text = String::new();
    loop {
        let longer = std::fs::read_to_string(tape).unwrap_or_default();
        // A sweep every 300 ms is never quiet.
        if longer == text && !text.is_empty() || way == Way::Forgotten {
            text = longer;
            break;
        }
        text = longer;
        tokio::time::sleep(QUIET).await;
        if text.is_empty() {
            break;
        }
    }
    let mut reached = BTreeMap::new();
    for point in text.lines() {
        *reached.entry(point.to_owned()).or_insert(0) += 1;
    }
    reached
}

/// Walk a way to its end and see that the end is the right one; what is left, each kind of it once.
async fn walk(way: Way, stage: &mut Stage) -> BTreeSet<Left> {
    let before = stage.stock().await;
    let ids = way.walk(stage).await;
    let end = way.end(ids.len());
    assert_eq!(ids.len(), end.checkouts);
    stage.until_died().await;
    stage.shop.until_idle().await;
    stage.until_stock((before.0 + end.stock.0, before.1 + end.stock.1, before.2 + end.stock.2)).await;
    let mut left = BTreeSet::new();
    for id in &ids {
        left.insert(left_of(stage, id).await);
    }
    for Left { sessions, .. } in &left {
        let money = sessions.iter().fold((0, 0), |(charges, refunds), one| (charges + one.1, refunds + one.2));
        assert_eq!(money, end.money, "{way:?}: {sessions:?}");
        assert!(sessions.len() <= 1, "{way:?}: one session at most, {sessions:?}");
    }
    left
}

/// Walk the way of each case with its death; all that went otherwise than undisturbed fails the test at its end.
pub(super) async fn die_at_each(recorded: &Recorded, cases: Vec<Case>) {
    let (started, count) = (Instant::now(), cases.len());
    assert!(count > 0, "there is something to die at");
    let mut by_way: BTreeMap<Way, Vec<Case>> = BTreeMap::new();
    for case in cases {
        by_way.entry(case.way).or_default().push(case);
    }
    let shops: Vec<Vec<Case>> = by_way
        .into_values()
        .flat_map(|cases| cases.chunks(CASES_PER_SHOP).map(<[Case]>::to_vec).collect::<Vec<_>>())
        .collect();
    let (mut failures, mut unreached, mut done) = (Vec::new(), Vec::new(), 0);
    let mut running = stream::iter(shops).map(|cases| in_one_shop(recorded, cases)).buffer_unordered(shops_at_once());
    while let Some(outcomes) = running.next().await {
        done += outcomes.cases;
        println!("{done} of {count} cases after {} s", started.elapsed().as_secs());
        failures.extend(outcomes.failures.into_iter().inspect(|failure| println!("{failure}")));
        unreached.extend(outcomes.unreached);
    }
    println!("{count} cases in {} s, {} not reached: {unreached:#?}", started.elapsed().as_secs(), unreached.len());
    assert!(failures.is_empty(), "{} of {count} cases:\n{}", failures.len(), failures.join("\n"));
    // How often a point is reached depends a little on the moment (two stock levels are written as one when they come
    // close together), that it is reached does not.
    let never: Vec<&Case> = unreached.iter().filter(|case| case.time == 1).collect();
    assert!(never.is_empty(), "not reached, although the undisturbed run did: {never:#?}");
    assert!(unreached.len() * 10 <= count, "too many cases were not reached");
}

#[derive(Default)]
struct Outcomes {
    cases: usize,
    failures: Vec<String>,
    unreached: Vec<Case>,
}

async fn in_one_shop(recorded: &Recorded, cases: Vec<Case>) -> Outcomes {
    let mut outcomes = Outcomes { cases: cases.len(), ..Outcomes::default() };
    let Some(way) = cases.first().map(|case| case.way) else { return outcomes };
    let mut current = String::from("opening the shop");
    let run = async {
        let mut stage = Stage::open(way.payment_timeout(), way.worker_flags()).await;
        for case in cases {
            current = case.to_string();
            stage.will_die(case.service, &format!("{}:{}", case.point, case.time)).await;
            let left = walk(way, &mut stage).await;
            if !stage.has_died() {
                outcomes.unreached.push(case);
            }
            let undisturbed = &recorded.undisturbed[&way];
            if way.has_one_history() {
                assert_eq!(left, *undisturbed);
            }
        }
        current = format!("{way:?}: the doctor at the end");
        stage.shop.is_healthy().await;
    };
    if let Err(panic) = AssertUnwindSafe(run).catch_unwind().await {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        outcomes.failures.push(format!("{current}: {}", text.unwrap_or_default()));
    }
    outcomes
}
