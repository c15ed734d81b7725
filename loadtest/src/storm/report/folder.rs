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

/// What is put before the name of a run of an earlier report that is not replaced.
const EARLIER: &str = "earlier-";

/// Looks, before anything is measured, whether runs of these policies can be written to the folder, and would not lie there among
/// those of another report.
pub fn prepare(dir: &Path, policies: &[&str]) -> anyhow::Result<()> {
    make(dir)?;
    replace(&dir.join(TRIED), b"")?;
    fs::remove_file(dir.join(TRIED))
        .with_context(|| format!("cannot remove what is in {}", dir.display()))?;
    let others = others(dir, &names(policies.iter().copied()))?;
    anyhow::ensure!(
        others.is_empty(),
        "{} holds runs of an earlier report that would not be replaced ({}): name another folder, or remove them",
        dir.display(),
        others.join(", ")
    );
    Ok(())
}

/// A file that is only made to see whether it can be.
const TRIED: &str = "buslane-load.tried";

fn make(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))
}

/// Writes the page and the runs; answers where the page is. Runs of an earlier report that have no successor in this one, because it ended
/// early, get another name: they are not of the same storm.
pub fn write(dir: &Path, runs: &[Run]) -> anyhow::Result<PathBuf> {
    make(dir)?;
    let names = names(runs.iter().map(|run| run.summary.policy.as_str()));
    // The figures first: should the disk be full, the page can be made again from them.
    for (run, name) in runs.iter().zip(&names) {
        replace(&dir.join(name), &to_json(run)?)?;
    }
    for other in others(dir, &names)? {
        fs::rename(dir.join(&other), dir.join(format!("{EARLIER}{other}")))
            .with_context(|| format!("cannot rename {other} in {}", dir.display()))?;
    }
    let index = dir.join(INDEX);
    replace(&index, super::page(runs).as_bytes())?;
    Ok(index)
}

/// Runs in the folder that have none of these names.
fn others(dir: &Path, names: &[String]) -> anyhow::Result<Vec<String>> {
    let mut others: Vec<String> = runs_in(dir)?
        .iter()
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .filter(|name| !names.contains(name))
        .collect();
    others.sort_unstable();
    Ok(others)
}

fn runs_in(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let unreadable = || format!("cannot read the folder {}", dir.display());
    let mut paths = Vec::new();
    for file in fs::read_dir(dir).with_context(unreadable)? {
        paths.push(file.with_context(unreadable)?.path());
    }
    paths.retain(|path| is_run(path));
    Ok(paths)
}

/// All runs of a folder, ours first.
pub fn read(dir: &Path) -> anyhow::Result<Vec<Run>> {
    let mut runs = Vec::new();
    for path in runs_in(dir)? {
        runs.push((rank(&path), read_file(&path)?));
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

/// The files of runs of these policies.
fn names<'a>(policies: impl Iterator<Item = &'a str>) -> Vec<String> {
    policies.fold(Vec::new(), |mut names, policy| {
        names.push(free_name(policy, &names));
        names
    })
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
