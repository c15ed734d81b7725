//! A system of roles apart: a gateway, a backend and two session managers, each a process, over mutual TLS.
//!
//! Its files are those of `buslane config init`, with free ports in the place of the usual ones. A port that is free now may
//! be taken a moment later; the system gives them out in turn, so that it practically never is.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use serde::Deserialize;
use tokio::process::Command;
use toml::{Table, Value};

use super::admin::Admin;
use super::process::Process;
use super::settings::{self, section};
use super::{Addresses, parse};
use crate::storm::stage::Ports;

/// Names of the session managers: of their files, their nodes and their logs.
const MANAGERS: [&str; 2] = ["session-manager-1", "session-manager-2"];

/// Roles apart, running.
#[derive(Debug)]
pub struct Apart {
    backend: Process,
    // The one that is restarted is the first.
    managers: Vec<(Manager, Process)>,
    gateway: Process,
    gate: SocketAddr,
    dir: PathBuf,
}

/// A session manager's addresses.
#[derive(Debug, Clone, Copy)]
struct Manager {
    name: &'static str,
    front: SocketAddr,
    wake: SocketAddr,
    admin: SocketAddr,
}

/// What every ready line has.
#[derive(Debug, Deserialize)]
struct Ready {
    gate: Option<String>,
}

impl Apart {
    /// Writes the files and starts the backend, the session managers and the gateway, in this order.
    pub async fn start(
        program: &Path,
        work: &Path,
        settings: &Table,
        processors: &[usize],
    ) -> anyhow::Result<Self> {
        settings::check_apart(settings)?;
        let dir = work.join("system");
        init(program, &dir).await?;
        let managers = write_files(&dir, settings)?;
        let run = async |role: &str, name: &str| run(program, work, &dir, role, name, processors).await;
        let (backend, _) = run("backend", "backend").await?;
        let mut running = Vec::new();
        for manager in managers {
            let (process, _) = run("session-manager", manager.name).await?;
            running.push((manager, process));
        }
        let (gateway, ready) = run("gateway", "gateway").await?;
        let gate = parse(&ready.gate.context("the gateway does not say where it listens")?)?;
        Ok(Self { backend, managers: running, gateway, gate, dir })
    }

    /// Stops the first session manager in order, and starts it on the same ports and data.
    pub async fn restart(&mut self, program: &Path, work: &Path, processors: &[usize]) -> anyhow::Result<()> {
        let (manager, process) = self.managers.first_mut().context("there is no session manager")?;
        process.stop().await?;
        let (again, _) = run(program, work, &self.dir, "session-manager", manager.name, processors).await?;
        *process = again;
        Ok(())
    }

    /// Where it is reached: of two session managers the first.
    pub fn addresses(&self) -> anyhow::Result<Addresses> {
        let (manager, _) = self.managers.first().context("there is no session manager")?;
        Ok(Addresses {
            ports: Ports { gate: self.gate, front: manager.front, wake: manager.wake },
            ca: self.dir.join("ca.pem"),
            admin: Admin { address: manager.admin, token: self.dir.join("admin.token") },
        })
    }

    /// Its processes, in the order in which they are stopped: nobody loses whom it depends on.
    pub fn processes(&mut self) -> Vec<&mut Process> {
        let managers = self.managers.iter_mut().map(|(_, process)| process);
        std::iter::once(&mut self.gateway).chain(managers).chain(std::iter::once(&mut self.backend)).collect()
    }
}

async fn run(
    program: &Path,
    work: &Path,
    dir: &Path,
    role: &str,
    name: &str,
    processors: &[usize],
) -> anyhow::Result<(Process, Ready)> {
    let file = dir.join(format!("{name}.toml"));
    let file = file.to_str().context("the folder's name is not UTF-8")?;
    Process::start(program, &[role, "--config", file], name, work, processors).await
}

async fn init(program: &Path, dir: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command.args(["config", "init", "--dir"]).arg(dir).stdin(Stdio::null());
    let made = command.output().await.with_context(|| format!("cannot start {}", program.display()))?;
    let said = String::from_utf8_lossy(&made.stderr);
    anyhow::ensure!(made.status.success(), "`config init` failed: {}", said.trim());
    Ok(())
}

/// Fills the files that `config init` wrote.
fn write_files(dir: &Path, settings: &Table) -> anyhow::Result<[Manager; 2]> {
    let backend = free_tcp()?;
    let mut file = read(dir, "backend.toml")?;
    settings::lay_over(&mut file, &settings::of_role(settings, "backend"));
    file.insert("listen".to_owned(), text(backend));
    section(&mut file, "process")?.insert("admin".to_owned(), text(free_tcp()?));
    write(dir, "backend", &file)?;

    let mut file = read(dir, "gateway.toml")?;
    settings::lay_over(&mut file, &settings::of_role(settings, "gateway"));
    file.insert("backend".to_owned(), text(backend));
    section(&mut file, "process")?.insert("admin".to_owned(), text(free_tcp()?));
    section(&mut file, "gateway")?.insert("listen".to_owned(), text(free_udp()?));
    write(dir, "gateway", &file)?;

    let [first, second] = MANAGERS;
    Ok([write_manager(dir, settings, backend, first)?, write_manager(dir, settings, backend, second)?])
}

fn write_manager(
    dir: &Path,
    settings: &Table,
    backend: SocketAddr,
    name: &'static str,
) -> anyhow::Result<Manager> {
    let manager = Manager { name, front: free_udp()?, wake: free_udp()?, admin: free_tcp()? };
    let mut file = read(dir, "session-manager.toml")?;
    settings::lay_over(&mut file, &settings::of_role(settings, "session-manager"));
    file.insert("backend".to_owned(), text(backend));
    file.insert("data".to_owned(), Value::String(format!("{name}.data")));
    section(&mut file, "process")?.insert("admin".to_owned(), text(manager.admin));
    let own = section(&mut file, "session_manager")?;
    own.insert("node".to_owned(), Value::String(name.to_owned()));
    own.insert("front".to_owned(), text(manager.front));
    own.insert("wake".to_owned(), text(manager.wake));
    write(dir, name, &file)?;
    Ok(manager)
}

fn read(dir: &Path, name: &str) -> anyhow::Result<Table> {
    let path = dir.join(name);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not understood", path.display()))
}

fn write(dir: &Path, name: &str, file: &Table) -> anyhow::Result<()> {
    let path = dir.join(format!("{name}.toml"));
    std::fs::write(&path, toml::to_string(file)?).with_context(|| format!("cannot write {}", path.display()))
}

fn text(address: SocketAddr) -> Value {
    Value::String(address.to_string())
}

fn free_tcp() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr())?)
}

fn free_udp() -> anyhow::Result<SocketAddr> {
    Ok(UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr())?)
}
