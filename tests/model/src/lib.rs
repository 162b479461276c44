//! Two ways to look for what no story thought of, both with the real rules of checkout and ledger inside:
//! [`protocol`] checks every reachable state of a small world, exhaustively.

pub mod protocol;
