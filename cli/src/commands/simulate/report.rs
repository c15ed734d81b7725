//! What the runs of the model amount to, for people: a table for each scenario, the targets, and who is ahead.

use buslane_loadtest::simulate::verdict::{self, Spread};
use buslane_loadtest::simulate::{Finding, OURS, Row, is_rival, targets};
use comfy_table::{CellAlignment, Table, presets};

use crate::output::Output;

/// All runs, by scenario.
pub struct Report<'a> {
    scenarios: Vec<Part<'a>>,
}

struct Part<'a> {
    name: &'static str,
    policies: Vec<(&'static str, Vec<&'a Row>)>,
    findings: Vec<Finding>,
    behind: Vec<String>,
}

impl<'a> Report<'a> {
    /// Of these runs.
    pub fn of(rows: &'a [Row]) -> Self {
        let mut names: Vec<&'static str> = Vec::new();
        for row in rows {
            if !names.contains(&row.scenario) {
                names.push(row.scenario);
            }
        }
        Self { scenarios: names.into_iter().map(|name| Part::of(name, rows)).collect() }
    }

    /// Whether ours reached every target, where it took part.
    pub fn is_met(&self) -> bool {
        self.scenarios.iter().all(|s| s.findings.iter().all(|f| f.met))
    }

    /// All of it as text.
    pub fn text(&self, output: &Output) -> String {
        self.scenarios.iter().map(|s| s.text(output)).collect::<Vec<_>>().join("\n")
    }
}

impl<'a> Part<'a> {
    fn of(name: &'static str, rows: &'a [Row]) -> Self {
        let rows: Vec<&Row> = rows.iter().filter(|r| r.scenario == name).collect();
        let mut policies: Vec<(&'static str, Vec<&Row>)> = Vec::new();
        for row in &rows {
            match policies.iter_mut().find(|(policy, _)| *policy == row.policy) {
                Some((_, rows)) => rows.push(row),
                None => policies.push((row.policy, vec![row])),
            }
        }
        let ours = policies.iter().find(|(policy, _)| *policy == OURS);
        let findings = ours.map(|(_, rows)| targets(name).iter().map(|t| t.find(rows)).collect());
        let owned: Vec<Row> = rows.iter().map(|r| (*r).clone()).collect();
        Self { name, policies, findings: findings.unwrap_or_default(), behind: verdict::verdict(&owned) }
    }

    fn text(&self, output: &Output) -> String {
        let mut out = format!("{}\n{}\n", output.bold(self.name), self.table());
        for finding in &self.findings {
            out.push_str(&sentence(finding));
        }
        let took_part = |who: fn(&str) -> bool| self.policies.iter().any(|(policy, _)| who(policy));
        if took_part(|policy| policy == OURS) && took_part(is_rival) {
            match self.behind.as_slice() {
                [] => {
                    out.push_str("  Buslane is ahead of every rival here (not held against static and none), or level, on success, p99 and drain\n")
                }
                behind => behind.iter().for_each(|b| out.push_str(&format!("  {b}\n"))),
            }
        }
        out
    }

    /// Median and worst of the seeds.
    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header([
            "policy",
            "success %",
            "p99 ratio",
            "p99 ms",
            "protect ms",
            "enter ms",
            "drain",
            "attempts",
            "wasted %",
            "changes",
            "work %",
            "jain",
        ]);
        for (policy, rows) in &self.policies {
            let mut cells = vec![(*policy).to_owned()];
            cells.extend(cells_of(rows));
            table.add_row(cells);
        }
        table.column_iter_mut().skip(1).for_each(|c| c.set_cell_alignment(CellAlignment::Right));
        table
    }
}

fn cells_of(rows: &[&Row]) -> [String; 11] {
    let most = |figure: fn(&Row) -> f64| verdict::most(rows, |r| Some(figure(r)));
    let least = |figure: fn(&Row) -> Option<f64>| verdict::least(rows, figure);
    [
        both(most(|r| r.fg_success * 100.0), 2),
        both(least(|r| Some(r.fg_p99_ratio)), 2),
        both(least(|r| Some(r.fg_p99_ms)), 1),
        both(least(|r| r.protect_ms), 0),
        both(least(|r| r.enter_ms), 0),
        both(least(|r| r.drain_ratio), 2),
        both(least(|r| r.attempts_per_deferred_login), 2),
        both(least(|r| Some(r.wasted * 100.0)), 2),
        both(least(|r| Some(r.posture_changes as f64)), 0),
        both(most(|r| r.work_conservation * 100.0), 1),
        both(most(|r| r.jain), 3),
    ]
}

/// "median / worst", or one number where they are the same; "-" where there is none.
fn both(spread: Spread, digits: usize) -> String {
    let text = |v: f64| if v.is_finite() { format!("{v:.digits$}") } else { "-".to_owned() };
    let (median, worst) = (text(spread.median), text(spread.worst));
    if median == worst { median } else { format!("{median} / {worst}") }
}

fn sentence(finding: &Finding) -> String {
    let text =
        |f: Option<f64>| f.map_or("none".to_owned(), |f| ((f * 10_000.0).round() / 10_000.0).to_string());
    let mark = if finding.met { "met   " } else { "MISSED" };
    format!("  {mark}  {}: median {}, worst {}\n", finding.what, text(finding.median), text(finding.worst))
}
