//! An incident as a post-mortem in Markdown: what is known is filled in, what only people know is asked.
//!
//! Why it exists: nobody begins with an empty page. Every text in it may come from outside, so all of it is escaped: it must
//! never become markup, a link, a heading or a cell of the table.

use std::collections::BTreeMap;
use std::fmt::Write;

use buslane_shared::UnixMs;

use super::machine;
use super::rules::severity_name;
use super::timeline::SELF;
use super::words::{span, utc, with_why};
use crate::view::{Entry, IncidentView};

/// What the people who were there are asked.
const QUESTIONS: [&str; 6] = [
    "How many users noticed, and how?",
    "What was the cause, and what set it off?",
    "Why was it found when it was found, and not earlier?",
    "What helped, and what made it worse?",
    "Where were we lucky?",
    "What is done so that it does not happen again: by whom, until when?",
];

/// The report.
pub(super) fn markdown(incident: &IncidentView, node: &str, now_ms: UnixMs) -> String {
    let mut out = String::new();
    heading(&mut out, incident, node, now_ms);
    happened(&mut out, incident);
    impact(&mut out, incident);
    changes(&mut out, incident);
    timeline(&mut out, incident);
    people(&mut out, incident);
    out.push_str("## Open questions\n\n");
    QUESTIONS.iter().for_each(|question| line(&mut out, format_args!("- [ ] {question}")));
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a string does not fail.
    let _ = writeln!(out, "{text}");
}

fn heading(out: &mut String, incident: &IncidentView, node: &str, now_ms: UnixMs) {
    let (no, state) = (incident.no, machine::name(incident.state));
    line(out, format_args!("# Incident {no}: {}\n", plain(&incident.title)));
    line(
        out,
        format_args!("Written by Buslane on {} at {} UTC. All times are in UTC.\n", plain(node), utc(now_ms)),
    );
    let severity = severity_name(incident.severity);
    let at = |at: Option<UnixMs>| at.map_or("not yet".to_owned(), utc);
    let rows = [
        ("Severity", format!("{severity}, grade {}", incident.grade)),
        ("State", state.to_owned()),
        ("About", plain(&incident.key)),
        ("Opened", format!("{} by {}", utc(incident.opened_ms), plain(&incident.opened_by))),
        ("Cause gone", at(incident.recovered_ms)),
        ("Resolved", at(incident.resolved_ms)),
        ("Lasted", lasted(incident, now_ms)),
        ("Seen to by", incident.acknowledged_by.as_deref().map_or("nobody".to_owned(), plain)),
    ];
    out.push_str("| | |\n|---|---|\n");
    rows.iter().for_each(|(what, said)| line(out, format_args!("| {what} | {said} |")));
}

fn lasted(incident: &IncidentView, now_ms: UnixMs) -> String {
    match incident.recovered_ms.or(incident.resolved_ms) {
        Some(end) => span(end.saturating_sub(incident.opened_ms)),
        None => format!("{} so far", span(now_ms.saturating_sub(incident.opened_ms))),
    }
}

fn happened(out: &mut String, incident: &IncidentView) {
    out.push_str("\n## What happened\n\n");
    let opened = utc(incident.opened_ms);
    line(out, format_args!("{opened}: {}\n", plain(&with_why(&incident.title, &incident.why))));
    for entry in of_kind(&incident.timeline, &["posture", "escalated", "state", "order"]) {
        line(out, format_args!("- {}: {}", utc(entry.at_ms), plain(&entry.text)));
    }
    let damaged = of_kind(&incident.timeline, &["damaged"]).count();
    if damaged > 0 {
        line(out, format_args!("\n**{damaged} lines of the record cannot be read: this story has holes.**"));
    }
}

fn impact(out: &mut String, incident: &IncidentView) {
    out.push_str("\n## Impact\n\n");
    if !incident.affects.is_empty() {
        let names: Vec<String> = incident.affects.iter().map(|id| plain(id)).collect();
        line(out, format_args!("Affected: {}.\n", names.join(", ")));
    }
    if !incident.why.is_empty() {
        line(out, format_args!("- {}", plain(&incident.why)));
    }
    for entry in of_kind(&incident.timeline, &["alert"]) {
        line(out, format_args!("- {}: {}", utc(entry.at_ms), plain(&entry.text)));
    }
    out.push_str("\nUsers who noticed: _to be filled in_\n");
}

fn changes(out: &mut String, incident: &IncidentView) {
    out.push_str("\n## What was changed before and meanwhile\n\n");
    let mut found = false;
    for entry in of_kind(&incident.timeline, &["mark", "reload", "process", "order", "drain"]) {
        found = true;
        let author = plain(&entry.author);
        line(out, format_args!("- {} ({author}): {}", utc(entry.at_ms), plain(&entry.text)));
    }
    if !found {
        out.push_str("Nothing that is known here.\n");
    }
}

fn timeline(out: &mut String, incident: &IncidentView) {
    out.push_str("\n## Timeline\n\n| UTC | who | what | |\n|---|---|---|---|\n");
    for Entry { at_ms, author, kind, text } in &incident.timeline {
        line(
            out,
            format_args!("| {} | {} | {} | {} |", utc(*at_ms), plain(author), plain(kind), plain(text)),
        );
    }
}

fn people(out: &mut String, incident: &IncidentView) {
    out.push_str("\n## Who did what\n\n");
    let mut by_author: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in incident.timeline.iter().filter(|entry| entry.author != SELF) {
        by_author.entry(&entry.author).or_default().push(entry);
    }
    if by_author.is_empty() {
        out.push_str("Nobody did anything that is known here.\n");
    }
    for (author, entries) in by_author {
        line(out, format_args!("- {}", plain(author)));
        for entry in entries {
            line(out, format_args!("  - {}: {}", utc(entry.at_ms), plain(&entry.text)));
        }
    }
    out.push('\n');
}

fn of_kind<'a>(timeline: &'a [Entry], kinds: &'a [&str]) -> impl Iterator<Item = &'a Entry> {
    timeline.iter().filter(|entry| kinds.contains(&entry.kind.as_str()))
}

/// Text that is shown as it is, wherever it stands in the report.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut is_start = true;
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // A name behind it would be called, an address would become a link.
            '@' => out.push_str("&#64;"),
            ':' if ends_in(&out, &["http", "https", "ftp", "mailto"]) => out.push_str("&#58;"),
            '.' if ends_in(&out, &["www"]) => out.push_str("&#46;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' => out.extend(['\\', c]),
            // A list or a rule only at the beginning.
            '-' | '+' | '=' if is_start => out.extend(['\\', c]),
            '.' | ')' if starts_a_list(&out) => out.extend(['\\', c]),
            _ if c.is_control() => out.push(' '),
            _ => out.push(c),
        }
        is_start = is_start && c.is_whitespace();
    }
    out
}

fn ends_in(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| {
        let begin = text.len().checked_sub(word.len());
        begin.and_then(|begin| text.get(begin..)).is_some_and(|end| end.eq_ignore_ascii_case(word))
    })
}

/// Whether only a number stands there so far.
fn starts_a_list(before: &str) -> bool {
    let number = before.trim_start();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests;
