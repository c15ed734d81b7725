//! What is usual of logins and messages at this time of the week, and how far the present is from it.
//!
//! Why it exists: "five logins a second" means nothing to who does not know this system. It is learnt by the process itself, is kept in
//! `trend.json` so that a restart does not forget three weeks, and calls nobody: a person is shown how unusual the present is and
//! what it is compared with. A damaged file is put aside, and learning begins anew.

mod baseline;
mod robust;

use std::io;
use std::path::{Path, PathBuf};

use buslane_chassis::secret;
use buslane_shared::UnixMs;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::view::Trend;

pub use baseline::Baseline;

const FILE: &str = "trend.json";

/// Largest file that is read: twice what all hours of all weeks take.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What is usual in this process.
pub struct Trends {
    path: PathBuf,
    known: Mutex<Known>,
}

/// What is learnt.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    logins: Baseline,
    messages: Baseline,
}

/// How the present compares.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Compared {
    /// Logins that are asked for.
    pub logins: Option<Trend>,
    /// Messages that are taken.
    pub messages: Option<Trend>,
}

impl Trends {
    /// What a folder knows.
    pub fn open(folder: &Path) -> Self {
        let path = folder.join(FILE);
        let known = Mutex::new(read(&path));
        Self { path, known }
    }

    /// Takes over the rates of the minute that has just ended.
    pub fn on_minute(&self, at_ms: UnixMs, logins_per_s: f64, messages_per_s: f64) {
        let mut known = self.known.lock();
        known.logins.on_minute(at_ms, logins_per_s);
        known.messages.on_minute(at_ms, messages_per_s);
    }

    /// How the rates of the last seconds compare with the usual.
    pub fn compare(&self, now_ms: UnixMs, logins_per_s: f64, messages_per_s: f64) -> Compared {
        let known = self.known.lock();
        Compared {
            logins: known.logins.compare(now_ms, logins_per_s),
            messages: known.messages.compare(now_ms, messages_per_s),
        }
    }

    /// Writes what is known. Blocks.
    pub fn keep(&self) -> io::Result<()> {
        let known = self.known.lock().clone();
        secret::write(&self.path, &serde_json::to_vec(&known)?)
    }
}

fn read(path: &Path) -> Known {
    let why = match read_sound(path) {
        Ok(known) => return known,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Known::default(),
        Err(error) => error,
    };
    let aside = path.with_extension("json.damaged");
    let moved = std::fs::rename(path, &aside).is_ok();
    tracing::warn!(path = %path.display(), %why, moved, "what is usual cannot be read and is learnt anew");
    Known::default()
}

fn read_sound(path: &Path) -> io::Result<Known> {
    if std::fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is larger than any that was written here",
        ));
    }
    let known: Known = serde_json::from_slice(&std::fs::read(path)?)?;
    if known.logins.is_sound() && known.messages.is_sound() {
        return Ok(known);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "it holds numbers that were never written here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learnt_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let trends = Trends::open(dir.path());
        for minute in 0..181 {
            trends.on_minute(1_763_337_600_000 + minute * 60_000, 5.0, 50.0);
        }
        trends.keep().unwrap();
        let now_ms = 1_763_337_600_000 + 181 * 60_000;
        let again = Trends::open(dir.path());
        assert!(again.compare(now_ms, 5.0, 50.0).messages.is_some());
        assert_eq!(again.compare(now_ms, 5.0, 50.0), trends.compare(now_ms, 5.0, 50.0));
    }

    #[test]
    fn a_damaged_file_is_put_aside() {
        let whole = serde_json::to_string(&Known::default()).unwrap();
        let half = &whole[..whole.len() / 2];
        let fewer = whole.replacen("[],", "", 1);
        let large = " ".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1);
        for damaged in ["", half, fewer.as_str(), large.as_str(), "{\"logins\":1}"] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(FILE), damaged).unwrap();
            let trends = Trends::open(dir.path());
            assert_eq!(*trends.known.lock(), Known::default());
            assert!(dir.path().join("trend.json.damaged").exists());
            trends.keep().unwrap();
            assert_eq!(*Trends::open(dir.path()).known.lock(), Known::default());
        }
    }
}
