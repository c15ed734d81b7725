//! What must hold: limits against the figures of a run. Pure.
//!
//! It must never let a figure that was not measured pass.

use std::collections::BTreeMap;

pub use super::report::figure::{ALL as FIGURES, Better, Figure, Form};
use super::result::Check;
use super::scenario::Limit;

/// Each limit, with what was found.
pub fn checks(figures: &BTreeMap<String, f64>, limits: &BTreeMap<String, Limit>) -> Vec<Check> {
    limits.iter().map(|(name, limit)| limit.check(name, figures.get(name).copied())).collect()
}

impl Limit {
    /// In words: `>= 0.9999`.
    pub fn words(&self) -> String {
        match self {
            Self::AtMost(value) => format!("<= {value}"),
            Self::AtLeast(value) => format!(">= {value}"),
        }
    }

    fn check(&self, name: &str, value: Option<f64>) -> Check {
        // What is no number is not measured.
        let value = value.filter(|value| value.is_finite());
        let pass = value.is_some_and(|value| match self {
            Self::AtMost(limit) => value <= *limit,
            Self::AtLeast(limit) => value >= *limit,
        });
        Check { name: name.to_owned(), limit: self.words(), value, pass }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_measured_and_holds_passes() {
        let limits = BTreeMap::from([
            ("fg_success".to_owned(), Limit::AtLeast(0.9999)),
            ("lost".to_owned(), Limit::AtMost(0.0)),
        ]);
        for (success, lost, passed) in [
            (Some(0.9999), Some(0.0), [true, true]),
            (Some(0.99989), Some(1.0), [false, false]),
            (None, Some(0.0), [false, true]),
            (Some(1.0), Some(f64::NAN), [true, false]),
            (Some(f64::INFINITY), None, [false, false]),
        ] {
            let figures = [("fg_success", success), ("lost", lost), ("exit_s", Some(3.0))];
            let figures =
                figures.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
            let checks = checks(&figures, &limits);
            assert_eq!(checks.iter().map(|check| check.pass).collect::<Vec<_>>(), passed, "{checks:?}");
        }
        let check = &checks(&BTreeMap::new(), &limits)[0];
        assert_eq!(
            (check.name.as_str(), check.limit.as_str(), check.value),
            ("fg_success", ">= 0.9999", None)
        );
        assert_eq!(Limit::AtMost(1.5).words(), "<= 1.5");
    }
}
