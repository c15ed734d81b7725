//! A server and its clients, as processes.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before a test fails.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A home folder of its own, with everything that belongs to one system.
pub struct Home {
    dir: TempDir,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Home {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn data(&self) -> PathBuf {
        self.path().join("up")
    }

    /// The binary, with this home.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_buslane"));
        command
            .args(args)
            .env("BUSLANE_HOME", self.path())
            .env("NO_COLOR", "1")
            .env_remove("BUSLANE_GATE")
            .env_remove("BUSLANE_CA")
            .env_remove("BUSLANE_AS")
            .env_remove("BUSLANE_STATE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Said {
        said(self.command(args).spawn().unwrap())
    }

    /// Enrols these people, each on a device of this home: with codes of the backend whose admin address and token these are, at the
    /// gateway that `at` names.
    pub fn enrol(&self, names: &[&str], admin: &str, token: &str, at: &[&str]) {
        for name in names {
            let made = self.json(&["ctl", "enrol-code", name, "--admin", admin, "--token", token]);
            let code = made[0]["code"].as_str().unwrap();
            self.json(&[&["account", "enrol", "--code", code, "--as", name], at].concat());
        }
    }

    /// Runs a command that must succeed, and gives its JSON lines.
    pub fn json(&self, args: &[&str]) -> Vec<Value> {
        let mut all = args.to_vec();
        all.push("--json");
        let said = self.run(&all);
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
        said.lines()
    }

    /// Runs a command that must fail, and gives its exit code and error.
    pub fn error(&self, args: &[&str]) -> (i32, Value) {
        let mut all = args.to_vec();
        all.push("--json");
        let said = self.run(&all);
        assert_ne!(said.code, 0, "{args:?}: {said:?}");
        let last = said.stderr.lines().rev().find(|line| line.contains("\"error\""));
        let last = last.unwrap_or_else(|| panic!("no error line: {said:?}"));
        (said.code, serde_json::from_str::<Value>(last).unwrap()["error"].clone())
    }

    /// The messages between `user` and `peer`, by their text.
    pub fn texts(&self, user: &str, peer: &str) -> Vec<String> {
        let lines = self.json(&["tail", "--as", user, "--with", peer]);
        lines.iter().map(|m| m["text"].as_str().unwrap().to_owned()).collect()
    }
}

impl Said {
    pub fn lines(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }
}

/// Waits for a process, within the limit, and gives what it said.
pub fn said(child: Child) -> Said {
    let pid = child.id();
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = ended.recv_timeout(LIMIT) else {
        signal(pid, "KILL");
        panic!("the process did not end within {LIMIT:?}");
    };
    let Output { status, stdout, stderr } = output.unwrap();
    Said {
        code: status.code().unwrap_or(-1),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).stderr(Stdio::null()).status();
}

/// Waits until `condition` gives something.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(began.elapsed() < LIMIT, "waited too long for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A server process: `up` or a role.
pub struct Server {
    child: Child,
    pub ready: Value,
    log: PathBuf,
}

impl Server {
    /// `up` on the home's data folder, with ports that the system chooses.
    pub fn up(home: &Home) -> Self {
        Self::up_with(home, &["127.0.0.1:0"; 4])
    }

    /// `up` with these addresses of gate, front, wake and admin.
    pub fn up_with(home: &Home, addresses: &[&str; 4]) -> Self {
        let [gate, front, wake, admin] = addresses;
        Self::start(home, &["up", "--gate", gate, "--front", front, "--wake", wake, "--admin", admin])
    }

    /// Starts any server and waits for its ready line.
    pub fn start(home: &Home, args: &[&str]) -> Self {
        let log = home.path().join(format!("{}.log", args[0]));
        let mut args = args.to_vec();
        args.push("--json");
        let file = fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut child = home.command(&args).stderr(file).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, first) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(stdout).read_line(&mut line);
            let _ = sender.send(read.map(|_| line));
        });
        let mut server = Self { child, ready: Value::Null, log };
        let line = first.recv_timeout(LIMIT).map(Result::unwrap).unwrap_or_default();
        server.ready = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not ready: {}", server.log()));
        server
    }

    pub fn address(&self, name: &str) -> &str {
        self.ready[name].as_str().unwrap()
    }

    /// The addresses, for a start with the same ones.
    pub fn addresses(&self) -> [String; 4] {
        ["gate", "front", "wake", "admin"].map(|name| self.address(name).to_owned())
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it in order.
    pub fn stop(mut self) {
        signal(self.child.id(), "TERM");
        let status = until("the server's end", || self.child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// GET of a page of the admin surface: the status line and the body.
    pub fn page(&self, path: &str) -> (String, String) {
        let mut stream = std::net::TcpStream::connect(self.address("admin")).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }
}

/// A `tail --follow` whose lines are read one by one.
pub struct Follower {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Follower {
    pub fn start(home: &Home, user: &str, peer: &str) -> Self {
        let args = ["tail", "--as", user, "--with", peer, "--follow", "--json"];
        let mut child = home.command(&args).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        Self { child, lines }
    }

    /// The next line, which must come.
    pub fn next(&mut self) -> Value {
        let line = self.lines.recv_timeout(LIMIT).expect("no further line");
        serde_json::from_str(&line).unwrap()
    }

    /// Ctrl-C.
    pub fn interrupt(self) -> Said {
        signal(self.child.id(), "INT");
        said(self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
