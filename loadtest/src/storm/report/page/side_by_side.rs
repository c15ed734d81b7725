//! Several runs of the same storm: small charts with the same axes, and a table of figures.

use super::top;
use crate::storm::report::axis::Scale;
use crate::storm::report::charts::latency::{self, Frame, Latency};
use crate::storm::report::charts::split::{self, Split};
use crate::storm::report::charts::{Chart, Key, legend};
use crate::storm::report::compare;
use crate::storm::report::escape::text;
use crate::storm::report::plot::Size;
use crate::storm::report::terminal::badge;
use crate::storm::report::timeline::Timeline;
use crate::storm::result::Run;
use crate::storm::tally::Stream;

/// What all small charts have in common.
struct Shared {
    span_s: (f64, f64),
    most: f64,
    latencies: Scale,
}

/// The section.
pub fn section(runs: &[Run]) -> String {
    let shared = Shared::of(runs);
    let columns: String = runs.iter().map(|run| column(run, &shared)).collect();
    format!(
        "<section id=\"side-by-side\"><h2>Side by side</h2><p>{}</p>{}<div class=\"multiples\">{columns}</div>{}</section>",
        text(&compare::sentence(runs)),
        legend(&[split::keys(), latency::keys(None), vec![Key::new("l-quiet", "quiet p99")]].concat()),
        table(runs)
    )
}

impl Shared {
    fn of(runs: &[Run]) -> Self {
        let lines: Vec<Timeline> = runs.iter().map(Timeline::new).collect();
        let from_s = lines.iter().map(|line| line.from_s).fold(f64::INFINITY, f64::min);
        let to_s = lines.iter().map(|line| line.to_s).fold(from_s + 1.0, f64::max);
        let latencies: Vec<f64> = lines
            .iter()
            .flat_map(|line| Latency::of(line, Stream::Talk).values().collect::<Vec<_>>())
            .collect();
        Self {
            span_s: (from_s, to_s),
            most: lines.iter().map(|line| Split::of(line).most()).fold(0.0, f64::max),
            latencies: Scale::log(latencies.into_iter()),
        }
    }
}

fn column(run: &Run, shared: &Shared) -> String {
    let timeline = Timeline::new(run).within(shared.span_s);
    let (sign, word, tone) = badge(run.summary.verdict);
    let split = Split::of(&timeline);
    let served = Chart {
        title: "Offered and served, a second",
        note: "",
        keys: Vec::new(),
        readings: split::small_readings(&split),
    };
    let latency = Latency::of(&timeline, Stream::Talk);
    let quiet = latency::quiet_p99_ms(run, Stream::Talk);
    let frame =
        Frame { size: Size::Narrow, height: 130.0, span_s: shared.span_s, scale: shared.latencies, quiet };
    let seen =
        Chart { title: "Latency of conversations", note: "", keys: Vec::new(), readings: latency.readings() };
    format!(
        "<div><h3>{} <span class=\"{}\">{sign} {word}</span></h3>{}{}</div>",
        text(&run.summary.policy),
        top::class(tone),
        served.figure(&timeline, &split::small(run, &split, shared.span_s, shared.most)),
        seen.figure(&timeline, &latency::drawn(run, &latency, frame)),
    )
}

fn table(runs: &[Run]) -> String {
    let heads: String =
        runs.iter().map(|run| format!("<th class=\"n\">{}</th>", text(&run.summary.policy))).collect();
    let verdicts: String = runs
        .iter()
        .map(|run| {
            let (sign, word, tone) = badge(run.summary.verdict);
            format!("<td class=\"n state {}\">{sign} {word}</td>", top::class(tone))
        })
        .collect();
    let rows: String = compare::rows(runs).iter().map(row).collect();
    format!(
        "<div class=\"box scroll\"><table><thead><tr><th></th>{heads}</tr></thead><tbody><tr><td>verdict</td>{verdicts}</tr>{rows}</tbody></table><p class=\"note\">★ the best of the valid runs. Where all are alike, none is marked.</p></div>"
    )
}

fn row(row: &compare::Row) -> String {
    let cells = row.cells.iter().map(|(value, best)| {
        if *best {
            format!("<td class=\"n best\">★ {}</td>", text(value))
        } else {
            format!("<td class=\"n\">{}</td>", text(value))
        }
    });
    format!("<tr><td>{}</td>{}</tr>", row.figure.title, cells.collect::<String>())
}
