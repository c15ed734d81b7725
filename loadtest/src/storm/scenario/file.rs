//! Scenarios from files, and errors in them that somebody who has never written one can act on: the file, the line, the key,
//! and what to write instead.
//!
//! It must never take a file that it does not wholly understand: a misspelt key is an error, not a default.

use std::fmt;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use buslane_shared::nearest::did_you_mean;

use super::Scenario;
use super::check::check;
use super::place::{key_at, line_at, line_of};

/// Far above any real scenario, so that a wrong path (a log, a device) fails at once.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why there is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Neither the name of one that is built in, nor a file.
    #[error(
        "{name}: there is no scenario of this name and no such file; `buslane load list` shows what there is{guess}"
    )]
    Unknown {
        /// What was asked for.
        name: String,
        /// What may have been meant.
        guess: String,
    },
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// Something in it is wrong. All of it that was found is named, one line each.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Wrong(Vec<Finding>),
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub origin: String,
    /// Line, from 1; 0 where the thing is not in the file at all.
    pub line: usize,
    /// The key with its tables, `crowd[0].sessions`; empty where there is none.
    pub key: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.origin)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Reads and checks a file.
pub fn load(path: &Path) -> Result<Scenario, ScenarioError> {
    let origin = path.display().to_string();
    match read(path) {
        Ok(text) => parse(&text, &origin),
        Err(error) => Err(ScenarioError::Unreadable { path: origin, error }),
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("it is over 1 MiB, which no scenario is"));
    }
    Ok(text)
}

/// Checks the text of a file; `origin` is its name in messages.
pub fn parse(text: &str, origin: &str) -> Result<Scenario, ScenarioError> {
    let finding = |line, key, message| Finding { origin: origin.to_owned(), line, key, message };
    let scenario: Scenario = toml::from_str(text).map_err(|e| {
        let (line, key, message) = understand(text, e.message(), e.span().unwrap_or(0..text.len()));
        ScenarioError::Wrong(vec![finding(line, key, message)])
    })?;
    let wrong = check(&scenario);
    if wrong.is_empty() {
        return Ok(scenario);
    }
    let findings =
        wrong.into_iter().map(|wrong| finding(line_of(text, &wrong.key), wrong.key, wrong.message));
    Err(ScenarioError::Wrong(findings.collect()))
}

/// Line, key and message behind an error of the parser.
fn understand(text: &str, message: &str, span: Range<usize>) -> (usize, String, String) {
    // What is missing at the top has the whole text or nothing as its place: that is no line.
    let is_whole = span == (0..0) || span == (0..text.len());
    let (line, key) =
        if is_whole { (0, String::new()) } else { (line_at(text, span.start), key_at(text, span.start)) };
    match message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        Some(name) => {
            let key = if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
            (line, key, format!("it is missing; add it{}", hint(name)))
        }
        None => (line, key, explain(message)),
    }
}

/// What to write in the place of something that is missing.
fn hint(name: &str) -> &'static str {
    match name {
        "source" => ": where the history is told, or \"made up\"",
        "history" => ": what happened in the world, or what could",
        "hypothesis" => ": what is expected to hold, in a sentence",
        "phases" => ": [phases] with quiet_s, storm_s and after_s",
        "limits" => ": [limits] with what must hold, as lost = { at_most = 0 }",
        "rate" => ": rate = { points = [[0, 1.0], [10, 1.0]] }",
        _ => "",
    }
}

/// Adds the likely spelling to the parser's message about a name that is not known.
fn explain(message: &str) -> String {
    let message = message.trim();
    let mut quoted = message.split('`').skip(1).step_by(2);
    match quoted.next().filter(|_| message.starts_with("unknown ")) {
        Some(unknown) => format!("{message}{}", did_you_mean(unknown, quoted)),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests;
