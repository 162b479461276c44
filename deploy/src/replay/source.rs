//! Where histories come from: the stream, or a file that was exported from it. Never more than a few at a time are in
//! memory.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, bail};
use common::{
    ids::WorkflowRef,
    nats::{Nats, check, read::history},
    streams::StreamName,
    subject::Subject,
};
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::{
    history::{Line, StoredHistory},
    result::Tally,
};

/// Histories that are read at the same time: enough to keep the server busy, few enough for a small machine.
const READ_AT_A_TIME: usize = 32;

/// Every history, part after part, one subject after the other. The server tells the subjects in pages.
pub(super) async fn from_stream(nats: &Nats, tally: &mut Tally, mut export: Option<&mut Export>) -> anyhow::Result<()> {
    let (mut parts, mut expected) = (Vec::new(), 0);
    for part in nats.shards.streams(StreamName::History) {
        let stream = check::stream(nats, part).await?;
        // What readers have proved stands there, too, under a few subjects of its own.
        let proofs = stream.info_with_subjects("proof.>").await.context("ask for the proofs that there are")?;
        expected += stream.cached_info().state.subjects_count.saturating_sub(proofs.count().await as u64);
        parts.push((part.as_str(), stream));
    }
    tally.expect_histories(expected);
    for (name, stream) in parts {
        let subjects = stream.info_with_subjects("history.>").await.context("ask for the histories that there are")?;
        let mut histories = subjects
            .map(|subject| async move {
                let (subject, _) = subject.context("ask for the histories that there are")?;
                let Ok(Subject::History(workflow)) = subject.parse() else {
                    bail!("{subject} in stream {name} is not the history of a workflow that this build knows");
                };
                read(nats, workflow).await
            })
            .buffer_unordered(READ_AT_A_TIME)
            .boxed();
        while let Some(history) = histories.try_next().await? {
            take(history, tally, export.as_deref_mut())?;
        }
    }
    Ok(())
}

/// One history of the stream.
pub(super) async fn read(nats: &Nats, workflow: WorkflowRef) -> anyhow::Result<StoredHistory> {
    let stored = history(nats, workflow).await.with_context(|| format!("read the history of {workflow}"))?;
    Ok(StoredHistory { workflow, records: stored.into_iter().map(Into::into).collect() })
}

/// Export a history, if that is wanted, and replay it.
pub(super) fn take(history: StoredHistory, tally: &mut Tally, export: Option<&mut Export>) -> anyhow::Result<()> {
    if history.records.is_empty() {
        return Ok(());
    }
    if let Some(export) = export {
        export.write(&history)?;
    }
    tally.take(&history);
    Ok(())
}

/// Every history of a file; the records of one history stand together, oldest first.
pub(super) fn from_file(path: &Path, tally: &mut Tally) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("open the histories {}", path.display()))?;
    let mut current: Option<StoredHistory> = None;
    for (line, number) in BufReader::new(file).lines().zip(1_u64..) {
        let place = || format!("{} line {number}", path.display());
        let line = line.with_context(place)?;
        let line: Line = serde_json::from_str(&line)
            .with_context(|| format!("{}: not a line that `replay --export` has written", place()))?;
        let (workflow, record) = line.read().map_err(|reason| anyhow!("{}: {reason}", place()))?;
        match current.as_mut().filter(|current| current.workflow == workflow) {
            Some(current) => current.records.push(record),
            None => {
                if let Some(whole) = current.replace(StoredHistory { workflow, records: vec![record] }) {
                    tally.take(&whole);
                }
            }
        }
    }
    if let Some(last) = current {
        tally.take(&last);
    }
    Ok(())
}

/// A file that histories are written to. It gets its name when it is whole.
pub(super) struct Export {
    path: PathBuf,
    unfinished: tempfile::NamedTempFile,
    out: BufWriter<File>,
}

impl Export {
    /// Begin to write next to the file, which stays as it is until the end.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let begin = || -> std::io::Result<Self> {
            let unfinished = tempfile::NamedTempFile::new_in(folder)?;
            let out = BufWriter::new(unfinished.reopen()?);
            Ok(Self { path: path.to_owned(), unfinished, out })
        };
        begin().with_context(|| format!("begin to write {}", path.display()))
    }

    fn write(&mut self, history: &StoredHistory) -> anyhow::Result<()> {
        for stored in &history.records {
            let line = serde_json::to_string(&Line::of(history.workflow, stored))?;
            writeln!(self.out, "{line}").with_context(|| format!("write {}", self.path.display()))?;
        }
        Ok(())
    }

    /// Everything is written; now the file is there.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        let Self { path, unfinished, out } = self;
        let finish = || -> anyhow::Result<()> {
            out.into_inner()?.sync_all()?;
            unfinished.persist(&path)?;
            Ok(())
        };
        finish().with_context(|| format!("finish {}", path.display()))
    }
}
