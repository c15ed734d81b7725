//! `demo`: a minute of a storm on this machine, with a server of its own, and a report of how people fared.
//!
//! It needs no argument, touches no other server, and leaves nothing behind but its report.

use std::path::PathBuf;

use buslane_loadtest::storm::report;
use clap::Args;

use super::load::files::Folder;
use super::load::plan::StormArgs;
use super::load::scenarios;
use super::load::storm::{Storm, ink, judge};
use crate::failure::Failure;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  buslane demo                      a minute; the report is in buslane-demo/
  buslane demo --out ./report --pin

The exit code is 0 only if people talked on as before, 1 if not, 8 if this machine was too slow to tell.";

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DemoArgs {
    /// Folder for the report
    #[arg(long, value_name = "DIR", default_value = "buslane-demo")]
    out: PathBuf,
    /// Give the server the first processor to itself, and the phones the others
    #[arg(long)]
    pin: bool,
}

/// Runs `demo`.
pub fn run(args: &DemoArgs, output: Output) -> Result<(), Failure> {
    let scenario = scenarios::find("demo")?;
    output.talk(&format!("{}\n{}\n", scenario.title, scenario.hypothesis));
    let storm = StormArgs {
        scale: 1.0,
        duration: None,
        pin: args.pin,
        seed: 1,
        work: None,
        against: None,
        ca: None,
        logins_per_s: None,
        messages_per_s: None,
    };
    let folder = Folder::prepared(&args.out, &[scenario.policy()])?;
    let run = Storm::new(&storm, output).with_conversation().run(scenario, None)?;
    output.result(&run.summary, || report::terminal(&run, ink(output)))?;
    let runs = [run];
    folder.write(&runs, output)?;
    judge(&runs)
}
