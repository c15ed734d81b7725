//! The verdict of one run for a terminal.

use super::escape::line;
use super::sentence;
use super::table::{Ink, Tone, WIDTH, aligned, wrapped};
use super::words::{self, count, digits, ms, or_not, percent};
use crate::storm::result::{Check, Run, Summary, Verdict};

/// The verdict, why, the figures by phase and the checks.
pub fn terminal(run: &Run, ink: Ink) -> String {
    let mut lines = vec![headline(run, ink)];
    lines.extend(indented(&sentence::verdict(run)));
    for reason in &run.summary.invalid_because {
        lines.extend(indented(&format!("Not valid: {reason}.")));
    }
    lines.push(String::new());
    lines.extend(figures(&run.summary, ink));
    if !run.summary.checks.is_empty() {
        lines.push(String::new());
        lines.extend(checks(&run.summary.checks, ink));
    }
    lines.join("\n") + "\n"
}

/// Sign and word of a verdict.
pub fn badge(verdict: Verdict) -> (&'static str, &'static str, Tone) {
    match verdict {
        Verdict::Pass => ("✓", "PASS", Tone::Good),
        Verdict::Fail => ("✗", "FAIL", Tone::Bad),
        Verdict::Invalid => ("?", "NOT VALID", Tone::Doubtful),
    }
}

fn headline(run: &Run, ink: Ink) -> String {
    let summary = &run.summary;
    let (sign, word, tone) = badge(summary.verdict);
    let what = format!("{} · policy {} · seed {}", summary.scenario, summary.policy, summary.seed);
    format!("{}  {}", ink.paint(tone, &format!("{sign} {word}")), ink.paint(Tone::Strong, &line(&what)))
}

fn indented(text: &str) -> Vec<String> {
    wrapped(&line(text), WIDTH - 4).into_iter().map(|line| format!("  {line}")).collect()
}

fn figures(summary: &Summary, ink: Ink) -> Vec<String> {
    let p99 = summary.fg_p99_ms;
    let late = summary.driver_lateness_ms;
    let rss = summary.rss_mib;
    let rows = [
        ["", "quiet", "storm", "after"].map(str::to_owned),
        row("p99 of conversations", [p99.quiet, p99.storm, p99.after], ms),
        row("the driver's own delay (p99)", [late.quiet, late.storm, late.after], ms),
        row("memory of the server (before, peak, after)", [rss.before, rss.peak, rss.after], words::mib),
    ];
    let stolen = summary.stolen;
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    let is_told = stolen.quiet.or(stolen.storm).is_some();
    let stolen = is_told
        .then(|| row("processors taken by the host", [stolen.quiet, stolen.storm, stolen.after], percent));
    let rows: Vec<Vec<String>> = rows.into_iter().chain(stolen).map(Vec::from).collect();
    let mut lines: Vec<String> = aligned(&rows).into_iter().map(|line| format!("  {line}")).collect();
    if let Some(first) = lines.first_mut() {
        *first = ink.paint(Tone::Quiet, first);
    }
    lines.push(String::new());
    lines.extend(others(summary).into_iter().flat_map(|text| indented(&text)));
    lines
}

fn row(name: &str, by_phase: [Option<f64>; 3], format: impl Fn(f64) -> String) -> [String; 4] {
    let [quiet, storm, after] = by_phase.map(|value| value.map_or_else(|| "–".to_owned(), &format));
    [name.to_owned(), quiet, storm, after]
}

fn others(summary: &Summary) -> Vec<String> {
    let mut texts = Vec::new();
    let logins = &summary.logins;
    if let Some(offered) = logins.offered_per_s {
        let done = or_not(logins.done_per_s, |done| format!("{}/s while clients waited", count(done)));
        let possible = logins
            .done_of_possible
            .map_or_else(String::new, |share| format!(" ({} of what is possible)", percent(share)));
        texts.push(format!("logins: up to {}/s wanted in; let in: {done}{possible}", count(offered)));
    }
    if logins.deferred > 0 {
        texts.push(format!(
            "slots: {} clients were put off, {} slots promised, kept: {}; tries of such a client: {}",
            count(logins.deferred as f64),
            count(logins.slots_promised as f64),
            or_not(logins.slots_kept, percent),
            or_not(logins.attempts_per_deferred, words::three_digits),
        ));
    }
    let enter =
        summary.enter_ms.map_or_else(|| "was not entered".to_owned(), |at| format!("after {}", ms(at)));
    let exit = summary
        .exit_s
        .map_or_else(String::new, |at| format!(", NORMAL {} after the storm", words::seconds(at)));
    texts.push(format!("posture: EMERGENCY {enter}{exit}"));
    if summary.live_sessions_closed > 0 {
        texts.push(format!("live sessions closed by the server: {}", words::closed(summary)));
    }
    texts
}

fn checks(checks: &[Check], ink: Ink) -> Vec<String> {
    let head = ["check", "limit", "found"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(head)
        .chain(checks.iter().map(|check| {
            vec![line(&check.name), line(&check.limit), or_not(check.value, |value| digits(value, 6))]
        }))
        .collect();
    let signs = std::iter::once(None).chain(checks.iter().map(|check| Some(check.pass)));
    let painted = aligned(&rows).into_iter().zip(signs).map(|(text, pass)| match pass {
        None => ink.paint(Tone::Quiet, &format!("    {text}")),
        Some(true) => format!("  {} {text}", ink.paint(Tone::Good, "✓")),
        Some(false) => format!("  {} {}", ink.paint(Tone::Bad, "✗"), ink.paint(Tone::Bad, &text)),
    });
    painted.collect()
}
