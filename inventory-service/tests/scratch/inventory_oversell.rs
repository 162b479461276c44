//! Many want the last ones: exactly as many get one as there are, with one service or with three.

use common::contracts::inventory::{InventoryCommand, StockAnswer};
use inventory_service::Config;

use crate::inventory_support::{Warehouse, balance, reserve, restock, times_reserved, workflow};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_buyers_of_ten_units_with_three_instances() {
    let warehouse = Warehouse::open().await;
    let mut services = Vec::new();
    for _ in 0..3 {
        services.push(warehouse.start_service(Config::default()).await);
    }
    warehouse.send(&restock(1, "MUG", 10)).await;
    warehouse.all_commands_are_done().await;

    let commands: Vec<InventoryCommand> = (1..=1_000).map(|number| reserve(number, &[("MUG", 1)])).collect();
    warehouse.send_all(&commands).await;
    // Some are asked again, as a worker does that was not acked in time.
    warehouse.send_all(&commands[..100]).await;
    warehouse.all_commands_are_done().await;

    let mut served = 0;
    for number in 1..=1_000 {
        let answers = warehouse.answers(workflow(number)).await;
        let first = answers.first().unwrap_or_else(|| panic!("workflow {number} was not answered"));
        assert!(answers.iter().all(|answer| answer == first), "{number} was answered differently: {answers:?}");
        assert!(number > 100 || answers.len() == 2, "who asks twice is answered twice");
        match first {
            StockAnswer::Reserved {} => served += 1,
            StockAnswer::OutOfStock { lacking } => assert_eq!(lacking.len(), 1),
            other => panic!("{number} was answered {other:?}"),
        }
    }
    assert_eq!(served, 10);
    assert!(times_reserved(&warehouse.movements().await).values().all(|times| *times == 1));
    assert_eq!(warehouse.balance("MUG").await, balance(0, 10, 0));
    warehouse.projection_shows("MUG", balance(0, 10, 0)).await;
    // Many commands, few commits: that is what the one message per group is for.
    let entries = warehouse.entries().await.len();
    assert!(entries < 500, "{entries} entries for 1,000 commands");
    for service in services {
        service.stop().await;
    }
}
