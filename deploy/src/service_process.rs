//! One service as a process that can be started, signalled, killed and started again: for the stories and the torture.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::Signal;

use crate::signals;

/// Which service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// A workflow-worker, numbered.
    Worker(u8),
    /// An inventory service, numbered.
    Inventory(u8),
    /// A gateway, numbered.
    Gateway(u8),
    /// The payment sandbox.
    Sandbox,
}

impl Service {
    /// The word for its kind, which is also its subcommand in [`hosting`](crate::hosting).
    #[must_use]
    pub fn subcommand(self) -> &'static str {
        match self {
            Self::Worker(_) => "worker",
            Self::Inventory(_) => "inventory",
            Self::Gateway(_) => "gateway",
            Self::Sandbox => "sandbox",
        }
    }

    /// The name of its log file.
    #[must_use]
    pub fn log_name(self) -> String {
        match self {
            Self::Worker(number) | Self::Inventory(number) | Self::Gateway(number) => {
                format!("{}-{number}.log", self.subcommand())
            }
            Self::Sandbox => "sandbox.log".into(),
        }
    }
}

/// How services are started as processes: a program, and what stands before the name of the service.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// A program that takes the subcommands of [`hosting`](crate::hosting).
    pub binary: PathBuf,
    /// What stands before them.
    pub before: Vec<String>,
}

/// How a service is started, every time.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// A program that takes the subcommands of [`hosting`](crate::hosting).
    pub binary: PathBuf,
    /// What stands before the service's subcommand.
    pub before: Vec<String>,
    /// Where its log goes; what an earlier process wrote stays.
    pub log_dir: PathBuf,
    /// What stands after the service's subcommand.
    pub arguments: Vec<String>,
    /// More environment variables.
    pub environment: BTreeMap<String, String>,
}

/// A service that runs, or has run. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Start it.
    ///
    /// # Errors
    /// When its log cannot be written or its binary cannot be run.
    pub fn start(service: Service, recipe: &Recipe) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(recipe.log_dir.join(service.log_name()))?;
        let child = Command::new(&recipe.binary)
            .args(&recipe.before)
            .arg(service.subcommand())
            .args(&recipe.arguments)
            .envs(&recipe.environment)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self { child })
    }

    /// kill -9, and wait until it is gone.
    pub fn kill(&mut self) {
        // It may have ended by itself: then there is nothing to kill, and waiting returns at once.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Send a signal; after SIGSTOP it stands still when this returns. One that has ended already is no error.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if signal == Signal::STOP { signals::freeze(self.child.id()) } else { signals::send(self.child.id(), signal) }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the operating system cannot tell.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
