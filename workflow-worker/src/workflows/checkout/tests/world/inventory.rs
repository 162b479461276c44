//! A ledger of two articles that keeps the rules of the real one.

use common::contracts::inventory::{Lacking, StockAnswer};

/// What is asked of it for the checkout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Reserve,
    Commit,
    Release,
}

/// Where the order's goods are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goods {
    NeverAsked,
    Refused,
    Held,
    Sold,
    GivenBack,
}

/// The stock of tea, which the order wants two of; there are always mugs.
pub(super) struct Inventory {
    initial: u32,
    pub(super) available: u32,
    pub(super) goods: Goods,
}

const WANTED: u32 = 2;

impl Inventory {
    pub(super) fn new(tea: u32) -> Self {
        Self { initial: tea, available: tea, goods: Goods::NeverAsked }
    }

    pub(super) fn answer(&mut self, request: Request) -> StockAnswer {
        match (request, self.goods) {
            (Request::Reserve, Goods::NeverAsked) if self.available >= WANTED => {
                self.available -= WANTED;
                self.goods = Goods::Held;
                StockAnswer::Reserved {}
            }
            (Request::Reserve, Goods::NeverAsked | Goods::Refused) => {
                self.goods = Goods::Refused;
                let sku = "TEA-1".parse().expect("a sku");
                let lacking = Lacking { sku, requested: WANTED, available: u64::from(self.available) };
                StockAnswer::OutOfStock { lacking: vec![lacking] }
            }
            (Request::Reserve, Goods::Held | Goods::Sold) => StockAnswer::Reserved {},
            (Request::Commit, Goods::Held | Goods::Sold) => {
                self.goods = Goods::Sold;
                StockAnswer::Committed {}
            }
            (Request::Release, Goods::Held) => {
                self.available += WANTED;
                self.goods = Goods::GivenBack;
                StockAnswer::Released {}
            }
            (Request::Release, Goods::NeverAsked) => {
                self.goods = Goods::GivenBack;
                StockAnswer::Released {}
            }
            (Request::Release, Goods::GivenBack | Goods::Refused) => StockAnswer::Released {},
            (Request::Reserve, Goods::GivenBack) => refused("reserve"),
            (Request::Commit, Goods::NeverAsked | Goods::Refused | Goods::GivenBack) => refused("commit"),
            (Request::Release, Goods::Sold) => refused("release"),
        }
    }

    /// CASES K1.
    pub(super) fn check(&self) {
        let out = if matches!(self.goods, Goods::Held | Goods::Sold) { WANTED } else { 0 };
        assert_eq!(self.initial, self.available + out, "K1: nothing comes from nowhere and nothing is lost");
    }
}

fn refused(command: &str) -> StockAnswer {
    StockAnswer::Refused { command: command.to_owned(), reason: "it contradicts what has happened".to_owned() }
}
