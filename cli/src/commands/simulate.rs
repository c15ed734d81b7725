//! `simulate`: a model of a node under the storms that Buslane is built for, against other people's ideas.
//!
//! Nothing is measured on this machine: a run depends on its scenario, its policy and its seed alone, so its figures are the
//! same everywhere.

mod report;

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use buslane_loadtest::simulate::matrix::{self, Plan};
use buslane_loadtest::simulate::{self, Course, POLICIES, Row, SCENARIOS};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::progress::Progress;

const EXAMPLES: &str = "\
Examples:
  buslane simulate node                                   every scenario, every policy, three seeds
  buslane simulate node --scenario gyeongju --policy buslane --policy dagor
  buslane simulate node --seeds 10 --json > runs.jsonl
  buslane simulate node --scenario pohang --seed 7 --seeds 1 --trace calls.csv
  buslane simulate node --replay calls.csv --policy all

Columns, of people's calls where nothing else is said; \"median / worst\" where seeds differ; \"-\" is never, or none:
  success %   answered in time
  p99 ratio   p99 delay as a multiple of that without a surge
  protect ms  from the start of the surge until people are not harmed any more
  enter ms    from the start of the surge until EMERGENCY
  drain       until all background logins are in, as a multiple of the ideal node's time
  attempts    of obedient phones, for each login that was not let in at once
  wasted %    of the workers' time, on what nobody waited for any more
  changes     of the posture
  work %      of what the ideal node does in the same time
  jain        fairness: 1 when all people fare alike

The exit code is 0 only if Buslane, where it takes part, reached every target.";

/// Stands for every scenario or policy.
const ALL: &str = "all";

/// More seeds say nothing new.
const SEEDS_MAX: i64 = 1_000;

/// Arguments of `simulate`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SimulateArgs {
    #[command(subcommand)]
    command: SimulateCommand,
}

#[derive(Debug, Subcommand)]
enum SimulateCommand {
    /// One node and its clients
    Node(NodeArgs),
}

#[derive(Debug, Args)]
struct NodeArgs {
    /// What happens; may be repeated
    #[arg(long, value_name = "NAME", default_value = ALL, value_parser = names(&SCENARIOS))]
    scenario: Vec<String>,
    /// Who controls; may be repeated
    #[arg(long, value_name = "NAME", default_value = ALL, value_parser = names(&POLICIES))]
    policy: Vec<String>,
    /// How many seeds
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=SEEDS_MAX as u64))]
    seeds: u64,
    /// The first seed
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Size of the node, as a multiple of 32 seats
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = scale)]
    scale: f64,
    /// Write what the clients want to this file; with one scenario and one seed
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    trace: Option<PathBuf>,
    /// Run what was written to this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["scenario", "seeds", "seed", "scale"])]
    replay: Option<PathBuf>,
}

/// Runs `simulate`.
pub fn run(args: SimulateArgs, output: Output) -> Result<(), Failure> {
    let SimulateCommand::Node(args) = args.command;
    match &args.replay {
        Some(file) => replay(file, &chosen(&args.policy, &POLICIES), output),
        None => node(&args, output),
    }
}

fn node(args: &NodeArgs, output: Output) -> Result<(), Failure> {
    let plan = Plan {
        scenarios: chosen(&args.scenario, &SCENARIOS),
        policies: chosen(&args.policy, &POLICIES),
        seed: args.seed,
        seeds: args.seeds,
        scale: args.scale,
    };
    if let Some(file) = &args.trace {
        write_trace(&plan, file)?;
    }
    let progress = Progress::new(&output, "simulating");
    progress.set(0, Some(plan.runs()));
    let mut rows = Vec::new();
    matrix::run(&plan, |row| {
        take(row, &mut rows, output)?;
        progress.set(rows.len() as u64, None);
        Ok(())
    })
    .map_err(not_run)?;
    drop(progress);
    conclude(&rows, output)
}

fn replay(file: &Path, policies: &[&'static str], output: Output) -> Result<(), Failure> {
    let refused = |why: String| Failure::usage(format!("{}: {why}", file.display()));
    let input = File::open(file).map_err(|e| refused(e.to_string()))?;
    let (header, calls) =
        simulate::read_trace(BufReader::new(input)).map_err(|e| refused(format!("{e:#}")))?;
    let course = Course::replay(&header, calls)
        .ok_or_else(|| refused(format!("there is no scenario {:?}", header.scenario)))?;
    let mut rows = Vec::new();
    matrix::run_course(&course, policies, |row| take(row, &mut rows, output)).map_err(not_run)?;
    conclude(&rows, output)
}

fn take(row: Row, rows: &mut Vec<Row>, output: Output) -> anyhow::Result<()> {
    if output.json {
        output.result(&row, String::new)?;
    }
    rows.push(row);
    Ok(())
}

fn conclude(rows: &[Row], output: Output) -> Result<(), Failure> {
    let report = report::Report::of(rows);
    if !output.json {
        crate::output::print_line(&report.text(&output))?;
    }
    if report.is_met() {
        return Ok(());
    }
    Err(Failure::new(Exit::Refused, "target_missed", "a target was missed: see the table"))
}

fn write_trace(plan: &Plan, file: &Path) -> Result<(), Failure> {
    let (&[scenario], 1) = (plan.scenarios.as_slice(), plan.seeds) else {
        return Err(Failure::usage(
            "--trace writes one scenario with one seed: add --scenario NAME --seeds 1",
        ));
    };
    let written = || -> anyhow::Result<()> {
        let Some(course) = Course::new(scenario, simulate::workers(plan.scale), plan.seed) else {
            return Ok(());
        };
        let mut out = BufWriter::new(File::create(file)?);
        course.record(&mut out)?;
        Ok(out.flush()?)
    };
    written().map_err(|e| Failure::new(Exit::Refused, "not_written", format!("{}: {e:#}", file.display())))
}

fn not_run(error: anyhow::Error) -> Failure {
    match error.downcast::<Failure>() {
        Ok(failure) => failure,
        Err(error) => Failure::new(Exit::Refused, "not_simulated", format!("{error:#}")),
    }
}

fn names(known: &'static [&'static str]) -> PossibleValuesParser {
    PossibleValuesParser::new(std::iter::once(ALL).chain(known.iter().copied()))
}

/// The chosen ones in their usual order, each once.
fn chosen(asked: &[String], known: &[&'static str]) -> Vec<&'static str> {
    let is_asked = |name: &&&str| asked.iter().any(|a| a == ALL || a == **name);
    known.iter().filter(is_asked).copied().collect()
}

fn scale(text: &str) -> Result<f64, String> {
    let scale: f64 = text.parse().map_err(|_| "write a number such as 0.5".to_owned())?;
    if (0.5..=8.0).contains(&scale) { Ok(scale) } else { Err("write a number from 0.5 to 8".to_owned()) }
}
