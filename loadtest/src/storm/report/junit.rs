//! The checks of runs as JUnit XML: a suite for each run, a case for each check, and one for whether the run is valid.

use super::escape::text;
use super::words::digits;
use crate::storm::result::{Check, Run};

/// The file.
pub fn junit(runs: &[Run]) -> String {
    let suites: String = runs.iter().map(suite).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"buslane load\">\n{suites}</testsuites>\n"
    )
}

fn suite(run: &Run) -> String {
    let summary = &run.summary;
    let name = text(&format!("{}.{}", summary.scenario, summary.policy));
    let failed = summary.checks.iter().filter(|check| !check.pass).count();
    let cases: String = summary.checks.iter().map(|check| case(&name, check)).collect();
    format!(
        "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{failed}\" errors=\"{}\" timestamp=\"{}\">\n{}{}{cases}  </testsuite>\n",
        summary.checks.len() + 1,
        u8::from(!summary.valid),
        text(&run.origin.began),
        closed(run),
        validity(&name, run),
    )
}

/// What live sessions that the server closed were told.
fn closed(run: &Run) -> String {
    let because = &run.summary.closed_because;
    if because.is_empty() {
        return String::new();
    }
    let property = |(code, sessions): (&String, &u64)| {
        format!("      <property name=\"closed_because.{}\" value=\"{sessions}\"/>\n", text(code))
    };
    let properties: String = because.iter().map(property).collect();
    format!("    <properties>\n{properties}    </properties>\n")
}

fn validity(suite: &str, run: &Run) -> String {
    let case = format!("    <testcase classname=\"{suite}\" name=\"valid\"");
    if run.summary.valid {
        return format!("{case}/>\n");
    }
    let why = text(&run.summary.invalid_because.join("; "));
    format!("{case}><error message=\"{why}\"/></testcase>\n")
}

fn case(suite: &str, check: &Check) -> String {
    let name = text(&format!("{} {}", check.name, check.limit));
    let case = format!("    <testcase classname=\"{suite}\" name=\"{name}\"");
    if check.pass {
        return format!("{case}/>\n");
    }
    let found = check
        .value
        .map_or_else(|| "it could not be measured".to_owned(), |value| format!("found {}", digits(value, 6)));
    format!("{case}><failure message=\"{}\"/></testcase>\n", text(&found))
}
