//! One service as a process.

use std::{
    collections::BTreeMap,
    fs::File,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

/// Which service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    fn subcommand(self) -> &'static str {
        match self {
            Self::Worker(_) => "worker",
            Self::Inventory(_) => "inventory",
            Self::Gateway(_) => "gateway",
            Self::Sandbox => "sandbox",
        }
    }

    fn log_name(self) -> String {
        match self {
            Self::Worker(number) | Self::Inventory(number) | Self::Gateway(number) => {
                format!("{}-{number}.log", self.subcommand())
            }
            Self::Sandbox => "sandbox.log".into(),
        }
    }
}

/// How a service is started, every time.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub(crate) binary: PathBuf,
    pub(crate) log_dir: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
}

/// A service that runs, or has run.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    pub(crate) fn start(service: Service, recipe: &Recipe) -> Self {
        let log = recipe.log_dir.join(service.log_name());
        let log = File::options().create(true).append(true).open(&log).expect("open the log of a service");
        let child = Command::new(&recipe.binary)
            .arg(service.subcommand())
            .args(&recipe.arguments)
            .envs(&recipe.environment)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log of a service"))
            .stderr(log)
            .spawn()
            .expect("start a service");
        Self { child }
    }

    /// kill -9, and wait until it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Send a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("signal a service that runs");
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().expect("ask for a service's state")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
