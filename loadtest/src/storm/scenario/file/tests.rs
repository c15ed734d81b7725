//! Files that are no scenarios, and what their authors are told.

use super::*;

const RIGHT: &str = concat!(
    "name = \"own\"\ntitle = \"t\"\nhistory = \"h\"\nsource = \"made up\"\nhypothesis = \"it holds\"\n",
    "phases = { quiet_s = 10, storm_s = 20, after_s = 30 }\n",
    "limits = { lost = { at_most = 0 } }\n",
);

fn complaint(text: &str) -> String {
    parse(text, "own.toml").unwrap_err().to_string()
}

fn with(more: &str) -> String {
    format!("{RIGHT}{more}")
}

#[test]
fn what_the_parser_finds_has_its_line_its_key_and_a_guess() {
    let cases = [
        (with("titel = \"t\""), "own.toml:8: titel: unknown field `titel`, expected one of "),
        (with("titel = \"t\""), "; did you mean `title`?"),
        (
            RIGHT.replace("quiet_s = 10", "quiet_s = \"ten\""),
            "own.toml:6: phases.quiet_s: invalid type: string \"ten\", expected u32",
        ),
        (RIGHT.replace("quiet_s = 10, ", ""), "own.toml:6: phases.quiet_s: it is missing; add it"),
        (
            RIGHT.replace("source = \"made up\"\n", ""),
            "own.toml: source: it is missing; add it: where the history is told, or \"made up\"",
        ),
        (
            with("[[logins]]\nside = \"foregrund\"\n"),
            "own.toml:9: logins[0].side: unknown variant `foregrund`",
        ),
        (with("[[logins]]\nside = \"foregrund\"\n"), "did you mean `foreground`?"),
        (with("[[logins]]\nstay_s = 3\n"), "own.toml:8: logins[0].rate: it is missing; add it: rate = {"),
        (
            with("[[crowd]]\nsessions = 2\n[[crowd]]\nsesions = 2\n"),
            "own.toml:11: crowd[1].sesions: unknown field `sesions`",
        ),
        (RIGHT.replace("lost = { at_most = 0 }", "lost = { most = 0 }"), "own.toml:7: limits.lost"),
        (
            with("[[events]]\nwhat = \"drop\"\nat_s = 0\n"),
            "own.toml:8: events[0].percent: it is missing; add it",
        ),
        (with("[[events]]\nwhat = \"restat\"\nat_s = 0\n"), "did you mean `restart`?"),
        (
            with("[[events]]\nwhat = \"restart\"\nat_s = 0\nfor_s = 3\n"),
            "own.toml:8: events[0]: unknown field `for_s`",
        ),
        (with("settings = 3\n"), "own.toml:8: settings: invalid type: integer `3`, expected a map"),
        (with("name = \"again\"\n"), "own.toml:8"),
        (with("[[logins]\n"), "own.toml:8"),
        (String::new(), "own.toml: name: it is missing; add it"),
    ];
    for (text, expected) in cases {
        let told = complaint(&text);
        assert!(told.contains(expected), "{text}\ntold: {told}\nexpected: {expected}");
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let told = complaint(&RIGHT.replace("storm_s = 20", "storm_s = 0").replace("\"own\"", "\"\""));
    assert_eq!(told.lines().count(), 2, "{told}");
}

#[test]
fn a_file_is_read_or_told_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.toml");
    std::fs::write(&path, RIGHT).unwrap();
    assert_eq!(load(&path).unwrap().name, "own");
    std::fs::write(&path, vec![b'#'; FILE_BYTES_MAX as usize + 1]).unwrap();
    let told = load(&path).unwrap_err().to_string();
    assert!(told.contains("own.toml: it is over 1 MiB"), "{told}");
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("UTF-8"));
    assert!(load(&folder.path().join("none.toml")).unwrap_err().to_string().contains("none.toml: "));
}
