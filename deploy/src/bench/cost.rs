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
    counted: Counted,
}

/// What the processes count themselves.
#[derive(Debug, Default)]
struct Counted {
    commits: BTreeMap<String, u64>,
    in_batches: BTreeMap<String, u64>,
    histories: BTreeMap<String, u64>,
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
    /// Messages of each stream that were stored in batches.
    pub(super) in_batches: BTreeMap<String, u64>,
    /// Turns that found their history `at hand`, that read it from the `stream`, or that took themselves for the first
    /// (`assumed new`).
    pub(super) histories: BTreeMap<String, u64>,
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
        let mut counted = Counted::ask(stage).await?;
        // The inventory commits each message of the ledger on its own.
        let ledger = StreamName::Inventory.as_str();
        counted.commits.insert(format!("{ledger} singles"), messages[ledger]);
        Ok(Self { cpu_ms, messages, counted })
    }

    /// What was used between two readings.
    pub(super) fn until(&self, later: &Self, stage: &Stage) -> anyhow::Result<Cost> {
        let grown = |before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>| {
            let since = |name: &String, now: u64| now.saturating_sub(before.get(name).copied().unwrap_or_default());
            after.iter().map(|(name, now)| (name.clone(), since(name, *now))).collect::<BTreeMap<_, _>>()
        };
        let named = |messages: &BTreeMap<&'static str, u64>| {
            messages.iter().map(|(name, last)| ((*name).to_owned(), *last)).collect::<BTreeMap<_, _>>()
        };
        Ok(Cost {
            cpu_ms: grown(&self.cpu_ms, &later.cpu_ms),
            peak_memory_mb: peak_memory(stage)?,
            messages: grown(&named(&self.messages), &named(&later.messages)),
            commits: grown(&self.counted.commits, &later.counted.commits),
            in_batches: grown(&self.counted.in_batches, &later.counted.in_batches),
            histories: grown(&self.counted.histories, &later.counted.histories),
        })
    }
}

impl Counted {
    async fn ask(stage: &Stage) -> anyhow::Result<Self> {
        let mut counted = Self::default();
        counted.add(&common::service::telemetry::render_metrics());
        let mut doors: Vec<_> = stage.monitors.values().copied().collect();
        if stage.pids().iter().any(|(name, _)| *name == "gateway") {
            doors.push(stage.gateway);
        }
        for door in doors {
            let answer = stage.http.get(format!("http://{door}/metrics")).send().await.context("ask for metrics")?;
            counted.add(&answer.text().await.context("read metrics")?);
        }
        Ok(counted)
    }

    fn add(&mut self, page: &str) {
        for line in page.lines() {
            let Some(count) = line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()) else { continue };
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let (stream, method) = (label(line, "stream").unwrap_or_default(), label(line, "method"));
            let (which, key) = match (name, method) {
                ("journal_units_total", Some("batch")) => (&mut self.commits, format!("{stream} batches")),
                ("journal_messages_total", Some("singles")) => (&mut self.commits, format!("{stream} singles")),
                ("journal_messages_total", Some("batch")) => (&mut self.in_batches, stream.to_owned()),
                ("worker_histories_total", _) => {
                    (&mut self.histories, label(line, "from").unwrap_or_default().replace('_', " "))
                }
                _ => continue,
            };
            *which.entry(key).or_default() += count;
        }
    }
}

fn label<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("{name}=\""))?;
    rest.split('"').next()
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_processes_count_is_added_up_by_its_labels() {
        let page = "# TYPE journal_units_total counter\n\
                    journal_units_total{stream=\"HISTORY\",method=\"batch\"} 2\n\
                    journal_units_total{stream=\"HISTORY\",method=\"singles\"} 9\n\
                    journal_messages_total{stream=\"HISTORY\",method=\"batch\"} 150\n\
                    journal_messages_total{stream=\"HISTORY\",method=\"singles\"} 12\n\
                    worker_histories_total{kind=\"checkout\",from=\"at_hand\"} 7\n\
                    other_total 3\n";
        let mut counted = Counted::default();
        counted.add(page);
        counted.add(page);
        let map = |pairs: &[(&str, u64)]| pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        assert_eq!(counted.commits, map(&[("HISTORY batches", 4), ("HISTORY singles", 24)]));
        assert_eq!((counted.in_batches, counted.histories), (map(&[("HISTORY", 300)]), map(&[("at hand", 14)])));
    }
}
