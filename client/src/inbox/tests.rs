//! The inbox against every order in which a network and a server may bring things.

use super::*;
use crate::types::Content;
use buslane_shared::id::ClientId;
use bytes::Bytes;
use proptest::prelude::*;

const ROOM: RoomId = RoomId::from_bytes([1; 16]);

fn message(seq: u64) -> Message {
    Message {
        room: ROOM,
        seq,
        sender: "bob".parse().unwrap(),
        client_id: ClientId::from_bytes([seq as u8; 16]),
        sent_at_ms: seq,
        mentions: Vec::new(),
        content: Content::Body(Bytes::from_static(b"x")),
        notify: false,
    }
}

/// A page of a log that keeps `first..=head`.
fn page(after: u64, first: u64, head: u64, limit: u64) -> Page {
    let from = (after + 1).max(first);
    let to = head.min(from + limit - 1);
    Page { messages: (from..=to).map(message).collect(), head, first, more: to < head }
}

fn at(cursor: u64) -> Inbox {
    Inbox::new(HashMap::from([(ROOM, cursor)]), None)
}

fn seqs(events: &[Event]) -> Vec<u64> {
    let seq = |e: &Event| match e {
        Event::Message(m) => m.seq,
        Event::Skipped { to, .. } => to + 1_000_000,
        _ => unreachable!(),
    };
    events.iter().map(seq).collect()
}

#[test]
fn a_short_hole_is_waited_for_and_then_asked_for() {
    let now = Instant::now();
    let (mut inbox, mut out) = (at(4), Vec::new());
    inbox.on_message(message(6), 100, now, &mut out);
    assert!(out.is_empty() && inbox.next_ask(now).is_none() && !inbox.is_caught_up());
    assert_eq!(inbox.next_wake(), Some(now + PATIENCE));
    inbox.on_message(message(5), 100, now, &mut out);
    assert_eq!(seqs(&out), [5, 6]);
    assert!(inbox.is_caught_up() && inbox.next_wake().is_none());

    inbox.on_message(message(8), 100, now, &mut out);
    assert_eq!(inbox.next_ask(now + PATIENCE), Some((ROOM, 6)));
    inbox.on_page(ROOM, page(6, 1, 8, 100), 100, now, &mut out);
    assert_eq!(seqs(&out), [5, 6, 7, 8]);
    assert!(inbox.is_caught_up() && inbox.stashed == 0 && inbox.stashed_bytes == 0);
}

#[test]
fn what_came_before_is_dropped_and_counted() {
    let now = Instant::now();
    let (mut inbox, mut out) = (at(4), Vec::new());
    for seq in [4, 5, 5, 3] {
        inbox.on_message(message(seq), 100, now, &mut out);
    }
    assert_eq!((seqs(&out), inbox.duplicates()), (vec![5], 3));
}

#[test]
fn a_new_device_begins_where_the_log_begins() {
    let now = Instant::now();
    let (mut inbox, mut out) = (Inbox::new(HashMap::new(), Some(FirstLogin::Kept)), Vec::new());
    inbox.on_head(ROOM, 12);
    assert!(inbox.on_rooms_listed());
    assert_eq!(inbox.next_ask(now), Some((ROOM, 0)));
    inbox.on_page(ROOM, page(0, 10, 12, 100), 100, now, &mut out);
    assert_eq!(seqs(&out), [10, 11, 12]);
}

#[test]
fn a_new_device_that_wants_no_past_begins_at_the_head() {
    let now = Instant::now();
    let (mut inbox, mut out) = (Inbox::new(HashMap::new(), Some(FirstLogin::FromNow)), Vec::new());
    inbox.on_head(ROOM, 12);
    inbox.on_rooms_listed();
    assert!(inbox.next_ask(now).is_none());
    inbox.on_message(message(13), 100, now, &mut out);
    assert_eq!(seqs(&out), [13]);
    let other = RoomId::from_bytes([2; 16]);
    inbox.on_head(other, 3);
    assert_eq!(inbox.next_ask(now), Some((other, 0)), "a room of later is read from its beginning");
}

#[test]
fn what_the_server_keeps_no_more_is_told() {
    let now = Instant::now();
    let (mut inbox, mut out) = (at(4), Vec::new());
    inbox.on_head(ROOM, 12);
    inbox.next_ask(now).unwrap();
    inbox.on_page(ROOM, page(4, 10, 12, 100), 100, now, &mut out);
    assert_eq!(out[0], Event::Skipped { room: ROOM, from: 5, to: 9 });
    assert_eq!(seqs(&out[1..]), [10, 11, 12]);
}

#[test]
fn a_room_that_is_closed_to_the_user_is_not_asked_for_again() {
    let now = Instant::now();
    let (mut inbox, mut out) = (at(4), Vec::new());
    inbox.on_message(message(9), 100, now, &mut out);
    inbox.next_ask(now + PATIENCE).unwrap();
    inbox.on_shut_out(ROOM);
    assert!(inbox.is_caught_up() && inbox.next_ask(now).is_none());
    assert_eq!((inbox.stashed, inbox.cursor(ROOM)), (0, 4));
}

#[test]
fn an_empty_page_ends_the_asking() {
    let now = Instant::now();
    let (mut inbox, mut out) = (at(4), Vec::new());
    inbox.on_head(ROOM, 9);
    inbox.next_ask(now).unwrap();
    let nothing = Page { messages: Vec::new(), head: 9, first: 1, more: false };
    inbox.on_page(ROOM, nothing, 100, now, &mut out);
    assert!(inbox.is_caught_up() && out.is_empty());
}

#[test]
fn asking_is_bounded_and_survives_a_lost_connection() {
    let now = Instant::now();
    let mut inbox = at(0);
    for n in 0..20 {
        inbox.on_head(RoomId::from_bytes([n; 16]), 5);
    }
    let asked: Vec<_> = std::iter::from_fn(|| inbox.next_ask(now)).collect();
    assert_eq!(asked.len(), HEALS_MAX);
    inbox.on_disconnect();
    let mut again = HashSet::new();
    while let Some((room, _)) = inbox.next_ask(now) {
        again.insert(room);
        inbox.on_page(room, page(0, 1, 5, 100), 100, now, &mut Vec::new());
    }
    assert_eq!(again.len(), 20);
    assert!(inbox.is_caught_up());
}

#[derive(Debug, Clone)]
enum Step {
    /// The server appends a message and delivers a hint, after this many later hints, unless it loses it.
    Append {
        late: usize,
        lost: bool,
        twice: bool,
    },
    Tick,
    /// The app takes what is there; before, so much room is left.
    Space(usize),
    Disconnect,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0usize..4, prop::bool::weighted(0.1), prop::bool::weighted(0.1))
            .prop_map(|(late, lost, twice)| Step::Append { late, lost, twice }),
        2 => Just(Step::Tick),
        1 => (0usize..5).prop_map(Step::Space),
        1 => Just(Step::Disconnect),
    ];
    proptest::collection::vec(step, 0..120)
}

proptest! {
    #[test]
    fn every_message_once_and_in_order(steps in steps(), page_size in 1u64..7) {
        let mut now = Instant::now();
        let (mut inbox, mut out) = (Inbox::new(HashMap::new(), Some(FirstLogin::Kept)), Vec::new());
        inbox.on_rooms_listed();
        let (mut head, mut space) = (0u64, 100usize);
        let mut hints: VecDeque<(usize, u64)> = VecDeque::new();
        let mut all = Vec::new();
        let rest = [Step::Space(100), Step::Tick, Step::Tick].into_iter().cycle().take(400);
        for (n, step) in steps.into_iter().chain(rest).enumerate() {
            match step {
                Step::Append { late, lost, twice } => {
                    head += 1;
                    if !lost {
                        hints.push_back((n + late, head));
                    }
                    if twice {
                        hints.push_back((n + late + 1, head));
                    }
                }
                Step::Tick => {
                    now += PATIENCE;
                    while let Some((room, after)) = inbox.next_ask(now) {
                        inbox.on_page(room, page(after, 1, head, page_size), space, now, &mut out);
                        if space <= out.len() {
                            break;
                        }
                    }
                }
                Step::Space(n) => space = n,
                // A resync follows a new session.
                Step::Disconnect => {
                    hints.clear();
                    inbox.on_disconnect();
                    inbox.on_head(ROOM, head);
                }
            }
            let due: Vec<_> = hints.iter().filter(|(at, _)| *at <= n).map(|(_, seq)| *seq).collect();
            hints.retain(|(at, _)| *at > n);
            for seq in due {
                inbox.on_message(message(seq), space, now, &mut out);
            }
            prop_assert!(inbox.stashed <= STASH_MAX);
            prop_assert!(out.len() <= space.max(100));
            all.append(&mut out);
        }
        inbox.on_head(ROOM, head);
        while let Some((room, after)) = inbox.next_ask(now) {
            inbox.on_page(room, page(after, 1, head, page_size), 100, now, &mut out);
            all.append(&mut out);
        }
        prop_assert!(inbox.is_caught_up());
        prop_assert_eq!(seqs(&all), (1..=head).collect::<Vec<_>>());
        prop_assert_eq!((inbox.stashed, inbox.stashed_bytes), (0, 0));
    }
}
