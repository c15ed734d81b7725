//! How a run stands to an earlier one: each figure before and now, and what is worse than chance explains. As a value for
//! scripts, as a table for a terminal.
//!
//! It must never compare in silence what is not alike.

use serde::Serialize;

use super::escape::line;
use super::figure::{ALL, Better, Figure, Judgement};
use super::table::{Ink, Tone, aligned};
use super::words::{digits, list, or_not};
use crate::storm::result::Run;

/// A run against an earlier one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Baseline {
    /// When the earlier one began, RFC 3339.
    pub began: String,
    /// Of which scenario it was.
    pub scenario: String,
    /// The version of the program that made it.
    pub version: String,
    /// In what the two are not alike, so that a difference may be due to that.
    pub unlike: Vec<&'static str>,
    /// How many figures are worse.
    pub worse: usize,
    /// Every figure that one of the two has.
    pub figures: Vec<Change>,
}

/// One figure before and now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Which.
    #[serde(rename = "name", serialize_with = "name_of")]
    pub figure: &'static Figure,
    /// In the earlier run; absent: not measured.
    pub before: Option<f64>,
    /// In this one.
    pub now: Option<f64>,
    /// Whether that is more than chance. A figure that is not measured any more is worse.
    pub judgement: Judgement,
}

fn name_of<S: serde::Serializer>(figure: &Figure, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(figure.name)
}

impl Baseline {
    /// Holds `now` against `before`.
    pub fn of(now: &Run, before: &Run) -> Self {
        let figures: Vec<Change> = ALL.iter().filter_map(|figure| Change::of(figure, before, now)).collect();
        Self {
            began: before.origin.began.clone(),
            scenario: before.summary.scenario.clone(),
            version: before.origin.version.clone(),
            unlike: unlike(now, before),
            worse: figures.iter().filter(|change| change.judgement == Judgement::Worse).count(),
            figures,
        }
    }

    /// For a terminal.
    pub fn table(&self, ink: Ink) -> String {
        let head = ["", "before", "now", "change", ""].map(str::to_owned).to_vec();
        let rows: Vec<Vec<String>> =
            std::iter::once(head).chain(self.figures.iter().map(Change::row)).collect();
        let worse = match self.worse {
            0 => "nothing is worse.".to_owned(),
            1 => "1 figure is worse.".to_owned(),
            worse => format!("{worse} figures are worse."),
        };
        let (scenario, began, version) = (line(&self.scenario), line(&self.began), line(&self.version));
        let mut lines = vec![format!("Against {scenario} of {began} (version {version}): {worse}")];
        if !self.unlike.is_empty() {
            lines.push(format!("  Careful: the two are not alike in {}.", listed(&self.unlike)));
        }
        let judgements =
            std::iter::once(None).chain(self.figures.iter().map(|change| Some(change.judgement)));
        lines.extend(aligned(&rows).into_iter().zip(judgements).map(|(text, judgement)| {
            let text = format!("  {text}");
            match judgement {
                None => ink.paint(Tone::Quiet, &text),
                Some(Judgement::Worse) => ink.paint(Tone::Bad, &text),
                Some(Judgement::Better) => ink.paint(Tone::Good, &text),
                Some(Judgement::Same) => text,
            }
        }));
        lines.join("\n") + "\n"
    }
}

impl Change {
    fn of(figure: &'static Figure, before: &Run, now: &Run) -> Option<Self> {
        let (before, now) = (figure.of(before), figure.of(now));
        let judgement = match (before, now) {
            (None, None) => return None,
            (Some(before), Some(now)) => figure.judge(before, now),
            (Some(_), None) if figure.better != Better::Neither => Judgement::Worse,
            _ => Judgement::Same,
        };
        Some(Self { figure, before, now, judgement })
    }

    fn row(&self) -> Vec<String> {
        let write = |value: Option<f64>| or_not(value, |value| self.figure.write(value));
        let moved =
            self.before.zip(self.now).map_or_else(|| "–".to_owned(), |(before, now)| moved(before, now));
        let word = match self.judgement {
            Judgement::Same => "",
            Judgement::Better => "▲ better",
            Judgement::Worse => "▼ worse",
        };
        vec![self.figure.title.to_owned(), write(self.before), write(self.now), moved, word.to_owned()]
    }
}

/// Why two runs should not be held against each other. Another version is what one usually wants to know about.
fn unlike(now: &Run, before: &Run) -> Vec<&'static str> {
    let also = [
        ("policy", now.summary.policy != before.summary.policy),
        ("validity", !now.summary.valid || !before.summary.valid),
    ];
    let also = also.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name);
    unlike_storms(now, before).into_iter().chain(also).collect()
}

/// In what two storms are not the same one, whatever the servers did.
pub fn unlike_storms(one: &Run, other: &Run) -> Vec<&'static str> {
    let differs = [
        ("scenario", one.summary.scenario != other.summary.scenario || !one.plan.is_like(&other.plan)),
        ("scale", one.scale != other.scale),
        ("seed", one.summary.seed != other.summary.seed),
        ("machine", one.origin.machine != other.origin.machine),
        ("processors", one.origin.pinned != other.origin.pinned),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// As people list things.
pub fn listed(names: &[&'static str]) -> String {
    list(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
}

/// From here on a change is told as a factor.
const TOLD_AS_FACTOR: f64 = 10.0;

fn moved(before: f64, now: f64) -> String {
    if now == before {
        return "=".to_owned();
    }
    let sign = if now > before { "+" } else { "-" };
    let by = (now - before).abs();
    if before == 0.0 {
        format!("{sign}{}", digits(by, 3))
    } else if now / before >= TOLD_AS_FACTOR {
        format!("x {}", digits(now / before, 3))
    } else {
        format!("{sign}{} %", digits(by / before.abs() * 100.0, 3))
    }
}
