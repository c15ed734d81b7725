//! `load`: measure this very binary from outside, as processes of its own.
//!
//! Each figure starts a server on a fresh folder, so an `up` that runs is not touched. The table is only worth something on
//! a machine that does nothing else.

pub mod files;
pub mod plan;
mod probe;
pub mod scenarios;
mod screen;
pub mod storm;
mod yardstick;

use std::path::PathBuf;
use std::time::Duration;

use buslane_loadtest::storm::hog;

use buslane_loadtest::figures;
use buslane_loadtest::steady::{self, NAMES, Plan};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

use crate::failure::{Exit, Failure};
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  buslane load list                           the storms that are built in
  buslane load run gyeongju --pin             one of them; takes some minutes
  buslane load run ./mine.toml --scale 0.1 --out ./report
  buslane load compare pohang --policy buslane,static,none --pin
  buslane load report ./report                the page again, from its figures
  buslane load steady                         the table of the README; takes some minutes
  buslane load steady --only sends --scale 0.1
  buslane load steady --json

The exit code is 0 only if every target was reached, 1 if one was missed, 8 if nothing can be said because the driver
was the bottleneck or the run ended early.";

/// Arguments of `load`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct LoadArgs {
    #[command(subcommand)]
    command: LoadCommand,
}

#[derive(Debug, Subcommand)]
enum LoadCommand {
    /// What one machine does when nothing is wrong
    Steady {
        /// Share of the full load: less is quicker and less precise
        #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share)]
        scale: f64,
        /// Take only this figure; may be repeated
        #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(NAMES))]
        only: Vec<String>,
        /// Folder for the servers' data, on the disk that is to be measured [default: the system's temporary folder]
        #[arg(long, value_name = "DIR")]
        work: Option<PathBuf>,
    },
    /// The storms that are built in
    List,
    /// Say whether a scenario is right, and if not, where and what to write
    Check {
        /// A scenario's file
        file: PathBuf,
    },
    /// Run a storm and write a report
    Run(Box<storm::RunArgs>),
    /// Run the same storm on servers with different control of load
    Compare(Box<storm::CompareArgs>),
    /// Make the page of a report again, from its figures
    Report {
        /// Folder that `load run` or `load compare` wrote
        dir: PathBuf,
    },
    /// Keep a processor or a disk busy: a neighbour of a server under test
    #[command(hide = true)]
    Hog {
        #[command(subcommand)]
        what: Hog,
    },
    /// What the store alone does: durable appends without anything above it
    AppendRate {
        /// Folder for the store, new or empty; it stays
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// How many appends
        #[arg(long, value_name = "N", default_value_t = 100_000)]
        count: u64,
        /// Bytes of each
        #[arg(long, value_name = "BYTES", default_value_t = 200)]
        size: usize,
        /// Appends without an answer at a time
        #[arg(long, value_name = "K", default_value_t = 256)]
        in_flight: usize,
    },
    /// A QUIC server that only shakes hands and answers one request, to hold a login against
    BareQuic {
        /// Folder for its certificate
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum Hog {
    /// Every processor that this process may use
    #[command(after_help = EXAMPLES)]
    Cpu {
        /// For so many seconds
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        for_s: Duration,
    },
    /// The disk of a folder
    #[command(after_help = EXAMPLES)]
    Disk {
        /// The folder
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// For so many seconds
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        for_s: Duration,
    },
}

/// Runs `load`.
pub fn run(args: LoadArgs, output: Output) -> Result<(), Failure> {
    match args.command {
        LoadCommand::Steady { scale, only, work } => steady(scale, only, work, output),
        LoadCommand::List => scenarios::list(output),
        LoadCommand::Check { file } => scenarios::check(&file, output),
        LoadCommand::Run(args) => storm::run(&args, output),
        LoadCommand::Compare(args) => storm::compare(&args, output),
        LoadCommand::Report { dir } => storm::report(&dir, output),
        LoadCommand::Hog { what: Hog::Cpu { for_s } } => {
            hog::burn(for_s).map_err(|e| failed(format!("{e:#}")))
        }
        LoadCommand::Hog { what: Hog::Disk { dir, for_s } } => {
            hog::write(&dir, for_s).map_err(|e| failed(format!("{e:#}")))
        }
        LoadCommand::AppendRate { dir, count, size, in_flight } => {
            super::serve(yardstick::append_rate(&dir, count, size, in_flight, output))
        }
        LoadCommand::BareQuic { dir } => super::serve(yardstick::bare_quic(&dir)),
    }
}

fn steady(scale: f64, only: Vec<String>, work: Option<PathBuf>, output: Output) -> Result<(), Failure> {
    let program =
        std::env::current_exe().map_err(|e| failed(format!("this program does not find itself: {e}")))?;
    let parent = work.unwrap_or_else(std::env::temp_dir);
    let work = parent.join(format!("buslane-load-{}", std::process::id()));
    let plan = Plan { program, work: work.clone(), scale, only };
    let measured = super::serve(async {
        tokio::select! {
            measured = steady::run(&plan, |name| output.talk(&format!("measuring {name} ..."))) => {
                measured.map_err(|e| failed(format!("{e:#}")))
            }
            _ = tokio::signal::ctrl_c() => Err(failed("interrupted".to_owned())),
        }
    });
    // What is left of the folder is only in the way.
    let _ = std::fs::remove_dir_all(&work);
    let measured = measured?;
    output.result(&measured, || figures::table(&measured).trim_end().to_owned())?;
    if measured.iter().all(|figure| figure.pass) {
        return Ok(());
    }
    Err(Failure::new(Exit::Refused, "target_missed", "a target was missed: see the table"))
}

fn failed(message: String) -> Failure {
    Failure::new(Exit::Refused, "not_measured", message)
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "write a number such as 0.1".to_owned())?;
    if share > 0.0 && share <= 10.0 { Ok(share) } else { Err("write a number above 0, up to 10".to_owned()) }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "write a number such as 10".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}
