//! What the journal of the database holds, looked at before the database opens it.
//!
//! Why: at its start the database silently cuts a journal at the first thing it does not understand, and refuses to start
//! when the last batch has a hole. The first would hide that acknowledged messages are gone; the second would keep a store
//! closed after an ordinary power cut. So we tell the two apart here: a *torn* end is a batch that was still being written
//! when the machine stopped (nobody was told that it is stored), and is cut off; anything else is *damage*, and is
//! reported with nothing changed.
//!
//! The form (fjall 3, `journal/entry.rs`), numbers little-endian: a batch is `1 | u32 items | u64 seqno`, then items
//! `2 | u8 kind | u8 compression | u64 keyspace | u16 key bytes | u32 value bytes | u32 stored bytes | key | value` or
//! `4 | u64 keyspace`, then `3 | u64 xxh3 of the items | "FJL" 3`. A file may end in zeros that were never written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::folder::{OpenError, unreadable};

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: [u8; 4] = [b'F', b'J', b'L', 3];

/// Largest end that is taken for torn. A commit is about 1 MiB, and a single write of a table not much larger.
const TORN_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Disks write whole sectors: what was not written is a sector of zeros.
const SECTOR_BYTES: usize = 512;

/// Numbers that lie between one batch and the next at most: background work takes a few.
const SEQNO_GAP_MAX: u64 = 64 * 1024;

/// Why a batch does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    /// It ends in the middle, or something else than a journal is there.
    Unreadable,
    /// It is whole, and its checksum is another.
    Checksum,
    /// All of it is there but the four bytes at its end, which are others.
    Trailer,
}

/// Looks at every journal in `data`, and cuts off a torn end.
pub(crate) fn check(data: &Path) -> Result<(), OpenError> {
    let mut last = None;
    let mut torn: Option<(PathBuf, u64, u64)> = None;
    for (_, path) in journals(data)? {
        let before = last;
        let verdict = verdict(&path, &mut last).map_err(unreadable(&path))?;
        // A write that failed for good may have been followed by a new journal, into which nothing was written.
        if let Some((torn, at, _)) = torn.as_ref().filter(|_| verdict != Verdict::Whole || last != before) {
            let reason = format!("it ends early, at byte {at}, and another follows it");
            return Err(OpenError::Damaged { path: torn.clone(), reason });
        }
        match verdict {
            Verdict::Whole => {}
            Verdict::Torn { at, bytes } => torn = Some((path, at, bytes)),
            Verdict::Damaged { at } => {
                return Err(OpenError::Damaged {
                    path,
                    reason: format!("a batch does not check, at byte {at}"),
                });
            }
        }
    }
    if let Some((path, at, bytes)) = torn {
        tracing::warn!(bytes, "cutting off a write that was not finished when the store last ended");
        cut(&path, at).map_err(unreadable(&path))?;
    }
    Ok(())
}

/// The journals, oldest first.
fn journals(data: &Path) -> Result<Vec<(u64, PathBuf)>, OpenError> {
    let mut found = Vec::new();
    for item in fs::read_dir(data).map_err(unreadable(data))? {
        let path = item.map_err(unreadable(data))?.path();
        if path.extension().is_none_or(|e| e != "jnl") {
            continue;
        }
        let id = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse().ok());
        let Some(id) = id else {
            return Err(OpenError::Damaged { path, reason: "it is not the name of a journal".into() });
        };
        found.push((id, path));
    }
    found.sort();
    Ok(found)
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Whole,
    /// The last batch was never finished.
    Torn {
        at: u64,
        bytes: u64,
    },
    Damaged {
        at: u64,
    },
}

/// `last` is the number of the last batch before this journal, and after it.
fn verdict(path: &Path, last: &mut Option<u64>) -> io::Result<Verdict> {
    let mut reader = Counted { inner: BufReader::with_capacity(1 << 20, File::open(path)?), count: 0 };
    let (mut at, mut scratch) = (0, Vec::new());
    let flaw = loop {
        match batch(&mut reader, &mut scratch)? {
            Ok(seqno) if !follows(*last, seqno) => return Ok(Verdict::Damaged { at }),
            Ok(seqno) => (*last, at) = (Some(seqno), reader.count),
            Err(flaw) => break flaw,
        }
    };
    let mut file = reader.inner.into_inner();
    let end = end_of_content(&mut file, at)?;
    if end == at {
        return Ok(Verdict::Whole);
    }
    if end - at > TORN_BYTES_MAX {
        return Ok(Verdict::Damaged { at });
    }
    file.seek(SeekFrom::Start(at))?;
    let mut tail = vec![0; (end - at) as usize];
    file.read_exact(&mut tail)?;
    Ok(if is_torn(&tail, at, flaw) { Verdict::Torn { at, bytes: end - at } } else { Verdict::Damaged { at } })
}

/// Whether a batch with this number may come after `last`. The checksum does not cover it, and a batch whose number is
/// too low would be skipped as if it had been written out before.
fn follows(last: Option<u64>, seqno: u64) -> bool {
    last.is_none_or(|last| last < seqno && seqno - last <= SEQNO_GAP_MAX)
}

/// Whether `tail`, which begins at byte `at` of the file and does not read, was never finished: there is no whole batch
/// behind it, and it is not itself finished without a hole.
fn is_torn(tail: &[u8], at: u64, flaw: Flaw) -> bool {
    let is_finished = tail.ends_with(&TRAILER) || flaw == Flaw::Trailer;
    if is_finished && !has_hole(tail, at) {
        return false;
    }
    let mut scratch = Vec::new();
    let mut from = tail;
    while let Some(start) = from.iter().position(|b| *b == START) {
        let Some(candidate) = from.get(start..) else { break };
        let mut reader = Counted { inner: candidate, count: 0 };
        if matches!(batch(&mut reader, &mut scratch), Ok(Ok(_))) {
            return false;
        }
        from = from.get(start + 1..).unwrap_or_default();
    }
    true
}

/// Whether a whole sector in `tail` is zero: it was not yet written when the machine stopped.
fn has_hole(tail: &[u8], at: u64) -> bool {
    let into_sector = (at % SECTOR_BYTES as u64) as usize;
    let skip = (SECTOR_BYTES - into_sector) % SECTOR_BYTES;
    let sectors = tail.get(skip..).unwrap_or_default().chunks_exact(SECTOR_BYTES);
    sectors.into_iter().any(|sector| sector.iter().all(|b| *b == 0))
}

/// Where the content of the file ends, zeros at the end left out.
fn end_of_content(file: &mut File, from: u64) -> io::Result<u64> {
    let zeros = vec![0; 1 << 20];
    let mut buffer = zeros.clone();
    let (mut end, mut place) = (from, from);
    file.seek(SeekFrom::Start(from))?;
    loop {
        let read = file.read(&mut buffer)?;
        let Some(chunk) = buffer.get(..read).filter(|c| !c.is_empty()) else { return Ok(end) };
        // Compared as a whole first: most of a new journal is zeros.
        let has_content = Some(chunk) != zeros.get(..read);
        if let Some(last) = has_content.then(|| chunk.iter().rposition(|b| *b != 0)).flatten() {
            end = place + last as u64 + 1;
        }
        place += read as u64;
    }
}

fn cut(path: &Path, at: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(at)?;
    file.sync_all()
}

struct Counted<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Counted<R> {
    fn exact(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        match self.inner.read_exact(buffer) {
            Ok(()) => {
                self.count += buffer.len() as u64;
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn array<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        let mut bytes = [0; N];
        Ok(self.exact(&mut bytes)?.then_some(bytes))
    }
}

macro_rules! or_unreadable {
    ($read:expr) => {
        match $read? {
            Some(bytes) => bytes,
            None => return Ok(Err(Flaw::Unreadable)),
        }
    };
}

/// Reads one batch; its number. The outer error is the disk's.
fn batch<R: Read>(reader: &mut Counted<R>, scratch: &mut Vec<u8>) -> io::Result<Result<u64, Flaw>> {
    let [tag, c0, c1, c2, c3, seqno @ ..] = or_unreadable!(reader.array::<13>());
    if tag != START {
        return Ok(Err(Flaw::Unreadable));
    }
    let mut hash = Xxh3::new();
    for _ in 0..u32::from_le_bytes([c0, c1, c2, c3]) {
        let [tag] = or_unreadable!(reader.array::<1>());
        hash.update(&[tag]);
        match tag {
            ITEM => {
                if !item(reader, &mut hash, scratch)? {
                    return Ok(Err(Flaw::Unreadable));
                }
            }
            CLEAR => hash.update(&or_unreadable!(reader.array::<8>())),
            _ => return Ok(Err(Flaw::Unreadable)),
        }
    }
    let [tag, checksum @ ..] = or_unreadable!(reader.array::<9>());
    if tag != END {
        return Ok(Err(Flaw::Unreadable));
    }
    let checks = u64::from_le_bytes(checksum) == hash.digest();
    let trailer = or_unreadable!(reader.array::<4>());
    Ok(match (checks, trailer == TRAILER) {
        (true, true) => Ok(u64::from_le_bytes(seqno)),
        (true, false) if trailer.iter().all(|b| *b != 0) => Err(Flaw::Trailer),
        (false, true) => Err(Flaw::Checksum),
        _ => Err(Flaw::Unreadable),
    })
}

/// Reads the rest of an item. False: it does not read.
fn item<R: Read>(reader: &mut Counted<R>, hash: &mut Xxh3, scratch: &mut Vec<u8>) -> io::Result<bool> {
    let Some(head) = reader.array::<20>()? else { return Ok(false) };
    hash.update(&head);
    let [_kind, _compression, _k @ .., b0, b1, _, _, _, _, s0, s1, s2, s3] = head;
    let key_bytes = u64::from(u16::from_le_bytes([b0, b1]));
    let stored_bytes = u64::from(u32::from_le_bytes([s0, s1, s2, s3]));
    let bytes = key_bytes + stored_bytes;
    // A length that cannot be is no reason to allocate it.
    if bytes > TORN_BYTES_MAX {
        return Ok(false);
    }
    scratch.resize(bytes as usize, 0);
    if !reader.exact(scratch)? {
        return Ok(false);
    }
    hash.update(scratch);
    Ok(true)
}

#[cfg(test)]
mod tests;
