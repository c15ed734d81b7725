//! The check: what the phones have recorded, held against what the server's log says. Pure.
//!
//! It knows nothing of how the server works, only what it promises. It must never take what it could not look at for right:
//! that is said in the notes.

mod hearing;
mod room;

use super::findings::Findings;
use super::logs::RoomLog;
use super::record::Record;
use super::timeline::Timeline;

/// Holds a record against the logs that were read back after the run.
pub fn check(record: &Record, logs: &[RoomLog]) -> Findings {
    let timeline = Timeline::of(record);
    let mut log_of: Vec<Option<&RoomLog>> = vec![None; timeline.rooms.len()];
    for log in logs {
        let room = record.number_of_room(&log.room);
        if let Some(known) = room.and_then(|room| log_of.get_mut(room as usize)) {
            *known = Some(log);
        }
    }
    let mut findings = Findings::default();
    for ((facts, happenings), log) in record.rooms.iter().zip(&timeline.rooms).zip(log_of) {
        if happenings.is_empty() && log.is_none_or(|log| log.lines.is_empty()) {
            continue;
        }
        findings.rooms += 1;
        room::check(record, &timeline, room::Room { facts, happenings, log }, &mut findings);
    }
    note(record, logs, &mut findings);
    findings
}

/// What was not looked at, and why.
fn note(record: &Record, logs: &[RoomLog], findings: &mut Findings) {
    findings.is_cut = record.is_cut();
    if findings.is_cut {
        findings.notes.push(format!(
            "the record was full after {} entries: what came later was not checked, nor whether anything is missing that may \
             have come later",
            record.len()
        ));
    }
    let unread = findings.rooms - findings.rooms_read;
    if unread > 0 {
        let why = logs.iter().find_map(|log| log.unread.as_deref()).unwrap_or("nobody read them");
        findings.notes.push(format!(
            "the logs of {unread} of {} rooms could not be read back ({why}): what is stored there was not checked",
            findings.rooms
        ));
    }
}
