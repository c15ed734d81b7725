//! One server process: started where it may run, waited for, watched, stopped in order, and killed with the value.
//!
//! What it says goes to a file, because a pipe that the driver is too slow to read would hold the server up. It must never
//! lose why a server has ended.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::server::READY_WITHIN;
use crate::storm::place::spawn_on;

/// How long a server may take to stop: it tells its clients and finishes what it has taken.
const STOPPED_WITHIN: Duration = Duration::from_secs(20);

/// Lines of what a server said that are told when it ends by itself.
const TOLD_LINES: usize = 20;

/// And of those about its everyday work.
const EVERYDAY_LINES: usize = 2;

/// The end of the log that is read for them.
const TOLD_BYTES: u64 = 16 << 10;

/// A running process.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with `--json` and waits for its ready line. Its log is `NAME.log` in `work`.
    pub async fn start<R: DeserializeOwned>(
        program: &Path,
        args: &[&str],
        name: &str,
        work: &Path,
        processors: &[usize],
    ) -> anyhow::Result<(Self, R)> {
        let log = work.join(format!("{name}.log"));
        let file = OpenOptions::new().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(program);
        command
            .args(args)
            .arg("--json")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            // Ctrl-C is for the driver, which stops the server in order.
            .process_group(0)
            .kill_on_drop(true);
        let child = spawn_on(processors, &mut command)
            .with_context(|| format!("cannot start {}", program.display()))?;
        let pid = child.id().context("the process ended at once")?;
        let mut process = Self { name: name.to_owned(), pid, child, log };
        let line = process.first_line().await?;
        let ready = serde_json::from_str(&line).with_context(|| format!("{name} answered: {line}"))?;
        Ok((process, ready))
    }

    async fn first_line(&mut self) -> anyhow::Result<String> {
        let out = self.child.stdout.take().context("no standard output")?;
        // Nobody reads further lines; the pipe is closed, and what the program prints later goes nowhere.
        let mut lines = BufReader::new(out).lines();
        let Ok(line) = timeout(READY_WITHIN, lines.next_line()).await else {
            anyhow::bail!(
                "{} was not ready within {READY_WITHIN:?}; it said:\n{}",
                self.name,
                self.last_words()
            );
        };
        if let Some(line) = line.with_context(|| format!("cannot read what {} says", self.name))? {
            return Ok(line);
        }
        // It has closed its output, so it ends; what it said is there when it has.
        let _ = timeout(STOPPED_WITHIN, self.child.wait()).await;
        anyhow::bail!("{} did not start: {}", self.name, self.last_words())
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// `Err`: it has ended by itself, with how and what it said last.
    pub fn is_alive(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.obituary(status)),
            Err(error) => Err(format!("{} cannot be looked at: {error}", self.name)),
        }
    }

    fn obituary(&self, status: ExitStatus) -> String {
        let words = self.last_words();
        let words =
            if words.is_empty() { "it said nothing".to_owned() } else { format!("it said last:\n{words}") };
        format!("{} ended with {status}; {words}", self.name)
    }

    /// Asks it to stop, and waits until it has. One that does not stop in time is killed, which is an error.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        if let Err(how) = self.is_alive() {
            anyhow::bail!(how);
        }
        // The process is a child that was not waited for: its number is its own.
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.with_context(|| format!("{} has no number", self.name))?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .with_context(|| format!("cannot stop {}", self.name))?;
        if let Ok(status) = timeout(STOPPED_WITHIN, self.child.wait()).await {
            let status = status.with_context(|| format!("cannot wait for {}", self.name))?;
            anyhow::ensure!(status.success(), self.obituary(status));
            return Ok(());
        }
        self.child.kill().await.with_context(|| format!("cannot kill {}", self.name))?;
        anyhow::bail!("{} did not stop within {STOPPED_WITHIN:?} and was killed", self.name)
    }

    fn last_words(&self) -> String {
        tail(&self.log).unwrap_or_default()
    }
}

/// The last lines of a log that are not about its everyday work, or the last few where there are no others.
fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TOLD_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TOLD_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let is_telling = |line: &&str| ![" INFO ", " DEBUG ", " TRACE "].iter().any(|level| line.contains(level));
    let telling: Vec<&str> = text.lines().filter(is_telling).collect();
    let (lines, count) =
        if telling.is_empty() { (text.lines().collect(), EVERYDAY_LINES) } else { (telling, TOLD_LINES) };
    Ok(lines.split_at(lines.len().saturating_sub(count)).1.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    async fn start(dir: &Path, text: &str) -> anyhow::Result<(Process, Value)> {
        // `--json` becomes the name of the script, which nobody looks at.
        Process::start(Path::new("/bin/sh"), &["-c", text], "up", dir, &[]).await
    }

    #[tokio::test]
    async fn one_that_does_not_start_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let error = start(dir.path(), "echo 'config.toml:3: no such key' >&2; exit 2").await.unwrap_err();
        assert!(error.to_string().contains("config.toml:3: no such key"), "{error:#}");
    }

    #[tokio::test]
    async fn one_that_ends_by_itself_is_noticed_with_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let text = "echo '{\"ready\":true}'; for n in $(seq 30); do echo line-$n >&2; done; exit 7";
        let (mut process, ready) = start(dir.path(), text).await.unwrap();
        assert_eq!(ready["ready"], true);
        process.child.wait().await.unwrap();
        let how = process.is_alive().unwrap_err();
        assert!(
            how.contains("exit status: 7") && how.contains("line-30") && how.contains("line-11"),
            "{how}"
        );
        assert!(!how.contains("line-10"), "{how}");
        assert!(process.stop().await.is_err());
    }

    #[test]
    fn the_last_words_are_not_everyday_work() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let said = |text: &str| {
            std::fs::write(&log, text).unwrap();
            tail(&log).unwrap()
        };
        assert_eq!(said(""), "");
        let everyday = "10:01 INFO a: enrolled\n10:02 INFO a: enrolled\n10:03 INFO a: enrolled\n";
        assert_eq!(said(everyday), "10:02 INFO a: enrolled\n10:03 INFO a: enrolled");
        let told = said(&format!("10:00 ERROR store: the disk is full\n{everyday}panicked at b.rs:3\n"));
        assert_eq!(told, "10:00 ERROR store: the disk is full\npanicked at b.rs:3");
    }

    #[tokio::test]
    async fn one_that_is_asked_to_stop_does() {
        let dir = tempfile::tempdir().unwrap();
        let text = "trap 'exit 0' TERM; echo '{\"ready\":true}'; while :; do sleep 0.05; done";
        let (mut process, _) = start(dir.path(), text).await.unwrap();
        process.is_alive().unwrap();
        process.stop().await.unwrap();
    }
}
