//! The outbox against a model of a server: nothing lost, nothing doubled, nothing overtaken.

use super::*;
use buslane_shared::refusal::Code;
use bytes::Bytes;
use proptest::prelude::*;

const BOUNDS: Bounds = Bounds { messages: 100, bytes: 1_000_000, in_flight: 8, in_flight_per_room: 8 };

fn room(n: u8) -> RoomId {
    RoomId::from_bytes([n; 16])
}

fn client_id(n: u64) -> ClientId {
    ClientId::from_bytes((n as u128).to_be_bytes())
}

fn send(n: u64) -> wire::Send {
    wire::Send {
        client_id: client_id(n).to_wire(),
        body: n.to_be_bytes().to_vec().into(),
        ..Default::default()
    }
}

fn put(pending: &mut Pending, r: u8, n: u64) -> (u64, oneshot::Receiver<Result<Receipt, Error>>) {
    let (reply, wait) = oneshot::channel();
    let ordinal = pending.enqueue(room(r), client_id(n), send(n), reply).unwrap();
    (ordinal, wait)
}

fn busy() -> Refused {
    Refused::of(Code::Busy)
}

#[test]
fn nothing_is_sent_before_it_is_stored() {
    let now = Instant::now();
    let mut pending = Pending::new(BOUNDS, Instant::now());
    let (first, _wait) = put(&mut pending, 1, 1);
    let (second, _wait) = put(&mut pending, 1, 2);
    assert!(pending.next(now).is_none());
    pending.stored(second);
    assert!(pending.next(now).is_none(), "the second may not overtake the first");
    pending.stored(first);
    assert_eq!(pending.next(now).unwrap().0, first);
    assert_eq!(pending.next(now).unwrap().0, second);
}

#[test]
fn it_is_bounded_in_count_and_bytes() {
    let mut pending = Pending::new(Bounds { messages: 2, ..BOUNDS }, Instant::now());
    put(&mut pending, 1, 1);
    put(&mut pending, 1, 2);
    let full = pending.enqueue(room(1), client_id(3), send(3), oneshot::channel().0);
    assert!(matches!(full, Err(Error::OutboxFull { messages: 2, .. })));
    let mut pending = Pending::new(Bounds { bytes: 400, ..BOUNDS }, Instant::now());
    put(&mut pending, 1, 1);
    put(&mut pending, 1, 2);
    assert!(pending.enqueue(room(1), client_id(3), send(3), oneshot::channel().0).is_err());
}

#[test]
fn a_room_that_must_wait_does_not_hold_up_another() {
    let now = Instant::now();
    let mut pending = Pending::new(BOUNDS, Instant::now());
    for (r, n) in [(1, 1), (1, 2), (2, 3)] {
        let (ordinal, _) = put(&mut pending, r, n);
        pending.stored(ordinal);
    }
    let (first, _) = pending.next(now).unwrap();
    assert_eq!(pending.refused(first, &busy(), Duration::from_secs(5), now), AfterRefusal::Again);
    let (other, _) = pending.next(now).unwrap();
    assert_eq!(pending.entry(other).unwrap().0, room(2));
    assert!(pending.next(now).is_none());
    assert_eq!(pending.next_wake(), Some(now + Duration::from_secs(5)));
    let later = now + Duration::from_secs(5);
    assert_eq!(pending.next(later).unwrap().0, first, "the refused one comes first");
    assert!(pending.next(later).is_none(), "and alone");
    assert!(pending.sent(first).is_some());
    assert!(pending.next(later).is_some());
}

#[test]
fn what_is_refused_too_often_is_given_back_and_can_be_tried_again() {
    let now = Instant::now();
    let mut pending = Pending::new(BOUNDS, Instant::now());
    let (ordinal, _wait) = put(&mut pending, 1, 1);
    pending.stored(ordinal);
    for n in 1..=REFUSALS_MAX {
        pending.next(now).unwrap();
        let after = pending.refused(ordinal, &busy(), Duration::ZERO, now);
        assert_eq!(after == AfterRefusal::Failed, n == REFUSALS_MAX);
    }
    assert!(matches!(pending.list_all()[0].state, SendState::Failed { .. }));
    assert!(pending.next(now).is_none());
    assert!(pending.retry(client_id(1)).is_some());
    assert_eq!(pending.next(now).unwrap().0, ordinal);
}

#[test]
fn behind_a_refused_message_one_goes_at_a_time_until_there_are_receipts_again() {
    let start = Instant::now();
    let mut pending = Pending::new(Bounds { in_flight_per_room: 4, ..BOUNDS }, start);
    for n in 1..=20 {
        let (ordinal, _) = put(&mut pending, 1, n);
        pending.stored(ordinal);
    }
    let fly = |pending: &mut Pending, now| {
        let sends: Vec<_> = std::iter::from_fn(|| pending.next(now)).collect();
        sends.into_iter().map(|(ordinal, send)| (ordinal, send.after)).collect::<Vec<_>>()
    };
    let after = |n: u64| client_id(n).to_wire();
    let first = [(1, Bytes::new()), (2, after(1)), (3, after(2)), (4, after(3))];
    assert_eq!(fly(&mut pending, start), first);
    pending.set_thrifty(true);
    pending.refused(1, &put_off(), Duration::from_secs(1), start);
    for n in 2..=4 {
        let refused = Refused::of(Code::OutOfOrder);
        assert_eq!(pending.refused(n, &refused, Duration::from_millis(1), start), AfterRefusal::Again);
    }
    assert!(fly(&mut pending, start).is_empty(), "none goes before the time that the first was given");
    let later = start + Duration::from_secs(1);
    assert_eq!(fly(&mut pending, later), [(1, Bytes::new())]);
    pending.sent(1);
    assert_eq!(fly(&mut pending, later), [(2, Bytes::new()), (3, after(2))]);
    pending.sent(2);
    pending.sent(3);
    assert_eq!(fly(&mut pending, later), [(4, Bytes::new()), (5, after(4)), (6, after(5)), (7, after(6))]);
    assert_eq!(pending.refusals(2), 0, "it is not its own refusal");
}

fn put_off() -> Refused {
    wire::Refusal { code: Code::Busy.into(), retryable: true, retry_after_ms: 50, ..Default::default() }
        .into()
}

#[test]
fn an_overloaded_server_may_put_a_message_off_for_long_and_it_stays_in_its_place() {
    let start = Instant::now();
    let mut pending = Pending::new(BOUNDS, start);
    let ordinals: Vec<u64> = (1..=2).map(|n| put(&mut pending, 1, n).0).collect();
    ordinals.iter().for_each(|ordinal| pending.stored(*ordinal));
    let wait = Duration::from_millis(50);
    let mut now = start;
    while now < start + PATIENCE {
        assert_eq!(pending.next(now).unwrap().0, ordinals[0], "nothing overtakes");
        assert_eq!(pending.refused(ordinals[0], &put_off(), wait, now), AfterRefusal::Again);
        assert!(pending.next(now).is_none());
        now += Duration::from_secs(1);
    }
    assert_eq!(pending.next(now).unwrap().0, ordinals[0]);
    assert_eq!(pending.refused(ordinals[0], &put_off(), wait, now), AfterRefusal::Failed);
}

/// I28 at the client: what is sent again is a tenth of what is sent, and the reserve.
#[test]
fn second_tries_have_a_budget_in_an_emergency() {
    let start = Instant::now();
    let mut pending = Pending::new(Bounds { messages: 1_000, in_flight: 500, ..BOUNDS }, start);
    let mut fly = |thrifty: bool, fresh: u64| {
        pending.set_thrifty(thrifty);
        for n in 0..fresh {
            let (ordinal, _) = put(&mut pending, n as u8, 1_000 * u64::from(thrifty) + n);
            pending.stored(ordinal);
        }
        let sent = std::iter::from_fn(|| pending.next(start)).count();
        pending.rewind();
        sent
    };
    assert_eq!(fly(false, 100), 100);
    assert_eq!(fly(false, 0), 100, "without an emergency everything goes again");
    assert_eq!(fly(true, 0), (0.1 * 100.0) as usize + RETRY_RESERVE as usize);
    assert!(pending.next_wake().is_some_and(|at| at == start + BUDGET_WAIT));
    assert!(pending.next(start + Duration::from_secs(60)).is_some(), "it is held up, not forgotten");
}

#[test]
fn only_what_was_certainly_never_sent_can_be_cancelled() {
    let now = Instant::now();
    let mut pending = Pending::new(BOUNDS, Instant::now());
    for n in 1..=2 {
        let (ordinal, _) = put(&mut pending, 1, n);
        pending.stored(ordinal);
    }
    pending.next(now).unwrap();
    assert!(pending.cancel(client_id(1)).is_none(), "in flight");
    assert!(pending.cancel(client_id(2)).is_some());
    pending.rewind();
    assert!(pending.cancel(client_id(1)).is_none(), "the outcome is unknown");
    assert!(pending.discard(client_id(1)).is_some());
    assert_eq!((pending.len(), pending.in_flight()), (0, 0));
    assert!(pending.rooms.is_empty() && pending.by_client.is_empty() && pending.bytes == 0);
}

#[test]
fn a_restored_outbox_goes_on_where_it_stopped() {
    let now = Instant::now();
    let mut pending = Pending::new(BOUNDS, Instant::now());
    pending.restore(7, room(1), client_id(7), send(7), None);
    pending.restore(5, room(1), client_id(5), send(5), None);
    pending.restore(6, room(1), client_id(6), send(6), Some(Refused::of(Code::TooLong)));
    let (fresh, _wait) = put(&mut pending, 1, 8);
    pending.stored(fresh);
    let order: Vec<_> = std::iter::from_fn(|| pending.next(now)).map(|(o, _)| o).collect();
    assert_eq!(order, [5, 7, 8]);
}

#[derive(Debug, Clone)]
enum Step {
    Enqueue(u8),
    Transmit,
    /// The server answers the oldest request: with a receipt, or with "busy"; with "out of order" in any case where it is to follow
    /// what is not there.
    Answer {
        accepted: bool,
    },
    /// The connection breaks after the server has applied this many of the requests on the way.
    Break {
        applied: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u8..3).prop_map(Step::Enqueue),
        4 => Just(Step::Transmit),
        4 => any::<bool>().prop_map(|accepted| Step::Answer { accepted }),
        1 => (0usize..8).prop_map(|applied| Step::Break { applied }),
    ];
    proptest::collection::vec(step, 0..200)
}

/// A server that applies requests in the order of their arrival and knows every client id for ever.
#[derive(Default)]
struct Server {
    log: HashMap<RoomId, Vec<ClientId>>,
}

impl Server {
    /// Whether it is there now.
    fn apply(&mut self, room: RoomId, send: &wire::Send) -> bool {
        let log = self.log.entry(room).or_default();
        let id = |bytes| ClientId::try_from(bytes).unwrap();
        let is_there = log.contains(&id(&send.client_id));
        if !is_there && (send.after.is_empty() || log.contains(&id(&send.after))) {
            log.push(id(&send.client_id));
            return true;
        }
        is_there
    }
}

fn run(steps: Vec<Step>, per_room: usize, refusals: bool) -> Result<(), TestCaseError> {
    let start = Instant::now();
    let mut now = start;
    let mut pending =
        Pending::new(Bounds { in_flight_per_room: per_room, messages: 1000, ..BOUNDS }, Instant::now());
    let mut server = Server::default();
    let mut wire: VecDeque<(u64, wire::Send)> = VecDeque::new();
    let mut order: HashMap<RoomId, Vec<ClientId>> = HashMap::new();
    let mut count = 0;
    let quiet = [Step::Transmit, Step::Answer { accepted: true }];
    // A message that was refused goes alone at first: one round for each, and one for the room to be awake again.
    let rest = std::iter::repeat_n(quiet, 2 * steps.len() + 8).flatten();
    for step in steps.into_iter().chain(rest) {
        match step {
            Step::Enqueue(r) => {
                count += 1;
                let (ordinal, _) = put(&mut pending, r, count);
                pending.stored(ordinal);
                order.entry(room(r)).or_default().push(client_id(count));
            }
            Step::Transmit => {
                now += Duration::from_secs(1);
                wire.extend(std::iter::from_fn(|| pending.next(now)));
                prop_assert!(pending.in_flight() <= BOUNDS.in_flight);
            }
            Step::Answer { accepted } => {
                if let Some((ordinal, send)) = wire.pop_front() {
                    let (r, ..) = pending.entry(ordinal).unwrap();
                    let mut refuse = |code| {
                        let refused = Refused::of(code);
                        pending.refused(ordinal, &refused, Duration::from_millis(10), now)
                    };
                    if !accepted && refusals {
                        refuse(Code::Busy);
                    } else if server.apply(r, &send) {
                        prop_assert!(pending.sent(ordinal).is_some());
                    } else {
                        prop_assert_eq!(refuse(Code::OutOfOrder), AfterRefusal::Again);
                    }
                }
            }
            Step::Break { applied } => {
                for (ordinal, send) in wire.drain(..).take(applied) {
                    let (r, ..) = pending.entry(ordinal).unwrap();
                    server.apply(r, &send);
                }
                pending.rewind();
            }
        }
    }
    let failed: Vec<_> = pending.list_all().into_iter().map(|i| i.client_id).collect();
    for sent in order.values_mut() {
        sent.retain(|id| !failed.contains(id));
    }
    order.retain(|_, sent| !sent.is_empty());
    prop_assert_eq!(pending.in_flight(), 0);
    prop_assert_eq!(order, server.log);
    Ok(())
}

proptest! {
    #[test]
    fn one_at_a_time_keeps_the_order_whatever_the_server_refuses(steps in steps()) {
        run(steps, 1, true)?;
    }

    #[test]
    fn a_pipeline_keeps_the_order_whatever_the_server_refuses(steps in steps()) {
        run(steps, 8, true)?;
    }

    #[test]
    fn a_pipeline_keeps_the_order_over_broken_connections(steps in steps()) {
        run(steps, 8, false)?;
    }
}
