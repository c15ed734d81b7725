//! Drills: a storm with a hypothesis, and the record of earlier ones, so that it is seen whether a system gets better or worse.
//!
//! The record is one small file that is there whole or not at all. It must never grow without a bound, nor be thrown away
//! because one line of it is not understood.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::result::{Run, Verdict};

/// Results that are kept: a year of weekly drills.
pub const RESULTS_MAX: usize = 50;

/// One drill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drill {
    /// When it began, RFC 3339.
    pub began: String,
    /// Which scenario.
    pub scenario: String,
    /// Gateway of a system that ran already; absent: on a server that was started for it.
    #[serde(default)]
    pub against: Option<String>,
    /// Factor on the load.
    pub scale: f64,
    /// What was expected to hold.
    pub hypothesis: String,
    /// Whether it did.
    pub verdict: Verdict,
    /// Messages of people that arrived in time in the storm, of all of them.
    pub fg_success: Option<f64>,
    /// How long they took, 99th percentile.
    pub fg_p99_ms: Option<f64>,
    /// From the beginning of the storm to EMERGENCY.
    pub enter_ms: Option<f64>,
    /// From its end to NORMAL.
    pub exit_s: Option<f64>,
    /// Messages that were lost.
    pub lost: Option<u64>,
}

impl Drill {
    /// What is kept of a run.
    pub fn of(run: &Run, against: Option<&str>) -> Self {
        let summary = &run.summary;
        Self {
            began: run.origin.began.clone(),
            scenario: summary.scenario.clone(),
            against: against.map(str::to_owned),
            scale: run.scale,
            hypothesis: run.plan.hypothesis.clone(),
            verdict: summary.verdict,
            fg_success: summary.fg_success,
            fg_p99_ms: summary.fg_p99_ms.storm,
            enter_ms: summary.enter_ms,
            exit_s: summary.exit_s,
            lost: summary.lost,
        }
    }

    /// Whether two may be held against each other.
    pub fn is_like(&self, other: &Self) -> bool {
        self.scenario == other.scenario && self.against == other.against && self.scale == other.scale
    }
}

/// Messages took so much longer than in the last drill of the same kind, in percent; negative: less long.
pub fn trend(drills: &[Drill], n: usize) -> Option<f64> {
    let drill = drills.get(n)?;
    let earlier = drills.get(..n)?.iter().rfind(|earlier| earlier.is_like(drill))?;
    let (before, now) = (earlier.fg_p99_ms?, drill.fg_p99_ms?);
    (before > 0.0).then(|| (now / before - 1.0) * 100.0)
}

/// Earlier drills, the oldest first. A file that is not there is an empty record.
pub fn read(file: &Path) -> anyhow::Result<Vec<Drill>> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    // A line of a newer version is passed over.
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Adds a drill; the oldest ones go. What is not understood is kept as it is.
pub fn add(file: &Path, drill: &Drill) -> anyhow::Result<()> {
    let before = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let line = serde_json::to_string(drill).context("a drill cannot be written as JSON")?;
    let mut lines: Vec<&str> = before.lines().filter(|line| !line.is_empty()).collect();
    lines.push(&line);
    let kept = lines.split_at(lines.len().saturating_sub(RESULTS_MAX)).1.join("\n") + "\n";
    replace(file, kept.as_bytes()).with_context(|| format!("cannot write {}", file.display()))
}

fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = file.with_file_name(name);
    let mut out = File::create(&part)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    fs::rename(&part, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drill(n: u32) -> Drill {
        Drill {
            began: format!("2026-01-01T00:00:{n:02}Z"),
            scenario: "demo".to_owned(),
            against: None,
            scale: 1.0,
            hypothesis: "it holds".to_owned(),
            verdict: Verdict::Pass,
            fg_success: Some(1.0),
            fg_p99_ms: Some(f64::from(n)),
            enter_ms: None,
            exit_s: None,
            lost: Some(0),
        }
    }

    #[test]
    fn the_record_is_bounded_and_keeps_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("drills/drills.jsonl");
        assert_eq!(read(&file).unwrap(), []);
        for n in 0..60 {
            add(&file, &drill(n)).unwrap();
        }
        let drills = read(&file).unwrap();
        assert_eq!(drills.len(), RESULTS_MAX);
        assert_eq!((drills[0].clone(), drills[49].clone()), (drill(10), drill(59)));
    }

    #[test]
    fn a_line_of_another_version_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("drills.jsonl");
        fs::write(&file, "{\"of\":\"tomorrow\"}\n").unwrap();
        add(&file, &drill(1)).unwrap();
        assert_eq!(read(&file).unwrap(), [drill(1)]);
        assert!(fs::read_to_string(&file).unwrap().contains("tomorrow"));
    }

    #[test]
    fn a_trend_is_against_the_last_one_of_the_same_kind() {
        let other = Drill { scenario: "pohang".to_owned(), ..drill(7) };
        let drills = [drill(10), other, drill(15)];
        assert_eq!(trend(&drills, 0), None);
        assert_eq!(trend(&drills, 1), None);
        assert_eq!(trend(&drills, 2), Some(50.0));
        assert_eq!(trend(&drills, 3), None);
    }
}
