//! From components and measurements to what is wrong: one trouble for each cause, with what suffers from it. Pure.
//!
//! Why it exists: what is wrong with one thing shows in many places. Each place is looked at here, and what is the effect of
//! something else that is seen is marked as such. It must never drop an effect: whoever counts how long things last needs it.

mod load;
mod parts;

use std::collections::BTreeMap;

pub use load::WINDOW;

use super::alerts::Rule;
use super::facts::Facts;
use super::graph::{Blame, Judged};
use crate::view::Severity;

/// Names that are written out in a sentence; the others are counted.
const NAMES_MAX: usize = 6;

/// Something that is seen to be wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    /// Which of the catalogue.
    pub rule: &'static Rule,
    /// How bad.
    pub severity: Severity,
    /// In a sentence.
    pub title: String,
    /// What was measured against what.
    pub why: String,
    /// Components that suffer from it.
    pub affects: Vec<String>,
    /// Whether it is a cause.
    pub standing: Standing,
}

/// What a trouble is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// To be told.
    Cause,
    /// Not to be told again if it was over, but not over either.
    Lingering,
    /// The effect of another one.
    Effect,
}

/// Everything that is wrong, at most one for each rule.
pub fn troubles(facts: &Facts, components: &[Judged], blame: &Blame) -> Vec<Trouble> {
    let mut all = parts::troubles(facts, components, blame);
    all.extend(load::troubles(facts, blame));
    all
}

/// Who suffers from each cause.
fn sufferers(blame: &Blame) -> BTreeMap<&str, Vec<String>> {
    let mut by_cause: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (component, cause) in blame.iter().filter(|(component, cause)| component != cause) {
        by_cause.entry(cause).or_default().push(component.clone());
    }
    by_cause
}

/// "a, b and 3 more"
fn listed(names: &[String]) -> String {
    let shown = names.get(..NAMES_MAX).unwrap_or(names);
    match names.len() - shown.len() {
        0 => shown.join("; "),
        more => format!("{}; and {more} more", shown.join("; ")),
    }
}

#[cfg(test)]
mod tests;
