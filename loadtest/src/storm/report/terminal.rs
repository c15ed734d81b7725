//! The verdict of one run, and how it stands to an earlier one, for a terminal.

use super::escape::line;
use super::figure::{ALL, Better, Figure, Judgement};
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
    let rss = summary.rss_mib;
    let rows = [
        ["", "quiet", "storm", "after"].map(str::to_owned),
        row("p99 of conversations", [p99.quiet, p99.storm, p99.after], ms),
        row("memory of the server (before, peak, after)", [rss.before, rss.peak, rss.after], words::mib),
    ];
    let rows: Vec<Vec<String>> = rows.into_iter().map(Vec::from).collect();
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
    let lateness = or_not(summary.driver_lateness_p99_ms, ms);
    texts.push(format!("the driver itself was late by {lateness} (p99)"));
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

/// How a run stands to an earlier one: each figure before and now, and what is worse than chance explains.
pub fn baseline(current: &Run, previous: &Run, ink: Ink) -> String {
    let head = ["", "before", "now", "change", ""].map(str::to_owned).to_vec();
    let compared: Vec<(Vec<String>, Judgement)> =
        ALL.iter().filter_map(|figure| change(figure, previous, current)).collect();
    let worse = compared.iter().filter(|(_, judgement)| *judgement == Judgement::Worse).count();
    let rows: Vec<Vec<String>> =
        std::iter::once(head).chain(compared.iter().map(|(row, _)| row.clone())).collect();
    let mut lines = vec![format!(
        "Against {} of {} (version {}): {}",
        line(&previous.summary.scenario),
        line(&previous.origin.began),
        line(&previous.origin.version),
        match worse {
            0 => "nothing is worse.".to_owned(),
            1 => "1 figure is worse.".to_owned(),
            _ => format!("{worse} figures are worse."),
        }
    )];
    lines.extend(unlike(current, previous));
    let judgements = std::iter::once(None).chain(compared.iter().map(|(_, judgement)| Some(*judgement)));
    lines.extend(aligned(&rows).into_iter().zip(judgements).map(|(text, judgement)| {
        let text = format!("  {text}");
        match judgement {
            None => ink.paint(Tone::Quiet, &text),
            Some(Judgement::Worse) => ink.paint(Tone::Bad, &text),
            Some(Judgement::Better) => ink.paint(Tone::Good, &text),
            Some(Judgement::Same) => text,
        }
    }));
    lines.join("\n") + "\n"
}

/// Why two runs should not be held against each other.
fn unlike(current: &Run, previous: &Run) -> Option<String> {
    let (now, then) = (&current.summary, &previous.summary);
    let differs = [
        ("scenario", now.scenario != then.scenario),
        ("policy", now.policy != then.policy),
        ("scale", current.scale != previous.scale),
        ("machine", current.origin.machine != previous.origin.machine),
        ("validity", !now.valid || !then.valid),
    ];
    let names: Vec<String> =
        differs.iter().filter(|(_, differs)| *differs).map(|(name, _)| (*name).to_owned()).collect();
    (!names.is_empty()).then(|| format!("  Careful: the two are not alike in {}.", words::list(&names)))
}

fn change(figure: &Figure, previous: &Run, current: &Run) -> Option<(Vec<String>, Judgement)> {
    let (before, now) = (figure.of(previous), figure.of(current));
    let write = |value: Option<f64>| or_not(value, |value| figure.write(value));
    let (moved, judgement) = match (before, now) {
        (None, None) => return None,
        (Some(before), Some(now)) => (moved(before, now), figure.judge(before, now)),
        (Some(_), None) if figure.better != Better::Neither => ("–".to_owned(), Judgement::Worse),
        _ => ("–".to_owned(), Judgement::Same),
    };
    let word = match judgement {
        Judgement::Same => "",
        Judgement::Better => "▲ better",
        Judgement::Worse => "▼ worse",
    };
    Some((vec![figure.title.to_owned(), write(before), write(now), moved, word.to_owned()], judgement))
}

/// From here on a change is told as a factor.
const TOLD_AS_FACTOR: f64 = 10.0;

fn moved(before: f64, now: f64) -> String {
    if now == before {
        return "=".to_owned();
    }
    let sign = if now > before { "+" } else { "-" };
    let by = (now - before).abs();
    if before == 0.0 {
        format!("{sign}{}", digits(by, 3))
    } else if now / before >= TOLD_AS_FACTOR {
        format!("x {}", digits(now / before, 3))
    } else {
        format!("{sign}{} %", digits(by / before.abs() * 100.0, 3))
    }
}
