//! A server under test: a process of the real binary, started with ports of its own and ended with the value.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::parent;

/// How long a server may take to be ready: recovery of a large data folder included.
pub const READY_WITHIN: Duration = Duration::from_secs(60);

/// The ready line of `buslane up --json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Ready {
    /// Always true.
    pub ready: bool,
    /// Address of the gateway.
    pub gate: String,
    /// Address of the foreground port.
    pub front: String,
    /// Address of the background port.
    pub wake: String,
    /// Address of the admin listener.
    pub admin: String,
    /// The certificate authority of this server.
    pub ca: PathBuf,
    /// Its data folder.
    pub data: PathBuf,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// Its addresses.
    pub ready: Ready,
    /// Its process.
    pub pid: u32,
    child: Child,
}

impl Server {
    /// Starts `program up` on `data`, with free ports, and waits until it is ready.
    pub async fn up(program: &Path, data: &Path) -> anyhow::Result<Self> {
        let any = "127.0.0.1:0";
        let data = data.to_string_lossy();
        let args =
            ["up", "--json", "--data", &data, "--gate", any, "--front", any, "--wake", any, "--admin", any];
        let (child, pid, line) = first_line(program, &args).await?;
        let ready = serde_json::from_str(&line).with_context(|| format!("the server answered: {line}"))?;
        Ok(Self { ready, pid, child })
    }

    /// Asks the server to stop and waits for it; a server that does not stop in time is killed.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let term = Command::new("kill").arg("-TERM").arg(self.pid.to_string()).status().await?;
        if !term.success() {
            bail!("the server (pid {}) had already ended", self.pid);
        }
        if timeout(Duration::from_secs(20), self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }

    /// Ends the server at once, as a crash would.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// Starts `program` and returns the first line of its standard output. The process ends when the child is dropped.
pub async fn first_line(program: &Path, args: &[&str]) -> anyhow::Result<(Child, u32, String)> {
    let mut command = Command::new(program);
    let mut child = parent::bind(&mut command)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let pid = child.id().context("the process ended at once")?;
    let out = child.stdout.take().context("no standard output")?;
    let mut lines = BufReader::new(out).lines();
    let line = timeout(READY_WITHIN, lines.next_line()).await.context("not ready in time")??;
    let line = line
        .with_context(|| format!("`{} {}` ended before it was ready", program.display(), args.join(" ")))?;
    // Nobody reads further lines; the pipe is closed, and what the program prints later goes nowhere.
    Ok((child, pid, line))
}
