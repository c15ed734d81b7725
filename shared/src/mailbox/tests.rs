//! The mailbox against a model that keeps everything, and the frames of its events.

use proptest::prelude::*;

use super::*;
use crate::frame::FrameDecoder;

#[derive(Debug, Clone)]
enum Step {
    Push(usize),
    Behind,
    HandOut(usize),
    Seen(u64),
    Resume(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..60).prop_map(Step::Push),
        1 => Just(Step::Behind),
        4 => (0usize..6).prop_map(Step::HandOut),
        2 => (0u64..40).prop_map(Step::Seen),
        1 => (0u64..40).prop_map(Step::Resume),
    ]
}

/// The `n`th event ever pushed: its content names it.
fn event(n: u64, len: usize) -> Bytes {
    let mut bytes = n.to_be_bytes().to_vec();
    bytes.resize(8 + len, b'.');
    bytes.into()
}

fn name_of(event: &Bytes) -> Option<u64> {
    event.first_chunk::<8>().map(|b| u64::from_be_bytes(*b))
}

proptest! {
    /// Whatever happens: the bounds hold; numbers are dense; the same number is the same event on a connection; events come in the
    /// order in which they were pushed; and between two that were handed out one after the other, either nothing was
    /// dropped or a `Behind` stands.
    #[test]
    fn a_mailbox_is_bounded_and_never_lies(steps in proptest::collection::vec(step(), 0..200)) {
        let (events_max, bytes_max) = (8, 200);
        let mut mailbox = Mailbox::bounded(events_max, bytes_max);
        let mut pushed = 0u64;
        let mut by_no: Vec<Bytes> = Vec::new(); // what number n + 1 was when it was first handed out
        let mut next_no = 1u64; // the next one on this connection
        let mut oldest = 0u64; // highest number that the client has taken over
        for step in steps {
            match step {
                Step::Push(len) => {
                    mailbox.push(event(pushed, len));
                    pushed += 1;
                }
                Step::Behind => mailbox.fall_behind(),
                Step::HandOut(n) => {
                    for _ in 0..n {
                        let Some((no, event)) = mailbox.next_unsent() else { break };
                        prop_assert_eq!(no, next_no);
                        next_no += 1;
                        match by_no.get(no as usize - 1) {
                            Some(before) => prop_assert_eq!(before, &event),
                            None => by_no.push(event),
                        }
                    }
                }
                Step::Seen(upto) => {
                    mailbox.on_seen(upto);
                    if upto < next_no { oldest = oldest.max(upto); }
                }
                Step::Resume(seen) => match mailbox.resume(seen) {
                    Ok(()) => {
                        prop_assert!(seen < next_no && seen >= oldest);
                        oldest = seen;
                        next_no = seen + 1;
                        // What follows may be another event now: the client did not take it over.
                        by_no.truncate(seen as usize);
                    }
                    Err(ResumeGap::NeverSent) => prop_assert!(seen >= next_no),
                    Err(ResumeGap::Dropped) => prop_assert!(seen < next_no),
                },
            }
            prop_assert!(mailbox.len() <= events_max);
            prop_assert!(mailbox.bytes() <= bytes_max);
            prop_assert_eq!(mailbox.bytes(), mailbox.events.iter().map(Bytes::len).sum::<usize>());
        }
        while let Some((no, event)) = mailbox.next_unsent() {
            prop_assert_eq!(no, next_no);
            next_no += 1;
            match by_no.get(no as usize - 1) {
                Some(before) => prop_assert_eq!(before, &event),
                None => by_no.push(event),
            }
        }
        let mut expected = 0;
        for event in &by_no {
            match name_of(event) {
                Some(name) => {
                    prop_assert_eq!(name, expected);
                    expected += 1;
                }
                None => {
                    // A `Behind`: whatever was dropped lies before the next named event.
                    let at = by_no.iter().position(|e| std::ptr::eq(e, event)).unwrap();
                    expected = by_no[at..].iter().find_map(name_of).unwrap_or(pushed);
                }
            }
        }
        prop_assert_eq!(expected, pushed);
    }

    /// Taking over what was handed out makes room: a client that keeps up never falls behind, however much comes.
    #[test]
    fn who_reads_is_never_behind(lens in proptest::collection::vec(0usize..150, 0..300)) {
        let mut mailbox = Mailbox::bounded(8, 200);
        for (n, len) in lens.into_iter().enumerate() {
            prop_assert_eq!(mailbox.push(event(n as u64, len)), Pushed::Kept);
            prop_assert_eq!(mailbox.next_unsent().map(|(no, _)| no), Some(n as u64 + 1));
        }
    }

    #[test]
    fn the_frame_of_an_event_is_what_the_schema_says(no in 1u64.., room in proptest::collection::vec(any::<u8>(), 0..300)) {
        let kind = wire::event::Kind::Cursor(wire::CursorMoved { room: room.into(), user: "u".into(), delivered: 1, read: 2 });
        let encoded = wire::Event { no: 0, kind: Some(kind.clone()) }.encode_to_vec();
        let mut out = BytesMut::new();
        encode_event(no, &encoded, &mut out);
        let mut decoder = FrameDecoder::new(out.len());
        decoder.push(&out);
        let frame: wire::ServerFrame = decoder.next_message().unwrap().unwrap();
        let event = wire::Event { no, kind: Some(kind) };
        prop_assert_eq!(frame.kind, Some(wire::server_frame::Kind::Event(event)));
        prop_assert!(!decoder.is_mid_frame());
    }
}

#[test]
fn too_much_leaves_one_behind_that_decodes() {
    let mut mailbox = Mailbox::bounded(2, 1000);
    assert_eq!(mailbox.push(event(0, 1)), Pushed::Kept);
    assert_eq!(mailbox.push(event(1, 1)), Pushed::Kept);
    assert_eq!(mailbox.push(event(2, 1)), Pushed::FellBehind);
    let (no, behind) = mailbox.next_unsent().unwrap();
    assert_eq!(no, 1);
    assert_eq!(wire::Event::decode(behind).unwrap().kind, Some(wire::event::Kind::Behind(wire::Behind {})));
    assert!(!mailbox.has_unsent());
}

#[test]
fn one_event_over_the_bound_in_bytes_is_told_as_behind() {
    let mut mailbox = Mailbox::bounded(8, 100);
    assert_eq!(mailbox.push(event(0, 200)), Pushed::FellBehind);
    assert_eq!(mailbox.len(), 1);
}

#[test]
fn a_resume_replays_what_was_not_taken_over() {
    let mut mailbox = Mailbox::default();
    for n in 0..5 {
        mailbox.push(event(n, 0));
    }
    let numbers = |mailbox: &mut Mailbox| {
        std::iter::from_fn(|| mailbox.next_unsent().map(|(no, e)| (no, name_of(&e).unwrap())))
            .collect::<Vec<_>>()
    };
    assert_eq!(numbers(&mut mailbox).len(), 5);
    assert_eq!(mailbox.resume(6), Err(ResumeGap::NeverSent));
    assert_eq!(mailbox.resume(2), Ok(()));
    mailbox.push(event(5, 0));
    assert_eq!(numbers(&mut mailbox), [(3, 2), (4, 3), (5, 4), (6, 5)]);
    assert_eq!(mailbox.resume(1), Err(ResumeGap::Dropped));
}

#[test]
fn copies_kept_for_a_resume_go_before_news() {
    let mut mailbox = Mailbox::bounded(2, 1000);
    mailbox.push(event(0, 0));
    mailbox.push(event(1, 0));
    mailbox.next_unsent();
    mailbox.next_unsent();
    assert_eq!(mailbox.push(event(2, 0)), Pushed::Kept);
    assert_eq!(mailbox.next_unsent().map(|(no, e)| (no, name_of(&e))), Some((3, Some(2))));
    assert_eq!(mailbox.resume(0), Err(ResumeGap::Dropped));
    assert_eq!(mailbox.resume(1), Ok(()));
}
