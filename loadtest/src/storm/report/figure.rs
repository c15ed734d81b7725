//! What the figures of a summary are called, how they are written, and which way is better.

use serde::Serialize;

use super::words;
use crate::storm::result::Run;

/// How a figure is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A part of all.
    Share,
    /// A factor.
    Times,
    /// Milliseconds.
    Ms,
    /// Seconds.
    Seconds,
    /// How many.
    Count,
    /// 1 or 0.
    YesNo,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// More.
    More,
    /// Less.
    Less,
    /// Neither: it is told, not judged.
    Neither,
}

/// One figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// As in results and limits.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// How it is written.
    pub form: Form,
    /// Which way is better.
    pub better: Better,
    /// Two runs of the same differ by up to this part of the figure.
    pub noise: f64,
}

const fn figure(name: &'static str, title: &'static str, form: Form, better: Better, noise: f64) -> Figure {
    Figure { name, title, form, better, noise }
}

/// All that are known, in the order in which they are shown.
pub const ALL: [Figure; 24] = [
    figure("fg_success", "messages of conversations that arrived", Form::Share, Better::More, 0.0001),
    figure("fg_p99_ratio", "their p99, storm to quiet", Form::Times, Better::Less, 0.1),
    figure("fg_p99_ms_storm", "their p99 in the storm", Form::Ms, Better::Less, 0.1),
    figure("look_success", "people who open the app: served", Form::Share, Better::More, 0.001),
    figure("fg_refused", "refusals of what people wanted", Form::Count, Better::Less, 0.0),
    figure("logins_of_possible", "logins done, of what is possible", Form::Share, Better::More, 0.03),
    figure("goodput_of_capacity", "messages served, of capacity", Form::Share, Better::More, 0.03),
    figure("bg_floor_kept", "background kept its floor", Form::YesNo, Better::More, 0.0),
    figure("slots_kept", "slots kept", Form::Share, Better::More, 0.01),
    figure("attempts_per_deferred", "tries of a client that was put off", Form::Count, Better::Less, 0.05),
    figure("left_outside", "clients not in at the end", Form::Count, Better::Less, 0.0),
    figure("back_ratio", "time until all were back, to the best possible", Form::Times, Better::Less, 0.1),
    figure("live_sessions_closed", "live sessions closed by the server", Form::Count, Better::Less, 0.0),
    figure("lost", "messages lost", Form::Count, Better::Less, 0.0),
    figure("duplicated", "messages doubled", Form::Count, Better::Less, 0.0),
    figure("reordered", "messages out of order", Form::Count, Better::Less, 0.0),
    figure("misdelivered", "messages to strangers", Form::Count, Better::Less, 0.0),
    figure("invented", "messages that nobody sent like that", Form::Count, Better::Less, 0.0),
    figure("holes", "numbers of a room missing or used twice", Form::Count, Better::Less, 0.0),
    figure("enter_ms", "storm to EMERGENCY", Form::Ms, Better::Less, 0.2),
    figure("exit_s", "end of the storm to NORMAL", Form::Seconds, Better::Less, 0.1),
    figure("posture_changes", "posture changes", Form::Count, Better::Neither, 0.0),
    figure("memory_ratio", "memory, after to before", Form::Times, Better::Less, 0.05),
    figure("amplification", "bytes answered to bytes received, flood", Form::Times, Better::Less, 0.1),
];

impl Figure {
    /// The figure of this name, if it is known.
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|figure| figure.name == name)
    }

    /// What a run found.
    pub fn of(&self, run: &Run) -> Option<f64> {
        run.summary.figures.get(self.name).copied()
    }

    /// For people.
    pub fn write(&self, value: f64) -> String {
        match self.form {
            Form::Share => words::percent(value),
            Form::Times => words::times(value),
            Form::Ms => words::ms(value),
            Form::Seconds => words::seconds(value),
            Form::Count => words::count(value),
            Form::YesNo => (if value >= 1.0 { "yes" } else { "no" }).to_owned(),
        }
    }

    /// Whether `now` differs from `before` by more than chance, for the worse or the better.
    pub fn judge(&self, before: f64, now: f64) -> Judgement {
        let grown = now - before;
        if grown == 0.0 || self.better == Better::Neither || grown.abs() <= self.noise * before.abs() {
            return Judgement::Same;
        }
        if (grown > 0.0) == (self.better == Better::More) { Judgement::Better } else { Judgement::Worse }
    }
}

/// How a figure compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Judgement {
    /// The difference may be chance, or says nothing.
    Same,
    /// For the better.
    Better,
    /// For the worse.
    Worse,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_judged_by_its_figure() {
        for (name, before, now, wanted) in [
            ("fg_success", 0.9999, 0.99985, Judgement::Same),
            ("fg_success", 0.9999, 0.9990, Judgement::Worse),
            ("fg_p99_ratio", 1.10, 1.15, Judgement::Same),
            ("fg_p99_ratio", 1.10, 1.40, Judgement::Worse),
            ("fg_p99_ratio", 1.40, 1.10, Judgement::Better),
            ("lost", 0.0, 1.0, Judgement::Worse),
            ("lost", 0.0, 0.0, Judgement::Same),
            ("posture_changes", 2.0, 9.0, Judgement::Same),
        ] {
            let figure = Figure::named(name).unwrap();
            assert_eq!(figure.judge(before, now), wanted, "{name} {before} {now}");
        }
        assert_eq!(Figure::named("nothing"), None);
    }
}
