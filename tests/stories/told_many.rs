//! One message tells many workflows (a ledger entry, a wake-up call for many): one that cannot be told harms nobody else, and
//! is not forgotten.

use common::ids::WorkflowId;
use rstest::rstest;
use serde_json::{Value, json};
use stories::{Service, Shop, eventually};

use crate::quarantine::{Damage, damage};

fn id(checkout: &Value) -> String {
    checkout["workflow_id"].as_str().expect("an id").to_owned()
}

/// Wake all of these with one call.
async fn wake(shop: &Shop, ids: &[&str]) {
    let workflows: Vec<Value> = ids.iter().map(|id| json!({ "kind": "checkout", "id": id })).collect();
    let call = json!({ "workflows": workflows }).to_string();
    shop.store(&format!("due.group.{}", WorkflowId::random()), call).await;
}

/// One whose history is damaged stands among sound ones and one that nobody knows. Its part becomes a command, which is parked
/// like any other; the call is used up.
#[tokio::test]
async fn one_that_cannot_be_told_is_parked_and_harms_nobody_else() {
    let shop = Shop::open(crate::SERVICE).await;
    let (one, damaged, other) =
        (shop.checkout("MUG-01", 1).await, shop.checkout("MUG-01", 1).await, shop.checkout("MUG-01", 1).await);
    shop.until_idle().await;
    damage(&shop, &id(&damaged), Damage::WrongHash).await;
    wake(&shop, &[&id(&one), &id(&damaged), &WorkflowId::random().to_string(), &id(&other)]).await;
    let parked = shop.until_parked(1).await;
    shop.until_idle().await;
    assert_eq!(
        (parked[0].area.as_str(), &parked[0].original_subject),
        ("history", &format!("command.checkout.{}", id(&damaged)))
    );
    assert_eq!(shop.dead_letters().await, 1, "once");
    for sound in [&one, &other] {
        assert_eq!(shop.event_types(&id(sound)).await.len(), 3, "a call that comes early changes nothing");
        shop.pay(sound).await;
        shop.until_status(&id(sound), "paid").await;
    }
    shop.until_stock("MUG-01", 97, 1, 2).await;
}

/// The worker dies before or after it has made a command of such a part: the call comes again, and the part is told again.
#[rstest]
#[case::before("worker.many.before_send_on")]
#[case::after("worker.many.after_send_on")]
#[tokio::test]
async fn a_worker_that_dies_while_it_sends_a_part_on_forgets_nobody(#[case] point: &str) {
    let mut shop = Shop::open(crate::SERVICE).await;
    let (sound, damaged) = (shop.checkout("MUG-01", 1).await, shop.checkout("MUG-01", 1).await);
    shop.until_idle().await;
    damage(&shop, &id(&damaged), Damage::NoJson).await;
    shop.kill(Service::Worker(0));
    shop.start_to_crash(Service::Worker(0), point);
    wake(&shop, &[&id(&sound), &id(&damaged)]).await;
    eventually("the worker has died", async || shop.has_ended(Service::Worker(0)).then_some(())).await;
    shop.start(Service::Worker(0));
    let parked = shop.until_parked(1).await;
    assert_eq!(parked[0].original_subject, format!("command.checkout.{}", id(&damaged)));
    shop.until_idle().await;
    shop.pay(&sound).await;
    shop.until_status(&id(&sound), "paid").await;
    shop.until_stock("MUG-01", 98, 1, 1).await;
}
