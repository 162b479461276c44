//! Signals to processes that we have started.

use std::{
    io,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// A process of many threads is frozen within milliseconds; on a busy machine it was seen to run on for 200.
const FREEZING_PATIENCE: Duration = Duration::from_secs(10);

/// Send a signal. A process that has ended already is no error: that is what most senders want.
///
/// # Errors
/// When the process is not ours to signal.
pub fn send(pid: u32, signal: Signal) -> io::Result<()> {
    match kill_process(target(pid)?, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Send SIGSTOP to a child and wait until all of it stands still: the signal alone returns while threads still run. A child
/// that has ended already is no error.
///
/// # Errors
/// When the process is not ours to signal, or does not freeze within 10 s.
pub fn freeze(pid: u32) -> io::Result<()> {
    let target = target(pid)?;
    send(pid, Signal::STOP)?;
    // Only looked at, so that whoever waits for the child's end misses nothing.
    let look = WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    let asked_at = Instant::now();
    loop {
        match waitid(WaitId::Pid(target), look) {
            // It has ended meanwhile: it stands as still as can be.
            Ok(Some(_)) | Err(rustix::io::Errno::CHILD) => return Ok(()),
            Ok(None) => {}
            Err(error) => return Err(error.into()),
        }
        if asked_at.elapsed() > FREEZING_PATIENCE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("process {pid} still runs after SIGSTOP")));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn target(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
