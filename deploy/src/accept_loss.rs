//! The operator's word that a stream which has lost messages shall count as it is: its high-water mark is put aside.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use common::{high_water::HighWaterFolder, streams::StreamName};

/// Which streams, and where their marks are.
#[derive(Debug, Args)]
pub struct AcceptLossArgs {
    /// The folder with the high-water marks; `cargo run` keeps them in `high-water` in its data folder.
    #[arg(long, env = "CHECKOUT_HIGH_WATER_DIR", default_value = ".local/high-water", value_name = "FOLDER")]
    pub high_water_dir: PathBuf,
    /// A stream that shall count as it is, such as HISTORY; may be given several times.
    #[arg(long = "stream", required = true, value_name = "STREAM", value_parser = stream_of_name)]
    pub streams: Vec<StreamName>,
}

/// Put the marks of streams aside; the services then start on what the streams hold, and mark it anew. Works without a
/// server. What was done, one line for each stream.
///
/// # Errors
/// When a stream has no mark in this folder (then nothing is changed), or a mark cannot be put aside.
pub fn accept_loss(args: &AcceptLossArgs) -> anyhow::Result<Vec<String>> {
    let dir = &args.high_water_dir;
    // A folder that is not there is a wrong name, not one to be made.
    if !dir.is_dir() {
        bail!("there is no folder {}: name the one that the services use with --high-water-dir", dir.display());
    }
    let folder = HighWaterFolder::open(dir)?;
    let mut claims = Vec::new();
    for &stream in &args.streams {
        // A mark that cannot be read claims nothing that could be shown, and may be put aside all the same.
        match folder.read(stream) {
            Ok(None) => bail!("there is no high-water mark of {} in {}", stream.as_str(), dir.display()),
            Ok(Some(mark)) => {
                claims.push(format!("it was stored up to sequence {}, noted at {}", mark.sequence, mark.written_at));
            }
            Err(error) => claims.push(format!("its mark could not be read ({error})")),
        }
    }
    let mut done = Vec::new();
    for (&stream, claim) in args.streams.iter().zip(claims) {
        let aside = folder.accept(stream)?.with_context(|| format!("the mark of {} is gone", stream.as_str()))?;
        done.push(format!("{}: {claim}; put aside in {}", stream.as_str(), aside.display()));
    }
    Ok(done)
}

fn stream_of_name(text: &str) -> Result<StreamName, String> {
    StreamName::of_name(&text.to_ascii_uppercase()).ok_or_else(|| {
        let names: Vec<&str> = StreamName::ALL.iter().map(|stream| stream.as_str()).collect();
        format!("there is no such stream; there are {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use common::{high_water::Mark, time::Timestamp};

    use super::*;

    fn with_a_mark(stream: StreamName) -> (tempfile::TempDir, HighWaterFolder) {
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = HighWaterFolder::open(scratch.path()).expect("open");
        let created = Timestamp::UNIX_EPOCH;
        let mark = Mark { stream: stream.as_str().into(), created, sequence: 120, message: None, written_at: created };
        folder.write(stream, &mark).expect("written");
        (scratch, folder)
    }

    fn args(folder: &HighWaterFolder, streams: &[StreamName]) -> AcceptLossArgs {
        AcceptLossArgs { high_water_dir: folder.path().to_owned(), streams: streams.to_vec() }
    }

    #[test]
    fn a_loss_is_accepted_for_the_named_stream_and_what_was_claimed_is_shown() {
        let (_scratch, folder) = with_a_mark(StreamName::History);
        let done = accept_loss(&args(&folder, &[StreamName::History])).expect("accepted");
        assert!(done[0].starts_with("HISTORY: it was stored up to sequence 120"), "{done:?}");
        assert_eq!(folder.read(StreamName::History).expect("readable"), None);
    }

    #[test]
    fn nothing_is_accepted_when_one_of_the_names_has_no_mark_here() {
        let (_scratch, folder) = with_a_mark(StreamName::History);
        let error = accept_loss(&args(&folder, &[StreamName::History, StreamName::Inventory])).expect_err("no mark");
        assert!(error.to_string().contains("INVENTORY"), "{error}");
        assert!(folder.read(StreamName::History).expect("readable").is_some());
        let nowhere = AcceptLossArgs { high_water_dir: "/no/such/folder".into(), streams: vec![StreamName::History] };
        assert!(accept_loss(&nowhere).expect_err("no folder").to_string().contains("/no/such/folder"));
    }

    #[test]
    fn a_stream_is_known_by_its_name_in_any_case() {
        assert_eq!(stream_of_name("history"), Ok(StreamName::History));
        assert!(stream_of_name("HISTORIES").expect_err("unknown").contains("HISTORY, TIMERS"));
    }
}
