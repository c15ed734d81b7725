//! Scenarios by name or from a file, for every command that runs one.

use std::path::Path;

use buslane_loadtest::storm::scenario::file::{self, ScenarioError};
use buslane_loadtest::storm::scenario::{Scenario, known};
use serde_json::json;

use crate::failure::Failure;
use crate::output::Output;

/// The scenario of this name, or of this file.
pub fn find(name: &str) -> Result<Scenario, Failure> {
    known::find(name).map_err(wrong)
}

/// Prints what there is.
pub fn list(output: Output) -> Result<(), Failure> {
    let scenarios = known::list().map_err(wrong)?;
    let rows: Vec<_> = scenarios
        .iter()
        .map(|scenario| json!({"name": scenario.name, "title": scenario.title, "phases": scenario.phases}))
        .collect();
    output.result(&rows, || {
        let line = |scenario: &Scenario| {
            let phases = scenario.phases;
            let seconds = phases.quiet_s + phases.storm_s + phases.after_s;
            format!("{:<14} {seconds:>5} s  {}", scenario.name, scenario.title)
        };
        scenarios.iter().map(line).collect::<Vec<_>>().join("\n")
    })
}

/// Says whether a file is right.
pub fn check(path: &Path, output: Output) -> Result<(), Failure> {
    let scenario = file::load(path).map_err(wrong)?;
    output.result(&json!({"file": path, "name": scenario.name, "valid": true}), || {
        format!("{}: valid, scenario {}", path.display(), scenario.name)
    })
}

/// Names the line of what is wrong, or what else there is.
fn wrong(error: ScenarioError) -> Failure {
    Failure::usage(error.to_string())
}
