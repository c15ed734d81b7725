//! Incidents on the disk: a file for each, a line of JSON for each line, only ever appended to.
//!
//! Why it exists: the story of a night must survive the night. What was appended is on the disk before it is called kept. A line
//! that cannot be read is left out, and the story says so. It must never change a line that is written, and never remove a file but
//! the oldest beyond the bound.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use buslane_chassis::secret;
use buslane_shared::UnixMs;

use super::incident::{ENTRIES_MAX, Incident, Line};
use super::ledger::INCIDENTS_MAX;
use super::timeline::SELF;
use crate::view::Entry;

/// Bytes of a file that are read: more than the longest story has.
const FILE_BYTES_MAX: u64 = 24 * 1024 * 1024;

/// The files of a folder. Everything here blocks.
#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
}

impl Store {
    /// The files of this folder, which is made if it is not there.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        secret::folder(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// The newest incidents, oldest first.
    pub(super) fn read_all(&self) -> io::Result<impl Iterator<Item = Incident>> {
        let mut numbers = Vec::new();
        for file in fs::read_dir(&self.folder)? {
            numbers.extend(number(&file?.file_name().to_string_lossy()));
        }
        numbers.sort_unstable();
        let surplus = numbers.len().saturating_sub(INCIDENTS_MAX);
        if surplus > 0 {
            let folder = self.folder.display();
            tracing::warn!(%folder, "{surplus} files of incidents are beyond the bound of {INCIDENTS_MAX}: the oldest are not shown");
        }
        Ok(numbers.into_iter().skip(surplus).filter_map(|no| self.read_or_say(no)))
    }

    fn read_or_say(&self, no: u64) -> Option<Incident> {
        match self.read(no) {
            Ok(incident) => Some(incident),
            Err(error) => {
                tracing::error!(path = %self.path(no).display(), %error, "an incident cannot be read");
                Some(unreadable(no, &error))
            }
        }
    }

    /// One incident, as far as it can be read.
    pub(super) fn read(&self, no: u64) -> io::Result<Incident> {
        let file = File::open(self.path(no))?;
        let at_ms = changed_ms(&file);
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(self.fold(no, at_ms, &bytes))
    }

    fn fold(&self, no: u64, at_ms: UnixMs, bytes: &[u8]) -> Incident {
        let mut incident = Incident::unknown(no, at_ms);
        let mut last_ms = at_ms;
        for (line_no, bytes) in (1_usize..).zip(bytes.split(|byte| *byte == b'\n')) {
            if bytes.is_empty() || incident.len() >= ENTRIES_MAX {
                continue;
            }
            let line = serde_json::from_slice(bytes).unwrap_or_else(|error| {
                let path = self.path(no);
                tracing::error!(path = %path.display(), line = line_no, %error, "a line of an incident is damaged");
                damaged(last_ms, format!("Line {line_no} of the file cannot be read and is left out"))
            });
            last_ms = line.entry.at_ms;
            incident.push_kept(line);
        }
        incident
    }

    /// Appends and waits for the disk: all of the lines, or an error and none of them.
    pub(super) fn append(&self, no: u64, lines: &[Line]) -> io::Result<()> {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
        }
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let path = self.path(no);
        let mut file = options.open(&path)?;
        let before = file.metadata()?.len();
        if !ends_in_line(&mut file, before)? {
            text.insert(0, b'\n');
        }
        let written = file.write_all(&text).and_then(|()| file.sync_all());
        if written.is_err() {
            // What cannot be taken back is a damaged line later, and is shown as one.
            let _ = file.set_len(before);
        }
        written?;
        if before == 0 { sync_folder(&self.folder) } else { Ok(()) }
    }

    /// Removes the file of an incident.
    pub(super) fn remove(&self, no: u64) -> io::Result<()> {
        match fs::remove_file(self.path(no)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn path(&self, no: u64) -> PathBuf {
        self.folder.join(format!("{no:04}.jsonl"))
    }
}

fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".jsonl")?;
    (digits.len() >= 4 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

fn changed_ms(file: &File) -> UnixMs {
    let changed = file.metadata().and_then(|about| about.modified()).unwrap_or(UNIX_EPOCH);
    changed.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// False after a crash or a full disk in the middle of a line.
fn ends_in_line(file: &mut File, bytes: u64) -> io::Result<bool> {
    if bytes == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(bytes - 1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn unreadable(no: u64, error: &io::Error) -> Incident {
    let mut incident = Incident::unknown(no, 0);
    incident.push_kept(damaged(0, format!("The file cannot be read: {error}")));
    incident
}

fn damaged(at_ms: UnixMs, text: String) -> Line {
    let entry = Entry { at_ms, author: SELF.to_owned(), kind: "damaged".to_owned(), text };
    Line { entry, fact: None }
}

/// Makes a new file's name durable. Where folders cannot be opened, it is so by itself.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::incidents::incident::{Fact, Opened};
    use crate::view::{IncidentState, Severity};

    fn line(at_ms: UnixMs, text: &str, fact: Option<Fact>) -> Line {
        let entry = Entry { at_ms, author: "jo".into(), kind: "note".into(), text: text.into() };
        Line { entry, fact }
    }

    fn first() -> Line {
        let opened = Opened {
            key: "store/down".into(),
            title: "The store does not answer.".into(),
            severity: Severity::High,
            expected_ms: 100,
            why: String::new(),
            affects: Vec::new(),
            runbook: String::new(),
        };
        line(1, "first", Some(Fact::Opened(opened)))
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("incidents")).unwrap();
        (dir, store)
    }

    #[test]
    fn what_was_appended_is_read_and_is_private() {
        let (_dir, store) = store();
        store.append(7, &[first()]).unwrap();
        store.append(7, &[line(2, "a\nb", None), line(3, "c", Some(Fact::Recovered))]).unwrap();
        let incident = store.read(7).unwrap();
        assert_eq!(incident.view().recovered_ms, Some(3));
        assert_eq!(incident.whole().timeline[1].text, "a\nb");
        assert!(incident.unkept().is_empty());
        assert_eq!(fs::metadata(store.path(7)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(store.read_all().unwrap().count(), 1);
        store.remove(7).unwrap();
        store.remove(7).unwrap();
        assert_eq!(store.read_all().unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_line_is_left_out_and_the_story_says_so() {
        let (_dir, store) = store();
        store.append(1, &[first(), line(2, "lost", None), line(3, "kept", None)]).unwrap();
        let text = fs::read_to_string(store.path(1)).unwrap();
        fs::write(store.path(1), text.replace("lost", "lo\"st")).unwrap();
        let whole = store.read(1).unwrap().whole();
        assert_eq!(
            (whole.state, whole.title.as_str()),
            (IncidentState::Detected, "The store does not answer.")
        );
        let said: Vec<(&str, &str)> =
            whole.timeline.iter().map(|entry| (entry.kind.as_str(), entry.text.as_str())).collect();
        let wanted = [
            ("note", "first"),
            ("damaged", "Line 2 of the file cannot be read and is left out"),
            ("note", "kept"),
        ];
        assert_eq!(said, wanted);
    }

    #[test]
    fn a_line_that_was_torn_does_not_take_the_next_one_with_it() {
        let (_dir, store) = store();
        store.append(1, &[first(), line(2, "torn", None)]).unwrap();
        let bytes = fs::read(store.path(1)).unwrap();
        fs::write(store.path(1), &bytes[..bytes.len() - 9]).unwrap();
        store.append(1, &[line(3, "next", None)]).unwrap();
        let kinds: Vec<String> =
            store.read(1).unwrap().whole().timeline.into_iter().map(|e| e.kind).collect();
        assert_eq!(kinds, ["note", "damaged", "note"]);
    }

    #[test]
    fn an_incident_whose_beginning_is_lost_is_listed_and_is_over() {
        let (_dir, store) = store();
        fs::write(store.path(4), "\u{0}garbage\n").unwrap();
        fs::create_dir(store.path(5)).unwrap();
        fs::write(store.folder.join("notes.txt"), "mine").unwrap();
        let read: Vec<Incident> = store.read_all().unwrap().collect();
        let numbers: Vec<u64> = read.iter().map(|incident| incident.view().no).collect();
        assert_eq!(numbers, [4, 5]);
        assert!(read.iter().all(|incident| !incident.is_open() && incident.view().entries == 1));
    }

    #[test]
    fn only_the_newest_are_read_and_none_is_removed_for_it() {
        let (_dir, store) = store();
        for no in 0..=INCIDENTS_MAX as u64 {
            fs::write(store.path(no), "").unwrap();
        }
        let read: Vec<u64> = store.read_all().unwrap().map(|incident| incident.view().no).collect();
        assert_eq!((read.len(), read[0]), (INCIDENTS_MAX, 1));
        assert!(store.path(0).exists());
    }
}
