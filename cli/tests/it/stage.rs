//! What parts of the surge harness are given that play against a real `up`.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

use buslane_loadtest::storm::live::Live;
use buslane_loadtest::storm::stage::{Stage, Target};
use tokio::runtime::{Builder, Runtime};

use crate::support::{Home, Server};

/// A node that takes ten background logins a second from the beginning. How late this machine's timers are says nothing
/// about it.
const SLOW: &str = r#"
[gateway]
enrolment = "open"
[session_manager.overload.background]
logins_per_s_max = 10
slot_tolerance_ms = 2_000
[session_manager.overload.thresholds]
lateness_ms = { guard = 5_000.0, hard = 10_000.0 }
foreground_wait_ms = { guard = 5_000.0, hard = 10_000.0 }
sojourn_ms = { guard = 5_000.0, hard = 10_000.0 }
dependency = { guard = 0.001, hard = 0.0005 }
"#;

/// A slow node with more settings.
pub fn slow_server(home: &Home, more: &str) -> Server {
    fs::DirBuilder::new().mode(0o700).create(home.data()).unwrap();
    fs::write(home.data().join("config.toml"), format!("{SLOW}{more}")).unwrap();
    Server::up(home)
}

pub fn target(server: &Server) -> Target {
    Target { gate: server.address("gate").to_owned(), ca: server.address("ca").into() }
}

pub fn stage(server: &Server) -> Stage {
    Stage { target: target(server), seed: 5, live: Arc::new(Live::default()), stop: Default::default() }
}

pub fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}
