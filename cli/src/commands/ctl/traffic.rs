//! `ctl traffic`: what was asked for and what became of it, class by class, with the shape of the last minutes.

use buslane_operator::view::{ClassSample, Sample, TrafficView};
use clap::{Args, ValueEnum};

use super::text::{grid, read};
use crate::admin_client::AdminArgs;
use crate::failure::Failure;
use crate::output::{Output, printable};
use crate::time_text::span;

/// Columns of a shape.
const SHAPE_CHARS: usize = 30;

const EXAMPLES: &str = "\
Examples:
  buslane ctl traffic
  buslane ctl traffic --span 3h --node session-manager-1

Rates are means of the last ten seconds; the shape is what was offered over the whole span.";

/// Samples of which a rate is the mean.
const MEAN_OF: usize = 10;

/// Arguments of `ctl traffic`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TrafficArgs {
    /// How far back
    #[arg(long, value_enum, default_value_t = Span::TenMinutes)]
    span: Span,
    /// The node that is meant [default: the one that is asked]
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Span {
    #[value(name = "10m")]
    TenMinutes,
    #[value(name = "3h")]
    ThreeHours,
    #[value(name = "24h")]
    Day,
}

impl Span {
    fn query(self) -> &'static str {
        match self {
            Self::TenMinutes => "10m",
            Self::ThreeHours => "3h",
            Self::Day => "24h",
        }
    }
}

/// Runs it.
pub async fn run(args: &TrafficArgs, output: Output) -> Result<(), Failure> {
    let mut path = format!("/v1/traffic?span={}", args.span.query());
    if let Some(node) = &args.node {
        path += &format!("&node={}", super::text::escape(node));
    }
    let result = args.admin.client()?.get(&path).await?;
    let view: TrafficView = read(&result)?;
    output.result(&result, || sentences(&view))
}

fn sentences(view: &TrafficView) -> String {
    let node = printable(&view.node);
    let Some(last) = view.samples.last() else {
        return format!(
            "{node}: nothing is known yet; a node that controls no load has no traffic of its own"
        );
    };
    let age_ms = view.now_ms.saturating_sub(last.at_ms);
    // Twice a step, and what a second more may take.
    let stale = age_ms > u64::from(view.step_ms) * 2 + 1_000;
    let old = if stale { format!(", STALE: {} old", span(age_ms)) } else { String::new() };
    let mut lines = vec![format!(
        "{node}: {}, {} sessions in front, {} behind{old}",
        last.posture.to_uppercase(),
        last.sessions_front,
        last.sessions_wake
    )];
    let header = [
        "class",
        "offered/s",
        "served",
        "deferred",
        "refused",
        "waiting",
        "p50",
        "p99",
        "offered over the span",
    ];
    lines
        .push(grid(&header, last.classes.iter().enumerate().map(|(n, class)| row(view, n, class)).collect()));
    if let Some(trend) = last.logins.trend {
        lines.push(format!(
            "logins {:.1}/s, usually {:.1}/s (score {:.1}; beyond 4 it is called unusual)",
            last.logins.offered_per_s, trend.usual_per_s, trend.score
        ));
    }
    lines.join("\n")
}

fn row(view: &TrafficView, n: usize, class: &ClassSample) -> Vec<String> {
    let recent = view.samples.len().saturating_sub(MEAN_OF);
    let mean = |of: fn(&ClassSample) -> f64| {
        let values: Vec<f64> =
            view.samples.iter().skip(recent).filter_map(|sample| sample.classes.get(n)).map(of).collect();
        format!("{:.1}", values.iter().sum::<f64>() / count(values.len()))
    };
    vec![
        printable(&class.class).into_owned(),
        mean(|class| class.offered_per_s),
        mean(|class| class.served_per_s),
        mean(|class| class.deferred_per_s),
        mean(|class| class.refused_per_s),
        class.waiting.to_string(),
        latency(class.p50_us),
        latency(class.p99_us),
        shape(&offered(&view.samples, n)),
    ]
}

/// A latency in a cell: "0.8 ms".
pub fn latency(us: Option<u64>) -> String {
    us.map_or_else(
        || "-".to_owned(),
        |us| format!("{:.1} ms", f64::from(u32::try_from(us).unwrap_or(u32::MAX)) / 1e3),
    )
}

fn offered(samples: &[Sample], n: usize) -> Vec<f64> {
    samples.iter().filter_map(|sample| sample.classes.get(n)).map(|class| class.offered_per_s).collect()
}

/// Heights from nothing to the most, oldest first; each column is the most of its part.
pub fn shape(values: &[f64]) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = values.iter().copied().fold(0.0, f64::max);
    if most <= 0.0 {
        return "▁".repeat(values.len().min(SHAPE_CHARS));
    }
    let part = values.len().div_ceil(SHAPE_CHARS).max(1);
    values
        .chunks(part)
        .map(|part| {
            let highest = part.iter().copied().fold(0.0, f64::max);
            let scaled = (highest / most * 7.0).ceil();
            HEIGHTS
                .into_iter()
                .zip(0u8..)
                .find(|(_, n)| f64::from(*n) >= scaled)
                .map_or('█', |(height, _)| height)
        })
        .collect()
}

fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n.max(1)).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_shows_the_most_of_each_part() {
        assert_eq!(shape(&[]), "");
        assert_eq!(shape(&[0.0, 0.0]), "▁▁");
        assert_eq!(shape(&[0.0, 1.0, 4.0, 7.0]), "▁▂▅█");
        let mut many = vec![0.0; 600];
        many[599] = 3.0;
        let drawn = shape(&many);
        assert_eq!((drawn.chars().count(), drawn.chars().last()), (30, Some('█')));
    }

    #[test]
    fn old_figures_are_called_stale() {
        let sample: Sample = read(&serde_json::json!({
            "at_ms": 10_000, "span_ms": 1000, "posture": "guard", "measured": "guard", "order": null, "level": 1024,
            "classes": [{"class": "C0", "offered_per_s": 2.0, "served_per_s": 2.0, "deferred_per_s": 0.0,
                         "refused_per_s": 0.0, "waiting": 0, "p50_us": 800, "p99_us": null}],
            "logins": {"offered_per_s": 9.0, "served_per_s": 1.0, "deferred_per_s": 8.0, "background_per_s": 1.0,
                       "ledger_ms": 0, "trend": {"usual_per_s": 1.0, "spread_per_s": 0.5, "score": 16.0, "basis": "last_hours"}},
            "messages_per_s": 0.0, "messages_trend": null, "processors": 0.1, "resident_bytes": 1,
            "sessions_front": 3, "sessions_wake": 4,
        }))
        .unwrap();
        let mut view = TrafficView {
            node: "up".into(),
            step_ms: 1_000,
            samples: vec![sample],
            happenings: vec![],
            now_ms: 11_000,
        };
        let expected = "\
up: GUARD, 3 sessions in front, 4 behind
 class  offered/s  served  deferred  refused  waiting  p50     p99  offered over the span
 C0     2.0        2.0     0.0       0.0      0        0.8 ms  -    █
logins 9.0/s, usually 1.0/s (score 16.0; beyond 4 it is called unusual)";
        assert_eq!(sentences(&view), expected);
        view.now_ms = 20_000;
        assert!(sentences(&view).contains("STALE: 10 s old"));
        view.samples.clear();
        assert!(sentences(&view).contains("nothing is known yet"));
    }
}
