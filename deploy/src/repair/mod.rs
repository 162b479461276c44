//! Bring a checkout to its end that no worker may touch: its history is lost or damaged, and its goods are still held.
//!
//! A worker does nothing for such a checkout, because it cannot know what has happened. What can be known is still there:
//! the ledger says that the goods are held, and the provider says whether anybody has paid or can pay. From these the
//! checkout is brought to its end by its own three pure functions, in memory: its session is closed, and then its goods are
//! given back, or sold when it turns out to be paid. Nothing is written into a history that cannot be trusted; what an
//! operator began and what came of it is a letter beside it.
//!
//! Every step has the key that a worker's would have, so it does no harm to run it again, or to be killed in between.
//!
//! Reading order: `evidence` (what can still be known) → `settle` (to the end, step by step) → `record` (who did it).

mod evidence;
mod record;
mod settle;

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args};
use common::{
    crash_point,
    ids::{SessionId, WorkflowId, WorkflowKind, WorkflowRef},
    nats::{Nats, NatsOptions, connect::connect},
    payment::{PaymentOptions, PaymentProvider},
};
use serde::Serialize;
use std::sync::Arc;

use crate::{
    dead_letters::{OperatorArgs, words},
    output::{print_json, print_text},
};
use evidence::{Evidence, Goods};
use settle::Settler;

/// Bring a checkout to its end whose history is lost or damaged and whose goods are still held: close its session at the
/// provider, then give the goods back, or sell them when somebody has paid.
///
/// `doctor` names such checkouts. It is refused for a checkout whose history is sound: the shop itself brings that one to its
/// end, so cancel it instead. It may be run again at any time.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("known session").args(["session", "no_session"])))]
pub struct RepairArgs {
    #[command(flatten)]
    nats: NatsOptions,
    #[command(flatten)]
    payment: PaymentOptions,
    /// Which checkout, as the doctor names it.
    #[arg(value_name = "ID")]
    id: WorkflowId,
    /// Its session at the provider, when its history does not tell: look for the checkout's id in the provider's pages.
    #[arg(long, value_name = "SESSION")]
    session: Option<SessionId>,
    /// You have looked in the provider's pages, and there is no session of this checkout.
    #[arg(long)]
    no_session: bool,
    #[command(flatten)]
    operator: OperatorArgs,
    /// Why, in your words; it is recorded.
    #[arg(long, value_name = "WORDS", value_parser = words)]
    because: String,
    /// Print JSON instead of text for eyes.
    #[arg(long)]
    json: bool,
}

/// What an operator knows of the checkout's session that its history does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    Nothing,
    Session(SessionId),
    NoSession,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Its goods went back.
    Released {
        /// How the checkout ended.
        status: &'static str,
    },
    /// Somebody had paid, so the goods are sold.
    Sold {
        /// How the checkout ended.
        status: &'static str,
    },
    /// Nothing was held for it, so there was nothing to do.
    NothingHeld {
        /// What the ledger says of it.
        ledger: &'static str,
    },
}

/// Repair one checkout and say what was done.
///
/// # Errors
/// When the checkout is sound, when too little is known, or when the provider or the inventory did not do its part: what is
/// not certain is not done, and the text says what to do.
pub async fn run(args: &RepairArgs) -> anyhow::Result<()> {
    let by = args.operator.name()?;
    let nats = connect(&args.nats, "repair").await?.with_shards().await?;
    let provider = args.payment.build_for_calls()?;
    let known = match (&args.session, args.no_session) {
        (Some(session), _) => Known::Session(session.clone()),
        (None, true) => Known::NoSession,
        (None, false) => Known::Nothing,
    };
    let outcome = repair(&nats, provider, args.id, &known, &by, &args.because).await;
    if let Err(error) = nats.client.drain().await {
        tracing::debug!(%error, "could not drain the NATS connection");
    }
    let outcome = outcome?;
    if args.json {
        print_json(&outcome)?;
    } else {
        print_text(&outcome.in_words(args.id));
    }
    Ok(())
}

async fn repair(
    nats: &Nats,
    provider: Arc<dyn PaymentProvider>,
    id: WorkflowId,
    known: &Known,
    by: &str,
    because: &str,
) -> anyhow::Result<Outcome> {
    let workflow = WorkflowRef { kind: WorkflowKind::Checkout, id };
    let evidence = Evidence::read(nats, workflow).await?;
    match evidence.goods {
        Goods::Held => {}
        Goods::NotHeld(ledger) => {
            record::close(nats, workflow, by, because).await?;
            return Ok(Outcome::NothingHeld { ledger });
        }
    }
    let start = evidence.start(known)?;
    // The intent first: whoever looks while this is under way, or after it was killed, finds who began it.
    record::begin(nats, workflow, by, because, &evidence).await?;
    crash_point!("operator.repair.after_begin");
    let settler = Settler { nats, provider, workflow };
    let outcome = settler.settle(start).await.with_context(|| {
        format!("{workflow} is not at its end yet; its goods are held until it is. Run the same command again")
    })?;
    if Evidence::read(nats, workflow).await?.revision != evidence.revision {
        bail!("somebody has continued the history of {workflow} meanwhile: ask `doctor` how it stands now");
    }
    record::close(nats, workflow, by, because).await?;
    Ok(outcome)
}

impl Outcome {
    fn in_words(&self, id: WorkflowId) -> String {
        match self {
            Self::Released { status } => {
                format!("repaired   {id}  nobody can pay any more and its goods went back ({status})")
            }
            Self::Sold { status } => format!("repaired   {id}  somebody had paid, so its goods are sold ({status})"),
            Self::NothingHeld { ledger } => {
                format!("unchanged  {id}  nothing is held for it (the ledger says: {ledger})")
            }
        }
    }
}
