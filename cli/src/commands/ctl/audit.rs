//! `ctl audit`: what operators have done, and whether anybody has touched the record of it.
//!
//! A running server is asked; of one that does not run the files of the data folder are read, so that the record can be seen
//! when everything is down.

use std::path::Path;

use buslane_chassis::audit::{self, Report};
use clap::Args;
use serde_json::{Value, json};

use crate::admin_client::AdminArgs;
use crate::failure::{Exit, Failure};
use crate::folder;
use crate::output::{Output, printable};
use crate::time_text::rfc3339;

use super::{changes, text};
use crate::reload::CONFIG_RELOAD;

/// Arguments of `ctl audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Only say whether the chain holds
    #[arg(long)]
    verify: bool,
    /// How many entries, the last ones
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1000))]
    last: u64,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs it.
pub async fn run(args: &AuditArgs, output: Output) -> Result<(), Failure> {
    let count = if args.verify { 0 } else { args.last };
    let said = match args.admin.answering().await? {
        Some(client) => client.get(&format!("/v1/audit?limit={count}")).await?,
        None => read(&args.admin.data()?, count)?,
    };
    let report = said.get("report").cloned().unwrap_or_default();
    if args.verify {
        output.result(&report, || verdict(&report))?;
    } else {
        output.result(&said, || listing(&said))?;
    }
    match first_damage(&report) {
        None => Ok(()),
        Some(where_) => Err(Failure::new(
            Exit::Refused,
            "audit_damaged",
            format!("the audit is damaged, first at {where_}"),
        )),
    }
}

fn read(data: &Path, count: u64) -> Result<Value, Failure> {
    let failed = |e: audit::AuditError| Failure::new(Exit::Data, "data_unreadable", e.to_string());
    if !data.is_dir() {
        return Err(folder::unreadable(data, &std::io::ErrorKind::NotFound.into()));
    }
    let entries = audit::last(data, usize::try_from(count).unwrap_or(usize::MAX)).map_err(failed)?;
    let report: Report = audit::verify(data).map_err(failed)?;
    Ok(json!({"entries": entries, "report": report}))
}

fn first_damage(report: &Value) -> Option<String> {
    let first = report.get("damage").and_then(Value::as_array)?.first()?;
    let place = |name| text::cell(first.get(name));
    Some(format!("{} line {}: {}", place("file"), place("line"), place("what")))
}

fn listing(said: &Value) -> String {
    let mut lines = Vec::new();
    for entry in said.get("entries").and_then(Value::as_array).into_iter().flatten() {
        let word = |name: &str| printable(text::string(entry, name)).into_owned();
        let at = rfc3339(entry.get("at_ms").and_then(Value::as_u64).unwrap_or(0));
        let no = text::cell(entry.get("no"));
        let mut line = format!("{no:>5}  {at}  {}  {}  {}", word("author"), word("action"), word("reason"));
        if text::string(entry, "action") == CONFIG_RELOAD {
            let side = |name| entry.get(name).unwrap_or(&Value::Null);
            line += &format!(": {}", changes::between(side("before"), side("after")));
        }
        lines.push(line);
    }
    lines.push(verdict(said.get("report").unwrap_or(&Value::Null)));
    lines.join("\n")
}

fn verdict(report: &Value) -> String {
    let number = |name| text::cell(report.get(name));
    let count = report.get("entries").and_then(Value::as_u64).unwrap_or(0);
    let span = if count == 0 {
        "no entries".to_owned()
    } else {
        format!("entries {} to {}", number("first"), number("last"))
    };
    let damage = report.get("damage").and_then(Value::as_array).map_or(0, Vec::len);
    if damage == 0 {
        format!("chain verified: {span}")
    } else {
        let places = if damage == 1 { "place" } else { "places" };
        format!("CHAIN BROKEN: {span}, damaged in {damage} {places}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use buslane_chassis::audit::Damage;

    #[test]
    fn damage_is_named_with_its_line() {
        let damage = vec![Damage { file: "audit.jsonl".into(), line: 7, what: "it was changed".into() }];
        let report = json!(Report { entries: 9, first: 1, last: 9, damage });
        assert_eq!(first_damage(&report).unwrap(), "audit.jsonl line 7: it was changed");
        assert_eq!(verdict(&report), "CHAIN BROKEN: entries 1 to 9, damaged in 1 place");
        assert_eq!(verdict(&json!(Report::default())), "chain verified: no entries");
    }
}
