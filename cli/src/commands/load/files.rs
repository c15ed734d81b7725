//! Where the results of storms go, and what they are held against.
//!
//! All of it is looked at before anything runs, so that a mistake in a path costs a second and not the run. It must never leave a
//! comparison out that was asked for.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use buslane_loadtest::storm::report::{self, Baseline};
use buslane_loadtest::storm::result::{Run, Summary};
use clap::Args;
use serde::Serialize;

use super::storm::{ink, judge, not_written};
use crate::failure::Failure;
use crate::output::{Output, print_line};

/// What is written, and what it is held against.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// Folder for the report [default: buslane-load-SCENARIO-TIME in this folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Folder of an earlier report to hold the figures against
    #[arg(long, value_name = "DIR")]
    baseline: Option<PathBuf>,
    /// Write the checks as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// The results of one command.
pub struct Files<'a> {
    args: &'a FileArgs,
    out: Folder,
    baseline: Option<Vec<Run>>,
}

/// A run as scripts are told it.
#[derive(Debug, Serialize)]
pub struct Told<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    /// Against the earlier run of the same policy; absent: nothing was to be held against it, or there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<Baseline>,
}

impl<'a> Files<'a> {
    /// Looks at all paths. `policies`: of the runs that are to be made.
    pub fn of(args: &'a FileArgs, scenario: &str, policies: &[&str]) -> Result<Self, Failure> {
        let baseline = args.baseline.as_ref().map(|dir| earlier(dir, policies)).transpose()?;
        if let Some(file) = &args.junit {
            try_file(file).map_err(|e| Failure::usage(format!("--junit {}: {e}", file.display())))?;
        }
        let out = args.out.clone().unwrap_or_else(|| folder_name(scenario));
        Ok(Self { args, out: Folder::prepared(&out, policies)?, baseline })
    }

    /// A run, with what it is held against.
    pub fn told<'r>(&self, run: &'r Run) -> Told<'r> {
        Told { summary: &run.summary, baseline: self.baseline_of(run) }
    }

    /// Says how the runs stand to the earlier ones, writes all of it, and ends with the verdict.
    pub fn conclude(&self, runs: &[Run], output: Output) -> Result<(), Failure> {
        for run in runs {
            self.compare(run, output)?;
        }
        self.write(runs, output)?;
        judge(runs)
    }

    /// Writes the report.
    pub fn write(&self, runs: &[Run], output: Output) -> Result<(), Failure> {
        let report = self.out.write(runs, output);
        let checks = match &self.args.junit {
            Some(file) => fs::write(file, report::junit(runs)).map_err(|e| not_written(file, &e.into())),
            None => Ok(()),
        };
        // Where one cannot be written, the other one is there.
        report.and(checks)
    }

    fn baseline_of(&self, run: &Run) -> Option<Baseline> {
        let earlier = self.baseline.as_ref()?;
        let same = earlier.iter().find(|earlier| earlier.summary.policy == run.summary.policy)?;
        Some(Baseline::of(run, same))
    }

    fn compare(&self, run: &Run, output: Output) -> Result<(), Failure> {
        let Some(dir) = &self.args.baseline else { return Ok(()) };
        let text = match self.baseline_of(run) {
            Some(baseline) => baseline.table(ink(output)),
            None => format!("{} has no run of policy {}\n", dir.display(), run.summary.policy),
        };
        if output.json {
            // The result has it too; this is for whoever reads along.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
            return Ok(());
        }
        print_line(&text)
    }
}

/// The folder of a report.
pub struct Folder {
    dir: PathBuf,
    was_there: bool,
}

impl Folder {
    /// One that takes runs of these policies, made where there is none.
    pub fn prepared(dir: &Path, policies: &[&str]) -> Result<Self, Failure> {
        let folder = Self { dir: dir.to_owned(), was_there: dir.exists() };
        report::prepare(dir, policies)
            .map_err(|e| Failure::usage(format!("--out {}: {e:#}", dir.display())))?;
        Ok(folder)
    }

    /// Writes the report, and says where it is.
    pub fn write(&self, runs: &[Run], output: Output) -> Result<(), Failure> {
        let index = report::write(&self.dir, runs).map_err(|e| not_written(&self.dir, &e))?;
        output.talk(&format!("report: {}", index.display()));
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.was_there {
            // Only one that nothing was written to is empty, and only an empty one can be removed like this.
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

/// The runs of an earlier report, of which at least one is of these policies.
fn earlier(dir: &Path, policies: &[&str]) -> Result<Vec<Run>, Failure> {
    let wrong = |why: String| Failure::usage(format!("--baseline {}: {why}", dir.display()));
    let runs = report::read(dir).map_err(|e| wrong(format!("{e:#}")))?;
    let there: Vec<&str> = runs.iter().map(|run| run.summary.policy.as_str()).collect();
    if policies.iter().any(|policy| there.contains(policy)) {
        return Ok(runs);
    }
    Err(wrong(format!("it has runs of policy {}, and none of {}", there.join(", "), policies.join(", "))))
}

/// Whether a file can be written. One that is there stays as it is.
fn try_file(path: &Path) -> std::io::Result<()> {
    let was_there = path.exists();
    OpenOptions::new().create(true).append(true).open(path)?;
    if was_there { Ok(()) } else { fs::remove_file(path) }
}

fn folder_name(scenario: &str) -> PathBuf {
    let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
    let now: String = now.to_string().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    PathBuf::from(format!("buslane-load-{scenario}-{now}"))
}
