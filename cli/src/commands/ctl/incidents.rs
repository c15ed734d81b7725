//! `ctl incidents`: what went wrong, who sees to it, and its story.

use std::path::{Path, PathBuf};
use std::time::Duration;

use buslane_operator::view::{IncidentState, IncidentView};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::author;
use super::status::severity as severity_name;
use super::text::{grid, read};
use crate::admin_client::{AdminArgs, AdminClient};
use crate::failure::{Exit, Failure};
use crate::output::{Output, print_line, printable};
use crate::time_text::{rfc3339, span};

const EXAMPLES: &str = "\
Examples:
  buslane ctl incidents                              what is not over
  buslane ctl incidents list --state all
  buslane ctl incidents show 7
  buslane ctl incidents acknowledge 7
  buslane ctl incidents note 7 \"the disk of node 2 is being replaced\"
  buslane ctl incidents silence 7 --for 1h --reason \"known\"
  buslane ctl incidents state 7 resolved --reason \"disk replaced\"
  buslane ctl incidents export 7 --out incident-7.md";

/// Arguments of `ctl incidents`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct IncidentsArgs {
    #[command(subcommand)]
    command: Option<IncidentsCommand>,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Subcommand)]
enum IncidentsCommand {
    /// List them, newest first
    List {
        /// Which of them
        #[arg(long, value_enum, default_value_t = Which::Open)]
        state: Which,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Show one with its timeline
    Show(One),
    /// Open one by hand
    Open {
        /// In a sentence
        title: String,
        /// How bad
        #[arg(long, value_enum)]
        severity: Severity,
        #[command(flatten)]
        why: Why,
    },
    /// Say that you see to it
    Acknowledge(One),
    /// Write something into its timeline
    Note {
        /// Its number
        no: u64,
        /// What
        text: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Tell nobody about it for a time
    Silence {
        /// Its number
        no: u64,
        /// For how long, at most 24 h; 0s ends a silence
        #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
        duration: Duration,
        #[command(flatten)]
        why: Why,
    },
    /// Say where it stands
    State {
        /// Its number
        no: u64,
        /// Where
        #[arg(value_enum)]
        state: Stands,
        #[command(flatten)]
        why: Why,
    },
    /// Say how bad it is
    Severity {
        /// Its number
        no: u64,
        /// How bad
        #[arg(value_enum)]
        severity: Severity,
        #[command(flatten)]
        why: Why,
    },
    /// Write its story as a post-mortem in Markdown
    Export {
        /// Its number
        no: u64,
        /// Where to [default: stdout]; what is there already is not touched
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// One incident.
#[derive(Debug, Args)]
struct One {
    /// Its number
    no: u64,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Why something is done, and to which server it is told.
#[derive(Debug, Args)]
struct Why {
    /// Why; it is written into the audit
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Which {
    /// Those that are not over
    Open,
    /// All that are kept
    All,
    Detected,
    Declared,
    Handling,
    Resolved,
    Reviewed,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Stands {
    Declared,
    Handling,
    Resolved,
    Reviewed,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

/// Its name in the API: that on the command line.
fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Runs it.
pub async fn run(args: IncidentsArgs, output: Output) -> Result<(), Failure> {
    match args.command {
        None => list(&args.admin.client()?, Which::Open, output).await,
        Some(IncidentsCommand::List { state, admin }) => list(&admin.client()?, state, output).await,
        Some(IncidentsCommand::Show(one)) => {
            let result = one.admin.client()?.get(&format!("/v1/incidents/{}", one.no)).await?;
            show(&result, output)
        }
        Some(IncidentsCommand::Export { no, out, admin }) => {
            export(&admin.client()?, no, out.as_deref(), output).await
        }
        Some(change) => {
            let (client, path, body) = request(change)?;
            let result = client.post(&path, &author::sign(body)).await?;
            if let Some(why) = result.get("not_kept").and_then(Value::as_str) {
                output.talk(&format!(
                    "it is so, but would not survive a restart of this node: {}",
                    printable(why)
                ));
            }
            show(&result, output)
        }
    }
}

/// What a change is told as.
fn request(change: IncidentsCommand) -> Result<(AdminClient, String, Value), Failure> {
    let of = |no: u64, what: &str| format!("/v1/incidents/{no}/{what}");
    let (admin, path, body) = match change {
        IncidentsCommand::Open { title, severity, why } => {
            let body = json!({"title": title, "severity": name(severity), "reason": why.reason});
            (why.admin, "/v1/incidents".to_owned(), body)
        }
        IncidentsCommand::Acknowledge(one) => (one.admin, of(one.no, "acknowledge"), json!({})),
        IncidentsCommand::Note { no, text, admin } => (admin, of(no, "note"), json!({"text": text})),
        IncidentsCommand::Silence { no, duration, why } => {
            let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
            (why.admin, of(no, "silence"), json!({"duration_ms": duration_ms, "reason": why.reason}))
        }
        IncidentsCommand::State { no, state, why } => {
            (why.admin, of(no, "state"), json!({"state": name(state), "reason": why.reason}))
        }
        IncidentsCommand::Severity { no, severity, why } => {
            (why.admin, of(no, "severity"), json!({"severity": name(severity), "reason": why.reason}))
        }
        IncidentsCommand::List { .. } | IncidentsCommand::Show(_) | IncidentsCommand::Export { .. } => {
            return Err(Failure::usage("this changes nothing"));
        }
    };
    Ok((admin.client()?, path, body))
}

async fn list(client: &AdminClient, which: Which, output: Output) -> Result<(), Failure> {
    let query = match which {
        Which::All => String::new(),
        which => format!("?state={}", name(which)),
    };
    let result = client.get(&format!("/v1/incidents{query}")).await?;
    let incidents: Vec<IncidentView> = read(&result)?;
    output.result(&result, || match incidents.as_slice() {
        [] => "no incident".to_owned(),
        some => {
            let header = ["no", "severity", "grade", "state", "opened", "seen to by", "title"];
            grid(&header, some.iter().map(row).collect())
        }
    })
}

fn row(incident: &IncidentView) -> Vec<String> {
    vec![
        incident.no.to_string(),
        severity_name(incident.severity).to_owned(),
        incident.grade.to_string(),
        standing(incident),
        rfc3339(incident.opened_ms),
        printable(incident.acknowledged_by.as_deref().unwrap_or("-")).into_owned(),
        printable(&incident.title).into_owned(),
    ]
}

/// One that is open for a moment yet, although its cause is gone, says so.
fn standing(incident: &IncidentView) -> String {
    let is_gone = incident.recovered_ms.is_some() && incident.resolved_ms.is_none();
    format!("{}{}", state(incident.state), if is_gone { ", its cause is gone" } else { "" })
}

fn state(state: IncidentState) -> &'static str {
    match state {
        IncidentState::Detected => "detected",
        IncidentState::Declared => "declared",
        IncidentState::Handling => "handling",
        IncidentState::Resolved => "resolved",
        IncidentState::Reviewed => "reviewed",
    }
}

fn show(result: &Value, output: Output) -> Result<(), Failure> {
    let incident: IncidentView = read(result)?;
    output.result(result, || story(&incident))
}

fn story(incident: &IncidentView) -> String {
    let mut lines = vec![format!(
        "{} {}  ({}, grade {}, {})",
        incident.no,
        printable(&incident.title),
        severity_name(incident.severity),
        incident.grade,
        standing(incident)
    )];
    lines.push(format!("  opened    {} by {}", rfc3339(incident.opened_ms), printable(&incident.opened_by)));
    let mut more = |what: &str, said: Option<String>| {
        lines.extend(said.map(|said| format!("  {what:<9} {}", printable(&said))));
    };
    more("seen to", incident.acknowledged_by.as_ref().map(|who| format!("by {who}")));
    more(
        "expected",
        incident.recovered_ms.is_none().then(|| format!("over by {}", rfc3339(incident.expected_ms))),
    );
    more(
        "told by",
        incident.told_by.as_ref().map(|by| format!("{}: it is incident {} there", by.node, by.no)),
    );
    more("silent", incident.silenced_until_ms.map(|until| format!("until {}", rfc3339(until))));
    let lasted = |ms: u64| format!("{}, after {}", rfc3339(ms), span(ms.saturating_sub(incident.opened_ms)));
    more("recovered", incident.recovered_ms.map(lasted));
    more("resolved", incident.resolved_ms.map(lasted));
    let entry = |entry: &buslane_operator::view::Entry| {
        let (author, text) = (printable(&entry.author), printable(&entry.text));
        format!("{}  {:<12} {author}: {text}", rfc3339(entry.at_ms), printable(&entry.kind))
    };
    lines.extend(incident.timeline.iter().map(entry));
    lines.join("\n")
}

async fn export(client: &AdminClient, no: u64, out: Option<&Path>, output: Output) -> Result<(), Failure> {
    let text = client.text(&format!("/v1/incidents/{no}/export")).await?;
    let Some(path) = out else {
        if output.json {
            return output.result(&json!({"no": no, "markdown": text}), String::new);
        }
        // Markdown has lines; whatever else would steer a terminal is shown.
        return text.lines().try_for_each(|line| print_line(&printable(line)));
    };
    let written = std::fs::File::create_new(path).and_then(|mut file| io_write(&mut file, &text));
    written.map_err(|e| {
        Failure::new(
            Exit::Data,
            "not_written",
            format!("cannot write {}: {e}; choose another --out", path.display()),
        )
    })?;
    output.result(&json!({"no": no, "file": path}), || format!("written to {}", path.display()))
}

fn io_write(file: &mut std::fs::File, text: &str) -> std::io::Result<()> {
    std::io::Write::write_all(file, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_is_told_in_order_and_hostile_text_is_shown() {
        let incident: IncidentView = read(&json!({
            "no": 7, "title": "The store is down", "key": "store/down", "opened_by": "buslane", "severity": "critical",
            "grade": 1, "state": "handling", "opened_ms": 0, "recovered_ms": 60_000, "resolved_ms": null,
            "expected_ms": 600_000, "acknowledged_by": "kim", "silenced_until_ms": null, "entries": 1, "told_by": {"node": "sm1", "no": 12},
            "timeline": [{"at_ms": 1_000, "author": "kim", "kind": "note", "text": "look\u{1b}[2J"}],
        }))
        .unwrap();
        let expected = "\
7 The store is down  (critical, grade 1, handling, its cause is gone)
  opened    1970-01-01T00:00:00Z by buslane
  seen to   by kim
  told by   sm1: it is incident 12 there
  recovered 1970-01-01T00:01:00Z, after 60 s
1970-01-01T00:00:01Z  note         kim: look\\u{1b}[2J";
        assert_eq!(story(&incident), expected);
    }

    #[test]
    fn names_on_the_command_line_are_those_of_the_api() {
        assert_eq!([name(Severity::Critical), name(Stands::Handling)], ["critical", "handling"]);
    }
}
