//! The steady figures: what one machine does when nothing is wrong. Prints the table of the README.
//!
//! Each figure starts a server of its own on a fresh folder, so that no figure sees the traces of another.

mod idle;
mod logins;
mod pairs;
mod sends;
mod start;

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::figures::Figure;
use crate::parent;

/// Which figures are taken, and with how much load.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The binary under test.
    pub program: PathBuf,
    /// A folder for the servers' data; removed by the caller.
    pub work: PathBuf,
    /// 1.0 is what the README shows; less is quicker and less precise.
    pub scale: f64,
    /// Names of the figures to take; empty: all.
    pub only: Vec<String>,
}

/// Names of the figures, in order.
pub const NAMES: [&str; 6] = ["sends", "one-at-a-time", "pairs", "logins", "idle", "start"];

impl Plan {
    fn scaled(&self, full: usize, least: usize) -> usize {
        ((full as f64 * self.scale) as usize).max(least)
    }

    /// A new folder for one server.
    fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.work.join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    }
}

/// Takes the figures; `progress` is told each name as it begins. A figure that fails ends the run with its error.
pub async fn run(plan: &Plan, mut progress: impl FnMut(&str)) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for name in NAMES {
        if !plan.only.is_empty() && !plan.only.iter().any(|o| o == name) {
            continue;
        }
        progress(name);
        let taken = match name {
            "sends" => sends::throughput(plan).await,
            "one-at-a-time" => sends::one_at_a_time(plan).await,
            "pairs" => pairs::run(plan).await,
            "logins" => logins::run(plan).await,
            "idle" => idle::run(plan).await,
            _ => start::run(plan).await,
        };
        figures.extend(taken.with_context(|| format!("figure {name}"))?);
    }
    Ok(figures)
}

/// Runs the program to its end and returns its standard output.
async fn output_of(program: &Path, args: &[&str], home: &Path) -> anyhow::Result<String> {
    let mut command = tokio::process::Command::new(program);
    let out = parent::bind(&mut command)
        .args(args)
        .env("BUSLANE_HOME", home)
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot start {}", program.display()))?;
    anyhow::ensure!(
        out.status.success(),
        "`{} {}` ended with {}",
        program.display(),
        args.join(" "),
        out.status
    );
    Ok(String::from_utf8(out.stdout)?)
}
