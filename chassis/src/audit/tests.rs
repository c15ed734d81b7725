use super::*;
use std::fs;

fn entry(reason: &str) -> Entry {
    Entry {
        author: "kim".into(),
        action: "order.emergency".into(),
        reason: reason.into(),
        before: Value::Null,
        after: json!({"posture": "emergency"}),
    }
}

/// A folder with an audit of some entries.
fn written(count: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (audit, report) = Audit::open(dir.path()).unwrap();
    assert_eq!(report, Report::default());
    for no in 1..=count {
        assert_eq!(audit.write(entry(&format!("drill {no}"))).unwrap(), no);
    }
    dir
}

fn lines(dir: &Path) -> Vec<String> {
    fs::read_to_string(current(dir)).unwrap().lines().map(str::to_owned).collect()
}

fn rewrite(dir: &Path, lines: &[String]) {
    fs::write(current(dir), lines.iter().map(|l| format!("{l}\n")).collect::<String>()).unwrap();
}

fn damage(dir: &Path) -> Vec<String> {
    verify(dir).unwrap().damage.into_iter().map(|d| format!("{}:{} {}", d.file, d.line, d.what)).collect()
}

#[test]
fn what_was_written_is_read_and_the_chain_goes_on_after_a_restart() {
    let dir = written(3);
    let (audit, report) = Audit::open(dir.path()).unwrap();
    assert_eq!(report, Report { entries: 3, first: 1, last: 3, damage: vec![] });
    assert_eq!(audit.write(entry("drill 4")).unwrap(), 4);
    let reasons: Vec<_> = audit.last(2).unwrap().into_iter().map(|r| r.reason).collect();
    assert_eq!(reasons, ["drill 3", "drill 4"]);
    assert_eq!(audit.verify().unwrap(), Report { entries: 4, first: 1, last: 4, damage: vec![] });
}

#[test]
fn every_flipped_byte_is_found() {
    let dir = written(3);
    let whole = fs::read(current(dir.path())).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x01;
        fs::write(current(dir.path()), &bytes).unwrap();
        assert!(!damage(dir.path()).is_empty(), "byte {at} was flipped and nobody saw it");
    }
    fs::write(current(dir.path()), &whole).unwrap();
    assert_eq!(damage(dir.path()), [] as [&str; 0]);
}

#[test]
fn a_changed_line_is_named() {
    let dir = written(3);
    let mut changed = lines(dir.path());
    changed[1] = changed[1].replace("kim", "lee");
    rewrite(dir.path(), &changed);
    let expected =
        ["audit.jsonl:2 it is not what was written: the line was changed, or its writing was interrupted"];
    assert_eq!(damage(dir.path()), expected);
}

#[test]
fn removed_exchanged_and_repeated_lines_are_found() {
    let dir = written(4);
    let whole = lines(dir.path());
    let changed = |order: &[usize]| {
        rewrite(dir.path(), &order.iter().map(|i| whole[*i].clone()).collect::<Vec<_>>());
        damage(dir.path()).first().cloned().unwrap_or_default()
    };
    let follows = "it does not follow the line before it: lines were removed, added or exchanged";
    assert_eq!(changed(&[0, 2, 3]), format!("audit.jsonl:2 {follows}"));
    assert_eq!(changed(&[1, 2, 3]), format!("audit.jsonl:1 {follows}"));
    assert_eq!(changed(&[0, 2, 1, 3]), format!("audit.jsonl:2 {follows}"));
    assert_eq!(changed(&[0, 1, 1, 2, 3]), format!("audit.jsonl:3 {follows}"));
    assert_eq!(changed(&[0, 1]), "audit.jsonl:3 2 entries are missing at the end");
    assert_eq!(changed(&[]), "audit.jsonl:1 4 entries are missing at the end");
    assert_eq!(changed(&[0, 1, 2, 3]), "");
}

#[test]
fn a_chain_that_was_written_anew_does_not_fit_its_head() {
    let dir = written(2);
    let other = written(2);
    fs::copy(current(other.path()), current(dir.path())).unwrap();
    let found = damage(dir.path());
    assert!(found[0].contains("rewritten"), "{found:?}");
}

#[test]
fn a_damaged_chain_is_told_and_goes_on_behind_a_marked_break() {
    let dir = written(3);
    let mut whole = fs::read(current(dir.path())).unwrap();
    // A power cut in the middle of the last line.
    whole.truncate(whole.len() - 10);
    fs::write(current(dir.path()), &whole).unwrap();
    let (audit, report) = Audit::open(dir.path()).unwrap();
    assert_eq!((report.entries, report.damage.len()), (2, 2), "the line, and that the head saw more");
    assert_eq!(audit.write(entry("after")).unwrap(), 5);
    let found = damage(dir.path());
    assert!(found[1].contains("audit.jsonl:4 a break is marked"), "{found:?}");
    assert_eq!(found.len(), 2, "{found:?}");
    let entries = audit.last(10).unwrap();
    let actions: Vec<_> = entries.iter().map(|r| (r.no, r.action.as_str())).collect();
    let order = "order.emergency";
    assert_eq!(actions, [(1, order), (2, order), (4, BREAK), (5, order)]);
    // It stays told, and one break is enough.
    drop(audit);
    let (audit, again) = Audit::open(dir.path()).unwrap();
    assert!(!again.damage.is_empty());
    assert_eq!(audit.write(entry("later")).unwrap(), 6);
}

#[test]
fn an_entry_without_its_head_is_no_damage() {
    let dir = written(2);
    let head = fs::read(dir.path().join(HEAD)).unwrap();
    let (audit, _) = Audit::open(dir.path()).unwrap();
    audit.write(entry("third")).unwrap();
    // A crash between the entry and its head.
    fs::write(dir.path().join(HEAD), head).unwrap();
    assert_eq!(damage(dir.path()), [] as [&str; 0]);
    fs::remove_file(dir.path().join(HEAD)).unwrap();
    assert_eq!(damage(dir.path()), [] as [&str; 0]);
}

#[test]
fn it_is_bounded_and_the_chain_goes_on_over_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, _) = Audit::open_with(dir.path(), 1_000).unwrap();
    for no in 1..=20 {
        audit.write(entry(&format!("drill {no}"))).unwrap();
    }
    let files = check::files(dir.path()).unwrap();
    assert!(files.len() > 3, "{files:?}");
    assert_eq!(audit.verify().unwrap(), Report { entries: 20, first: 1, last: 20, damage: vec![] });
    // The oldest is missing, and there are not so many that it was removed for that.
    let kept = fs::read(&files[0]).unwrap();
    fs::remove_file(&files[0]).unwrap();
    assert!(damage(dir.path())[0].contains("removed"), "{:?}", damage(dir.path()));
    fs::write(&files[0], kept).unwrap();

    for no in 21..=200 {
        audit.write(entry(&format!("drill {no}"))).unwrap();
    }
    assert_eq!(check::files(dir.path()).unwrap().len(), FILES_MAX);
    let report = audit.verify().unwrap();
    assert_eq!((report.last, report.damage.len()), (200, 0));
    assert!(report.first > 1);
}

#[test]
fn what_is_too_long_to_be_read_again_is_not_written() {
    let dir = written(1);
    let (audit, _) = Audit::open(dir.path()).unwrap();
    let frame = {
        audit.write(entry("")).unwrap();
        lines(dir.path()).last().unwrap().len() + 1
    };
    assert_eq!(audit.write(entry(&"x".repeat(LINE_BYTES_MAX - frame))).unwrap(), 3);
    let error = audit.write(entry(&"x".repeat(LINE_BYTES_MAX - frame + 1))).unwrap_err();
    assert!(error.to_string().contains("an entry has at most"), "{error}");
    assert_eq!(audit.write(entry("after it")).unwrap(), 4);
    assert_eq!(audit.verify().unwrap().damage, []);
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_before_the_action() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = Audit::open(&file).unwrap_err().to_string();
    assert!(error.contains("audit.jsonl") && error.contains("nothing is done"), "{error}");
}

#[test]
fn what_is_looked_at_holds_up_no_writer_and_is_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, _) = Audit::open_with(dir.path(), 1_000).unwrap();
    for no in 1..=5 {
        audit.write(entry(&format!("drill {no}"))).unwrap();
    }
    let snapshots = [audit.snapshot().unwrap(), audit.snapshot().unwrap()];
    assert!(!audit.inner.is_locked(), "the lines are read without the lock");
    // Meanwhile the file is closed and others begin; the oldest are removed for their number.
    for no in 6..=200 {
        audit.write(entry(&format!("drill {no}"))).unwrap();
    }
    let [checked, last] = snapshots;
    assert_eq!(checked.check().unwrap().report, Report { entries: 5, first: 1, last: 5, damage: vec![] });
    assert_eq!(last.last(1).unwrap()[0].no, 5);
}

#[tokio::test]
async fn those_who_look_take_turns_and_hold_up_no_action() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, _) = Audit::open(dir.path()).unwrap();
    audit.write(entry("the first")).unwrap();
    let turn = Arc::clone(&audit.looking).lock_owned().await;
    let other = Arc::clone(&audit);
    let looking = tokio::spawn(async move { other.look(10).await });
    assert_eq!(audit.record(entry("while somebody looks")).await.unwrap(), 2);
    assert!(!looking.is_finished(), "another one has the turn");
    drop(turn);
    let (entries, report) = looking.await.unwrap().unwrap();
    assert_eq!((entries.len(), report.entries), (2, 2));
}
