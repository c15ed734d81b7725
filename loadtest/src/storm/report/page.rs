//! The page: one file that needs nothing else, readable without its script, for one run or for several side by side.

mod about;
mod figures;
mod side_by_side;
mod top;

use super::charts::{latency, refusals, resources, split};
use super::compare;
use super::escape::text;
use super::timeline::Timeline;
use crate::storm::result::Run;
use crate::storm::tally::Stream;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The hatching of what was turned away: to be told from the rest without colour.
const PATTERNS: &str = "<svg width=\"0\" height=\"0\" style=\"position:absolute\" aria-hidden=\"true\"><defs><pattern id=\"away\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><line class=\"hatch\" x1=\"1\" x2=\"1\" y1=\"0\" y2=\"6\"/></pattern></defs></svg>";

/// Height of the latencies that matter, and of the others.
const TALL: f64 = 190.0;
const LOW: f64 = 120.0;

/// The whole page. The first run is the one that it is about.
pub fn page(runs: &[Run]) -> String {
    let Some((first, others)) = runs.split_first() else {
        return framed("No run", "<h1>No run</h1><p>There is nothing to report.</p>");
    };
    let mut body = top::verdict(first, runs);
    body += &sections(first);
    if !others.is_empty() {
        body += &side_by_side::section(runs);
        body += &others.iter().map(folded).collect::<String>();
    }
    body += &about::section(first);
    framed(&format!("{} – {}", first.plan.title, compare::outcomes(runs)), &body)
}

/// Everything that is drawn of one run.
fn sections(run: &Run) -> String {
    let timeline = Timeline::new(run);
    if run.seconds.is_empty() {
        return "<section><h2>Over time</h2><p class=\"absent\">Not measured: the run ended before its first second was over.</p></section>".to_owned() + &figures::checks(run);
    }
    [
        section("Who was served", &split::chart(run, &timeline)),
        section("What people in conversations saw", &latency::chart(run, &timeline, Stream::Talk, TALL)),
        others_latency(run, &timeline),
        section("Turned away", &turned_away(run)),
        section("What it took", &resources::charts(run, &timeline)),
        figures::checks(run),
        section("Every kind of traffic, by phase", &figures::streams(run)),
    ]
    .concat()
}

fn section(title: &str, body: &str) -> String {
    format!("<section><h2>{}</h2>{body}</section>", text(title))
}

fn others_latency(run: &Run, timeline: &Timeline) -> String {
    let others =
        Stream::ALL.into_iter().filter(|stream| *stream != Stream::Talk && run.streams.contains_key(stream));
    let charts: String = others.map(|stream| latency::chart(run, timeline, stream, LOW)).collect();
    if charts.is_empty() { String::new() } else { section("What everybody else saw", &charts) }
}

fn turned_away(run: &Run) -> String {
    format!(
        "<div class=\"pair\"><div class=\"box\"><h3>Why</h3>{}</div><div class=\"box\"><h3>Slots: promised and kept</h3>{}</div></div>",
        refusals::reasons(run),
        refusals::slots(run)
    )
}

/// A run beside the first: all of it, when somebody asks.
fn folded(run: &Run) -> String {
    format!(
        "<details><summary>All charts of policy {}</summary>{}{}</details>",
        text(&run.summary.policy),
        top::summary(run),
        sections(run)
    )
}

fn framed(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>{}</title><style>{STYLE}</style></head><body>{PATTERNS}<main>{body}</main><script>{SCRIPT}</script></body></html>\n",
        text(title)
    )
}
