//! The registry against the sources and the document: none of the three says what the others do not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// Crates whose sources may count.
const CRATES: [&str; 9] =
    ["shared", "chassis", "store", "backend", "gateway", "session-manager", "client", "operator", "cli"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// The labels that are written out in a call, up to its closing parenthesis.
fn labels(call: &str) -> BTreeSet<String> {
    let mut depth = 1;
    let end = call.find(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0
    });
    let arguments = &call[..end.unwrap_or(call.len())];
    let parts: Vec<&str> = arguments.split(" => ").collect();
    let before_arrow = parts.iter().take(parts.len() - 1);
    before_arrow.filter_map(|part| part.strip_suffix('"')?.rsplit('"').next().map(str::to_owned)).collect()
}

/// Every metric that the sources count, with its kind and the labels that can be seen there.
fn counted() -> BTreeMap<String, (&'static str, BTreeSet<String>)> {
    let mut paths = Vec::new();
    for name in CRATES {
        sources(&root().join(name).join("src"), &mut paths);
    }
    let mut found: BTreeMap<String, (&'static str, BTreeSet<String>)> = BTreeMap::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let program = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for kind in ["counter", "gauge", "histogram"] {
            let mark = format!("{kind}!(");
            for (at, _) in program.match_indices(&mark) {
                if program[..at].ends_with("describe_") {
                    continue;
                }
                let arguments = program[at + mark.len()..].trim_start();
                let name = arguments.strip_prefix('"').and_then(|rest| rest.split('"').next());
                let name = name.unwrap_or_else(|| {
                    panic!("{}: write a metric's name where it is counted", path.display())
                });
                let entry = found.entry(name.to_owned()).or_insert((kind, BTreeSet::new()));
                assert_eq!(entry.0, kind, "{name} is of two kinds: {}", path.display());
                entry.1.extend(labels(arguments));
            }
        }
    }
    found
}

#[test]
fn what_is_counted_is_listed_and_what_is_listed_is_counted() {
    let counted = counted();
    assert!(counted.len() > 50, "the sources are not where they were: {}", counted.len());
    let listed: BTreeMap<&str, &Metric> =
        PARTS.iter().flat_map(|part| part.metrics).map(|metric| (metric.name, metric)).collect();
    for (name, (kind, labels)) in &counted {
        let metric = listed.get(name.as_str());
        let metric = metric.unwrap_or_else(|| panic!("{name} is counted and in no METRICS: list it there"));
        assert_eq!(metric.kind.name(), *kind, "{name}");
        for label in labels {
            assert!(metric.labels.contains(&label.as_str()), "{name}: the label {label} is not listed");
        }
    }
    for name in listed.keys() {
        assert!(counted.contains_key(*name), "{name} is listed and never counted: take it out");
    }
    let rows: usize = PARTS.iter().map(|part| part.metrics.len()).sum();
    assert_eq!(rows, listed.len(), "a metric is listed twice");
}

#[test]
fn names_say_what_they_are() {
    for metric in PARTS.iter().flat_map(|part| part.metrics) {
        let Metric { name, kind, unit, labels, help } = metric;
        assert!(name.starts_with("buslane_"), "{name}");
        assert_eq!(kind.name() == "counter", name.ends_with("_total"), "{name}: a counter ends in _total");
        assert_eq!(unit.name() == "seconds", name.ends_with("_seconds"), "{name}");
        assert!(!help.is_empty() && !help.contains(['|', '\n']) && !help.ends_with('.'), "{name}: {help}");
        assert!(labels.iter().all(|l| l.chars().all(|c| c.is_ascii_lowercase() || c == '_')), "{name}");
    }
}

#[test]
fn the_page_says_what_the_code_says() {
    let page = fs::read_to_string(root().join("docs/metrics.md")).unwrap_or_default();
    assert!(
        page == markdown(),
        "docs/metrics.md is not that of the code: buslane docs metrics > docs/metrics.md"
    );
}
