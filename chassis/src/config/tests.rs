//! Bad files and what people are told about them.

use std::net::SocketAddr;

use super::*;

#[derive(Debug, serde::Deserialize, garde::Validate)]
#[serde(deny_unknown_fields)]
struct Sample {
    #[garde(skip)]
    listen: SocketAddr,
    #[garde(dive)]
    #[serde(default)]
    limits: Limits,
    #[garde(skip)]
    #[serde(default, rename = "door")]
    doors: Vec<Door>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Door {
    port: u16,
}

#[derive(Debug, Default, serde::Deserialize, garde::Validate)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    #[garde(range(min = 1, max = 100))]
    seats: u32,
    #[garde(skip)]
    names: Vec<String>,
}

fn complaint(text: &str) -> String {
    parse::<Sample>(text, Path::new("gw.toml")).unwrap_err().to_string()
}

#[test]
fn a_good_file_loads() {
    let sample: Sample =
        parse("listen = \"127.0.0.1:0\"\n[limits]\nseats = 7\nnames = [\"a\"]", Path::new("x")).unwrap();
    assert_eq!((sample.listen.port(), sample.limits.seats, sample.limits.names.len()), (0, 7, 1));
    let doors: Sample =
        parse("listen = \"127.0.0.1:0\"\nlimits = { seats = 1 }\n[[door]]\nport = 4", Path::new("x"))
            .unwrap();
    assert_eq!(doors.doors.iter().map(|d| d.port).collect::<Vec<_>>(), [4]);
}

#[test]
fn bad_files_are_explained() {
    let cases = [
        (
            "lisen = \"127.0.0.1:1\"",
            "gw.toml:1: lisen: unknown field `lisen`, expected one of `listen`, `limits`, `door`; did you mean `listen`?",
        ),
        ("listen = \"127.0.0.1\"\n", "gw.toml:1: listen: invalid socket address syntax"),
        ("\n\nlisten = 7", "gw.toml:3: listen: invalid type: integer `7`, expected socket address"),
        (
            "listen = \"127.0.0.1:1\"\n\n[limits]\nseats = \"many\"",
            "gw.toml:4: limits.seats: invalid type: string \"many\", expected u32",
        ),
        (
            "listen = \"127.0.0.1:1\"\n[limits]\nseats = 3\nseat = 4",
            "gw.toml:4: limits.seat: unknown field `seat`, expected `seats` or `names`; did you mean `seats`?",
        ),
        // A name of which half is wrong may be meant for any.
        (
            "listen = \"127.0.0.1:1\"\n[[door]]\npxxt = 3",
            "gw.toml:3: door.pxxt: unknown field `pxxt`, expected `port`",
        ),
        ("listen = \"127.0.0.1:1\"\n[limits]\nseats = 101", "gw.toml:3: limits.seats: greater than 100"),
        ("limits = { seats = 1 }", "gw.toml: listen: it is missing; add it"),
        (
            "listen = \"127.0.0.1:1\"\n[[door]]\nport = 1\n[[door]]",
            "gw.toml:4: door.port: it is missing; add it",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(complaint(text), expected, "{text}");
    }
}

#[test]
fn broken_syntax_names_its_line() {
    let message = complaint("listen = \"127.0.0.1:1\"\nlimits = {\n\"");
    assert!(message.starts_with("gw.toml:3: "), "{message}");
}

#[test]
fn a_missing_file_and_a_folder_are_told_apart() {
    let missing = load::<Sample>(Path::new("/nowhere/gw.toml")).unwrap_err();
    assert!(matches!(missing, ConfigError::NotFound(_)), "{missing}");
    let folder = tempfile::tempdir().unwrap();
    let unreadable = load::<Sample>(folder.path()).unwrap_err();
    assert!(matches!(unreadable, ConfigError::Unreadable { .. }), "{unreadable}");
}

#[test]
fn what_is_written_is_found_on_its_line_and_a_default_is_on_none() {
    let text = "a = 1\n[t]\nb = { c = 2 }\n\"d.e\" = 3\n";
    let line = |path: &[&str]| line_of(text, &path.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!([line(&["a"]), line(&["t", "b", "c"]), line(&["t", "d.e"])], [Some(1), Some(3), Some(4)]);
    assert_eq!([line(&["t", "c"]), line(&["a", "b"]), line(&[])], [None; 3]);
}
