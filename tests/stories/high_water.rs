//! A stream has lost its end without a word, or is another one: the services compare it with what they have noted outside
//! of JetStream, and do nothing on it until a person has decided.

use std::{fs::File, path::Path, process::Command};

use common::{
    high_water::HighWaterFolder,
    ids::WorkflowId,
    streams::{Durability, Placement, StreamName},
};
use deploy::{
    accept_loss::{AcceptLossArgs, accept_loss},
    provision::provision,
};
use rstest::rstest;
use serde_json::Value;
use stories::{Service, Shop, ShopOptions, eventually, flip_a_bit};

fn id(checkout: &Value) -> &str {
    checkout["workflow_id"].as_str().expect("an id")
}

/// A shop with two checkouts, one paid, whose streams are noted to their end.
async fn noted_shop() -> (Shop, [Value; 2]) {
    let shop = Shop::open_with(crate::SERVICE, ShopOptions { high_water: true, ..ShopOptions::on_one_server() }).await;
    let (paid, open) = (shop.checkout("MUG-01", 1).await, shop.checkout("MUG-01", 1).await);
    shop.pay(&paid).await;
    shop.until_status(id(&paid), "paid").await;
    shop.until_idle().await;
    for stream in [StreamName::History, StreamName::Inventory, StreamName::Webhooks] {
        let last = shop.messages_ever_in(stream).await;
        until_noted(&shop, stream, last).await;
    }
    (shop, [paid, open])
}

async fn until_noted(shop: &Shop, stream: StreamName, last: u64) {
    let folder = HighWaterFolder::open(&shop.high_water()).expect("the folder of the marks");
    eventually(&format!("{} is noted up to {last}", stream.as_str()), async || {
        let mark = folder.read(stream).expect("a readable mark");
        mark.is_some_and(|mark| mark.sequence == last && mark.message.is_some()).then_some(())
    })
    .await;
}

/// Wait until a service has ended by itself; what its log says of it.
async fn refused(shop: &mut Shop, service: Service) -> String {
    let status = shop.exit_status(service).await;
    assert!(!status.success(), "{service:?} ended as if all were well");
    shop.log_of(service)
}

fn accept(shop: &Shop, stream: StreamName) {
    let args = AcceptLossArgs { high_water_dir: shop.high_water(), streams: vec![stream] };
    accept_loss(&args).expect("accept the loss");
}

/// What happens to the first block of a stream.
#[derive(Debug, Clone, Copy)]
enum Damage {
    FlippedBit,
    HalfGone,
    Emptied,
}

impl Damage {
    fn happen(self, shop: &Shop, stream: StreamName) {
        let block = &shop.blocks(stream)[0];
        let file = File::options().write(true).open(block).expect("open a block");
        let length = file.metadata().expect("its length").len();
        match self {
            Self::FlippedBit => flip_a_bit(block, length / 3),
            Self::HalfGone => file.set_len(length / 2).expect("cut a block"),
            Self::Emptied => file.set_len(0).expect("empty a block"),
        }
    }
}

/// FD4, FD6: after a power cut the end of a stream is gone. Its service refuses to start and says what to do; nothing is
/// written, until an operator accepts the loss.
#[rstest]
#[case(StreamName::History, Service::Worker(0), Damage::FlippedBit)]
#[case(StreamName::History, Service::Worker(0), Damage::HalfGone)]
#[case(StreamName::History, Service::Worker(0), Damage::Emptied)]
#[case(StreamName::Inventory, Service::Inventory(0), Damage::FlippedBit)]
#[case(StreamName::Webhooks, Service::Gateway(0), Damage::Emptied)]
#[tokio::test]
async fn a_service_does_not_start_on_a_stream_that_became_shorter(
    #[case] stream: StreamName,
    #[case] service: Service,
    #[case] damage: Damage,
) {
    let (mut shop, _) = noted_shop().await;
    let noted = shop.messages_ever_in(stream).await;
    shop.kill_all();
    shop.server.kill().expect("kill nats-server");
    damage.happen(&shop, stream);
    shop.server.restart().await.expect("start nats-server again");
    let left = shop.messages_ever_in(stream).await;
    assert!(left < noted, "the server says nothing of the {} messages that are gone", noted - left);

    shop.start(service);
    let log = refused(&mut shop, service).await;
    let what = format!("it ends at sequence {left}, but {noted} was stored before");
    assert!(log.contains(&what) && log.contains("accept-loss"), "{log}");
    assert_eq!(shop.messages_ever_in(stream).await, left, "nothing was written on top of it");

    accept(&shop, stream);
    shop.start_all();
    eventually("the services run on what is left", async || {
        let mark = HighWaterFolder::open(&shop.high_water()).ok()?.read(stream).ok()??;
        (mark.sequence <= left.max(1)).then_some(())
    })
    .await;
    if stream == StreamName::History {
        shop.until_ready().await;
        let report = shop.examine().await;
        assert!(!report.is_healthy(), "what was lost stays lost, and the doctor knows: {}", report.to_text());
    }
}

/// FD4: the same under services that run: the worker ends within seconds, and does not start again.
#[tokio::test]
async fn a_service_ends_when_its_stream_becomes_shorter_under_it() {
    let (mut shop, _) = noted_shop().await;
    shop.server.kill().expect("kill nats-server");
    Damage::Emptied.happen(&shop, StreamName::History);
    shop.server.restart().await.expect("start nats-server again");
    let log = refused(&mut shop, Service::Worker(0)).await;
    assert!(log.contains("stream HISTORY is not what it was"), "{log}");
    shop.start(Service::Worker(0));
    refused(&mut shop, Service::Worker(0)).await;
    assert!(!shop.has_ended(Service::Inventory(0)) && !shop.has_ended(Service::Gateway(0)), "their streams are whole");
}

/// FD4: the lost sequence numbers were used again, by a service that kept no marks: the length alone would not tell.
#[tokio::test]
async fn numbers_that_were_used_again_are_noticed() {
    let (mut shop, _) = noted_shop().await;
    let noted = shop.messages_ever_in(StreamName::History).await;
    shop.kill_all();
    shop.server.kill().expect("kill nats-server");
    Damage::HalfGone.happen(&shop, StreamName::History);
    shop.server.restart().await.expect("start nats-server again");
    while shop.messages_ever_in(StreamName::History).await < noted + 3 {
        shop.store(&format!("history.checkout.{}", WorkflowId::random()), "{}").await;
    }
    shop.start(Service::Worker(0));
    let log = refused(&mut shop, Service::Worker(0)).await;
    assert!(log.contains("numbers were used again"), "{log}");
}

/// FD9: an old backup was restored by mistake: what was stored since is not there.
#[tokio::test]
async fn an_old_backup_is_not_taken_for_the_stream() {
    let (mut shop, [_, open]) = noted_shop().await;
    let streams = shop.server.data_dir().join("jetstream");
    let backup = tempfile::tempdir().expect("a folder for the backup");
    shop.kill_all();
    shop.server.stop().await.expect("stop nats-server");
    copy(&streams, &backup.path().join("jetstream"));
    shop.server.restart().await.expect("start nats-server again");
    shop.start_all();
    shop.until_ready().await;
    shop.pay(&open).await;
    shop.until_status(id(&open), "paid").await;
    let last = shop.messages_ever_in(StreamName::History).await;
    until_noted(&shop, StreamName::History, last).await;

    shop.kill_all();
    shop.server.stop().await.expect("stop nats-server");
    std::fs::remove_dir_all(&streams).expect("remove the streams");
    copy(&backup.path().join("jetstream"), &streams);
    shop.server.restart().await.expect("start nats-server on the backup");
    let restored = shop.messages_ever_in(StreamName::History).await;
    assert!(restored < last);
    shop.start(Service::Worker(0));
    let log = refused(&mut shop, Service::Worker(0)).await;
    assert!(log.contains(&format!("it ends at sequence {restored}, but {last} was stored before")), "{log}");
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "copy {} to {}", from.display(), to.display());
}

/// FD9, FD11: a stream that was deleted and made anew is not the one that is known, however empty both look.
#[tokio::test]
async fn a_stream_that_was_made_anew_is_not_taken_for_the_old_one() {
    let (mut shop, _) = noted_shop().await;
    shop.kill_all();
    shop.nats.jetstream.delete_stream(StreamName::Commands.as_str()).await.expect("delete a stream");
    let placement = Placement {
        replicas: 1,
        storage_bytes: 400 * 1024 * 1024,
        durability: Durability::SyncAlways,
        shards: common::shards::Shards::ONE,
    };
    provision(&shop.nats, &placement).await.expect("make it anew");
    shop.start(Service::Gateway(0));
    let log = refused(&mut shop, Service::Gateway(0)).await;
    assert!(log.contains("stream COMMANDS is not what it was") && log.contains("it was created at"), "{log}");
    accept(&shop, StreamName::Commands);
    shop.start_all();
    shop.until_ready().await;
    shop.is_healthy().await;
}

/// Crashes and restarts of everything, in any order, are no loss: nobody is kept from starting.
#[tokio::test]
async fn a_whole_stream_is_never_taken_for_a_shorter_one() {
    let (mut shop, [_, open]) = noted_shop().await;
    for round in 0..5 {
        let more = shop.checkout("NOTE-01", 1).await;
        if round % 2 == 0 {
            shop.kill_all();
        }
        shop.restart_server().await;
        shop.start_all();
        shop.until_ready().await;
        shop.pay(&more).await;
        shop.until_status(id(&more), "paid").await;
        for service in [Service::Worker(0), Service::Inventory(0), Service::Gateway(0)] {
            assert!(!shop.has_ended(service), "{service:?} has ended:\n{}", shop.logs());
        }
    }
    shop.pay(&open).await;
    shop.until_status(id(&open), "paid").await;
    shop.is_healthy().await;
}
