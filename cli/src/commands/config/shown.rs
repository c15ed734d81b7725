//! `config print` and `config diff`: settings as they hold, side by side.

use std::collections::BTreeSet;

use serde_json::json;

use crate::admin_client::AdminArgs;
use crate::commands::ctl::text::{grid, read};
use crate::effective::{Effective, Setting};
use crate::failure::{Exit, Failure};
use crate::output::{Output, printable};

/// What holds in the running process.
pub async fn running(admin: &AdminArgs) -> Result<Effective, Failure> {
    read(&admin.client()?.get("/v1/config").await?)
}

/// Prints all of them as a file could say them, each with its origin.
pub fn print(effective: &Effective, output: Output) -> Result<(), Failure> {
    output.result(effective, || {
        let line = |setting: &Setting| {
            let text = setting.to_string();
            format!("{:<60} # {}", printable(&text), printable(&effective.origin(setting)))
        };
        effective.settings.iter().map(line).collect::<Vec<_>>().join("\n")
    })
}

/// Prints what differs.
pub fn diff(one: &Effective, other: &Effective, output: Output) -> Result<(), Failure> {
    if one.kind != other.kind {
        return Err(Failure::usage(format!(
            "these are settings of different processes: {} and {}",
            one.kind, other.kind
        )));
    }
    let keys = one.settings.iter().chain(&other.settings).map(|setting| setting.key.as_str());
    let keys: BTreeSet<&str> = keys.collect();
    let value = |side: &Effective, key: &str| side.setting(key).map(|setting| setting.value.clone());
    let different: Vec<&str> = keys.into_iter().filter(|key| value(one, key) != value(other, key)).collect();
    let rows: Vec<_> = different
        .iter()
        .map(|key| json!({"key": key, "one": one.setting(key), "other": other.setting(key)}))
        .collect();
    output.result(&rows, || {
        if different.is_empty() {
            return "no difference".to_owned();
        }
        let row = |key: &&str| vec![printable(key).into_owned(), side(one, key), side(other, key)];
        grid(&["key", "one", "other"], different.iter().map(row).collect())
    })?;
    if different.is_empty() {
        return Ok(());
    }
    let message = format!("{} of the settings differ", different.len());
    Err(Failure::new(Exit::Refused, "different", message))
}

fn side(effective: &Effective, key: &str) -> String {
    let Some(setting) = effective.setting(key) else { return "-".to_owned() };
    let text = format!("{} ({})", setting.value, effective.origin(setting));
    printable(&text).into_owned()
}
