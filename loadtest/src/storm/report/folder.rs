//! A report on disk: `index.html` for people and a `run-POLICY.json` for each run, from which the page can be made again.
//!
//! A file is there whole or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use crate::storm::result::Run;

/// The page.
pub const INDEX: &str = "index.html";

/// A plan of a newer version may have so many fields that are not known here.
const UNKNOWN_FIELDS_MAX: usize = 64;

/// A policy's place among others; what is not listed comes last.
const ORDER: [&str; 4] = ["buslane", "unknown", "static", "none"];

/// Writes the page and the runs; answers where the page is.
pub fn write(dir: &Path, runs: &[Run]) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    // The figures first: should the disk be full, the page can be made again from them.
    let mut names: Vec<String> = Vec::new();
    for run in runs {
        let name = free_name(&run.summary.policy, &names);
        replace(&dir.join(&name), &to_json(run)?)?;
        names.push(name);
    }
    let index = dir.join(INDEX);
    replace(&index, super::page(runs).as_bytes())?;
    Ok(index)
}

/// All runs of a folder, ours first.
pub fn read(dir: &Path) -> anyhow::Result<Vec<Run>> {
    let files = fs::read_dir(dir).with_context(|| format!("cannot read the folder {}", dir.display()))?;
    let mut runs = Vec::new();
    for file in files {
        let path = file.with_context(|| format!("cannot read the folder {}", dir.display()))?.path();
        if is_run(&path) {
            runs.push((rank(&path), read_file(&path)?));
        }
    }
    anyhow::ensure!(
        !runs.is_empty(),
        "there is no run in {}: a folder that `load run --out` or `load compare --out` wrote has files run-POLICY.json",
        dir.display()
    );
    runs.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(runs.into_iter().map(|(_, run)| run).collect())
}

fn is_run(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with("run-") && name.ends_with(".json")
}

fn rank(path: &Path) -> (usize, PathBuf) {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let policy = stem.strip_prefix("run-").unwrap_or_default();
    // A second run of the same policy has a number behind it.
    let of = |known: &&str| {
        policy.strip_prefix(*known).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    (ORDER.iter().position(of).unwrap_or(ORDER.len()), path.to_owned())
}

fn free_name(policy: &str, taken: &[String]) -> String {
    let safe = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let policy: String = policy.chars().map(safe).collect();
    let numbered = (2..).map(|n| format!("run-{policy}-{n}.json"));
    let mut names = std::iter::once(format!("run-{policy}.json")).chain(numbered);
    names.find(|name| !taken.contains(name)).unwrap_or_default()
}

fn to_json(run: &Run) -> anyhow::Result<Vec<u8>> {
    let mut run = run.clone();
    // JSON has no word for them, and they would not be read again.
    run.summary.figures.retain(|_, value| value.is_finite());
    serde_json::to_vec(&run).context("a run cannot be written as JSON")
}

fn read_file(path: &Path) -> anyhow::Result<Run> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    from_json(&text).with_context(|| {
        format!("{} is not a run of this program: remove it or repeat the run", path.display())
    })
}

/// Fields that this version does not know are passed over. A scenario refuses them for the sake of who writes one, so they
/// are taken out of it here.
fn from_json(text: &str) -> anyhow::Result<Run> {
    let mut value: Value = serde_json::from_str(text)?;
    for _ in 0..UNKNOWN_FIELDS_MAX {
        let error = match serde_json::from_value(value.clone()) {
            Ok(run) => return Ok(run),
            Err(error) => error.to_string(),
        };
        let Some(unknown) = error.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next())
        else {
            anyhow::bail!(error);
        };
        value.get_mut("plan").into_iter().for_each(|plan| take_out(plan, unknown));
    }
    anyhow::bail!("its scenario has too many fields that this version does not know")
}

fn take_out(value: &mut Value, field: &str) {
    match value {
        Value::Object(fields) => {
            fields.remove(field);
            // Settings are the server's words, not the scenario's.
            fields
                .iter_mut()
                .filter(|(name, _)| *name != "settings")
                .for_each(|(_, value)| take_out(value, field));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| take_out(value, field)),
        _ => {}
    }
}

/// Writes beside it, and puts it in its place when it is on the disk.
fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let written = File::create(&part)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        // It may be that there is no room: what is half of a file must not take any. Why it failed is told below.
        let _ = fs::remove_file(&part);
    }
    written.with_context(|| {
        format!("cannot write {}: is there room, and may this user write there?", path.display())
    })
}
