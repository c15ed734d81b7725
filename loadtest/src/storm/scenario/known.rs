//! The scenarios that come with the program, and those of its users' files.

use std::path::Path;

use buslane_shared::nearest::did_you_mean;

use super::Scenario;
use super::file::{ScenarioError, load, parse};
use crate::storm::demo;

/// Name and text of each, the usual ones first.
const FILES: [(&str, &str); 17] = [
    ("steady", include_str!("../../../scenarios/steady.toml")),
    ("pohang", include_str!("../../../scenarios/pohang.toml")),
    ("gyeongju", include_str!("../../../scenarios/gyeongju.toml")),
    ("worldcup", include_str!("../../../scenarios/worldcup.toml")),
    ("newyear", include_str!("../../../scenarios/newyear.toml")),
    ("flood", include_str!("../../../scenarios/flood.toml")),
    ("reconnect", include_str!("../../../scenarios/reconnect.toml")),
    ("reconnect-all", include_str!("../../../scenarios/reconnect-all.toml")),
    ("silent", include_str!("../../../scenarios/silent.toml")),
    ("metastable", include_str!("../../../scenarios/metastable.toml")),
    ("slow-store", include_str!("../../../scenarios/slow-store.toml")),
    ("edge", include_str!("../../../scenarios/edge.toml")),
    ("calm", include_str!("../../../scenarios/calm.toml")),
    ("liars", include_str!("../../../scenarios/liars.toml")),
    ("drain", include_str!("../../../scenarios/drain.toml")),
    ("soak", include_str!("../../../scenarios/soak.toml")),
    ("demo", demo::SCENARIO),
];

/// Names of those that come with the program.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// The text of one of them: where a scenario of one's own begins.
pub fn text(name: &str) -> Option<&'static str> {
    FILES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// One of them. `None`: there is none of this name.
pub fn by_name(name: &str) -> Option<Result<Scenario, ScenarioError>> {
    text(name).map(|text| parse(text, &format!("{name}.toml")))
}

/// All of them.
pub fn list() -> Result<Vec<Scenario>, ScenarioError> {
    names().filter_map(by_name).collect()
}

/// One of them, or one of a file.
pub fn find(name_or_path: &str) -> Result<Scenario, ScenarioError> {
    if let Some(known) = by_name(name_or_path) {
        return known;
    }
    let path = Path::new(name_or_path);
    if path.exists() {
        return load(path);
    }
    let guess = did_you_mean(name_or_path, names());
    Err(ScenarioError::Unknown { name: name_or_path.to_owned(), guess })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm::scenario::rate::due_offsets;
    use crate::storm::scenario::{Rate, Unit};

    /// What one processor of a machine of today can do.
    const LOGINS_PER_S: f64 = 2_200.0;
    const MESSAGES_PER_S: f64 = 20_000.0;

    #[test]
    fn each_is_right_and_tells_where_it_comes_from() {
        for (name, text) in FILES {
            let scenario = parse(text, name).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(scenario.name, name);
            assert!(text.starts_with("# "), "{name}: the history stands in the header");
            // Whatever a storm is about: nothing may be lost, and nobody thrown out.
            for figure in [
                "lost",
                "duplicated",
                "reordered",
                "misdelivered",
                "invented",
                "holes",
                "live_sessions_closed",
            ] {
                assert!(scenario.limits.contains_key(figure), "{name}: no limit for {figure}");
            }
        }
        assert_eq!(list().unwrap().len(), FILES.len());
    }

    #[test]
    fn each_can_be_planned_on_a_usual_machine() {
        for scenario in list().unwrap() {
            let due = |rate: &Rate, capacity: f64| {
                let per_unit = if rate.unit == Unit::PerS { 1.0 } else { capacity };
                let due =
                    due_offsets(rate, per_unit, 1.0, 1).unwrap_or_else(|e| panic!("{}: {e}", scenario.name));
                assert!(!due.is_empty(), "{}", scenario.name);
            };
            scenario.logins.iter().for_each(|logins| due(&logins.rate, LOGINS_PER_S));
            for crowd in &scenario.crowd {
                let rates = [&crowd.messages, &crowd.fetches].into_iter().flatten();
                rates.for_each(|rate| due(rate, MESSAGES_PER_S));
            }
        }
    }

    #[test]
    fn a_name_or_a_file_is_found() {
        assert_eq!(find("pohang").unwrap().name, "pohang");
        let error = find("phang").unwrap_err().to_string();
        assert!(error.contains("did you mean `pohang`") && error.contains("load list"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.toml");
        std::fs::write(&path, text("calm").unwrap()).unwrap();
        assert_eq!(find(path.to_str().unwrap()).unwrap().name, "calm");
        let unreadable = find(folder.path().to_str().unwrap()).unwrap_err();
        assert!(matches!(unreadable, ScenarioError::Unreadable { .. }), "{unreadable}");
    }
}
