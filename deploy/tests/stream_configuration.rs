//! The streams are what they are meant to be: pinned as files, and as a real server keeps them.
//!
//! Some settings cannot be taken back once they are on (message TTL, schedules, `deny_delete`), and others decide whether
//! something can be lost. So a change shows here as a difference in a file, to be judged by a person:
//! `cargo insta review`, or run the tests with `INSTA_UPDATE=always`.

use async_nats::jetstream::stream::{Config, RetentionPolicy};
use common::{
    nats::{Nats, NatsOptions, check::check, connect::connect},
    streams::{ConsumerName, Durability, Placement, StreamName},
};
use deploy::{
    nats_server::NatsServer,
    provision::{Provisioned, ask_monitoring, provision},
};

const GIB: u64 = 1024 * 1024 * 1024;

/// A cluster as in production, with 100 GiB for all streams.
const PRODUCTION: Placement = Placement {
    replicas: 3,
    storage_bytes: 100 * GIB,
    durability: Durability::SyncAlways,
    shards: common::shards::Shards::ONE,
};

/// One machine, as the server of a test can hold it.
const ONE_MACHINE: Placement = Placement {
    replicas: 1,
    storage_bytes: GIB,
    durability: Durability::SyncAlways,
    shards: common::shards::Shards::ONE,
};

#[test]
fn the_streams_are_configured_as_agreed() {
    for stream in StreamName::ALL {
        insta::assert_json_snapshot!(format!("stream_{}", stream.as_str()), PRODUCTION.config(stream));
    }
}

#[test]
fn the_consumers_are_configured_as_agreed() {
    for consumer in ConsumerName::ALL {
        let name = format!("consumer_{}_of_{}", consumer.as_str(), consumer.stream().as_str());
        insta::assert_json_snapshot!(name, consumer.config());
    }
}

async fn connected(server: &NatsServer) -> Nats {
    let options = NatsOptions { nats_url: server.client_url(), nats_creds: None };
    connect(&options, "stream-configuration-test").await.expect("the server answers")
}

fn refusal(outcome: anyhow::Result<impl Sized>) -> String {
    match outcome {
        Ok(_) => panic!("it was accepted"),
        Err(error) => format!("{error:#}"),
    }
}

#[tokio::test]
async fn what_is_provisioned_is_what_services_accept_and_provisioning_again_changes_nothing() {
    let server = NatsServer::start_for_test().await;
    let nats = connected(&server).await;
    let (durability, _) = ask_monitoring(&server.monitoring_url()).await.expect("monitoring answers");
    assert_eq!(durability, Durability::SyncAlways);

    let created = provision(&nats, &ONE_MACHINE).await.expect("provisioned");
    assert_eq!(created.len(), StreamName::ALL.len() + 1);
    assert!(created.iter().all(|done| matches!(done, Provisioned::Created(_))), "{created:?}");
    check(&nats, &StreamName::ALL, false).await.expect("a service accepts what is provisioned");

    let again = provision(&nats, &ONE_MACHINE).await.expect("provisioned again");
    assert!(again.iter().all(|done| matches!(done, Provisioned::Unchanged(_))), "{again:?}");
}

#[tokio::test]
async fn a_service_refuses_a_stream_that_differs_and_says_which_and_how() {
    let server = NatsServer::start_for_test().await;
    let nats = connected(&server).await;
    let missing = refusal(check(&nats, &[StreamName::History], false).await);
    assert!(missing.contains("stream HISTORY is not there") && missing.contains("deploy provision"), "{missing}");

    let deletable = Config { deny_delete: false, ..ONE_MACHINE.config(StreamName::History) };
    let other_subjects = Config { subjects: vec!["webhook.>".into()], ..ONE_MACHINE.config(StreamName::Webhooks) };
    let unsynced = Placement { durability: Durability::SyncSometimes, ..ONE_MACHINE }.config(StreamName::Inventory);
    for (stream, config, difference) in [
        (StreamName::History, deletable, "deny delete is false, expected true"),
        (StreamName::Webhooks, other_subjects, r#"subjects is ["webhook.>"], expected ["webhook.*.*"]"#),
        (StreamName::Inventory, unsynced, "sync_interval: always"),
    ] {
        nats.jetstream.create_stream(config).await.expect("a stream that differs");
        let refused = refusal(check(&nats, &[stream], false).await);
        assert!(refused.contains(&format!("stream {} ", stream.as_str())), "{refused}");
        assert!(refused.contains(difference) && refused.contains("deploy provision"), "{refused}");
    }
    let no_consumer = refusal(check(&nats, &[StreamName::Webhooks], true).await);
    assert!(no_consumer.contains("WEBHOOKS"), "{no_consumer}");

    // All of these can be mended without losing anything, so the provisioner does it.
    let mended = provision(&nats, &ONE_MACHINE).await.expect("provisioned");
    let updated: Vec<_> = mended.iter().filter(|done| matches!(done, Provisioned::Updated(_))).collect();
    assert_eq!(updated.len(), 3, "{mended:?}");
    check(&nats, &StreamName::ALL, false).await.expect("a service accepts what was mended");
}

#[tokio::test]
async fn the_provisioner_refuses_a_stream_that_it_would_have_to_delete() {
    let server = NatsServer::start_for_test().await;
    let nats = connected(&server).await;
    let foreign = Config { retention: RetentionPolicy::WorkQueue, ..ONE_MACHINE.config(StreamName::Commands) };
    nats.jetstream.create_stream(foreign).await.expect("a stream of somebody else");
    let refused = refusal(provision(&nats, &ONE_MACHINE).await);
    assert!(refused.contains("stream COMMANDS differs"), "{refused}");
    assert!(refused.contains("retention is WorkQueue, expected Limits"), "{refused}");
    assert!(refused.contains("a queue of an older version"), "{refused}");
}

#[tokio::test]
async fn a_service_refuses_a_stream_without_its_consumer() {
    let server = NatsServer::start_for_test().await;
    let nats = connected(&server).await;
    provision(&nats, &ONE_MACHINE).await.expect("provisioned");
    let stream = nats.jetstream.get_stream("WEBHOOKS").await.expect("the stream");
    stream.delete_consumer(ConsumerName::WorkerWebhooks.as_str()).await.expect("deleted");
    let refused = refusal(check(&nats, &[StreamName::Webhooks], false).await);
    assert!(refused.contains("consumer workflow-worker of WEBHOOKS is not there"), "{refused}");
}

/// I7: what has happened cannot be taken away message by message, so a key that was used stays known.
#[tokio::test]
async fn no_client_can_delete_a_message_of_the_histories_or_of_the_ledger() {
    let server = NatsServer::start_for_test().await;
    let nats = connected(&server).await;
    provision(&nats, &ONE_MACHINE).await.expect("provisioned");
    let history = "history.checkout.0198c0de-0000-7000-8000-00000000000a";
    for (stream, subject) in [(StreamName::History, history), (StreamName::Inventory, "inventory.ledger")] {
        let stored = nats.jetstream.publish(subject, "{}".into()).await.expect("sent").await.expect("stored");
        let mut kept = nats.jetstream.get_stream(stream.as_str()).await.expect("the stream");
        let refused = kept.delete_message(stored.sequence).await.expect_err("a deletion");
        assert!(refused.to_string().contains("delete"), "{refused}");
        assert_eq!(kept.info().await.expect("its state").state.messages, 1, "{subject}");
        // Nor can the rule be switched off first.
        let lenient = Config { deny_delete: false, ..ONE_MACHINE.config(stream) };
        nats.jetstream.update_stream(lenient).await.expect_err("a change of the rule");
    }
}
