//! A journal that was torn is told apart from one that was damaged, for every byte of it.

use super::*;
use tempfile::{TempDir, tempdir};

/// A batch as the database writes it, with one item for each value.
fn encoded(seqno: u64, values: &[&[u8]]) -> Vec<u8> {
    let mut items = Vec::new();
    for value in values {
        items.extend([ITEM, 0, 0]);
        items.extend(5u64.to_le_bytes());
        items.extend(3u16.to_le_bytes());
        items.extend((value.len() as u32).to_le_bytes());
        items.extend((value.len() as u32).to_le_bytes());
        items.extend(b"key");
        items.extend(*value);
    }
    let mut checksum = Xxh3::new();
    checksum.update(&items);
    let mut out = vec![START];
    out.extend((values.len() as u32).to_le_bytes());
    out.extend(seqno.to_le_bytes());
    out.extend(items);
    out.push(END);
    out.extend(checksum.digest().to_le_bytes());
    out.extend(TRAILER);
    out
}

struct Journal {
    folder: TempDir,
}

impl Journal {
    fn new() -> Self {
        Self { folder: tempdir().unwrap() }
    }

    fn verdict(&self, content: &[u8]) -> Verdict {
        let path = self.folder.path().join("0.jnl");
        fs::write(&path, content).unwrap();
        verdict(&path, &mut None).unwrap()
    }
}

fn zeros(bytes: usize) -> Vec<u8> {
    vec![0; bytes]
}

#[test]
fn a_whole_journal_is_whole_with_and_without_room_behind_it() {
    let journal = Journal::new();
    let batches = [encoded(1, &[b"one"]), encoded(2, &[b"two", b""]), encoded(3, &[&[0; 4000]])].concat();
    assert_eq!(journal.verdict(&batches), Verdict::Whole);
    assert_eq!(journal.verdict(&[batches, zeros(3 << 20)].concat()), Verdict::Whole);
    assert_eq!(journal.verdict(&[]), Verdict::Whole);
    assert_eq!(journal.verdict(&zeros(5000)), Verdict::Whole);
}

#[test]
fn a_batch_that_is_cut_anywhere_is_torn() {
    let journal = Journal::new();
    let (first, last) = (encoded(1, &[b"one"]), encoded(2, &[b"two", b"three"]));
    for cut in 1..last.len() {
        for room in [0, 100_000] {
            let content = [&first[..], &last[..cut], &zeros(room)].concat();
            let at = first.len() as u64;
            let verdict = journal.verdict(&content);
            assert!(
                matches!(verdict, Verdict::Torn { at: found, .. } if found == at),
                "cut at {cut}: {verdict:?}"
            );
        }
    }
}

#[test]
fn a_batch_with_a_sector_that_was_not_written_is_torn() {
    let journal = Journal::new();
    let first = encoded(1, &[b"one"]);
    let last = encoded(2, &[&[7; 5000]]);
    let mut content = [first.clone(), last].concat();
    content[1024..1024 + SECTOR_BYTES].fill(0);
    assert!(matches!(journal.verdict(&content), Verdict::Torn { at, .. } if at == first.len() as u64));
}

#[test]
fn one_flipped_bit_anywhere_is_damage_or_a_torn_end_that_was_never_finished() {
    let journal = Journal::new();
    let batches = [encoded(1, &[b"one"]), encoded(2, &[b"two", b"three"]), encoded(3, &[b"four"])];
    let content = batches.concat();
    let last = content.len() - batches[2].len();
    for at in 0..content.len() {
        for bit in 0..8 {
            let mut flipped = content.clone();
            flipped[at] ^= 1 << bit;
            // The number of a batch is not covered by its checksum. Where it still fits between its neighbours it does
            // no harm to the content.
            let is_first = (5..13).contains(&at) && (1 ^ 1 << bit) < 2;
            let is_last = (last + 5..last + 7).contains(&at);
            if is_first || is_last {
                continue;
            }
            let verdict = journal.verdict(&flipped);
            assert!(matches!(verdict, Verdict::Damaged { .. }), "byte {at}, bit {bit}: {verdict:?}");
        }
    }
}

#[test]
fn an_end_that_is_torn_in_an_older_journal_is_damage() {
    let journal = Journal::new();
    let whole = encoded(1, &[b"one"]);
    let next = encoded(2, &[b"two"]);
    let torn = [&next[..], &encoded(3, &[b"three"])[..20]].concat();
    let (older, newer) = (journal.folder.path().join("3.jnl"), journal.folder.path().join("12.jnl"));
    fs::write(&older, &whole).unwrap();
    fs::write(&newer, &torn).unwrap();
    check(journal.folder.path()).unwrap();
    assert_eq!(fs::read(&newer).unwrap(), next, "the torn end is cut off");

    // A new journal into which nothing was written does not make it worse.
    fs::write(&older, &torn).unwrap();
    fs::write(&newer, zeros(10_000)).unwrap();
    check(journal.folder.path()).unwrap();
    assert_eq!(fs::read(&older).unwrap(), next);

    fs::write(&older, &torn).unwrap();
    fs::write(&newer, encoded(4, &[b"four"])).unwrap();
    assert!(matches!(check(journal.folder.path()), Err(OpenError::Damaged { path, .. }) if path == older));
    assert_eq!(fs::read(&older).unwrap(), torn, "nothing is changed");
}
