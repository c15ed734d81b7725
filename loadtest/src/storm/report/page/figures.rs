//! Tables of the page: what had to hold, and every kind of traffic by phase.

use crate::storm::report::escape::text;
use crate::storm::report::figure::Figure;
use crate::storm::report::words::{NOT_MEASURED, count, digits, or_not, three_digits};
use crate::storm::result::{Check, PhaseFigures, QUANTILES, Run, StreamFigures};
use crate::storm::tally::Stream;
use crate::storm::timing::Phase;

/// What had to hold.
pub fn checks(run: &Run) -> String {
    let checks = &run.summary.checks;
    let body = if checks.is_empty() {
        "<p class=\"absent\">This scenario sets no limits.</p>".to_owned()
    } else {
        format!(
            "<div class=\"box scroll\"><table><thead><tr><th></th><th>figure</th><th class=\"n\">limit</th><th class=\"n\">found</th></tr></thead><tbody>{}</tbody></table></div>",
            checks.iter().map(check).collect::<String>()
        )
    };
    format!("<section><h2>What had to hold</h2>{body}</section>")
}

fn check(check: &Check) -> String {
    let state = if check.pass {
        "<td class=\"state good\">✓ holds</td>"
    } else {
        "<td class=\"state bad\">✗ fails</td>"
    };
    let title = Figure::named(&check.name).map_or_else(String::new, |figure| format!("{} ", figure.title));
    let known = if title.is_empty() { "" } else { "also" };
    format!(
        "<tr>{state}<td>{title}<code class=\"{known}\">{}</code></td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
        text(&check.name),
        text(&check.limit),
        text(&or_not(check.value, |value| digits(value, 6)))
    )
}

/// Every stream in every phase.
pub fn streams(run: &Run) -> String {
    if run.streams.is_empty() {
        return "<p class=\"absent\">Not measured.</p>".to_owned();
    }
    let rows: String = run.streams.iter().map(|(stream, figures)| stream_rows(*stream, figures)).collect();
    let heads: String = QUANTILES
        .iter()
        .filter(|share| is_shown(**share))
        .map(|share| format!("<th class=\"n\">{}</th>", quantile_name(*share)))
        .collect();
    format!(
        "<div class=\"box scroll\"><table><thead><tr><th>traffic</th><th>phase</th><th class=\"n\">offered</th><th class=\"n\">served</th><th class=\"n\">put off</th><th class=\"n\">refused</th><th class=\"n\">no answer</th><th class=\"n\">never served</th>{heads}</tr></thead><tbody>{rows}</tbody></table><p class=\"note\">Latencies in milliseconds. Put off and refused count tries; no answer includes answers that came too late. Who was never served by the end of the run is in no latency; only messages of conversations are, with the time until then.</p></div>"
    )
}

fn is_shown(share: f64) -> bool {
    [0.5, 0.99, 0.999, 1.0].contains(&share)
}

fn quantile_name(share: f64) -> String {
    if share >= 1.0 { "max".to_owned() } else { format!("p{}", digits(share * 100.0, 4)) }
}

fn stream_rows(stream: Stream, figures: &StreamFigures) -> String {
    let titles = std::iter::once(text(stream.title())).chain(std::iter::repeat(String::new()));
    figures.phases.iter().zip(titles).map(|((phase, figures), title)| row(&title, *phase, figures)).collect()
}

fn row(title: &str, phase: Phase, figures: &PhaseFigures) -> String {
    let counts = figures.counts;
    let numbers =
        [counts.offered, counts.done, counts.put_off, counts.refused, counts.failed, counts.never()];
    let numbers = numbers.map(|number| format!("<td class=\"n\">{}</td>", count(number as f64))).concat();
    let latencies: String = QUANTILES
        .iter()
        .enumerate()
        .filter(|(_, share)| is_shown(**share))
        .map(|(place, _)| {
            figures.quantiles_ms.get(place).map_or_else(|| "–".to_owned(), |ms| three_digits(*ms))
        })
        .map(|latency| format!("<td class=\"n\">{latency}</td>"))
        .collect();
    format!("<tr><td>{title}</td><td>{}</td>{numbers}{latencies}</tr>", phase.name())
}

/// A row of facts.
pub fn fact(what: &str, value: &str) -> String {
    let value = if value.is_empty() { NOT_MEASURED } else { value };
    format!("<dt>{}</dt><dd>{}</dd>", text(what), text(value))
}
