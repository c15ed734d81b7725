//! A table of figures: what was asked for, what was measured, and with what.

use serde::Serialize;

/// One row.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What was measured.
    pub what: &'static str,
    /// The target, in words.
    pub target: &'static str,
    /// What was found, in words.
    pub measured: String,
    /// The number that decides.
    pub value: f64,
    /// The number it is held against.
    pub limit: f64,
    /// Whether the target was reached.
    pub pass: bool,
}

impl Figure {
    /// A figure that must not be over its limit.
    pub fn at_most(
        what: &'static str,
        target: &'static str,
        value: f64,
        limit: f64,
        measured: String,
    ) -> Self {
        Self { what, target, measured, value, limit, pass: value <= limit }
    }

    /// A figure that must not be under its limit.
    pub fn at_least(
        what: &'static str,
        target: &'static str,
        value: f64,
        limit: f64,
        measured: String,
    ) -> Self {
        Self { what, target, measured, value, limit, pass: value >= limit }
    }
}

/// The table in Markdown.
pub fn table(figures: &[Figure]) -> String {
    let mut out = String::from("| what | target | measured | |\n|---|---|---|---|\n");
    for f in figures {
        let mark = if f.pass { "reached" } else { "**missed**" };
        out.push_str(&format!("| {} | {} | {} | {mark} |\n", f.what, f.target, f.measured));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_target_is_said() {
        let rows = [
            Figure::at_most("a", "<= 1", 2.0, 1.0, "2".into()),
            Figure::at_least("b", ">= 1", 2.0, 1.0, "2".into()),
        ];
        let table = table(&rows);
        assert!(
            table.contains("| a | <= 1 | 2 | **missed** |") && table.contains("| b | >= 1 | 2 | reached |")
        );
    }
}
