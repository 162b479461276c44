//! FD8: the files of one of three nodes are damaged or gone. The node heals from the others; nobody notices, and in the end all
//! three hold the same.

use std::{fs, path::PathBuf};

use common::streams::StreamName;
use rstest::rstest;
use stories::{Customers, Service, Shop, ShopOptions, Witness, connect_to_node, flip_a_bit, replicas_agree};

/// What happens to a node's files while it is down.
#[derive(Debug, Clone, Copy)]
enum Harm {
    /// One bit flips in every file with messages.
    FlippedBits,
    /// Every file with messages loses its second half.
    CutFiles,
    /// Everything that the node has stored is gone, as with a new disk.
    NewDisk,
}

impl Harm {
    fn befall(self, data_dir: &std::path::Path) {
        if matches!(self, Self::NewDisk) {
            fs::remove_dir_all(data_dir.join("jetstream")).expect("take the disk away");
            return;
        }
        let blocks: Vec<PathBuf> = [StreamName::History, StreamName::Inventory, StreamName::Webhooks]
            .iter()
            .flat_map(|stream| {
                let folder = data_dir.join("jetstream/$G/streams").join(stream.as_str()).join("msgs");
                fs::read_dir(folder).expect("the folder of a stream").flatten().map(|entry| entry.path())
            })
            .filter(|path| path.extension().is_some_and(|kind| kind == "blk"))
            .collect();
        assert!(!blocks.is_empty(), "there is something to damage");
        for block in blocks {
            let length = fs::metadata(&block).expect("a file's length").len();
            if matches!(self, Self::FlippedBits) && length > 0 {
                flip_a_bit(&block, length / 2);
            } else {
                let file = fs::File::options().write(true).open(&block).expect("open a file to cut it");
                file.set_len(length / 2).expect("cut a file");
            }
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_replica_is_healed(#[values(Harm::FlippedBits, Harm::CutFiles, Harm::NewDisk)] harm: Harm) {
    let options = ShopOptions { payment_timeout: "20s", nodes: 3, ..ShopOptions::default() };
    let mut shop = Shop::open_with(crate::SERVICE, options).await;
    let harmed = 2;
    let witness = Witness::listen(&connect_to_node(&shop, 0).await.client).await;
    let customers = Customers::come(&shop, 3, &[0]).await;
    customers.until_served(15).await;

    shop.server.node(harmed).kill().expect("kill a node");
    let data_dir = shop.server.nodes()[harmed].data_dir().to_owned();
    harm.befall(&data_dir);
    customers.until_served(15).await;
    shop.server.node(harmed).restart().await.expect("start the node again");
    customers.until_served(15).await;

    customers.go_home().await.end_well(&shop).await;
    replicas_agree(&shop).await;
    witness.finds_everything(&shop).await;
    for service in [Service::Gateway(0), Service::Worker(0), Service::Inventory(0)] {
        assert!(!shop.has_ended(service), "{service:?} has ended:\n{}", shop.logs());
    }
}
