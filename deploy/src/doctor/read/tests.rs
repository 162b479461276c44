use common::{contracts::checkout::CheckoutCommand, nats::Journal, nats::Outgoing, time::after};
use workflow_worker::timers::Timers;

use super::super::{samples::checkout, tests::TestStreams};
use super::*;

#[tokio::test]
async fn what_waits_is_known_by_workflow_until_it_is_acked() {
    let streams = TestStreams::provisioned().await;
    let nats = &streams.nats;
    let timers = Timers::new(nats.clone());
    let set = |number, at| timers.set(checkout(number), at, None);
    set(1, after(time::now(), Duration::from_secs(3_600))).await.expect("set");
    set(2, time::now()).await.expect("set");
    let commands = Journal::start(nats.clone(), StreamName::Commands, Duration::from_secs(5));
    let nudge = serde_json::to_vec(&CheckoutCommand::Nudge).expect("writable").into();
    let outgoing = Outgoing {
        subject: Subject::Command(checkout(3)),
        headers: async_nats::HeaderMap::new(),
        payload: nudge,
        expected: None,
    };
    commands.append(outgoing).await.expect("stored");

    let deadline = Instant::now() + Duration::from_secs(10);
    let under_way = loop {
        let under_way = read_under_way(nats, &AckedUpTo::default()).await.expect("readable");
        // A call that goes off between the two readings of one look is seen in both places, so that it is never seen in none.
        if under_way.counts.due == 1 && !under_way.timers.contains(&checkout(2)) {
            break under_way;
        }
        assert!(Instant::now() < deadline, "the wake-up call has not gone off: {under_way:?}");
        tokio::time::sleep(PAUSE).await;
    };
    assert!(under_way.timers.contains(&checkout(1)) && !under_way.timers.contains(&checkout(2)), "{under_way:?}");
    assert_eq!(under_way.messages, std::collections::HashMap::from([(checkout(2), 1), (checkout(3), 1)]));
    assert_eq!(under_way.counts.commands, 1);

    streams.ack_all(ConsumerName::WorkerDue).await;
    streams.ack_all(ConsumerName::WorkerCommands).await;
    let acked = AckedUpTo::ask(nats).await.expect("known");
    let under_way = read_under_way(nats, &acked).await.expect("readable");
    assert!(under_way.messages.is_empty(), "{under_way:?}");
    assert!(under_way.timers.contains(&checkout(1)));
}
