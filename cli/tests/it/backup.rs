//! Backup, restore and new keys, of a server that runs and of one that does not.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::{Home, Server};

fn conversation() -> (Home, Server) {
    let home = Home::new();
    let server = Server::up(&home);
    home.json(&["account", "show", "--as", "bob"]);
    home.json(&["send", "--as", "alice", "--to", "bob", "--count", "300", "--size", "80"]);
    (home, server)
}

/// Puts what a restored server needs beside its data: the keys, and the CA that its clients trust.
fn bring_keys(from: &Home, to: &Home) {
    let keys = to.path().join("up.keys");
    fs::create_dir_all(&keys).unwrap();
    fs::copy(from.path().join("up.keys/kek.json"), keys.join("kek.json")).unwrap();
    fs::set_permissions(keys.join("kek.json"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir_all(to.data().join("tls")).unwrap();
    for file in ["ca.pem", "ca.key"] {
        fs::copy(from.data().join("tls").join(file), to.data().join("tls").join(file)).unwrap();
    }
}

#[test]
fn a_restored_server_says_what_the_first_one_said() {
    let (home, server) = conversation();
    let before = home.json(&["tail", "--as", "bob", "--with", "alice"]);
    assert_eq!(before.len(), 300);
    let file = home.path().join("copy.buslane");
    let made = home.json(&["backup", "--to", file.to_str().unwrap()]);
    assert!(made[0]["messages"].as_u64().unwrap() >= 300, "{made:?}");
    // Sent after the backup, so not in it.
    home.json(&["send", "--as", "alice", "--to", "bob", "later"]);
    let (code, error) = home.error(&["backup", "--to", file.to_str().unwrap()]);
    assert_eq!((code, error["code"].as_str()), (1, Some("exists")));

    let new = Home::new();
    new.json(&["restore", "--from", file.to_str().unwrap(), "--data", new.data().to_str().unwrap()]);
    bring_keys(&home, &new);
    let restored = Server::up(&new);
    let state = home.path().join("clients/bob");
    let log = new.json(&["tail", "--as", "bob", "--with", "alice", "--state", state.to_str().unwrap()]);
    assert_eq!(log, before);
    // And it goes on from there.
    let state = home.path().join("clients/alice");
    new.json(&["send", "--as", "alice", "--to", "bob", "again", "--state", state.to_str().unwrap()]);
    restored.stop();
    server.stop();
}

#[test]
fn a_backup_of_a_stopped_server_is_the_same() {
    let (home, server) = conversation();
    server.stop();
    let file = home.path().join("copy.buslane");
    let made = home.json(&["backup", "--to", file.to_str().unwrap()]);
    assert!(made[0]["messages"].as_u64().unwrap() >= 300, "{made:?}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_is_no_backup_or_damaged_restores_nothing() {
    let (home, server) = conversation();
    let file = home.path().join("copy.buslane");
    home.json(&["backup", "--to", file.to_str().unwrap()]);
    server.stop();
    let new = Home::new();
    let data = new.data();
    let restore = |file: &std::path::Path| {
        new.error(&["restore", "--from", file.to_str().unwrap(), "--data", data.to_str().unwrap()])
    };

    let junk = home.path().join("junk");
    fs::write(&junk, "something else entirely, and long enough to be read as a header").unwrap();
    assert_eq!(restore(&junk).0, 4);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&junk, &bytes).unwrap();
    assert_eq!(restore(&junk).0, 4);
    fs::write(&junk, &bytes[..middle]).unwrap();
    assert_eq!(restore(&junk).0, 4);
    assert_eq!(restore(&home.path().join("none")).0, 4);
    assert!(!data.exists(), "a failed restore left something");

    // A folder that holds a store is not overwritten.
    let (code, error) =
        home.error(&["restore", "--from", file.to_str().unwrap(), "--data", home.data().to_str().unwrap()]);
    assert_eq!((code, error["code"].as_str()), (4, Some("not_empty")));
}

#[test]
fn keys_are_rotated_while_the_server_runs_and_while_it_does_not() {
    let (home, server) = conversation();
    let key_file = home.path().join("up.keys/kek.json");
    let old = home.path().join("old-kek.json");
    fs::copy(&key_file, &old).unwrap();
    let online = home.json(&["keys", "rotate"]);
    assert!(online[0]["rewrapped"].as_u64().unwrap() > 0, "{online:?}");
    assert_eq!(home.texts("bob", "alice").len(), 300);
    home.json(&["send", "--as", "alice", "--to", "bob", "under the new key"]);
    server.stop();

    let offline = home.json(&["keys", "rotate", "--retire"]);
    assert_ne!(online[0]["key"], offline[0]["key"]);
    assert_eq!(offline[0]["retired"].as_array().unwrap().len(), 2, "{offline:?}");
    let server = Server::up(&home);
    assert_eq!(home.texts("bob", "alice").len(), 301);
    server.stop();

    // The first key no longer opens anything.
    fs::copy(&old, &key_file).unwrap();
    let (code, error) = home.error(&["keys", "rotate"]);
    assert_eq!((code, error["code"].as_str()), (5, Some("wrong_key_file")));
}
