//! What a run took: processor time and memory of each process, messages of each stream, commits.

use std::collections::BTreeMap;

use anyhow::Context as _;
use common::streams::StreamName;
use serde::Serialize;

use super::stage::Stage;

/// Clock ticks of `/proc/<pid>/stat` in a second: fixed for programs on Linux, whatever the kernel's own rate is.
const TICKS_PER_SECOND: u64 = 100;

/// What has been used up to a moment.
#[derive(Debug)]
pub(super) struct Meter {
    cpu_ms: BTreeMap<String, u64>,
    messages: BTreeMap<&'static str, u64>,
    commits: BTreeMap<String, u64>,
}

/// What one run took.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Cost {
    /// Processor time of each process, in milliseconds.
    pub(super) cpu_ms: BTreeMap<String, u64>,
    /// Most resident memory of each process, in megabytes.
    pub(super) peak_memory_mb: BTreeMap<String, u64>,
    /// Messages that each stream has got.
    pub(super) messages: BTreeMap<String, u64>,
    /// Commits of each journal: single publishes, and batches (each one commit).
    pub(super) commits: BTreeMap<String, u64>,
}

impl Meter {
    pub(super) async fn read(stage: &Stage) -> anyhow::Result<Self> {
        let mut cpu_ms = BTreeMap::new();
        for (name, pid) in stage.pids() {
            *cpu_ms.entry(name.to_owned()).or_default() += cpu_of(pid)?;
        }
        let mut messages = BTreeMap::new();
        for stream in stage.nats.shards.all_streams(&StreamName::ALL) {
            let found = stage.nats.jetstream.get_stream(stream.as_str()).await.context("ask how long a stream is")?;
            messages.insert(stream.as_str(), found.cached_info().state.last_sequence);
        }
        Ok(Self { cpu_ms, commits: commits(stage, &messages).await?, messages })
    }

    /// What was used between two readings.
    pub(super) fn until(&self, later: &Self, stage: &Stage) -> anyhow::Result<Cost> {
        let grown = |before: u64, after: u64| after.saturating_sub(before);
        let before = |map: &BTreeMap<String, u64>, key: &String| map.get(key).copied().unwrap_or_default();
        Ok(Cost {
            cpu_ms: later
                .cpu_ms
                .iter()
                .map(|(name, ms)| (name.clone(), grown(before(&self.cpu_ms, name), *ms)))
                .collect(),
            peak_memory_mb: peak_memory(stage)?,
            messages: later
                .messages
                .iter()
                .map(|(name, last)| ((*name).to_owned(), grown(self.messages[name], *last)))
                .collect(),
            commits: later
                .commits
                .iter()
                .map(|(name, count)| (name.clone(), grown(before(&self.commits, name), *count)))
                .collect(),
        })
    }
}

/// What the processes have committed: their journals count units; the inventory commits each message of the ledger on its own.
async fn commits(stage: &Stage, messages: &BTreeMap<&'static str, u64>) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut commits = BTreeMap::new();
    let mut pages = vec![common::service::telemetry::render_metrics()];
    let mut doors: Vec<_> = stage.monitors.values().copied().collect();
    if stage.pids().iter().any(|(name, _)| *name == "gateway") {
        doors.push(stage.gateway);
    }
    for door in doors {
        let answer = stage.http.get(format!("http://{door}/metrics")).send().await.context("ask for metrics")?;
        pages.push(answer.text().await.context("read metrics")?);
    }
    for line in pages.iter().flat_map(|page| page.lines()) {
        let counted =
            |name: &str| line.starts_with(name).then(|| line.rsplit(' ').next()?.parse::<u64>().ok()).flatten();
        let stream = label(line, "stream");
        if let (Some(count), Some(stream), Some("batch")) =
            (counted("journal_units_total"), stream, label(line, "method"))
        {
            *commits.entry(format!("{stream} batches")).or_default() += count;
        } else if let (Some(count), Some(stream), Some("singles")) =
            (counted("journal_messages_total"), stream, label(line, "method"))
        {
            *commits.entry(format!("{stream} singles")).or_default() += count;
        }
    }
    let ledger = StreamName::Inventory.as_str();
    commits.insert(format!("{ledger} singles"), messages[ledger]);
    Ok(commits)
}

fn label<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("{name}=\""))?;
    rest.split('"').next()
}

/// Processor time that a process has used, in milliseconds.
/// Processor time that a process has used so far, in milliseconds.
pub(super) fn cpu_of(pid: u32) -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("read what {pid} used"))?;
    // The name in brackets may hold spaces; what counts comes after it, as the 12th and 13th field.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|text| text.parse::<u64>().ok());
    let (user, system) = (ticks(11).context("the time of a process")?, ticks(12).context("the time of a process")?);
    Ok((user + system) * 1_000 / TICKS_PER_SECOND)
}

/// The most memory that each kind of process has had, in megabytes.
pub(super) fn peak_memory(stage: &Stage) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut peak = BTreeMap::new();
    for (name, pid) in stage.pids() {
        *peak.entry(name.to_owned()).or_default() += peak_memory_of(pid)?;
    }
    Ok(peak)
}

/// Most resident memory that a process has had, in megabytes.
fn peak_memory_of(pid: u32) -> anyhow::Result<u64> {
    Ok(status_kilobytes(pid, "VmHWM:")? / 1024)
}

/// The resident memory of a process, in bytes.
pub(super) fn memory_of(pid: u32) -> anyhow::Result<u64> {
    Ok(status_kilobytes(pid, "VmRSS:")? * 1024)
}

fn status_kilobytes(pid: u32, name: &str) -> anyhow::Result<u64> {
    let status =
        std::fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("read the memory of {pid}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("the memory of a process")?;
    line.trim().trim_end_matches(" kB").parse().context("the memory of a process")
}
