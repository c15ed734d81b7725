//! Settings as they hold: every key with its value, and where the value comes from.
//!
//! Why it exists: a default that nobody wrote down decides as much as a line in the file, and a running process may have
//! been started with flags or with an older file. It reads and compares; it never changes a setting. There is no secret
//! in it: a settings file names the files that hold them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use buslane_chassis::config;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::settings;

/// All settings of one process or of one file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effective {
    /// "up", "gateway", "session-manager" or "backend".
    pub kind: String,
    /// The file.
    pub file: PathBuf,
    /// By key.
    pub settings: Vec<Setting>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The key with its tables, `a.b.c`.
    pub key: String,
    /// Its value; null: none.
    pub value: Value,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Origin {
    /// Nobody has written anything.
    Default,
    /// A line of the file.
    File {
        /// From 1.
        line: usize,
    },
    /// The command line.
    Flag {
        /// Its name.
        flag: String,
    },
    /// Made from what is written, or kept safe against it; said at the start.
    Adapted,
}

/// The settings that hold in this process, shown at `/v1/config`.
pub struct Shown(Mutex<Effective>);

impl Shown {
    /// These, from now on.
    pub fn new(effective: Effective) -> Arc<Self> {
        Arc::new(Self(Mutex::new(effective)))
    }

    /// Takes over a table of the file that was read again.
    pub fn take_table(&self, table: &str) {
        let file = self.0.lock().file.clone();
        // What was read a moment ago can be read; if not, what is shown is what held before.
        if let Ok(now) = Effective::read(&file) {
            self.0.lock().take_table(table, &now);
        }
    }

    /// `GET /v1/config`.
    pub fn route(self: &Arc<Self>) -> Router {
        Router::new().route("/v1/config", get(show)).with_state(Arc::clone(self))
    }
}

async fn show(State(shown): State<Arc<Shown>>) -> Json<Value> {
    Json(json!({"result": *shown.0.lock()}))
}

/// A key that was given on the command line, and the flag.
pub type Flag = (&'static str, &'static str);

/// The one key that tells the files apart.
#[derive(Debug, Deserialize)]
struct Kind {
    role: Option<String>,
}

/// The kind of process that a file is for.
pub fn kind_of(text: &str) -> String {
    // What does not parse is explained by the reader of an `up`'s settings.
    toml::from_str::<Kind>(text).ok().and_then(|kind| kind.role).unwrap_or_else(|| "up".to_owned())
}

/// The text of a file.
pub fn text_of(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Failure::usage(format!("{}: there is no such file", file.display())),
        _ => Failure::usage(format!("{}: {e}", file.display())),
    })
}

impl Effective {
    /// What a file says, with the defaults of what it does not say. A failure names file, line and remedy.
    pub fn read(file: &Path) -> Result<Self, Failure> {
        let text = text_of(file)?;
        let kind = kind_of(&text);
        let written = match kind.as_str() {
            "gateway" => value(&settings::load::<settings::Gateway>(file)?),
            "session-manager" => value(&settings::load::<settings::SessionManager>(file)?),
            "backend" => value(&settings::load::<settings::Backend>(file)?),
            "up" => value(&settings::load::<settings::Up>(file)?),
            other => {
                return Err(Failure::usage(format!(
                    "{}: role: there is no role `{other}`; write gateway, session-manager or backend",
                    file.display()
                )));
            }
        };
        Ok(Self::of(file, &text, &written, &[]))
    }

    /// What holds in a process that has read `file` and then gone by its command line.
    pub fn in_force(file: &Path, holds: &impl Serialize, flags: &[Flag]) -> Result<Self, Failure> {
        let written = Self::read(file)?;
        let holds = Self::of(file, &text_of(file)?, &value(holds), flags);
        let settings = holds.settings.into_iter().map(|now| match written.setting(&now.key) {
            Some(then) if then.value == now.value && !matches!(now.origin, Origin::Flag { .. }) => {
                then.clone()
            }
            _ if matches!(now.origin, Origin::Flag { .. }) => now,
            _ => Setting { origin: Origin::Adapted, ..now },
        });
        Ok(Self { settings: settings.collect(), ..written })
    }

    fn of(file: &Path, text: &str, holds: &Value, flags: &[Flag]) -> Self {
        let mut settings = Vec::new();
        gather(holds, &mut Vec::new(), &mut |path, value| {
            let key = path.join(".");
            let flag = flags.iter().find(|(flagged, _)| *flagged == key);
            let origin = match (flag, config::line_of(text, path)) {
                (Some((_, flag)), _) => Origin::Flag { flag: (*flag).to_owned() },
                (None, Some(line)) => Origin::File { line },
                (None, None) => Origin::Default,
            };
            settings.push(Setting { key, value: value.clone(), origin });
        });
        settings.sort_by(|a, b| a.key.cmp(&b.key));
        Self { kind: kind_of(text), file: file.to_owned(), settings }
    }

    /// The setting of this key.
    pub fn setting(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }

    /// Takes over every setting under a table from another reading of the file.
    pub fn take_table(&mut self, table: &str, from: &Self) {
        let under =
            |setting: &&Setting| setting.key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'));
        self.settings.retain(|setting| !under(&setting));
        self.settings.extend(from.settings.iter().filter(under).cloned());
        self.settings.sort_by(|a, b| a.key.cmp(&b.key));
    }

    /// Where a setting of these comes from, for people.
    pub fn origin(&self, setting: &Setting) -> String {
        match &setting.origin {
            Origin::Default => "default".to_owned(),
            Origin::File { line } => format!("{}:{line}", self.file.display()),
            Origin::Flag { flag } => flag.clone(),
            Origin::Adapted => "adapted at the start".to_owned(),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::Null => write!(f, "# {} is not set", self.key),
            value => write!(f, "{} = {value}", self.key),
        }
    }
}

fn value(settings: &impl Serialize) -> Value {
    // Settings are tables of plain values: they always encode.
    serde_json::to_value(settings).unwrap_or_default()
}

/// Calls `on` for every value that is no table, with its path.
fn gather(value: &Value, path: &mut Vec<String>, on: &mut impl FnMut(&[String], &Value)) {
    match value {
        Value::Object(table) if path.is_empty() || !table.is_empty() => {
            for (name, value) in table {
                path.push(name.clone());
                gather(value, path, on);
                path.pop();
            }
        }
        value => on(path, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn origin(effective: &Effective, key: &str) -> Origin {
        effective.setting(key).unwrap_or_else(|| panic!("no {key}")).origin.clone()
    }

    #[test]
    fn each_value_says_where_it_comes_from() {
        let (_dir, path) =
            file("[gateway]\nenrolment = \"open\"\n[session_manager.overload.lanes]\nseats = 64\n");
        let effective = Effective::read(&path).unwrap();
        assert_eq!(effective.kind, "up");
        assert_eq!(origin(&effective, "gateway.enrolment"), Origin::File { line: 2 });
        assert_eq!(origin(&effective, "session_manager.overload.lanes.seats"), Origin::File { line: 4 });
        assert_eq!(origin(&effective, "session_manager.overload.lanes.C1.guarantee"), Origin::Default);
        assert_eq!(
            effective.setting("session_manager.overload.lanes.C1.guarantee").unwrap().value,
            json!(30)
        );
        assert_eq!(effective.setting("keys").unwrap().to_string(), "# keys is not set");
    }

    #[test]
    fn flags_and_what_was_adapted_are_told_from_what_is_written() {
        let (_dir, path) = file("[gateway]\nenrolment = \"open\"\n");
        let mut up: settings::Up = settings::load(&path).unwrap();
        up.admin = "127.0.0.1:1".parse().unwrap();
        up.gateway.enrolment = buslane_gateway::config::Enrolment::Code;
        let effective = Effective::in_force(&path, &up, &[("admin", "--admin")]).unwrap();
        assert_eq!(origin(&effective, "admin"), Origin::Flag { flag: "--admin".to_owned() });
        assert_eq!(origin(&effective, "gateway.enrolment"), Origin::Adapted);
        assert_eq!(origin(&effective, "gateway.listen"), Origin::Default);
    }

    #[test]
    fn what_was_read_again_takes_the_place_of_what_held() {
        let (_dir, path) = file("");
        let mut running = Effective::read(&path).unwrap();
        std::fs::write(&path, "hosts = [\"a\"]\n[session_manager.overload.lanes]\nseats = 64\n").unwrap();
        let now = Effective::read(&path).unwrap();
        running.take_table("session_manager.overload", &now);
        assert_eq!(running.setting("session_manager.overload.lanes.seats").unwrap().value, json!(64));
        assert_eq!(origin(&running, "hosts"), Origin::Default, "that needs a restart");
        assert_eq!(running.settings.len(), now.settings.len());
    }

    #[test]
    fn it_travels_as_json() {
        let (_dir, path) = file("");
        let effective = Effective::read(&path).unwrap();
        let text = serde_json::to_string(&effective).unwrap();
        assert_eq!(serde_json::from_str::<Effective>(&text).unwrap(), effective);
    }
}
