//! How `up` starts, and every way in which it does not.

use std::fs;
use std::net::{TcpListener, UdpSocket};

use crate::support::{Home, Server};

const PORTS: [&str; 8] =
    ["--gate", "127.0.0.1:0", "--front", "127.0.0.1:0", "--wake", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

/// Tries to start `up`, which must not come up. Its exit code, error code and message.
fn refused(home: &Home, more: &[&str]) -> (i32, String, String) {
    let args =
        if more.iter().any(|a| PORTS.contains(a)) { more.to_vec() } else { [&PORTS[..], more].concat() };
    let (code, error) = home.error(&[&["up"], &args[..]].concat());
    let text = |name: &str| error[name].as_str().unwrap().to_owned();
    (code, text("code"), text("message"))
}

#[test]
fn the_ready_line_names_what_really_listens() {
    let home = Home::new();
    let server = Server::up(&home);
    assert_eq!(server.ready["ready"], true);
    for name in ["gate", "front", "wake"] {
        assert!(UdpSocket::bind(server.address(name)).is_err(), "{name} is free");
    }
    assert!(TcpListener::bind(server.address("admin")).is_err());
    assert!(fs::read_to_string(server.address("ca")).unwrap().contains("BEGIN CERTIFICATE"));
    assert_eq!(server.address("data"), home.data().to_str().unwrap());

    let (status, body) = server.page("/healthz");
    assert!(status.contains("200") && body.contains("ok"), "{status}");
    let (status, body) = server.page("/readyz");
    assert!(status.contains("200") && body.contains("\"store\""), "{status} {body}");
    let (status, body) = server.page("/metrics");
    assert!(status.contains("200") && body.contains("buslane_"), "{status}");
    let (status, _) = server.page("/v1/backup");
    assert!(status.contains("401"), "{status}");
    server.stop();
    assert!(!home.data().join("run.json").exists());
}

#[test]
fn secrets_are_for_their_owner_and_the_keys_lie_outside_of_the_data() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let server = Server::up(&home);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let keys = home.path().join("up.keys");
    for file in [home.data().join("admin.token"), home.data().join("tls/ca.key"), keys.join("kek.json")] {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    assert_eq!(mode(&home.data()), 0o700);
    assert_eq!(mode(&keys), 0o700);
    server.stop();
}

#[test]
fn a_port_that_is_taken_is_named_with_the_flag_that_helps() {
    let home = Home::new();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = udp.local_addr().unwrap().to_string();
    for flag in ["--gate", "--front", "--wake"] {
        let mut args: Vec<&str> = PORTS.to_vec();
        let at = args.iter().position(|a| *a == flag).unwrap();
        args[at + 1] = &taken;
        let (code, name, message) = refused(&home, &args);
        assert_eq!((code, name.as_str()), (3, "port_taken"), "{message}");
        assert!(message.contains(&taken) && message.contains(flag), "{message}");
    }
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = tcp.local_addr().unwrap().to_string();
    let mut args: Vec<&str> = PORTS.to_vec();
    args[7] = &taken;
    let (code, name, message) = refused(&home, &args);
    assert_eq!((code, name.as_str()), (3, "port_taken"), "{message}");
    // Nothing is left that would be in the way of the next start.
    Server::up(&home).stop();
}

#[test]
fn a_data_folder_is_for_one_process() {
    let home = Home::new();
    let server = Server::up(&home);
    let (code, name, message) = refused(&home, &[]);
    assert_eq!((code, name.as_str()), (4, "data_in_use"), "{message}");
    assert!(message.contains("--data"), "{message}");
    // The first one does not notice.
    let (status, _) = server.page("/readyz");
    assert!(status.contains("200"), "{status}");
    server.stop();
}

#[test]
fn a_newer_format_is_not_touched() {
    let home = Home::new();
    Server::up(&home).stop();
    let format = home.data().join("store/FORMAT");
    let before = fs::read_to_string(&format).unwrap();
    let newer = before.replace('1', "99");
    assert_ne!(before, newer);
    fs::write(&format, &newer).unwrap();
    let (code, name, message) = refused(&home, &[]);
    assert_eq!((code, name.as_str()), (4, "newer_format"), "{message}");
    assert!(message.contains("99"), "{message}");
    assert_eq!(fs::read_to_string(&format).unwrap(), newer);
    fs::write(&format, before).unwrap();
    Server::up(&home).stop();
}

#[test]
fn a_wrong_or_missing_key_file_is_explained_and_never_replaced() {
    let home = Home::new();
    Server::up(&home).stop();
    let other = Home::new();
    Server::up(&other).stop();
    let key_file = home.path().join("up.keys/kek.json");
    let own = fs::read(&key_file).unwrap();

    fs::copy(other.path().join("up.keys/kek.json"), &key_file).unwrap();
    let (code, name, message) = refused(&home, &[]);
    assert_eq!((code, name.as_str()), (5, "wrong_key_file"), "{message}");

    fs::remove_file(&key_file).unwrap();
    let (code, name, message) = refused(&home, &[]);
    assert_eq!((code, name.as_str()), (5, "key_file_missing"), "{message}");
    assert!(!key_file.exists());

    fs::write(&key_file, "{").unwrap();
    let (code, _, message) = refused(&home, &[]);
    assert_eq!(code, 5, "{message}");

    fs::write(&key_file, own).unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
    Server::up(&home).stop();
}

#[test]
fn a_folder_that_is_a_file_and_settings_that_are_wrong_are_explained() {
    let home = Home::new();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let (code, _, message) = refused(&home, &["--data", file.to_str().unwrap()]);
    assert_eq!(code, 4, "{message}");

    fs::create_dir_all(home.data()).unwrap();
    fs::write(home.data().join("config.toml"), "[gateway]\nticket_life_s = 1\n").unwrap();
    let (code, name, message) = refused(&home, &[]);
    assert_eq!((code, name.as_str()), (2, "usage"), "{message}");
    assert!(message.contains("config.toml:2") && message.contains("ticket_life_s"), "{message}");
    assert!(!home.data().join("store").exists(), "something was started all the same");
}

#[test]
fn wrong_arguments_are_one_json_object_too() {
    let home = Home::new();
    for args in [&["send", "--as", "alice"][..], &["up", "--gate", "nonsense"], &["nonsense"]] {
        let (code, error) = home.error(args);
        assert_eq!((code, error["code"].as_str()), (2, Some("usage")), "{args:?}");
    }
}

#[test]
fn every_command_explains_itself_with_examples() {
    let home = Home::new();
    let top = home.run(&["--help"]);
    assert_eq!(top.code, 0);
    assert!(top.stdout.contains("Exit codes:"), "{}", top.stdout);
    for command in [
        "up",
        "gateway",
        "session-manager",
        "backend",
        "config",
        "chat",
        "send",
        "tail",
        "room",
        "account",
        "ctl",
        "keys",
        "backup",
        "restore",
    ] {
        let help = home.run(&[command, "--help"]);
        assert_eq!(help.code, 0, "{command}");
        assert!(help.stdout.contains("Example"), "{command} shows no example");
    }
}
