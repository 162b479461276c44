//! Users with least permissions: the whole shop sells with them; nobody can do what is not their business; a permission that
//! is missing is told at the start; a user that is revoked while the shop is open closes it without noise.

use std::{path::PathBuf, time::Duration};

use common::{
    ids::WorkflowId,
    nats::{Nats, NatsOptions, connect::connect},
    streams::{Durability, Placement, StreamName},
};
use deploy::{doctor, provision::provision};
use reqwest::StatusCode;
use rstest::rstest;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use stories::{OPERATOR_TOKEN, Service, Shop, ShopOptions, eventually, permissions, url_as};

use crate::dead_letters::dead_letters_at;

async fn open(permissions: String) -> Shop {
    Shop::open_with(crate::SERVICE, ShopOptions { permissions: Some(permissions), ..ShopOptions::default() }).await
}

/// A connection of a user, under the name that its program has.
async fn connected(shop: &Shop, user: &str, name: &str) -> Nats {
    let options = NatsOptions { nats_url: url_as(&shop.server.client_url(), user), nats_creds: None };
    connect(&options, name).await.expect("the user may connect")
}

fn id_of(checkout: &Value) -> String {
    checkout["workflow_id"].as_str().expect("an id").to_owned()
}

/// FX1, FX2: selling, cancelling, giving money back, taking goods in, parking, provisioning, the doctor and the operator: each
/// does all of its work as its own user, and nobody is refused anything.
#[tokio::test]
async fn the_whole_shop_runs_with_least_permissions() {
    let mut shop = open(permissions()).await;
    let (paid, cancelled) = (shop.checkout("MUG-01", 1).await, shop.checkout("MUG-01", 1).await);
    shop.pay(&paid).await;
    shop.until_status(&id_of(&paid), "paid").await;
    let url = format!("{}/api/checkout_session/{}", shop.shop_url(), id_of(&cancelled));
    assert!(shop.http.post(format!("{url}/cancel")).send().await.expect("an answer").status().is_success());
    shop.until_status(&id_of(&cancelled), "cancelled").await;
    let refund = format!("{}/api/checkout_session/{}/refund", shop.shop_url(), id_of(&paid));
    let refund = shop.http.post(refund).bearer_auth(OPERATOR_TOKEN).json(&json!({ "reason": "arrived broken" }));
    assert!(refund.send().await.expect("an answer").status().is_success());
    let restock =
        shop.http.post(format!("{}/api/products/MUG-01/restock", shop.shop_url())).bearer_auth(OPERATOR_TOKEN);
    let restock = restock.header("Idempotency-Key", "delivery-1").json(&json!({ "quantity": 5 }));
    assert_eq!(restock.send().await.expect("an answer").status(), StatusCode::OK, "the inventory has answered");
    let page = shop.http.get(format!("{}/operator", shop.shop_url())).bearer_auth(OPERATOR_TOKEN);
    assert_eq!(page.send().await.expect("an answer").status(), StatusCode::OK);
    shop.store("webhook.sandbox.evt_poison", "no JSON").await;
    shop.until_parked(1).await;
    let url = url_as(&shop.server.client_url(), "operator");
    let listed = dead_letters_at(&url, &["redrive", "--all"], &[]);
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    shop.until_parked(2).await;

    // A clean stop writes a snapshot, the next start reads it.
    shop.signal(Service::Inventory(0), Signal::TERM);
    assert!(shop.exit_status(Service::Inventory(0)).await.success());
    shop.start(Service::Inventory(0));
    shop.until_stock("MUG-01", 104, 0, 1).await;
    let provisioner = connected(&shop, "provisioner", "provision").await;
    let placement = Placement {
        replicas: shop.server.replicas(),
        storage_bytes: 100 * 1024 * 1024,
        durability: Durability::SyncAlways,
        shards: common::shards::Shards::ONE,
    };
    provision(&provisioner, &placement).await.expect("provision as the provisioner");
    let observer = connected(&shop, "observer", "doctor").await;
    shop.until_idle().await;
    let report = doctor::examine(&observer, doctor::Options::default()).await.expect("examine as the observer");
    assert!(report.is_healthy(), "{}", report.to_text());

    // The operator repairs a checkout whose history was damaged; the inventory may answer where the operator waits.
    let damaged = shop.checkout("MUG-01", 1).await;
    shop.until_idle().await;
    crate::quarantine::damage(&shop, &id_of(&damaged), crate::quarantine::Damage::NoJson).await;
    crate::repair::repaired_at(&url, &shop, &id_of(&damaged));
    shop.until_stock("MUG-01", 104, 0, 1).await;

    let logs = shop.whole_logs().to_lowercase();
    assert!(!logs.contains("permissions violation") && !logs.contains("snapshot could not"), "{}", shop.logs());
    assert!(provisioner.refusals.all().is_empty() && observer.refusals.all().is_empty());
}

/// FX1, FX2, FD10: with the password of a program in hand, somebody tries what is not its business.
#[rstest]
#[case::gateway("gateway", "gateway", &["history.checkout.{id}", "inventory.ledger", "inventory.stock.MUG-01", "catalogue.MUG-01",
    "deadletter.command", "timer.checkout.{id}", "$JS.API.STREAM.PURGE.COMMANDS", "$JS.API.STREAM.DELETE.HISTORY",
    "$JS.API.STREAM.MSG.DELETE.HISTORY", "$JS.API.STREAM.UPDATE.HISTORY", "$JS.API.STREAM.CREATE.MINE",
    "$JS.API.CONSUMER.CREATE.HISTORY.spy", "$JS.API.CONSUMER.DURABLE.CREATE.COMMANDS.spy",
    "$JS.API.CONSUMER.DELETE.COMMANDS.workflow-worker", "$JS.API.CONSUMER.MSG.NEXT.COMMANDS.workflow-worker",
    "$JS.ACK.COMMANDS.workflow-worker.1.1.1.1.0", "_INBOX.workflow-worker.x"])]
#[case::worker("workflow-worker", "workflow-worker", &["webhook.sandbox.evt_forged", "inventory.ledger", "inventory.stock.MUG-01",
    "catalogue.MUG-01", "$JS.API.STREAM.PURGE.HISTORY", "$JS.API.STREAM.DELETE.COMMANDS", "$JS.API.STREAM.MSG.DELETE.HISTORY",
    "$JS.API.STREAM.UPDATE.HISTORY", "$JS.API.CONSUMER.CREATE.HISTORY.spy", "$JS.API.CONSUMER.RESET.COMMANDS.workflow-worker",
    "$JS.API.CONSUMER.PAUSE.COMMANDS.workflow-worker", "$JS.API.CONSUMER.MSG.NEXT.INVENTORY_COMMANDS.inventory-service"])]
#[case::inventory("inventory-service", "inventory-service", &["history.checkout.{id}", "webhook.sandbox.evt_forged",
    "command.refund.{id}", "timer.checkout.{id}", "$JS.API.STREAM.PURGE.INVENTORY", "$JS.API.STREAM.DELETE.INVENTORY",
    "$JS.API.STREAM.MSG.DELETE.INVENTORY", "$JS.API.CONSUMER.MSG.NEXT.COMMANDS.workflow-worker"])]
#[case::provisioner("provisioner", "provision", &["history.checkout.{id}", "inventory.ledger", "$JS.API.STREAM.DELETE.HISTORY",
    "$JS.API.STREAM.PURGE.HISTORY", "$JS.API.CONSUMER.DELETE.COMMANDS.workflow-worker"])]
#[case::operator("operator", "operator", &["history.checkout.{id}", "inventory.ledger", "$JS.API.STREAM.PURGE.HISTORY",
    "$JS.API.STREAM.DELETE.HISTORY", "$JS.API.STREAM.MSG.DELETE.HISTORY", "$JS.API.STREAM.PURGE.INVENTORY",
    "$JS.API.STREAM.DELETE.INVENTORY", "$JS.API.STREAM.PURGE.DEAD_LETTERS", "$JS.API.STREAM.UPDATE.HISTORY"])]
#[case::observer("observer", "doctor", &["history.checkout.{id}", "command.checkout.{id}", "inventory.ledger",
    "$JS.API.STREAM.PURGE.STOCK", "$JS.API.CONSUMER.CREATE.HISTORY.spy", "deadletter.settled.1"])]
#[tokio::test]
async fn nobody_can_do_what_is_not_their_business_as(
    #[case] user: &str,
    #[case] name: &str,
    #[case] forbidden: &[&str],
) {
    let shop = open(permissions()).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    shop.until_idle().await;
    // The stock levels are written a moment after the ledger.
    eventually("every article has a stock level", async || {
        let (levels, articles) = (StreamName::Stock, StreamName::Catalogue);
        (shop.messages_in(levels).await == shop.messages_in(articles).await).then_some(())
    })
    .await;
    let mut before = Vec::new();
    for stream in StreamName::ALL {
        before.push(shop.messages_in(stream).await);
    }
    let nats = connected(&shop, user, name).await;
    let id = WorkflowId::random().to_string();
    for subject in forbidden {
        let subject = subject.replace("{id}", &id);
        nats.client.publish(subject, "{}".into()).await.expect("sent");
    }
    let listens: &[&str] = match user {
        "operator" => &[],
        _ => &["_INBOX.>", "_INBOX.somebody-else.>", ">", "command.>", "$JS.API.>"],
    };
    let mut subscriptions = Vec::new();
    for subject in listens {
        subscriptions.push(nats.client.subscribe(subject.to_string()).await.expect("sent"));
    }
    eventually("everything is refused", async || {
        (nats.refusals.all().len() == forbidden.len() + listens.len()).then_some(())
    })
    .await;
    for (stream, messages) in StreamName::ALL.into_iter().zip(before) {
        assert_eq!(shop.messages_in(stream).await, messages, "{}", stream.as_str());
    }
    shop.pay(&checkout).await;
    shop.until_status(&id_of(&checkout), "paid").await;
    shop.is_healthy().await;
}

/// FN12: one line is missing in the permissions of a service: it does not start, and names what it is.
#[rstest]
#[case::worker(Service::Worker(0), r#" "deadletter.history""#, "deadletter.history")]
#[case::worker_acks(Service::Worker(0), r#""$JS.ACK.TIMERS.workflow-worker.>", "#, "$JS.ACK.TIMERS.workflow-worker")]
#[case::inventory(Service::Inventory(0), r#""inventory.ledger", "#, "inventory.ledger")]
#[case::gateway(Service::Gateway(0), r#", "webhook.*.*""#, "webhook.sandbox")]
#[tokio::test]
async fn a_service_that_lacks_a_permission_does_not_start_and_says_which(
    #[case] service: Service,
    #[case] line: &str,
    #[case] named: &str,
) {
    let mut shop = open(permissions()).await;
    let without = permissions().replacen(line, "", 1);
    assert_ne!(without, permissions());
    shop.kill(service);
    reload(&shop, &permissions(), &without);
    let refused = "the nats user of this service is not allowed";
    eventually("it ends by itself and says why", async || {
        if !shop.is_running(service) {
            shop.start(service);
        }
        let said = shop.whole_logs().to_lowercase().contains(refused);
        (shop.has_ended(service) && said).then_some(())
    })
    .await;
    let logs = shop.whole_logs();
    assert!(logs.lines().any(|line| line.contains("is not allowed") && line.contains(named)), "{}", shop.logs());
}

/// Change the users of a server that runs, as an operator would.
fn reload(shop: &Shop, from: &str, to: &str) {
    let file = configuration(shop);
    let text = std::fs::read_to_string(&file).expect("the server's configuration");
    let changed = text.replace(from, to);
    assert_ne!(text, changed, "something is changed");
    std::fs::write(&file, changed).expect("write the server's configuration");
    let pid = shop.server.pid().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw).expect("a server");
    kill_process(pid, Signal::HUP).expect("reload the server");
}

fn configuration(shop: &Shop) -> PathBuf {
    let files = std::fs::read_dir(shop.server.data_dir()).expect("the server's folder");
    let is_configuration = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "conf");
    files.flatten().map(|file| file.path()).find(is_configuration).expect("the server's configuration")
}

fn server_log(shop: &Shop) -> String {
    let files = std::fs::read_dir(shop.server.data_dir()).expect("the server's folder");
    let is_log = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "log");
    files
        .flatten()
        .map(|file| file.path())
        .filter(is_log)
        .map(|path| std::fs::read_to_string(path).unwrap_or_default())
        .collect()
}

/// FN11: the gateway's password is changed at the server while it runs. It says that it is not ready, lives, and knocks ever
/// more rarely; with the old password allowed again it goes on without a restart.
#[tokio::test]
async fn a_user_that_is_revoked_closes_the_shop_without_noise_until_it_is_allowed_again() {
    let mut shop = open(permissions()).await;
    let checkout = shop.checkout("MUG-01", 1).await;
    let (good, revoked) = ("the-password-of-gateway", "another-password");
    reload(&shop, good, revoked);
    let url = format!("{}/readyz", shop.shop_url());
    let ready = async || shop.http.get(&url).send().await.map(|answer| answer.status());
    eventually("it is not ready", async || (ready().await.ok()? == StatusCode::SERVICE_UNAVAILABLE).then_some(()))
        .await;
    let refusals = || server_log(&shop).matches("authentication error").count();
    let before = eventually("the server has refused it", async || Some(refusals()).filter(|count| *count > 0)).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    // The waits double up to four seconds: a dozen knocks at first, then one every four seconds.
    let knocks = refusals() - before;
    assert!(knocks <= 20, "{knocks} knocks in ten seconds");
    // On a connection of its own: the gateway closes idle ones after ten seconds, which is now.
    let alive = reqwest::get(format!("{}/livez", shop.shop_url())).await.expect("an answer");
    assert_eq!(alive.status(), StatusCode::OK);

    reload(&shop, revoked, good);
    eventually("it is ready again", async || (ready().await.ok()? == StatusCode::OK).then_some(())).await;
    assert!(!shop.has_ended(Service::Gateway(0)));
    shop.pay(&checkout).await;
    shop.until_status(&id_of(&checkout), "paid").await;
    shop.is_healthy().await;
}
