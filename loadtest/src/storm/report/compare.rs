//! Several policies in the same storm: a sentence, and a table of figures with the best of each marked.

use super::baseline;
use super::escape::line;
use super::figure::{ALL, Better, Figure};
use super::sentence;
use super::table::{Ink, Tone, WIDTH, aligned, wrapped};
use super::terminal::badge;
use super::words::{NOT_MEASURED, ms, or_not, percent};
use crate::storm::result::Run;

/// One figure of all runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What it is.
    pub figure: &'static Figure,
    /// Of each run: for people, and whether none is better.
    pub cells: Vec<(String, bool)>,
}

/// Figures that at least one run has.
pub fn rows(runs: &[Run]) -> Vec<Row> {
    ALL.iter()
        .filter(|figure| runs.iter().any(|run| figure.of(run).is_some()))
        .map(|figure| row(figure, runs))
        .collect()
}

fn row(figure: &'static Figure, runs: &[Run]) -> Row {
    // A run that is not valid says nothing about the server, so it is not the best at anything.
    let good = |run: &&Run| run.summary.valid;
    let values = || runs.iter().filter(good).filter_map(|run| figure.of(run));
    let best = match figure.better {
        Better::More => values().reduce(f64::max),
        Better::Less => values().reduce(f64::min),
        Better::Neither => None,
    };
    // Where all are alike, nobody is best.
    let alike = values().all(|value| Some(value) == best);
    let cell = |run: &Run| match figure.of(run) {
        None => (NOT_MEASURED.to_owned(), false),
        Some(value) => (figure.write(value), !alike && run.summary.valid && Some(value) == best),
    };
    Row { figure, cells: runs.iter().map(cell).collect() }
}

/// What the difference is, in a sentence.
pub fn sentence(runs: &[Run]) -> String {
    let parts: Vec<String> = runs.iter().map(fared).collect();
    let policies = if runs.len() == 1 { "policy" } else { "policies" };
    format!("{}, {} {policies}: {}.", storms(runs), runs.len(), parts.join("; "))
}

/// Whether it was the same storm: files of several reports may have come together in a folder.
fn storms(runs: &[Run]) -> String {
    let Some((first, others)) = runs.split_first() else { return "No storm".to_owned() };
    let mut unlike: Vec<&'static str> =
        others.iter().flat_map(|other| baseline::unlike_storms(first, other)).collect();
    if others.iter().any(|other| other.origin.version != first.origin.version) {
        unlike.push("version");
    }
    unlike.sort_unstable();
    unlike.dedup();
    match unlike.as_slice() {
        [] => "The same storm".to_owned(),
        unlike => format!("Not the same storm (these runs are not alike in {})", baseline::listed(unlike)),
    }
}

fn fared(run: &Run) -> String {
    let summary = &run.summary;
    let arrived = or_not(summary.fg_success, |share| format!("{} of the messages arrived", percent(share)));
    let p99 =
        summary.fg_p99_ms.storm.map_or_else(String::new, |p99| format!(", 99 % of those within {}", ms(p99)));
    let doubt = if summary.valid { "" } else { " (not valid)" };
    format!("under {} {arrived}{p99}{doubt}", summary.policy)
}

/// All of it for a terminal.
pub fn comparison(runs: &[Run], ink: Ink) -> String {
    let mut lines: Vec<String> = wrapped(&line(&sentence(runs)), WIDTH);
    lines.push(String::new());
    let head = std::iter::once(String::new())
        .chain(runs.iter().map(|run| format!("{}  ", line(&run.summary.policy))));
    let verdicts = std::iter::once("verdict".to_owned()).chain(runs.iter().map(|run| {
        let (sign, word, _) = badge(run.summary.verdict);
        format!("{sign} {word}  ")
    }));
    let mut table: Vec<Vec<String>> = vec![head.collect(), verdicts.collect()];
    table.extend(rows(runs).into_iter().map(|row| {
        let cells =
            row.cells.into_iter().map(|(text, best)| format!("{text}{}", if best { " ★" } else { "  " }));
        std::iter::once(row.figure.title.to_owned()).chain(cells).collect()
    }));
    let mut table = aligned(&table).into_iter();
    lines.extend(table.next().map(|head| ink.paint(Tone::Strong, &head)));
    lines.extend(table);
    lines.push(String::new());
    lines.push(ink.paint(Tone::Quiet, "★ the best of the valid runs"));
    lines.join("\n") + "\n"
}

/// How each ended, for the top of a page.
pub fn outcomes(runs: &[Run]) -> String {
    let ends =
        runs.iter().map(|run| format!("{} {}", run.summary.policy, sentence::outcome(run.summary.verdict)));
    ends.collect::<Vec<_>>().join(", ")
}
