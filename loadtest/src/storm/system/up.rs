//! A system of one process: `buslane up`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use toml::Table;

use super::admin::Admin;
use super::process::Process;
use super::{Addresses, parse};
use crate::server::Ready;
use crate::storm::stage::Ports;

/// Any port that is free.
const ANY: &str = "127.0.0.1:0";

/// A running `up`.
#[derive(Debug)]
pub struct Up {
    process: Process,
    ready: Ready,
}

impl Up {
    /// Writes the settings into a new data folder and starts.
    pub async fn start(
        program: &Path,
        work: &Path,
        settings: &Table,
        processors: &[usize],
    ) -> anyhow::Result<Self> {
        let data = data(work);
        std::fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
        let config = data.join("config.toml");
        std::fs::write(&config, toml::to_string(settings)?)
            .with_context(|| format!("cannot write {}", config.display()))?;
        let (process, ready) = run(program, work, [ANY; 4], processors).await?;
        Ok(Self { process, ready })
    }

    /// Stops in order, and starts on the same ports and data.
    pub async fn restart(&mut self, program: &Path, work: &Path, processors: &[usize]) -> anyhow::Result<()> {
        self.process.stop().await?;
        let ready = self.ready.clone();
        let addresses = [&ready.gate, &ready.front, &ready.wake, &ready.admin].map(String::as_str);
        (self.process, self.ready) = run(program, work, addresses, processors).await?;
        Ok(())
    }

    /// Where it is reached.
    pub fn addresses(&self) -> anyhow::Result<Addresses> {
        let ready = &self.ready;
        Ok(Addresses {
            ports: Ports {
                gate: parse(&ready.gate)?,
                front: parse(&ready.front)?,
                wake: parse(&ready.wake)?,
            },
            ca: ready.ca.clone(),
            admin: Admin { address: parse(&ready.admin)?, token: ready.data.join("admin.token") },
        })
    }

    /// Its process.
    pub fn processes(&mut self) -> Vec<&mut Process> {
        vec![&mut self.process]
    }
}

fn data(work: &Path) -> PathBuf {
    work.join("data")
}

async fn run(
    program: &Path,
    work: &Path,
    addresses: [&str; 4],
    processors: &[usize],
) -> anyhow::Result<(Process, Ready)> {
    let data = data(work);
    let data = data.to_str().context("the folder's name is not UTF-8")?;
    let [gate, front, wake, admin] = addresses;
    let args = ["up", "--data", data, "--gate", gate, "--front", front, "--wake", wake, "--admin", admin];
    Process::start(program, &args, "up", work, processors).await
}
