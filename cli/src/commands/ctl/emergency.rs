//! `ctl emergency`: orders the posture, for a reason and for a time.
//!
//! What is missing on the command line is said before anybody is asked. The server records the order first; what it answers
//! says on how many nodes it holds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::admin_client::AdminArgs;
use crate::confirm;
use crate::failure::{Exit, Failure};
use crate::output::{Output, printable};
use crate::time_text::rfc3339;

use super::author;
use super::text::{self, grid};

/// Arguments of `ctl emergency`.
#[derive(Debug, Args)]
pub struct EmergencyArgs {
    /// What is to hold
    state: State,
    /// Why; everybody who looks sees it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// For how long, at most 7 days: 30s, 10m, 2h
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// When it begins, in UTC: "2026-12-31 23:50:00" [default: now]
    #[arg(long, value_name = "TIME", value_parser = begin)]
    at: Option<SystemTime>,
    /// Who orders it [default: the user who runs this]
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
    /// Only say what would be refused, going by the last second
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    /// EMERGENCY, whatever is measured
    On,
    /// NORMAL, whatever is measured
    Off,
    /// What is measured; ends every earlier order, and needs no --for
    Auto,
}

impl State {
    fn kind(self) -> &'static str {
        match self {
            Self::On => "emergency",
            Self::Off => "normal",
            Self::Auto => "automatic",
        }
    }

    /// As it is written on the command line.
    fn word(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Auto => "auto",
        }
    }

    /// What it does, for the person who is about to do it.
    fn meaning(self) -> &'static str {
        match self {
            Self::On => "EMERGENCY on all nodes: background waits, conversations go on.",
            Self::Off => "NORMAL on all nodes, whatever is measured: nothing is held back.",
            Self::Auto => "What is measured holds again on all nodes; earlier orders end.",
        }
    }
}

fn begin(text: &str) -> Result<SystemTime, String> {
    humantime::parse_rfc3339_weak(text).map_err(|e| format!("{e}: write it as \"2026-12-31 23:50:00\""))
}

/// Runs it.
pub async fn run(args: &EmergencyArgs, output: Output) -> Result<(), Failure> {
    let wanted = wanted(args, author::of_this_process())?;
    let client = args.admin.client()?;
    if !(args.dry_run || args.yes) {
        confirm::typed(args.state.meaning(), args.state.word())?;
    }
    let mut result = client.run("/v1/orders", &wanted, |_| ()).await.map_err(refused)?;
    text::say_expiry(result.get_mut("order"));
    if let Some(why) = result.get("not_kept").and_then(Value::as_str) {
        output.talk(&format!(
            "the order holds, but does not survive a restart of this node: {}",
            printable(why)
        ));
    }
    output.result(&result, || if args.dry_run { would(&result) } else { given(&result) })
}

/// The order as the server is told.
fn wanted(args: &EmergencyArgs, user: Option<String>) -> Result<Value, Failure> {
    let Some(reason) = args.reason.as_deref().filter(|reason| !reason.trim().is_empty()) else {
        return Err(Failure::usage("an order needs a reason: write --reason \"what is going on\""));
    };
    let Some(author) = args.author.clone().or(user) else {
        return Err(Failure::usage(
            "an order needs an author, and this system does not say who you are: write --author NAME",
        ));
    };
    let duration_ms = args.duration.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
    match (args.state, duration_ms) {
        (State::Auto, Some(_)) => {
            return Err(Failure::usage(
                "auto ends every earlier order and has no end of its own: leave --for out",
            ));
        }
        (State::On | State::Off, None | Some(0)) => {
            return Err(Failure::usage(
                "an order always ends: write --for TIME, for example --for 30m (at most 7 days)",
            ));
        }
        _ => {}
    }
    let from_ms = args.at.map(|at| {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    });
    Ok(json!({
        "kind": args.state.kind(), "reason": reason, "author": author,
        "from_ms": from_ms, "duration_ms": duration_ms, "dry_run": args.dry_run,
    }))
}

/// An order that is none is a mistake on the command line.
fn refused(failure: Failure) -> Failure {
    let exit = if failure.code.starts_with("order_") { Some(Exit::Usage) } else { failure.exit };
    Failure { exit, ..failure }
}

fn given(result: &Value) -> String {
    let order = result.get("order").unwrap_or(&Value::Null);
    let number = |name: &str| order.get(name).and_then(Value::as_u64).unwrap_or(0);
    let what = match text::string(order, "kind") {
        "automatic" => "what is measured holds again; earlier orders are over".to_owned(),
        kind => format!("{} is ordered until {}", text::shout(kind), rfc3339(number("until_ms"))),
    };
    let reach = match result.get("effective").filter(|effective| !effective.is_null()) {
        Some(effective) => text::effective(effective),
        None => format!("it begins at {}", rfc3339(number("from_ms"))),
    };
    format!("{what}\n{reach}")
}

fn would(result: &Value) -> String {
    let then = text::shout(text::string(result, "posture_then"));
    let now = text::shout(text::string(result, "posture_now"));
    let Some(rows) = result.get("refuse").and_then(Value::as_array) else {
        return "nothing was done; this role refuses nothing itself: ask a session manager or the `up` process"
            .to_owned();
    };
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let names = ["protocol", "class", "offered", "refused_now", "refused_then"];
            names.map(|name| text::cell(row.get(name))).to_vec()
        })
        .collect();
    if rows.is_empty() {
        return "nothing was done; nothing was asked for in the last second".to_owned();
    }
    let header =
        ["protocol", "class", "asked/s", &format!("refused in {now}"), &format!("refused in {then}")];
    format!("nothing was done; of the last second's requests:\n{}", grid(&header, rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: EmergencyArgs,
    }

    fn said(line: &[&str], user: Option<&str>) -> Result<Value, String> {
        let line = Line::try_parse_from(std::iter::once("emergency").chain(line.iter().copied()));
        wanted(&line.map_err(|e| e.to_string())?.args, user.map(str::to_owned)).map_err(|f| f.message)
    }

    #[test]
    fn what_is_missing_is_said_with_what_to_write() {
        for (line, what) in [
            (&["on", "--for", "30s"][..], "--reason"),
            (&["on", "--for", "30s", "--reason", " "], "--reason"),
            (&["on", "--reason", "drill"], "--for 30m"),
            (&["off", "--reason", "drill", "--for", "0s"], "--for 30m"),
            (&["auto", "--reason", "over", "--for", "1h"], "leave --for out"),
            (&["maybe", "--reason", "drill"], "on, off, auto"),
            (&["on", "--reason", "drill", "--for", "long"], "--for"),
            (&["on", "--reason", "drill", "--for", "1h", "--at", "tomorrow"], "--at"),
        ] {
            let error = said(line, Some("kim")).unwrap_err();
            assert!(error.contains(what), "{line:?}: {error}");
        }
        let error = said(&["on", "--reason", "drill", "--for", "1h"], None).unwrap_err();
        assert!(error.contains("--author"), "{error}");
    }

    #[test]
    fn an_order_is_told_in_milliseconds() {
        let line = ["on", "--reason", "new year", "--for", "2h", "--at", "2026-12-31 23:50:00"];
        let expected = json!({
            "kind": "emergency", "reason": "new year", "author": "kim", "from_ms": 1_798_761_000_000u64,
            "duration_ms": 7_200_000, "dry_run": false,
        });
        assert_eq!(said(&line, Some("kim")).unwrap(), expected);
        let automatic = said(&["auto", "--reason", "over", "--author", "lee"], Some("kim")).unwrap();
        assert_eq!((&automatic["author"], &automatic["duration_ms"]), (&json!("lee"), &Value::Null));
    }
}
