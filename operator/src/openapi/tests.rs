//! The document against the sources: every route with its methods, and every field of what the API answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::OPENAPI;

/// Where routes are made. The pages of the console are for people, and in no document.
const SOURCES: [&str; 3] = ["chassis/src", "operator/src/api", "cli/src"];

const METHODS: [&str; 5] = ["get", "post", "put", "delete", "patch"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push(text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned());
        }
    }
}

/// `.route("/v1/drain", get(show).post(change))`: the path, and its methods.
fn route(call: &str) -> Option<(String, BTreeSet<String>)> {
    let (path, rest) = call.trim_start().strip_prefix('"')?.split_once('"')?;
    let mut depth = 1;
    let end = rest.find(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0
    });
    let handlers = &rest[..end.unwrap_or(rest.len())];
    let methods = METHODS.into_iter().filter(|method| {
        handlers.match_indices(&format!("{method}(")).any(|(at, _)| {
            let before = handlers[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
        })
    });
    Some((path.to_owned(), methods.map(str::to_owned).collect()))
}

fn routes() -> BTreeMap<String, BTreeSet<String>> {
    let mut texts = Vec::new();
    for folder in SOURCES {
        sources(&root().join(folder), &mut texts);
    }
    let calls = texts.iter().flat_map(|text| text.split(".route(").skip(1));
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, methods) in calls.filter_map(route) {
        found.entry(path).or_default().extend(methods);
    }
    found
}

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let document = document();
    let described: BTreeMap<String, BTreeSet<String>> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(path, methods)| (path.clone(), methods.as_object().unwrap().keys().cloned().collect()))
        .collect();
    assert!(described.len() > 25, "the document is empty");
    assert_eq!(routes(), described);
}

#[test]
fn whatever_changes_something_says_who_may() {
    let document = document();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let role = operation["x-buslane-role"].as_str();
            let is_open = operation["security"].as_array().is_some_and(Vec::is_empty);
            assert_eq!(role.is_none(), is_open, "{method} {path}");
            let is_look = method == "get";
            assert!(is_look || is_open || matches!(role, Some("operator" | "admin")), "{method} {path}");
        }
    }
}

/// The fields of each `pub struct` of a file.
fn structs(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    for part in text.split("\npub struct ").skip(1) {
        let Some((name, rest)) = part.split_once(" {\n") else { continue };
        let body = rest.split("\n}").next().unwrap();
        let fields = body.lines().filter_map(|line| line.strip_prefix("    pub ")?.split(':').next());
        found.insert(name.to_owned(), fields.map(str::to_owned).collect());
    }
    found
}

#[test]
fn what_is_answered_has_the_described_fields() {
    let document = document();
    let text = fs::read_to_string(root().join("operator/src/view.rs")).unwrap();
    let structs = structs(&text);
    assert!(structs.len() > 10, "operator/src/view.rs is not what it was");
    for (name, fields) in structs {
        let properties = document["components"]["schemas"][&name]["properties"].as_object();
        let described = properties.unwrap_or_else(|| panic!("{name} is not described")).keys().cloned();
        assert_eq!(described.collect::<BTreeSet<_>>(), fields, "{name}");
    }
}
