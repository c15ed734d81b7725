//! The system under test: processes of the real binary, with settings and ports of their own, that end with the value.
//!
//! It must never leave a process behind, nor hide why a server did not start or has ended.

mod admin;
mod apart;
mod process;
mod room;
mod settings;
mod up;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde_json::json;
use tokio::process::Child;
use tokio::sync::watch;
use toml::Table;

pub use self::admin::Admin;
use self::apart::Apart;
use self::process::Process;
use self::up::Up;
use super::hog;
use super::scenario;
use super::stage::{Ports, Target};

/// Programs beside the server at a time: a scenario that starts more is a mistake.
const NEIGHBOURS_MAX: usize = 16;

/// How often it is looked whether a system can go on.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What is to be started.
#[derive(Debug, Clone)]
pub struct SystemPlan {
    /// The program that is measured.
    pub program: PathBuf,
    /// A folder of its own, new or empty: data, settings and logs.
    pub work: PathBuf,
    /// `overload.policy`; `None`: as it is by itself, or as the settings say.
    pub policy: Option<String>,
    /// Settings as in the `config.toml` of an `up`, on top of what an `up` begins with.
    pub settings: Table,
    /// Which processes.
    pub kind: scenario::System,
    /// Processors that the server may use; empty: any.
    pub processors: Vec<usize>,
}

/// A running system.
#[derive(Debug)]
pub struct System {
    plan: SystemPlan,
    roles: Roles,
    addresses: Addresses,
    pids: watch::Sender<Vec<u32>>,
    neighbours: Vec<Child>,
}

#[derive(Debug)]
enum Roles {
    Up(Box<Up>),
    Apart(Box<Apart>),
}

/// Where a system is reached.
#[derive(Debug, Clone)]
struct Addresses {
    ports: Ports,
    ca: PathBuf,
    admin: Admin,
}

impl System {
    /// Starts it and waits until it is ready. Settings that the server refuses: its own words are in the error.
    pub async fn start(plan: SystemPlan) -> anyhow::Result<Self> {
        room::check(&plan.work, room::BYTES_MIN).map_err(anyhow::Error::msg)?;
        let settings = settings::of_up(&plan.settings, plan.policy.as_deref())?;
        let roles = match plan.kind {
            scenario::System::Up => {
                Roles::Up(Box::new(Up::start(&plan.program, &plan.work, &settings, &plan.processors).await?))
            }
            scenario::System::Apart => {
                let apart = Apart::start(&plan.program, &plan.work, &settings, &plan.processors).await?;
                Roles::Apart(Box::new(apart))
            }
        };
        let addresses = match &roles {
            Roles::Up(up) => up.addresses()?,
            Roles::Apart(apart) => apart.addresses()?,
        };
        let (pids, _) = watch::channel(Vec::new());
        let mut system = Self { plan, roles, addresses, pids, neighbours: Vec::new() };
        system.tell_pids();
        Ok(system)
    }

    /// What a phone needs to know of it.
    pub fn target(&self) -> Target {
        Target { gate: self.addresses.ports.gate.to_string(), ca: self.addresses.ca.clone() }
    }

    /// Its UDP ports: of two session managers those of the first.
    pub fn ports(&self) -> Ports {
        self.addresses.ports
    }

    /// Its processes, whichever they are at the time.
    pub fn pids(&self) -> watch::Receiver<Vec<u32>> {
        self.pids.subscribe()
    }

    /// Where it is operated: of two session managers the first.
    pub fn admin(&self) -> &Admin {
        &self.addresses.admin
    }

    /// Its folder.
    pub fn work(&self) -> &Path {
        &self.plan.work
    }

    /// Stops a session manager (of an `up`: all of it) in order and starts it again, on the same ports and data.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let SystemPlan { program, work, processors, .. } = &self.plan;
        match &mut self.roles {
            Roles::Up(up) => up.restart(program, work, processors).await?,
            Roles::Apart(apart) => apart.restart(program, work, processors).await?,
        }
        self.tell_pids();
        Ok(())
    }

    /// Its posture by name, as an operator sees it.
    pub async fn posture(&self) -> anyhow::Result<String> {
        let said = self.admin().get("/v1/posture").await?;
        let posture = said.get("posture").and_then(serde_json::Value::as_str);
        Ok(posture.context("the server names no posture")?.to_owned())
    }

    /// Orders emergency mode, as an operator would.
    pub async fn order(&self, reason: &str, begins_in: Duration, for_: Duration) -> anyhow::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        let from = (!begins_in.is_zero()).then(|| millis(now + begins_in));
        let order = json!({
            "kind": "emergency", "reason": reason, "author": "load", "from_ms": from, "duration_ms": millis(for_),
        });
        self.admin().post("/v1/orders", &order).await.map(drop)
    }

    /// Starts a program that takes its share of the server's processors; it ends by itself, or with the system.
    pub async fn busy_neighbour(&mut self, processors: &[usize], for_: Duration) -> anyhow::Result<()> {
        self.make_room()?;
        self.neighbours.push(hog::busy_neighbour(&self.plan.program, processors, for_)?);
        Ok(())
    }

    /// Starts a program that keeps the server's disk busy; it ends by itself, or with the system.
    pub async fn busy_disk(&mut self, for_: Duration) -> anyhow::Result<()> {
        self.make_room()?;
        self.neighbours.push(hog::busy_disk(&self.plan.program, &self.plan.work, for_)?);
        Ok(())
    }

    fn make_room(&mut self) -> anyhow::Result<()> {
        self.neighbours.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        anyhow::ensure!(
            self.neighbours.len() < NEIGHBOURS_MAX,
            "more than {NEIGHBOURS_MAX} programs beside the server at a time: let the scenario start fewer"
        );
        Ok(())
    }

    /// `Err`: a process has ended by itself, with how, and what it said last.
    pub fn is_alive(&mut self) -> Result<(), String> {
        self.processes().into_iter().try_for_each(Process::is_alive)
    }

    /// `Err`: it cannot go on, and why: a process has ended by itself, or its disk is full.
    pub fn is_well(&mut self) -> Result<(), String> {
        self.is_alive().map_err(|how| format!("the server ended: {how}"))?;
        room::check(&self.plan.work, room::BYTES_MIN)
    }

    /// Ready when it cannot go on, with why.
    pub async fn until_unwell(&mut self) -> String {
        loop {
            if let Err(why) = self.is_well() {
                return why;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Stops all of it in order. A process that does not stop is killed; the first error is told.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.neighbours.clear();
        let mut first = Ok(());
        for process in self.processes() {
            let stopped = process.stop().await;
            first = first.and(stopped);
        }
        first
    }

    fn processes(&mut self) -> Vec<&mut Process> {
        match &mut self.roles {
            Roles::Up(up) => up.processes(),
            Roles::Apart(apart) => apart.processes(),
        }
    }

    fn tell_pids(&mut self) {
        let pids = self.processes().into_iter().map(|process| process.pid()).collect();
        self.pids.send_replace(pids);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn parse(address: &str) -> anyhow::Result<SocketAddr> {
    address.parse().with_context(|| format!("the server said {address:?} in the place of an address"))
}
