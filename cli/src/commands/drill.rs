//! `drill`: a storm on purpose, with what is expected of it said first, and the record of earlier ones.
//!
//! A system that this program did not start is only touched after somebody has typed its name.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;

use buslane_loadtest::storm::drill::{self, Drill};
use buslane_loadtest::storm::report;
use buslane_loadtest::storm::result::Verdict;
use clap::{Args, Subcommand};
use serde_json::json;

use super::ctl::author;
use super::load::plan::StormArgs;
use super::load::scenarios;
use super::load::storm::{Storm, ink, judge};
use crate::admin_client::{Address, AdminClient};
use crate::failure::{Exit, Failure};
use crate::home;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  buslane drill surge                                     on a server that is started for it
  buslane drill surge --scenario pohang --scale 0.5 --pin
  buslane drill surge --against chat.example.org:7400 --ca ca.pem --logins-per-s 2000 --messages-per-s 15000
  buslane drill surge --against chat.example.org:7400 --ca ca.pem --admin chat.example.org:7480 --token operator.token
  buslane drill history

The exit code is 0 only if the hypothesis held, 1 if not, 8 if nothing can be said. The last 50 results are kept in the
home folder.";

/// Arguments of `drill`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DrillArgs {
    #[command(subcommand)]
    command: DrillCommand,
}

#[derive(Debug, Subcommand)]
enum DrillCommand {
    /// Make a storm and see whether what is expected holds
    Surge(Box<SurgeArgs>),
    /// Earlier drills, and whether it gets better or worse
    History,
}

#[derive(Debug, Args)]
struct SurgeArgs {
    /// A built-in scenario (see `load list`), or a file
    #[arg(long, value_name = "NAME", default_value = "demo")]
    scenario: String,
    /// Do not ask before a system is put under load that this program did not start
    #[arg(long, requires = "against")]
    yes: bool,
    /// Admin address of the system that is put under load: its operators see the drill begin, and its result
    #[arg(long, value_name = "ADDR", requires = "against")]
    admin: Option<Address>,
    /// File with a token of its operators
    #[arg(long, value_name = "FILE", requires = "admin", env = "BUSLANE_ADMIN_TOKEN_FILE")]
    token: Option<PathBuf>,
    /// The authority of its admin certificate, where it has one
    #[arg(long, value_name = "FILE", requires = "admin")]
    admin_ca: Option<PathBuf>,
    #[command(flatten)]
    storm: StormArgs,
}

impl SurgeArgs {
    /// Its operators, if they are to be told.
    fn operators(&self) -> Result<Option<AdminClient>, Failure> {
        let Some(admin) = &self.admin else { return Ok(None) };
        let Some(token) = &self.token else {
            return Err(Failure::usage(
                "--admin needs the token of an operator there: name its file with --token",
            ));
        };
        AdminClient::of(admin.clone(), token.clone(), self.admin_ca.clone()).map(Some)
    }
}

/// Runs `drill`.
pub fn run(args: DrillArgs, output: Output) -> Result<(), Failure> {
    match args.command {
        DrillCommand::Surge(args) => surge(&args, output),
        DrillCommand::History => history(output),
    }
}

fn surge(args: &SurgeArgs, output: Output) -> Result<(), Failure> {
    let scenario = scenarios::find(&args.scenario)?;
    let record = record()?;
    output.talk(&format!("{}: {}\nhypothesis: {}", scenario.name, scenario.title, scenario.hypothesis));
    let against = args.storm.against.as_deref();
    if let Some(gate) = against.filter(|_| !args.yes) {
        confirm(gate)?;
    }
    let operators = args.operators()?;
    if let Some(operators) = &operators {
        // They see it begin, or it does not begin.
        let text = format!("drill {}: {}", scenario.name, scenario.hypothesis);
        super::block_on(operators.post("/v1/marks", &author::sign(json!({"mark": "drill", "text": text}))))?;
    }
    let run = Storm::new(&args.storm, output).run(scenario, None)?;
    let drill = Drill::of(&run, against);
    let kept = drill::add(&record, &drill);
    if let Some(operators) = &operators
        && let Err(why) = super::block_on(operators.post("/v1/drills", &json!(drill)))
    {
        output.talk(&format!("the operators of that system were not told the result: {why}"));
    }
    output.result(&drill, || report::terminal(&run, ink(output)) + "\n" + held(run.summary.verdict))?;
    kept.map_err(|e| Failure::new(Exit::Data, "not_written", format!("{e:#}")))?;
    judge(&[run])
}

/// Lets somebody type where the load goes to.
fn confirm(gate: &str) -> Result<(), Failure> {
    let refused = |why: String| Failure::new(Exit::Usage, "not_confirmed", why);
    if !io::stdin().is_terminal() {
        return Err(refused(format!(
            "nobody can be asked here whether {gate} may be put under load: add --yes"
        )));
    }
    let asked = write!(io::stderr(), "This puts {gate} under load. Type {gate} to go on: ");
    asked.map_err(|e| refused(format!("cannot ask: {e}")))?;
    let mut typed = String::new();
    io::stdin()
        .lock()
        .read_line(&mut typed)
        .map_err(|e| refused(format!("cannot read what is typed: {e}")))?;
    if typed.trim() == gate {
        Ok(())
    } else {
        Err(refused("that was something else: nothing was done".to_owned()))
    }
}

fn history(output: Output) -> Result<(), Failure> {
    let drills =
        drill::read(&record()?).map_err(|e| Failure::new(Exit::State, "unreadable", format!("{e:#}")))?;
    let rows: Vec<_> = drills
        .iter()
        .enumerate()
        .map(|(n, drill)| json!({"drill": drill, "p99_change_percent": drill::trend(&drills, n)}))
        .collect();
    output.result(&rows, || {
        if drills.is_empty() {
            return "no drill yet: `buslane drill surge` makes one".to_owned();
        }
        drills
            .iter()
            .enumerate()
            .map(|(n, drill)| row(drill, drill::trend(&drills, n)))
            .collect::<Vec<_>>()
            .join("\n")
    })
}

fn row(drill: &Drill, trend: Option<f64>) -> String {
    let or_not = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
    format!(
        "{}  {:<12} x{:<5} {:<15} arrived {:>8}  p99 {:>9}  {}",
        drill.began,
        drill.scenario,
        drill.scale,
        held(drill.verdict),
        or_not(drill.fg_success.map(|share| format!("{:.2} %", (share * 1e4).floor() / 100.0))),
        or_not(drill.fg_p99_ms.map(|ms| format!("{ms:.1} ms"))),
        trend.map_or_else(String::new, |percent| format!("{percent:+.0} % against the last one")),
    )
}

fn held(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "held",
        Verdict::Fail => "did not hold",
        Verdict::Invalid => "not known",
    }
}

fn record() -> Result<PathBuf, Failure> {
    Ok(home::home()?.join("drills.jsonl"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use buslane_operator::view::DrillView;

    #[test]
    fn operators_take_what_a_drill_reports_as_it_is() {
        let drill = Drill {
            began: "2026-01-01T00:00:00Z".to_owned(),
            scenario: "demo".to_owned(),
            against: Some("chat.example.org:7400".to_owned()),
            scale: 0.5,
            hypothesis: "it holds".to_owned(),
            verdict: Verdict::Invalid,
            fg_success: Some(1.0),
            fg_p99_ms: Some(2.5),
            enter_ms: None,
            exit_s: Some(12.0),
            lost: Some(0),
        };
        let told = json!(drill);
        let taken: DrillView = serde_json::from_value(told.clone()).unwrap();
        assert_eq!(taken.check(), Ok(()));
        assert_eq!(json!(taken), told, "both have the same fields");
    }
}
