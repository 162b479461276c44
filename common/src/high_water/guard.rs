//! Comparing streams with their marks: before a service starts, and every second while it runs.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, anyhow};
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};

use super::{Fingerprint, HighWaterFolder, Loss, Mark, Seen};
use crate::{
    nats::Nats,
    record::RecordHash,
    streams::StreamName,
    time::{from_server, now},
};

/// How often streams are compared and marks are moved on: a bound on what is done on a stream that has become shorter,
/// and at most one small file per second and stream.
const INTERVAL: Duration = Duration::from_secs(1);

/// A replica that has just become the leader may not have applied all that it has: before a replicated stream is called
/// shorter it is asked so often, an interval apart, for longer than a leader change takes (6 s).
const LOOKS_AT_REPLICAS: u32 = 10;

/// A server on its own has read everything before it answers; one more look costs nothing.
const LOOKS_AT_ONE_SERVER: u32 = 2;

/// How long the last marks may take when a service stops; without them they lag by a second.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Where high-water marks are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct HighWaterOptions {
    /// Folder, best on another disk than the streams, for notes of how far each stream is stored. A service refuses to
    /// run on a stream that has become shorter than its note; without a folder nobody would notice.
    #[arg(long, env = "CHECKOUT_HIGH_WATER_DIR", value_name = "FOLDER")]
    pub high_water_dir: Option<PathBuf>,
}

/// The marks of some streams, and the streams that must agree with them.
#[derive(Debug)]
pub struct HighWater {
    nats: Nats,
    folder: Option<HighWaterFolder>,
    marked: Vec<(StreamName, Option<Mark>)>,
}

impl HighWater {
    /// Compare streams with their marks. Without a folder nothing is compared, and the log says so.
    ///
    /// # Errors
    /// When a stream has lost what is known to be stored, with what to do; when it cannot be asked; when a mark cannot
    /// be read.
    pub async fn check(options: &HighWaterOptions, nats: &Nats, streams: &[StreamName]) -> anyhow::Result<Self> {
        let Some(dir) = &options.high_water_dir else {
            tracing::warn!(
                "no --high-water-dir: a stream that loses its end without a word, or is restored from an old backup, will \
                 not be noticed"
            );
            return Ok(Self { nats: nats.clone(), folder: None, marked: Vec::new() });
        };
        let folder = HighWaterFolder::open(dir)?;
        let mut marked = Vec::with_capacity(streams.len());
        for &stream in streams {
            marked.push((stream, folder.read(stream)?));
        }
        let mut high_water = Self { nats: nats.clone(), folder: Some(folder), marked };
        high_water.compare_and_mark().await?;
        Ok(high_water)
    }

    /// Run a service for as long as the streams agree with their marks, which are moved on meanwhile.
    ///
    /// # Errors
    /// What the service gives; or what a stream has lost, in which case the service is dropped where it stands.
    pub async fn guard<T>(mut self, service: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        tokio::select! {
            outcome = service => {
                if let Ok(Err(error)) = tokio::time::timeout(STOP_PATIENCE, self.compare_and_mark()).await {
                    tracing::warn!(error = format!("{error:#}"), "the last high-water marks were not written");
                }
                outcome
            }
            lost = self.lost() => Err(lost),
        }
    }

    /// Ends when a stream contradicts its mark.
    async fn lost(&mut self) -> anyhow::Error {
        if self.folder.is_none() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(INTERVAL).await;
            match self.compare_and_mark().await {
                Ok(()) => {}
                Err(error) if error.downcast_ref::<Loss>().is_some() => return error,
                // The server cannot be asked, or the folder cannot be written: a mark that lags is still true.
                Err(error) => tracing::warn!(error = format!("{error:#}"), "the high-water marks were not moved on"),
            }
        }
    }

    async fn compare_and_mark(&mut self) -> anyhow::Result<()> {
        let Some(folder) = self.folder.clone() else { return Ok(()) };
        for place in 0..self.marked.len() {
            let (stream, mark) = &self.marked[place];
            let (stream, name) = (*stream, stream.as_str());
            let handle =
                self.nats.jetstream.get_stream_no_info(name).await.with_context(|| format!("ask for {name}"))?;
            let created = compare(&handle, name, mark.as_ref(), &folder).await?;
            let acked = self.nats.acked.highest(stream);
            if mark.as_ref().is_some_and(|mark| mark.sequence >= acked) {
                continue;
            }
            let message = message_at(&handle, name, acked).await?;
            let new = Mark { stream: name.to_owned(), created, sequence: acked, message, written_at: now() };
            let (writing, folder) = (new.clone(), folder.clone());
            tokio::task::spawn_blocking(move || folder.write(stream, &writing)).await??;
            self.marked[place].1 = Some(new);
        }
        Ok(())
    }
}

/// Look until the stream agrees with its mark, or it is certain that it never will; when the stream was created.
async fn compare(
    stream: &Stream<()>,
    name: &str,
    mark: Option<&Mark>,
    folder: &HighWaterFolder,
) -> anyhow::Result<crate::time::Timestamp> {
    let mut looks = 0;
    loop {
        let info = stream.get_info().await.with_context(|| format!("ask {name} how long it is"))?;
        let created = from_server(info.created);
        let Some(mark) = mark else { return Ok(created) };
        let at_mark = message_at(stream, name, mark.sequence).await?;
        let Err(loss) = mark.check(&Seen { created, last_sequence: info.state.last_sequence, at_mark }) else {
            return Ok(created);
        };
        looks += 1;
        let most = if info.config.num_replicas > 1 { LOOKS_AT_REPLICAS } else { LOOKS_AT_ONE_SERVER };
        if looks >= most {
            return Err(anyhow!(loss).context(what_to_do(name, folder)));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn what_to_do(stream: &str, folder: &HighWaterFolder) -> String {
    let folder = folder.path().display();
    format!(
        "stream {stream} is not what it was: it has lost messages, was restored from an old backup, or belongs to another \
         server than the notes in {folder}. Nothing is done on it until a person has looked. Restore the stream from a newer \
         backup or another replica and start again; or, if what it holds now shall count, say so with `deploy accept-loss \
         --high-water-dir {folder} --stream {stream}` and ask `deploy doctor` what is missing"
    )
}

async fn message_at(stream: &Stream<()>, name: &str, sequence: u64) -> anyhow::Result<Option<Fingerprint>> {
    if sequence == 0 {
        return Ok(None);
    }
    match stream.get_raw_message(sequence).await {
        Ok(message) => {
            Ok(Some(Fingerprint { time: from_server(message.time), hash: RecordHash::of(&message.payload) }))
        }
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read message {sequence} of {name}")),
    }
}
