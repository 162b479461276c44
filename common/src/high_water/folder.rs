//! The folder with one mark for each stream: `<STREAM>.json`.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::Mark;
use crate::{streams::StreamName, time};

/// Where marks are kept. Several processes may share it: each mark is a lower bound, whoever wrote it last.
#[derive(Debug, Clone)]
pub struct HighWaterFolder {
    path: PathBuf,
}

/// A mark that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The operating system refuses.
    #[error("cannot {action} {}: is the folder of the high-water marks there and writable for this user?", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What it says.
        source: std::io::Error,
    },
    /// The file is not a mark of this stream: damaged, or of another version.
    #[error(
        "{} is not a high-water mark of {stream}: if the stream is known to be whole, accept it with `deploy accept-loss`",
        path.display()
    )]
    Unreadable {
        /// Of which stream.
        stream: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it; none when it is a mark of another stream.
        source: Option<serde_json::Error>,
    },
}

impl HighWaterFolder {
    /// Use a folder; it is created when it does not exist.
    ///
    /// # Errors
    /// [`FolderError::File`] when it cannot be created.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        fs::create_dir_all(path).map_err(failed("create", path))?;
        Ok(Self { path: path.to_owned() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The mark of a stream; `None` when there is none yet.
    ///
    /// # Errors
    /// [`FolderError`] when it cannot be read: what it would have claimed is not known then.
    pub fn read(&self, stream: StreamName) -> Result<Option<Mark>, FolderError> {
        let path = self.file(stream);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let unreadable = |source| FolderError::Unreadable { stream: stream.as_str(), path: path.clone(), source };
        let mark: Mark = serde_json::from_slice(&bytes).map_err(|error| unreadable(Some(error)))?;
        if mark.stream == stream.as_str() { Ok(Some(mark)) } else { Err(unreadable(None)) }
    }

    /// Replace the mark of a stream: after a crash at any moment either the old or the new one is there, whole.
    ///
    /// # Errors
    /// [`FolderError::File`] when it is not written; the old mark stays.
    pub fn write(&self, stream: StreamName, mark: &Mark) -> Result<(), FolderError> {
        let path = self.file(stream);
        let new = self.path.join(format!(".{}.{}.new", stream.as_str(), Uuid::now_v7().as_simple()));
        let written = write_synced(&new, mark).and_then(|()| fs::rename(&new, &path));
        if written.is_err() {
            // Left behind it would only be in the way of people.
            let _ = fs::remove_file(&new);
        }
        // Without this the renaming may be lost in a power cut; the old mark is a lower bound, too.
        written.and_then(|()| File::open(&self.path)?.sync_all()).map_err(failed("write", &path))
    }

    /// Put the mark of a stream aside, so that the stream counts as whole from now on; where it was put, `None` when
    /// there is none.
    ///
    /// # Errors
    /// [`FolderError::File`] when it cannot be renamed.
    pub fn accept(&self, stream: StreamName) -> Result<Option<PathBuf>, FolderError> {
        let path = self.file(stream);
        let aside = self.path.join(format!("{}.accepted-{}.json", stream.as_str(), time::now().as_millisecond()));
        match fs::rename(&path, &aside) {
            Ok(()) => Ok(Some(aside)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("rename", &path)(error)),
        }
    }

    fn file(&self, stream: StreamName) -> PathBuf {
        self.path.join(format!("{}.json", stream.as_str()))
    }
}

fn write_synced(path: &Path, mark: &Mark) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    serde_json::to_writer_pretty(&mut file, mark)?;
    file.write_all(b"\n")?;
    file.sync_all()
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> FolderError + use<> {
    let path = path.to_owned();
    move |source| FolderError::File { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn mark(sequence: u64) -> Mark {
        let created = Timestamp::UNIX_EPOCH;
        Mark { stream: "HISTORY".into(), created, sequence, message: None, written_at: created }
    }

    fn folder() -> (tempfile::TempDir, HighWaterFolder) {
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = HighWaterFolder::open(&scratch.path().join("marks")).expect("created");
        (scratch, folder)
    }

    #[test]
    fn what_is_written_is_read_back_and_nothing_else_is_left() {
        let (_scratch, folder) = folder();
        assert_eq!(folder.read(StreamName::History).expect("readable"), None);
        for sequence in [3, 9] {
            folder.write(StreamName::History, &mark(sequence)).expect("written");
            assert_eq!(folder.read(StreamName::History).expect("readable"), Some(mark(sequence)));
        }
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn a_damaged_mark_or_one_of_another_stream_is_not_taken_for_none() {
        let (_scratch, folder) = folder();
        folder.write(StreamName::History, &mark(3)).expect("written");
        fs::copy(folder.file(StreamName::History), folder.file(StreamName::Webhooks)).expect("copied");
        fs::write(folder.file(StreamName::History), "{\"stream\":").expect("damaged");
        for stream in [StreamName::History, StreamName::Webhooks] {
            let error = folder.read(stream).expect_err("unreadable").to_string();
            assert!(error.contains(stream.as_str()) && error.contains("accept-loss"), "{error}");
        }
    }

    #[test]
    fn an_accepted_mark_is_kept_aside() {
        let (_scratch, folder) = folder();
        assert_eq!(folder.accept(StreamName::History).expect("nothing to do"), None);
        folder.write(StreamName::History, &mark(3)).expect("written");
        let aside = folder.accept(StreamName::History).expect("renamed").expect("there was one");
        assert_eq!(folder.read(StreamName::History).expect("readable"), None);
        let kept: Mark = serde_json::from_slice(&fs::read(aside).expect("kept")).expect("a mark");
        assert_eq!(kept, mark(3));
    }

    #[test]
    fn a_folder_that_cannot_be_made_says_where() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let error = HighWaterFolder::open(&file.path().join("marks")).expect_err("below a file");
        assert!(error.to_string().contains(&file.path().display().to_string()), "{error}");
    }
}
