//! Reading an audit from its first file to its head, and saying where it is not what was written.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::line::{self, Hash, Record};
use super::{BREAK, FILES_MAX, HEAD, Head, LINE_BYTES_MAX, current};

/// Damages that are reported: the first is what matters, a file that is overwritten has thousands.
const DAMAGE_MAX: usize = 32;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// Entries that are what was written.
    pub entries: u64,
    /// Number of the first of them. Above 1 where the oldest files were removed for their number.
    pub first: u64,
    /// Number of the last of them.
    pub last: u64,
    /// Where it is damaged, from the beginning; empty: nowhere.
    pub damage: Vec<Damage>,
}

/// A place that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Name of the file.
    pub file: String,
    /// Line in it, from 1.
    pub line: u64,
    /// What is wrong.
    pub what: String,
}

pub(super) struct Checked {
    pub(super) report: Report,
    /// Where the chain goes on.
    pub(super) head: Option<Head>,
    /// Something is damaged behind the last marked break.
    pub(super) unmarked: bool,
    /// Whether the last file ends with a whole line.
    pub(super) ends_in_line: bool,
}

/// The files of an audit, oldest first.
pub(super) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut closed = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let number = name.strip_prefix("audit.").and_then(|rest| rest.strip_suffix(".jsonl"));
        if number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())) {
            closed.push(entry.path());
        }
    }
    closed.sort();
    closed.extend(Some(current(folder)).filter(|path| path.exists()));
    Ok(closed)
}

/// An audit as it is at one moment. It is taken while nobody writes, and read while somebody may: what is appended later, renamed
/// or removed changes nothing of it.
pub(super) struct Snapshot {
    files: Vec<Part>,
    witness: Option<Head>,
}

struct Part {
    name: String,
    file: File,
    bytes: u64,
}

impl Snapshot {
    /// Opens the files, and reads none of the lines.
    pub(super) fn take(folder: &Path) -> io::Result<Self> {
        let part = |path: PathBuf| {
            let file = File::open(&path)?;
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            Ok(Part { name, bytes: file.metadata()?.len(), file })
        };
        let files = files(folder)?.into_iter().map(part).collect::<io::Result<_>>()?;
        let witness = fs::read(folder.join(HEAD)).ok().and_then(|b| serde_json::from_slice(&b).ok());
        Ok(Self { files, witness })
    }

    /// Reads all of it.
    pub(super) fn check(self) -> io::Result<Checked> {
        let mut walk = Walk::new(self.witness, self.files.len() < FILES_MAX);
        let mut ends_in_line = true;
        for part in self.files {
            ends_in_line = read_lines(part, |line| walk.on_line(line))?;
        }
        Ok(Checked { ends_in_line, ..walk.end() })
    }

    /// The last entries that can be read, oldest first.
    pub(super) fn last(self, count: usize) -> io::Result<Vec<Record>> {
        let mut kept = VecDeque::new();
        for part in self.files {
            read_lines(part, |line| {
                if let Some((record, _)) = line.text.and_then(line::decode) {
                    kept.push_back(record);
                    if kept.len() > count {
                        kept.pop_front();
                    }
                }
            })?;
        }
        Ok(kept.into())
    }
}

/// A line of a file.
struct Line<'a> {
    file: &'a str,
    no: u64,
    /// `None`: it is not UTF-8, too long, or without its end.
    text: Option<&'a str>,
}

/// Whether the file ends with a whole line.
fn read_lines(part: Part, mut on_line: impl FnMut(Line<'_>)) -> io::Result<bool> {
    let Part { name: file, file: open, bytes } = part;
    let mut reader = BufReader::new(open.take(bytes));
    let mut buffer = Vec::new();
    for no in 1.. {
        buffer.clear();
        let limit = LINE_BYTES_MAX as u64;
        if reader.by_ref().take(limit).read_until(b'\n', &mut buffer)? == 0 {
            return Ok(true);
        }
        let text = buffer.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok());
        on_line(Line { file: &file, no, text });
        if buffer.last() != Some(&b'\n') && (buffer.len() as u64) < limit {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What is known on the way through the lines.
struct Walk {
    report: Report,
    /// The entry before, if it is what was written.
    before: Option<Head>,
    /// The end of the chain so far, whatever was damaged on the way.
    head: Option<Head>,
    witness: Option<Head>,
    /// No file was removed for its number: it begins with 1.
    complete: bool,
    unmarked: bool,
    place: (String, u64),
}

impl Walk {
    fn new(witness: Option<Head>, complete: bool) -> Self {
        let place = ("audit.jsonl".to_owned(), 0);
        Self {
            report: Report::default(),
            before: None,
            head: None,
            witness,
            complete,
            unmarked: false,
            place,
        }
    }

    fn on_line(&mut self, line: Line<'_>) {
        let first = self.place.1 == 0;
        self.place = (line.file.to_owned(), line.no);
        let Some((record, hash)) = line.text.and_then(line::decode) else {
            self.before = None;
            self.damaged("it is not what was written: the line was changed, or its writing was interrupted");
            return;
        };
        if record.action == BREAK {
            self.damaged("a break is marked here: what is before it was found damaged");
            self.unmarked = false;
        } else if let Some(what) = self.complaint(&record, &hash, first) {
            self.damaged(what);
        }
        self.report.entries += 1;
        if self.report.first == 0 {
            self.report.first = record.no;
        }
        self.report.last = record.no;
        self.before = Some(Head { no: record.no, hash });
        self.head.clone_from(&self.before);
    }

    fn complaint(&self, record: &Record, hash: &Hash, first: bool) -> Option<&'static str> {
        let follows = match &self.before {
            Some(before) => record.prev == before.hash && record.no == before.no + 1,
            // After a damaged line nothing can be said, but of the very first.
            None => !first || !self.complete || (record.no == 1 && record.prev.is_empty()),
        };
        if !follows {
            return Some("it does not follow the line before it: lines were removed, added or exchanged");
        }
        let witness = self.witness.as_ref().filter(|head| head.no == record.no);
        let rewritten = witness.is_some_and(|head| head.hash != *hash);
        rewritten.then_some("it is not the entry of this number that audit.head saw: the chain was rewritten")
    }

    fn end(mut self) -> Checked {
        let last = self.head.as_ref().map_or(0, |head| head.no);
        if let Some(head) = self.witness.take().filter(|head| head.no > last) {
            self.place.1 += 1;
            self.damaged(&format!("{} entries are missing at the end", head.no - last));
            // The numbers of what is missing are not used again.
            self.head = Some(head);
        }
        Checked { report: self.report, head: self.head, unmarked: self.unmarked, ends_in_line: true }
    }

    fn damaged(&mut self, what: &str) {
        self.unmarked = true;
        if self.report.damage.len() < DAMAGE_MAX {
            let (file, line) = self.place.clone();
            self.report.damage.push(Damage { file, line, what: what.to_owned() });
        }
    }
}
