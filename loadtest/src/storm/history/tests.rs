//! A correct history passes; each single thing that is wrong in it is found.

mod model;

use std::time::{Duration, Instant};

use buslane_shared::wire;
use proptest::prelude::*;

use self::model::{Event, History, What};
use super::logs::{MemberChange, RoomLog};
use super::*;

fn broken(findings: &Findings) -> Vec<Promise> {
    findings.promises.iter().filter(|(_, held)| held.broken > 0).map(|(promise, _)| *promise).collect()
}

/// A defect of a server, where a history has room for it.
type Defect = fn(&mut History) -> Option<()>;

/// Each defect, and the promise that it breaks.
const DEFECTS: [(&str, Promise, Defect); 17] = [
    ("a stored message is gone, and a hole is left", Promise::ReceiptIsStored, |h| {
        let at = h.place_of_acknowledged()?;
        h.log.remove(at);
        Some(())
    }),
    ("a stored message is gone, and others have moved up", Promise::ReceiptIsStored, |h| {
        let at = h.place_of_acknowledged()?;
        h.log.remove(at);
        h.log.iter_mut().skip(at).for_each(|line| line.seq -= 1);
        Some(())
    }),
    ("the end of the log is gone", Promise::ReceiptIsStored, |h| {
        let last = h.log.pop()?;
        h.receipt_of(last.number).map(drop)
    }),
    ("two messages are stored in each other's place", Promise::ReceiptIsTheLogs, |h| {
        let at = h.place_of_acknowledged()?;
        let (one, other) = (h.log[at], *h.log.get(at + 1)?);
        h.log[at] = model::Line { seq: one.seq, ..other };
        h.log[at + 1] = model::Line { seq: other.seq, ..one };
        Some(())
    }),
    ("a message is stored twice", Promise::OneSeqForAnId, |h| {
        let (first, last) = (*h.log.first()?, *h.log.last()?);
        h.log.push(model::Line { seq: last.seq + 1, ..first });
        Some(())
    }),
    ("a sequence is skipped", Promise::RoomIsDense, |h| {
        let from = h.log.last()?.seq;
        h.log.iter_mut().filter(|line| line.seq >= from).for_each(|line| line.seq += 1);
        h.events.iter_mut().filter(|event| event.seq >= from).for_each(|event| event.seq += 1);
        Some(())
    }),
    ("a sequence is used twice", Promise::RoomIsDense, |h| {
        let last = *h.log.last()?;
        h.log.len().checked_sub(2)?;
        h.log.push(last);
        Some(())
    }),
    ("a receipt names another place", Promise::ReceiptIsTheLogs, |h| {
        h.events.iter_mut().find(|event| event.what == What::Receipt)?.seq += 1;
        Some(())
    }),
    ("two receipts of a message differ", Promise::OneSeqForAnId, |h| {
        let at = h.find(|event| event.what == What::Receipt)?;
        let again = Event { seq: h.events[at].seq + 1, ..h.events[at] };
        h.events.insert(at + 1, again);
        Some(())
    }),
    ("a delivery comes twice", Promise::DeliveredOnce, |h| {
        let at = h.find(|event| event.what == What::Delivered)?;
        h.events.insert(at + 1, h.events[at]);
        Some(())
    }),
    ("a delivery does not come", Promise::ReceiptIsDelivered, |h| {
        // The second phone never loses its session.
        let owed = |event: &Event| event.what == What::Delivered && event.device == model::STEADY;
        let at = (0..h.events.len())
            .find(|at| owed(&h.events[*at]) && h.receipt_of(h.events[*at].number).is_some())?;
        h.events.remove(at);
        Some(())
    }),
    ("two deliveries come in the wrong order", Promise::DeliveredInOrder, |h| {
        let places: Vec<usize> = (0..h.events.len())
            .filter(|at| h.events[*at].what == What::Delivered && h.events[*at].device == model::STEADY)
            .collect();
        let pair = places.windows(2).find(|pair| h.events[pair[0]].seq < h.events[pair[1]].seq)?;
        h.events.swap(pair[0], pair[1]);
        Some(())
    }),
    ("a stranger gets a delivery", Promise::MembersOnly, |h| {
        let at = h.find(|event| event.what == What::Delivered)?;
        h.events.insert(at, Event { device: model::STRANGER, ..h.events[at] });
        Some(())
    }),
    ("a delivery has other words", Promise::OneMessageForASeq, |h| {
        h.events.iter_mut().find(|event| event.what == What::Delivered)?.words += 1;
        Some(())
    }),
    ("a message comes that nobody sent", Promise::NothingInvented, |h| {
        let last = *h.log.last()?;
        h.log.push(model::Line { seq: last.seq + 1, number: model::NOBODYS, ..last });
        Some(())
    }),
    ("a refused message is stored", Promise::RefusedIsNowhere, |h| {
        let tries = |h: &History, number| {
            h.events.iter().filter(|e| e.what == What::Sent && e.number == number).count()
        };
        let at = h.find(|event| event.what == What::Receipt && tries(h, event.number) == 1)?;
        h.events[at].what = What::Refused;
        Some(())
    }),
    ("messages of a sender have changed places", Promise::SendersOrder, |h| {
        let (one, other) = h.two_of_a_sender()?;
        let swapped = |number| {
            if number == one {
                other
            } else if number == other {
                one
            } else {
                number
            }
        };
        h.log
            .iter_mut()
            .for_each(|line| (line.number, line.words) = (swapped(line.number), swapped(line.words)));
        let heard = h.events.iter_mut().filter(|event| matches!(event.what, What::Delivered | What::Fetched));
        heard.for_each(|event| (event.number, event.words) = (swapped(event.number), swapped(event.words)));
        let (one, other) = (h.receipt_of(one)?, h.receipt_of(other)?);
        (h.events[one].seq, h.events[other].seq) = (h.events[other].seq, h.events[one].seq);
        Some(())
    }),
];

#[test]
fn every_defect_is_found_in_a_plain_conversation() {
    let history = History::plain();
    let honest = history.check();
    assert_eq!((honest.violations(), honest.examples.as_slice()), (0, [].as_slice()));
    assert!(honest.notes.is_empty() && honest.unknown == 0, "{honest:?}");
    assert_eq!(honest.checked_messages, 6);
    for (name, promise, defect) in DEFECTS {
        let mut history = history.clone();
        assert_eq!(defect(&mut history), Some(()), "no room for: {name}");
        let findings = history.check();
        assert!(broken(&findings).contains(&promise), "{name}: {findings:?}");
        assert!(!findings.examples.is_empty());
    }
}

proptest! {
    #[test]
    fn a_correct_history_passes_and_each_defect_is_found(steps in model::steps()) {
        let history = History::of(&steps);
        let honest = history.check();
        prop_assert_eq!(honest.violations(), 0, "{:?}", honest.examples);
        for (name, promise, defect) in DEFECTS {
            let mut history = history.clone();
            if defect(&mut history).is_some() {
                let findings = history.check();
                prop_assert!(broken(&findings).contains(&promise), "{}: {:?}", name, findings);
            }
        }
    }
}

/// A record with two phones of a direct room.
fn pair() -> (Record, Instant, [Device; 2], Room) {
    let now = Instant::now();
    let mut record = Record::new(now);
    let devices = ["a", "b"].map(|user| record.device(user));
    let room = record.room(&[1; 16], ["a", "b"]);
    for device in devices {
        record.on_session(device, Continuity::Fresh, now);
    }
    (record, now, devices, room)
}

fn message(seq: u64, sender: &str, id: u8) -> wire::Message {
    let content = Some(wire::message::Content::Body(vec![id].into()));
    let (room, client_id) = (vec![1; 16].into(), vec![id; 16].into());
    wire::Message { room, seq, sender: sender.into(), client_id, content, ..Default::default() }
}

fn log(messages: &[wire::Message]) -> RoomLog {
    let mut log = RoomLog { room: vec![1; 16], first: 1, ..RoomLog::default() };
    messages.iter().for_each(|message| log.push(message));
    log
}

#[test]
fn what_was_seen_before_a_send_has_an_earlier_place() {
    let (mut record, now, [a, b], room) = pair();
    record.on_sent(a, room, &[1; 16], &[1], now);
    record.on_delivery(b, &message(2, "a", 1), now);
    record.on_sent(b, room, &[2; 16], &[2], now);
    record.on_receipt(b, room, &[2; 16], 1, now);
    let findings = check(&record, &[log(&[message(1, "b", 2), message(2, "a", 1)])]);
    assert_eq!(broken(&findings), [Promise::SeenIsBefore]);
    assert_eq!(findings.unknown, 1, "the first one has no receipt");
}

#[test]
fn what_was_missed_is_excused_by_a_break_and_by_nothing_else() {
    let later = |s: u64| Duration::from_secs(s);
    let run = |during: &[fn(&mut Record, Device, Instant)], end: bool| {
        let (mut record, now, [a, b], room) = pair();
        record.on_sent(a, room, &[1; 16], &[1], now + later(10));
        record.on_receipt(a, room, &[1; 16], 1, now + later(10));
        for act in during {
            act(&mut record, b, now + later(20));
        }
        if end {
            record.on_end(b, now + later(60));
        }
        check(&record, &[log(&[message(1, "a", 1)])]).lost
    };
    let fresh: fn(&mut Record, Device, Instant) = |r, d, at| r.on_session(d, Continuity::Fresh, at);
    let resumed: fn(&mut Record, Device, Instant) = |r, d, at| r.on_session(d, Continuity::Resumed, at);
    let behind: fn(&mut Record, Device, Instant) = |r, d, at| r.on_behind(d, at);
    let delivered: fn(&mut Record, Device, Instant) = |r, d, at| r.on_delivery(d, &message(1, "a", 1), at);
    let fetched: fn(&mut Record, Device, Instant) = |r, d, at| r.on_fetched(d, &message(1, "a", 1), at);
    assert_eq!(run(&[], true), 1);
    assert_eq!(run(&[], false), 0, "nobody waited for it");
    assert_eq!(run(&[resumed], true), 1, "nothing is lost in a session that goes on");
    assert_eq!(run(&[fresh], true), 0);
    assert_eq!(run(&[behind], true), 0);
    assert_eq!(run(&[delivered], true), 0);
    assert_eq!(run(&[fetched], true), 0);
}

#[test]
fn who_has_left_must_hear_nothing_more_and_who_comes_hears_what_follows() {
    let now = Instant::now();
    let mut record = Record::new(now);
    let [a, c] = ["a", "c"].map(|user| record.device(user));
    let room = record.room(&[1; 16], ["a"]);
    let mut log = log(&[message(1, "a", 1), message(2, "a", 2), message(3, "a", 3)]);
    for (seq, is_member) in [(2, true), (3, false)] {
        log.changes.push(MemberChange { seq, user: "c".into(), is_member });
    }
    for id in 1..=3 {
        record.on_sent(a, room, &[id; 16], &[id], now);
        record.on_receipt(a, room, &[id; 16], id.into(), now);
    }
    record.on_delivery(c, &message(2, "a", 2), now);
    assert_eq!(broken(&check(&record, std::slice::from_ref(&log))), []);
    for (seq, id) in [(1, 1), (3, 3)] {
        let mut record = record.clone();
        record.on_delivery(c, &message(seq, "a", id), now);
        assert!(broken(&check(&record, std::slice::from_ref(&log))).contains(&Promise::MembersOnly), "{seq}");
    }
    record.on_sent(c, room, &[4; 16], &[4], now);
    record.on_receipt(c, room, &[4; 16], 4, now);
    log.push(&message(4, "c", 4));
    assert_eq!(broken(&check(&record, &[log])), [Promise::MembersOnly], "nor speak");
}

#[test]
fn what_could_not_be_looked_at_is_said() {
    let (mut record, now, [a, _], room) = pair();
    for id in 1..=2 {
        record.on_sent(a, room, &[id; 16], &[id], now);
        record.on_receipt(a, room, &[id; 16], id.into(), now);
    }
    let unread = RoomLog { unread: Some("the server is gone".to_owned()), ..log(&[message(1, "a", 1)]) };
    let findings = check(&record, &[unread]);
    assert_eq!((findings.lost, findings.rooms, findings.rooms_read), (0, 1, 0));
    assert!(findings.notes[0].contains("the server is gone"), "{:?}", findings.notes);
    let findings = check(&record, &[]);
    assert_eq!((findings.lost, findings.rooms_read, findings.notes.len()), (0, 0, 1));

    let mut cut = Record::bounded(now, 1);
    let (a, room) = (cut.device("a"), cut.room(&[1; 16], ["a", "b"]));
    for id in 1..=2 {
        cut.on_sent(a, room, &[id; 16], &[id], now);
    }
    let findings = check(&cut, &[log(&[message(1, "a", 1), message(2, "a", 2)])]);
    assert_eq!((findings.violations(), findings.notes.len()), (0, 1), "{findings:?}");
}
