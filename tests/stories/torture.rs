//! The torture in short: customers of every kind while everything is killed, frozen, cut off and confused from a random
//! seed, and no promise is broken. A failure names its seed: `cargo run -- torture --seed <it>`.
//!
//! Part of every case of K (the invariants), and of FP1–FP13, FN1–FN8, FN15, FT2–FT5, FA1, FA2, FA11, FW1–FW11.

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use deploy::{
    service_process::Launcher,
    torture::{TortureArgs, run},
};

#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    args: TortureArgs,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_promise_is_broken_while_everything_goes_wrong_at_once() {
    let flags = ["torture", "--checkouts=300", "--minutes=1", "--payment-timeout=5s", "--ack-wait=5s"];
    let args = Flags::parse_from(flags).args;
    let launcher = Launcher { binary: PathBuf::from(crate::SERVICE), before: Vec::new() };
    let outcome = run(&args, &launcher).await.expect("a shop that can be tortured");
    println!("{}", outcome.to_text());
    assert!(outcome.is_good(), "{} violations, see above; seed {}", outcome.violations.len(), outcome.seed);
    // Something has happened: a run without customers or faults would prove nothing.
    assert!(outcome.accepted > 50, "only {} carts were accepted", outcome.accepted);
    assert!(outcome.faults.values().sum::<u64>() > 10, "only these faults were carried out: {:?}", outcome.faults);
    assert!(outcome.checkouts.get("paid").is_some_and(|paid| *paid > 0), "{:?}", outcome.checkouts);
    assert!(outcome.driven > Duration::ZERO);
}
