//! What is sent is found nowhere: not in the data folder, not in a backup, not in the logs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Home, Server};

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn holds(path: &Path, marker: &str) -> bool {
    fs::read(path).unwrap().windows(marker.len()).any(|window| window == marker.as_bytes())
}

#[test]
fn a_message_is_found_in_no_file_of_the_server() {
    let marker = "xyzzy-MARKER-a-message-that-nobody-must-find";
    let home = Home::new();
    let server = Server::start(
        &home,
        &[
            "up",
            "--gate",
            "127.0.0.1:0",
            "--front",
            "127.0.0.1:0",
            "--wake",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
        ],
    );
    home.json(&["account", "show", "--as", "bob"]);
    for _ in 0..20 {
        home.json(&["send", "--as", "alice", "--to", "bob", marker]);
    }
    // It is there for those whom it is meant for.
    assert_eq!(home.texts("bob", "alice").iter().filter(|text| *text == marker).count(), 20);
    let backup = home.path().join("copy.buslane");
    home.json(&["backup", "--to", backup.to_str().unwrap()]);
    server.stop();

    let mut searched = files(&home.data());
    searched.extend(files(&home.path().join("up.keys")));
    searched.extend([backup, home.path().join("up.log")]);
    assert!(searched.len() > 8, "{searched:?}");
    for file in searched {
        assert!(!holds(&file, marker), "found in {}", file.display());
    }
    // The search itself finds what is there.
    let own = home.path().join("own");
    fs::write(&own, format!("..{marker}..")).unwrap();
    assert!(holds(&own, marker));
}
