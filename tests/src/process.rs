//! What is a child process of a test, and what does it leave behind?
//!
//! Its standard error is a file; its end is certain: dropping a [`Process`] kills and reaps it. Then
//! the log is read, and a panic or an ERROR that the test did not announce with [`Process::expect`]
//! fails the test: ERROR means that a person must act.

use crate::eventually::eventually;
use anyhow::{Context as _, bail};
use rustix::process::{Pid, kill_process};
use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

pub use rustix::process::Signal;

/// A child process.
#[derive(Debug)]
pub struct Process {
    /// For messages.
    name: String,
    child: Child,
    log: PathBuf,
    /// Texts that mark an ERROR line as one that the test brings about.
    expected: Vec<String>,
}

impl Process {
    /// Starts `command` with its output appended to `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(name: &str, command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let open = || -> anyhow::Result<File> { Ok(OpenOptions::new().create(true).append(true).open(log)?) };
        command.stdin(Stdio::null()).stdout(open()?).stderr(open()?);
        let child = command.spawn().with_context(|| format!("cannot start {name}: {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), expected: Vec::new() })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id())?;
        let pid = Pid::from_raw(pid).context("a process id is not 0")?;
        kill_process(pid, signal).with_context(|| format!("{}: cannot send {signal:?}", self.name))
    }

    /// Freezes it where it stands: afterwards what it has written is all that it has done.
    ///
    /// # Errors
    /// When the process is gone.
    pub async fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)?;
        eventually(&format!("{} stands still", self.name), async || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
            let (_, state) = stat.rsplit_once(") ").context("a state")?;
            anyhow::ensure!(state.starts_with('T'), "{state}");
            Ok(())
        })
        .await
    }

    /// Kills it and awaits its end.
    ///
    /// # Errors
    /// When it cannot be reaped.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if self.child.try_wait()?.is_none() {
            self.child.kill()?;
        }
        self.child.wait()?;
        Ok(())
    }

    /// Awaits its own end.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let Self { child, name, log, .. } = self;
        eventually(&format!("{name} ends"), async || {
            child.try_wait()?.with_context(|| format!("it runs; its log: {}", tail(log)))
        })
        .await
    }

    /// Sends SIGTERM and awaits a clean end.
    ///
    /// # Errors
    /// When it does not end, or not with 0.
    pub async fn terminate(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.ended().await?;
        if !status.success() {
            bail!("{} ended with {status}; its log: {}", self.name, tail(&self.log));
        }
        Ok(())
    }

    /// Fails when the process has ended, with the end of its log.
    ///
    /// # Errors
    /// As said.
    pub fn alive(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended early with {status}; its log: {}", self.name, tail(&self.log));
        }
        Ok(())
    }

    /// Everything it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The test brings about ERROR lines that contain `text`.
    pub fn expect(&mut self, text: &str) {
        self.expected.push(text.to_owned());
    }

    /// Resident memory in KiB: `VmRSS` now, or `VmHWM` for the highest so far.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn memory_kib(&self, field: &str) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find(|line| line.starts_with(field)).context("no such field")?;
        Ok(line.split_whitespace().nth(1).context("a number of KiB")?.parse()?)
    }

    fn complaints(&self) -> Vec<String> {
        let log = self.log();
        let bad = |line: &&str| line.contains("panicked at") || line.split_whitespace().any(|w| w == "ERROR");
        let announced = |line: &&str| self.expected.iter().any(|text| line.contains(text.as_str()));
        log.lines().filter(bad).filter(|line| !announced(line)).map(str::to_owned).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
        // Runners of tests show it when the test fails, and only then.
        eprintln!("--- {} ---\n{}", self.name, tail(&self.log));
        if std::thread::panicking() {
            return;
        }
        let complaints = self.complaints();
        assert!(complaints.is_empty(), "{} complained:\n{}", self.name, complaints.join("\n"));
    }
}

/// The last lines of a log.
#[must_use]
pub fn tail(log: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
