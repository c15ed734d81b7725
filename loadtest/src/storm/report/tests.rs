//! Reports of made-up runs: a storm as it may be, and what no storm should be.

mod made_up;

use std::fs;

use self::made_up::{calm, collapsed, empty, long, one_second, storm};
use super::*;
use crate::storm::result::{Run, Verdict};

/// A page of a run of five minutes stays below this.
const PAGE_BYTES_MAX: usize = 600 * 1024;

#[test]
fn the_verdict_is_a_sentence_of_figures() {
    assert_eq!(
        verdict_sentence(&storm()),
        "While 29,000 phones a second wanted in – 13x what this server can do – 99.983 % of the messages of people in \
         conversations arrived, at 1.08x their quiet p99 (0.61 ms → 0.66 ms). Everybody was in after 43 s. No message with a \
         receipt was lost, doubled or out of order."
    );
    let bad = verdict_sentence(&collapsed());
    assert!(bad.contains("only 41.2 % of the messages") && bad.contains("Messages: 3 lost."), "{bad}");
    assert!(bad.contains("61,000 clients were not in at the end"), "{bad}");
    assert!(
        verdict_sentence(&calm()).starts_with("In 30 s of everyday load, "),
        "{}",
        verdict_sentence(&calm())
    );
    assert!(verdict_sentence(&empty()).contains("it was not measured how conversations fared"));
}

#[test]
fn a_page_of_any_run_is_whole() {
    for runs in [
        vec![storm()],
        vec![collapsed()],
        vec![calm()],
        vec![empty()],
        vec![one_second()],
        vec![],
        vec![storm(), collapsed()],
    ] {
        let page = page(&runs);
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        for (open, close) in [
            ("<section", "</section>"),
            ("<figure", "</figure>"),
            ("<svg", "</svg>"),
            ("<div", "</div>"),
            ("<table", "</table>"),
        ] {
            assert_eq!(page.matches(open).count(), page.matches(close).count(), "{open}");
        }
        let without = ["NaN", "inf\"", "http://", "https://", "src=", "@import"];
        assert!(
            without.iter().all(|word| !page.contains(word)),
            "{:?}",
            without.iter().find(|word| page.contains(**word))
        );
    }
}

#[test]
fn an_absent_figure_is_never_a_number() {
    let page = page(&[empty()]);
    assert!(page.matches("not measured").count() >= 6);
    assert!(page.contains("the server ended in the middle of the run"));
}

#[test]
fn a_page_stays_small() {
    let (five_minutes, hour) = (page(&[long(300)]), page(&[long(3_600)]));
    assert!(five_minutes.len() < PAGE_BYTES_MAX, "{}", five_minutes.len());
    assert!(hour.len() < PAGE_BYTES_MAX, "{}", hour.len());
    assert!(hour.contains("Each point stands for 9 s"));
}

#[test]
fn a_hostile_text_stays_text() {
    let attack = "</script></style><script>alert('1')</script>\"><img onerror=x>";
    let mut run = storm();
    for text in [&mut run.plan.title, &mut run.plan.history, &mut run.plan.source, &mut run.plan.hypothesis] {
        *text = attack.to_owned();
    }
    for text in
        [&mut run.summary.scenario, &mut run.summary.policy, &mut run.origin.command, &mut run.origin.machine]
    {
        *text = attack.to_owned();
    }
    run.marks = vec![(1.0, attack.to_owned())];
    run.postures.push((20.0, attack.to_owned()));
    run.summary.invalid_because = vec![attack.to_owned()];
    for check in &mut run.summary.checks {
        check.name = attack.to_owned();
        check.limit = attack.to_owned();
    }
    for phase in run.streams.values_mut().flat_map(|stream| stream.phases.values_mut()) {
        phase.reasons.insert(attack.to_owned(), 9);
    }
    let page = page(&[run.clone(), run.clone()]);
    assert!(!page.contains("<script>alert") && !page.contains("<img"));
    let honest = super::page(&[storm(), storm()]);
    assert_eq!(page.matches("</script>").count(), honest.matches("</script>").count());
    let xml = junit(&[run.clone()]);
    assert!(!xml.contains("<script>") && xml.contains("&lt;script&gt;"));
    run.summary.scenario = "\u{1b}[2J".to_owned();
    assert!(!terminal(&run, Ink::Plain).contains('\u{1b}'));
}

#[test]
fn a_terminal_has_the_verdict_and_the_checks() {
    let text = terminal(&storm(), Ink::Plain);
    assert!(text.starts_with("✓ PASS  gyeongju · policy buslane · seed 7\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.contains("✓ fg_success") && !text.contains('\u{1b}'), "{text}");
    let failed = terminal(&collapsed(), Ink::Coloured);
    assert!(failed.contains("✗ FAIL") && failed.contains("\u{1b}[1;31m"), "{failed}");
    assert!(terminal(&empty(), Ink::Plain).contains("Not valid: the server ended in the middle"));
}

#[test]
fn a_comparison_marks_the_best_of_the_valid() {
    let (mut ours, theirs) = (storm(), collapsed());
    let text = comparison(&[ours.clone(), theirs.clone()], Ink::Plain);
    assert!(
        text.starts_with("The same storm, 2 policies: under buslane 99.983 % of the messages arrived"),
        "{text}"
    );
    assert!(text.contains("99.983 % ★"), "{text}");
    ours.summary.valid = false;
    ours.summary.verdict = Verdict::Invalid;
    let text = comparison(&[ours, theirs], Ink::Plain);
    assert!(!text.contains("99.983 % ★") && text.contains("(not valid)"), "{text}");
}

#[test]
fn a_baseline_shows_what_is_worse() {
    let text = Baseline::of(&storm(), &storm()).table(Ink::Plain);
    assert!(text.contains("nothing is worse") && !text.contains("Careful"), "{text}");
    let worse = Baseline::of(&collapsed(), &storm());
    let text = worse.table(Ink::Plain);
    assert!(text.contains("▼ worse") && text.contains("not alike in policy"), "{text}");
    assert!(Baseline::of(&storm(), &collapsed()).table(Ink::Plain).contains("▲ better"));
    let json = serde_json::to_value(&worse).unwrap();
    assert!(worse.worse > 0 && json["worse"] == worse.worse, "{json}");
    assert_eq!((&json["unlike"][0], &json["figures"][0]["name"]), (&"policy".into(), &"fg_success".into()));
    assert_eq!(json["figures"][0]["judgement"], "worse");
    let mut unmeasured = storm();
    unmeasured.summary.figures.remove("lost");
    assert_eq!(Baseline::of(&unmeasured, &storm()).worse, 1, "what is not measured any more is worse");
}

#[test]
fn runs_that_are_not_of_one_storm_are_not_called_so() {
    let mut other = collapsed();
    assert!(comparison(&[storm(), other.clone()], Ink::Plain).starts_with("The same storm, 2 policies"));
    other.plan.limits.clear();
    assert!(page(&[storm(), other.clone()]).contains("The same storm"), "limits are not the storm");
    other.plan.phases.storm_s += 1;
    other.summary.seed += 1;
    let text = comparison(&[storm(), other.clone()], Ink::Plain).replace('\n', " ");
    assert!(
        text.starts_with("Not the same storm (these runs are not alike in scenario and seed), 2"),
        "{text}"
    );
    assert!(page(&[storm(), other]).contains("Not the same storm"));
}

#[test]
fn junit_has_a_case_for_each_check() {
    let xml = junit(&[storm(), collapsed(), empty()]);
    assert_eq!(xml.matches("<testsuite ").count(), 3);
    let checks: usize = [storm(), collapsed(), empty()].iter().map(|run| run.summary.checks.len() + 1).sum();
    assert_eq!(xml.matches("<testcase ").count(), checks);
    assert!(
        xml.contains("<failure message=\"found 0.412\"/>")
            && xml.contains("<error message=\"the server ended")
    );
    assert!(xml.contains("name=\"fg_success &gt;= 0.9995\"") && !xml.contains("<properties>"));
    let mut closed = storm();
    closed.summary.closed_because.insert("over_budget".to_owned(), 7);
    let xml = junit(&[closed]);
    assert!(xml.contains("<property name=\"closed_because.over_budget\" value=\"7\"/>"), "{xml}");
    assert!(xml.find("<properties>") < xml.find("<testcase "), "as JUnit wants it");
}

#[test]
fn a_run_is_the_same_after_a_round_trip() {
    for run in [storm(), collapsed(), calm(), empty(), one_second()] {
        let text = serde_json::to_string(&run).unwrap();
        assert!(serde_json::from_str::<Run>(&text).unwrap() == run);
    }
}

#[test]
fn a_folder_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("a/b");
    let index = write(&folder, &[collapsed(), storm(), storm()]).unwrap();
    assert_eq!(index, folder.join(INDEX));
    assert!(fs::read_to_string(&index).unwrap().contains("Side by side"));
    assert!(read(&folder).unwrap() == [storm(), storm(), collapsed()]);
    let parts = fs::read_dir(&folder)
        .unwrap()
        .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|e| e == "part"));
    assert_eq!(parts.count(), 0);
}

#[test]
fn a_folder_is_looked_at_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("new");
    prepare(&folder, &["buslane"]).unwrap();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    write(&folder, &[storm(), collapsed()]).unwrap();
    prepare(&folder, &["none", "buslane", "static"]).unwrap();
    let error = prepare(&folder, &["buslane"]).unwrap_err().to_string();
    assert!(error.contains("run-none.json") && error.contains("name another folder"), "{error}");
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(format!("{:#}", prepare(&file, &[]).unwrap_err()).contains("cannot make the folder"));
}

#[test]
fn a_report_that_ended_early_is_not_mixed_with_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[storm(), collapsed()]).unwrap();
    write(dir.path(), &[storm()]).unwrap();
    assert!(read(dir.path()).unwrap() == [storm()]);
    assert!(dir.path().join("earlier-run-none.json").exists(), "what was measured is kept");
}

#[test]
fn what_a_newer_version_wrote_is_read() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[storm()]).unwrap();
    let path = dir.path().join("run-buslane.json");
    let mut run: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    run["news"] = 1.into();
    run["summary"]["news"] = "x".into();
    run["plan"]["news"] = 1.into();
    run["plan"]["logins"][0]["more_news"] = 2.into();
    fs::write(&path, run.to_string()).unwrap();
    assert!(read(dir.path()).unwrap() == [storm()]);
}

#[test]
fn a_folder_without_runs_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let error = read(dir.path()).unwrap_err().to_string();
    assert!(error.starts_with("there is no run in "), "{error}");
    fs::write(dir.path().join("run-x.json"), "{}").unwrap();
    let error = format!("{:#}", read(dir.path()).unwrap_err());
    assert!(error.contains("run-x.json is not a run"), "{error}");
    assert!(format!("{:#}", read(&dir.path().join("no")).unwrap_err()).contains("cannot read the folder"));
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(format!("{:#}", write(&file, &[storm()]).unwrap_err()).contains("cannot make the folder"));
}

/// Pages for whoever changes how they look: `cargo test -p buslane-loadtest -- --ignored pages_to_look_at`, then open them.
#[test]
#[ignore = "writes pages to the folder for temporary files, to be looked at"]
fn pages_to_look_at() {
    let dir = std::env::temp_dir().join("buslane-report");
    let none = collapsed();
    for (name, runs) in [
        ("storm", vec![storm()]),
        ("compare", vec![storm(), made_up::fixed(), none.clone()]),
        ("failed", vec![none]),
        ("calm", vec![calm()]),
        ("empty", vec![empty()]),
        ("second", vec![one_second()]),
        ("long", vec![long(3_600)]),
    ] {
        write(&dir.join(name), &runs).unwrap();
        let text = [
            terminal(&runs[0], Ink::Plain),
            comparison(&runs, Ink::Plain),
            Baseline::of(&runs[0], &storm()).table(Ink::Plain),
        ];
        fs::write(dir.join(name).join("terminal.txt"), text.join("\n")).unwrap();
    }
}
