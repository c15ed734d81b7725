//! `load run` and `load compare`: storms on servers of this program, their verdicts, and the report.
//!
//! What was measured is written, however a run ends: a threshold that failed, a server that died, Ctrl-C.

use std::path::Path;

use buslane_loadtest::storm::place::Layout;
use buslane_loadtest::storm::report::{self, Ink};
use buslane_loadtest::storm::result::{Capacity, Costs, Run, Verdict};
use buslane_loadtest::storm::run::{self, Plan};
use buslane_loadtest::storm::scenario::Scenario;
use clap::Args;
use clap::builder::PossibleValuesParser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::files::{FileArgs, Files};
use super::plan::{POLICIES, StormArgs};
use super::screen::{Screen, Sight};
use crate::commands::block_on;
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Arguments of `load run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A built-in scenario (see `load list`), or a file
    scenario: String,
    /// Control of load of the server [default: as the scenario's settings say, else buslane]
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(POLICIES), conflicts_with = "against")]
    policy: Option<String>,
    #[command(flatten)]
    storm: StormArgs,
    #[command(flatten)]
    files: FileArgs,
}

/// Arguments of `load compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// A built-in scenario (see `load list`), or a file
    scenario: String,
    /// The policies, in the order in which they run
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_values = POLICIES,
          value_parser = PossibleValuesParser::new(POLICIES))]
    policy: Vec<String>,
    #[command(flatten)]
    storm: StormArgs,
    #[command(flatten)]
    files: FileArgs,
}

/// Runs `load run`.
pub fn run(args: &RunArgs, output: Output) -> Result<(), Failure> {
    let scenario = super::scenarios::find(&args.scenario)?;
    let target = args.storm.target()?;
    let policy = run::policy_name(&scenario, args.policy.as_deref(), target.as_ref()).to_owned();
    let files = Files::of(&args.files, &scenario.name, &[&policy])?;
    let run = Storm::new(&args.storm, output).run(scenario, args.policy.as_deref())?;
    output.result(&files.told(&run), || report::terminal(&run, ink(output)))?;
    files.conclude(&[run], output)
}

/// Runs `load compare`.
pub fn compare(args: &CompareArgs, output: Output) -> Result<(), Failure> {
    if args.storm.against.is_some() {
        return Err(Failure::usage(
            "policies are compared on servers that this program starts: leave --against out, or use `load run`",
        ));
    }
    let scenario = super::scenarios::find(&args.scenario)?;
    let policies: Vec<&str> = args.policy.iter().map(String::as_str).collect();
    let files = Files::of(&args.files, &scenario.name, &policies)?;
    let mut storm = Storm::new(&args.storm, output);
    let mut runs = Vec::new();
    for policy in &args.policy {
        output.talk(&format!("policy {policy}"));
        match storm.run(scenario.clone(), Some(policy)) {
            Ok(run) => runs.push(run),
            // What the others have shown is kept.
            Err(failure) if !runs.is_empty() => {
                files.write(&runs, output)?;
                return Err(failure);
            }
            Err(failure) => return Err(failure),
        }
        if storm.stop.is_cancelled() {
            break;
        }
    }
    let told: Vec<_> = runs.iter().map(|run| files.told(run)).collect();
    output.result(&told, || report::comparison(&runs, ink(output)))?;
    files.conclude(&runs, output)
}

/// Makes the page of a folder again.
pub fn report(dir: &Path, output: Output) -> Result<(), Failure> {
    let runs = report::read(dir).map_err(|e| Failure::new(Exit::Data, "no_report", format!("{e:#}")))?;
    let index = dir.join(report::INDEX);
    std::fs::write(&index, report::page(&runs)).map_err(|e| not_written(&index, &e.into()))?;
    let summaries: Vec<_> = runs.iter().map(|run| &run.summary).collect();
    output.result(&summaries, || {
        let all: String = match runs.as_slice() {
            [run] => report::terminal(run, ink(output)),
            runs => report::comparison(runs, ink(output)),
        };
        format!("{all}\nreport: {}", index.display())
    })
}

/// Runs storms with the same arguments, one after the other.
pub struct Storm<'a> {
    args: &'a StormArgs,
    output: Output,
    stop: CancellationToken,
    measured: Option<(Capacity, Costs)>,
    /// Processors are divided once: afterwards this process sees only its own.
    layout: Option<Layout>,
    sight: Sight,
}

impl<'a> Storm<'a> {
    /// Nothing is started yet.
    pub fn new(args: &'a StormArgs, output: Output) -> Self {
        Self {
            args,
            output,
            stop: CancellationToken::new(),
            measured: None,
            layout: None,
            sight: Sight::Figures,
        }
    }

    /// Shows what people say to each other as well.
    pub fn with_conversation(self) -> Self {
        Self { sight: Sight::Conversation, ..self }
    }

    /// Runs one. What the server can do is measured in the first.
    pub fn run(&mut self, scenario: Scenario, policy: Option<&str>) -> Result<Run, Failure> {
        let work = self.args.work_folder();
        let layout = match self.layout.take() {
            Some(layout) => layout,
            None => self.args.layout()?,
        };
        self.layout = Some(layout.clone());
        let mut plan = self.args.plan(scenario, policy, &work, layout)?;
        plan.capacity = plan.capacity.or(self.measured);
        if cfg!(debug_assertions) && plan.against.is_none() {
            // Also with --json: whoever reads the figures should know.
            eprint_warning();
        }
        let ran = self.play(&plan);
        // What is left of the folder is only in the way; where it cannot be removed nothing is wrong with the figures.
        let _ = std::fs::remove_dir_all(&work);
        let run = ran?;
        let costs = Costs { refusal: None, ..run.summary.server_cpu_us };
        self.measured = Some((run.summary.capacity, costs));
        Ok(run)
    }

    fn play(&self, plan: &Plan) -> Result<Run, Failure> {
        // The threads of this process inherit it; the server is placed when it is started.
        plan.layout.driver().take().map_err(|e| not_measured(&e))?;
        block_on(async {
            std::fs::create_dir_all(&plan.work).map_err(|e| not_written(&plan.work, &e.into()))?;
            if let Some(target) = &plan.against {
                super::probe::gateway(target).await?;
            }
            let stopper = tokio::spawn(until_stopped(self.stop.clone()));
            let mut screen = Screen::new(self.output, self.sight);
            let ran = run::run(plan, self.stop.clone(), |progress| screen.on(progress)).await;
            drop(screen);
            stopper.abort();
            ran.map_err(|e| not_measured(&e))
        })
    }
}

/// The exit code of a process that was told to stop twice.
const STOPPED_AT_ONCE: i32 = 130;

/// Ctrl-C, SIGTERM or the end of the terminal: the run ends and what was measured is kept. A second one ends it at once, and keeps nothing.
async fn until_stopped(stop: CancellationToken) {
    let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = signals else { return };
    let mut told = async || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    };
    told().await;
    stop.cancel();
    told().await;
    // The server ends with this process.
    std::process::exit(STOPPED_AT_ONCE);
}

fn eprint_warning() {
    // Nobody reads it: then nothing is lost.
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        b"warning: this is a debug build; its figures say little about a release build\n",
    );
}

/// The exit code: a limit that was missed wins over a run that is not valid.
pub fn judge(runs: &[Run]) -> Result<(), Failure> {
    let any = |verdict: Verdict| runs.iter().any(|run| run.summary.verdict == verdict);
    if any(Verdict::Fail) {
        return Err(Failure::new(
            Exit::Refused,
            "threshold_failed",
            "a figure is beyond its limit: see the checks",
        ));
    }
    if any(Verdict::Invalid) {
        let why: Vec<&str> =
            runs.iter().flat_map(|run| run.summary.invalid_because.iter().map(String::as_str)).collect();
        return Err(Failure::new(
            Exit::NotMeasured,
            "not_valid",
            format!("the run says nothing about the server: {}", why.join("; ")),
        ));
    }
    Ok(())
}

/// Colours where the output has them.
pub fn ink(output: Output) -> Ink {
    if output.colour { Ink::Coloured } else { Ink::Plain }
}

fn not_measured(error: &anyhow::Error) -> Failure {
    Failure::new(Exit::NotMeasured, "not_measured", format!("{error:#}"))
}

/// A file of the results cannot be written.
pub fn not_written(path: &Path, error: &anyhow::Error) -> Failure {
    Failure::new(
        Exit::Data,
        "not_written",
        format!("{}: {error:#}; make room, or name another folder", path.display()),
    )
}
