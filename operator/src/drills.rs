//! Storms on purpose: what was expected of each, and whether it held.
//!
//! Why it exists: whoever drills does it from a shell, and whoever looks at the page wants to know when it was done last. What the
//! drill itself reports is kept as it is, up to a bound, in `drills.json`. A damaged file is put aside.

use std::io;
use std::path::{Path, PathBuf};

use buslane_chassis::secret;
use parking_lot::Mutex;

use crate::view::DrillView;

const FILE: &str = "drills.json";

/// Drills that are kept: one a week for four years.
const DRILLS_MAX: usize = 200;

/// Longest text of a drill, in bytes.
const TEXT_BYTES_MAX: usize = 2_048;

/// The drills that are kept, oldest first.
pub struct Drills {
    path: PathBuf,
    kept: Mutex<Vec<DrillView>>,
}

impl Drills {
    /// Those of a folder.
    pub fn open(folder: &Path) -> Self {
        let path = folder.join(FILE);
        let kept = Mutex::new(read(&path));
        Self { path, kept }
    }

    /// All of them, newest first.
    pub fn all(&self) -> Vec<DrillView> {
        self.kept.lock().iter().rev().cloned().collect()
    }

    /// Keeps one more. Blocks.
    pub fn add(&self, drill: DrillView) -> io::Result<()> {
        // Held while it is written: of two that come at once neither may be lost.
        let mut kept = self.kept.lock();
        let mut next = kept.clone();
        next.push(drill);
        let surplus = next.len().saturating_sub(DRILLS_MAX);
        next.drain(..surplus);
        secret::write(&self.path, &serde_json::to_vec_pretty(&next)?)?;
        *kept = next;
        Ok(())
    }
}

impl DrillView {
    /// Whether it can be kept; what is wrong with it.
    pub fn check(&self) -> Result<(), &'static str> {
        let texts = [&self.began, &self.scenario, &self.hypothesis, &self.verdict];
        let is_text = |text: &str| text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control);
        if !texts.into_iter().chain(&self.against).all(|text| is_text(text)) {
            return Err("a text is longer than 2048 bytes or has control characters");
        }
        if self.began.is_empty() || self.scenario.is_empty() || self.verdict.is_empty() {
            return Err("`began`, `scenario` and `verdict` say something");
        }
        Ok(())
    }
}

fn read(path: &Path) -> Vec<DrillView> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the drills cannot be read");
            return Vec::new();
        }
    };
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        let moved = std::fs::rename(path, path.with_extension("json.damaged")).is_ok();
        tracing::warn!(path = %path.display(), %error, moved, "the record of drills is damaged and begins anew");
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::drill;

    #[test]
    fn they_survive_a_restart_newest_first_and_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let drills = Drills::open(dir.path());
        for n in 0..DRILLS_MAX + 3 {
            drills.add(drill(&n.to_string())).unwrap();
        }
        let again = Drills::open(dir.path()).all();
        assert_eq!(again, drills.all());
        assert_eq!((again.len(), again[0].scenario.as_str()), (DRILLS_MAX, "202"));
    }

    #[test]
    fn a_damaged_record_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "[{").unwrap();
        assert!(Drills::open(dir.path()).all().is_empty());
        assert!(dir.path().join("drills.json.damaged").exists());
    }

    #[test]
    fn what_is_no_drill_is_not_kept() {
        drill("pohang").check().unwrap();
        let nameless = DrillView { scenario: String::new(), ..drill("x") };
        let long = DrillView { hypothesis: "x".repeat(TEXT_BYTES_MAX + 1), ..drill("x") };
        let loud = DrillView { against: Some("a\u{1b}[2J".into()), ..drill("x") };
        for bad in [nameless, long, loud] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
