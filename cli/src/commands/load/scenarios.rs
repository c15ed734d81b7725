//! Scenarios by name or from a file, for every command that runs one.

use std::path::Path;

use buslane_loadtest::storm::demo;
use buslane_loadtest::storm::scenario::Scenario;
use serde_json::json;

use crate::failure::Failure;
use crate::output::Output;

/// The scenario of this name, or of this file.
pub fn find(name: &str) -> Result<Scenario, Failure> {
    if let Some(text) = built_in(name) {
        return parse(text, name);
    }
    let is_file = name.contains(['/', '.']);
    if !is_file {
        return Err(Failure::usage(format!(
            "there is no scenario {name:?}: see `buslane load list`, or name a file such as ./{name}.toml"
        )));
    }
    read(Path::new(name))
}

/// Prints what there is.
pub fn list(output: Output) -> Result<(), Failure> {
    let scenarios = BUILT_IN.iter().map(|(name, text)| parse(text, name)).collect::<Result<Vec<_>, _>>()?;
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
pub fn check(file: &Path, output: Output) -> Result<(), Failure> {
    let scenario = read(file)?;
    output.result(&json!({"file": file, "name": scenario.name, "valid": true}), || {
        format!("{}: valid, scenario {}", file.display(), scenario.name)
    })
}

const BUILT_IN: [(&str, &str); 1] = [("demo", demo::SCENARIO)];

fn built_in(name: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

fn read(file: &Path) -> Result<Scenario, Failure> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|e| Failure::usage(format!("{}: {e}", file.display())))?;
    parse(&text, &file.display().to_string())
}

/// Names the line of what is wrong.
fn parse(text: &str, origin: &str) -> Result<Scenario, Failure> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        Failure::usage(format!("{origin}:{line}: {}", error.message().trim()))
    })
}
