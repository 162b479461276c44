//! What the operator does about messages that could not be handled: look at them, send them again when the cause is
//! mended, or decide that nothing is to be done with them. Who did it stays recorded beside the letters.
//!
//! Reading order: `letter` (what a letter is, read from the stream) → `list`, `show` → `redrive`, `discard`.

mod discard;
mod letter;
mod list;
mod redrive;
mod show;

use std::io::{self, IsTerminal as _, Write as _};

use clap::{ArgGroup, Args, Subcommand};
use common::{
    ids::WorkflowId,
    nats::{Nats, NatsOptions},
    subject::DeadLetterArea,
};
use indicatif::ProgressBar;
use serde::Serialize;

pub use letter::{Letter, Settled};

use crate::output::print_json;
use letter::Filter;
pub(crate) use letter::read_letters;
use redrive::{Outcome, Redriven};

/// Messages that could not be handled (stream DEAD_LETTERS): look at them, send them again, or lay them aside.
///
/// A message that a service cannot read, that contradicts what is recorded, or that kept failing is parked with its reason,
/// and everything else goes on. Mend the cause (deploy a version that can read it, restore a stream, correct a setting),
/// then `redrive` it: it is sent to where it came from, and whoever takes it recognises what it has had before. What needs
/// no answer any more is discarded with a reason. Each is recorded with who did it, and stays recorded.
#[derive(Debug, Args)]
pub struct DeadLettersArgs {
    #[command(flatten)]
    nats: NatsOptions,
    /// Print JSON instead of text for eyes.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// What is parked, oldest first: since when, from where, about which workflow, why.
    List {
        #[command(flatten)]
        filter: FilterArgs,
        /// Also those that an operator has driven again or discarded.
        #[arg(long)]
        settled: bool,
    },
    /// One letter whole: its headers, its body, and what was done about it.
    Show {
        /// Its sequence, as `list` shows it.
        sequence: u64,
    },
    /// Send messages to where they came from once more. Safe to repeat: whoever takes a message twice does nothing twice.
    #[command(group(ArgGroup::new("which").required(true).args(["sequences", "all"])))]
    Redrive {
        /// Sequences, as `list` shows them.
        #[arg(value_name = "SEQUENCE")]
        sequences: Vec<u64>,
        /// Every letter that nobody has seen to and that the filters let through.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        filter: FilterArgs,
        #[command(flatten)]
        operator: OperatorArgs,
        /// Why now, in your words, such as "worker 1.4 knows this event".
        #[arg(long, value_name = "WORDS")]
        because: Option<String>,
    },
    /// Decide that nothing is to be done with messages: they are not listed any more; the decision stays recorded.
    Discard {
        /// Sequences, as `list` shows them.
        #[arg(value_name = "SEQUENCE", required = true)]
        sequences: Vec<u64>,
        #[command(flatten)]
        operator: OperatorArgs,
        /// Why, in your words.
        #[arg(long, value_name = "WORDS", value_parser = words)]
        because: String,
    },
}

#[derive(Debug, Clone, Args)]
struct FilterArgs {
    /// Only of one area.
    #[arg(long, value_name = "AREA", value_parser = area)]
    area: Option<DeadLetterArea>,
    /// Only those whose reason contains this.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only those about one workflow.
    #[arg(long, value_name = "ID")]
    workflow: Option<WorkflowId>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OperatorArgs {
    /// Who does this; it is recorded. Without it your login name.
    #[arg(long, env = "CHECKOUT_OPERATOR", value_name = "NAME", value_parser = words)]
    by: Option<String>,
}

impl OperatorArgs {
    pub(crate) fn name(&self) -> anyhow::Result<String> {
        let login = || ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
        self.by.clone().or_else(login).filter(|name| !name.trim().is_empty()).ok_or_else(|| {
            anyhow::anyhow!("who are you? This is recorded: name yourself with --by or the variable CHECKOUT_OPERATOR")
        })
    }
}

impl From<&FilterArgs> for Filter {
    fn from(args: &FilterArgs) -> Self {
        Self { area: args.area, reason: args.reason.clone(), workflow: args.workflow }
    }
}

/// Do what was asked; `false` when some of it could not be done, which was told.
///
/// # Errors
/// When the stream cannot be read, a letter does not exist, or the operator has no name.
pub async fn run(args: &DeadLettersArgs) -> anyhow::Result<bool> {
    let nats = common::nats::connect::connect(&args.nats, "dead-letters").await?.with_shards().await?;
    let done = act(&nats, args).await;
    if let Err(error) = nats.client.drain().await {
        tracing::debug!(%error, "could not drain the NATS connection");
    }
    done
}

async fn act(nats: &Nats, args: &DeadLettersArgs) -> anyhow::Result<bool> {
    match &args.act {
        Act::List { filter, settled } => {
            let mut letters = read_letters(nats).await?;
            letters.retain(|letter| Filter::from(filter).matches(letter) && (*settled || letter.settled.is_none()));
            print(args.json, &letters, || list::table(&letters, common::time::now()))?;
            Ok(true)
        }
        Act::Show { sequence } => {
            let letter = letter::read_letter(nats, *sequence).await?;
            print(args.json, &show::Whole::of(&letter), || show::text(&letter))?;
            Ok(true)
        }
        Act::Redrive { sequences, all, filter, operator, because } => {
            let by = operator.name()?;
            let filter = Filter::from(filter);
            let chosen = choose(nats, sequences, *all, &filter).await?;
            redrive_each(nats, args.json, chosen, &by, because.as_deref()).await
        }
        Act::Discard { sequences, operator, because } => {
            let by = operator.name()?;
            // All are looked up first: a wrong number must not leave half of the work done.
            let mut letters = Vec::new();
            for sequence in sequences {
                letters.push(letter::read_letter(nats, *sequence).await?);
            }
            let mut discarded = Vec::new();
            for letter in letters {
                discarded.push(discard::discard(nats, &letter, &by, because).await?);
            }
            print(args.json, &discarded, || discarded.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
            Ok(true)
        }
    }
}

async fn choose(nats: &Nats, sequences: &[u64], all: bool, filter: &Filter) -> anyhow::Result<Vec<Letter>> {
    if all {
        let mut letters = read_letters(nats).await?;
        letters.retain(|letter| filter.matches(letter) && letter.settled.is_none());
        return Ok(letters);
    }
    let mut letters = Vec::new();
    for sequence in sequences {
        letters.push(letter::read_letter(nats, *sequence).await?);
    }
    letters.retain(|letter| filter.matches(letter));
    Ok(letters)
}

async fn redrive_each(
    nats: &Nats,
    json: bool,
    letters: Vec<Letter>,
    by: &str,
    because: Option<&str>,
) -> anyhow::Result<bool> {
    let bar = progress(letters.len());
    let mut all: Vec<Redriven> = Vec::new();
    for letter in letters {
        let outcome = redrive::redrive(nats, &letter, by, because).await;
        bar.inc(1);
        all.push(Redriven { letter: letter.sequence, subject: letter.original_subject, outcome });
    }
    bar.finish_and_clear();
    print(json, &all, || match &all[..] {
        [] => "nothing to drive again".into(),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    })?;
    Ok(all.iter().all(|one| !matches!(one.outcome, Outcome::Failed { .. })))
}

fn progress(count: usize) -> ProgressBar {
    if io::stderr().is_terminal() && count > 1 {
        ProgressBar::new(u64::try_from(count).unwrap_or(u64::MAX))
    } else {
        ProgressBar::hidden()
    }
}

fn print<T: Serialize + ?Sized>(json: bool, value: &T, text: impl FnOnce() -> String) -> io::Result<()> {
    if json { print_json(value) } else { writeln!(io::stdout().lock(), "{}", text()) }
}

fn area(text: &str) -> Result<DeadLetterArea, String> {
    DeadLetterArea::ALL.into_iter().find(|area| area.as_str() == text).ok_or_else(|| {
        let known: Vec<&str> = DeadLetterArea::ALL.into_iter().map(DeadLetterArea::as_str).collect();
        format!("{text:?} is none of {}", known.join(", "))
    })
}

/// Something that a person has said: it is recorded, so it must say something.
pub(crate) fn words(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() { Err("say it in words: it is recorded".into()) } else { Ok(text.to_owned()) }
}
