use super::*;
use crate::notify::tests::{notice, of};
use crate::view::IncidentState;

const PEOPLE: Taste = Taste { least: Severity::Low, repeat_ms: None };
const FORGETFUL: Taste = Taste { least: Severity::Low, repeat_ms: Some(180_000) };

fn queue(taste: Taste) -> Queue {
    Queue::new(Pace::default(), taste)
}

fn bring(queue: &mut Queue, now_ms: u64) -> Due {
    match queue.next(now_ms) {
        Next::Bring(due) => {
            queue.on_brought(&due, now_ms);
            *due
        }
        Next::Wait(until) => panic!("nothing to bring, but at {until:?}"),
    }
}

fn resolved(no: u64, at_ms: u64) -> Notice {
    let mut notice = of(no, Occasion::Resolved, at_ms);
    notice.incident.state = IncidentState::Resolved;
    notice.incident.resolved_ms = Some(at_ms);
    notice
}

#[test]
fn the_first_message_goes_at_once_and_the_next_a_minute_later() {
    let mut queue = queue(PEOPLE);
    assert_eq!(queue.next(0), Next::Wait(None));
    queue.offer(notice(Occasion::Opened, 1_000));
    let first = bring(&mut queue, 1_000);
    assert_eq!((first.told_as, first.occasions.len()), (None, 1));
    queue.offer(notice(Occasion::Escalated, 5_000));
    queue.offer(notice(Occasion::Resolved, 9_000));
    assert_eq!(queue.next(9_000), Next::Wait(Some(61_000)));
    let second = bring(&mut queue, 61_000);
    assert_eq!(second.told_as, Some(Severity::High));
    assert_eq!(second.occasions, [(5_000, Occasion::Escalated), (9_000, Occasion::Resolved)]);
    assert_eq!(second.notice.occasion, Occasion::Resolved);
    assert_eq!(queue.next(61_000), Next::Wait(None));
}

#[test]
fn incidents_do_not_wait_for_each_other() {
    let mut queue = queue(PEOPLE);
    queue.offer(of(1, Occasion::Opened, 1_000));
    bring(&mut queue, 1_000);
    queue.offer(of(1, Occasion::Escalated, 2_000));
    queue.offer(of(2, Occasion::Opened, 3_000));
    assert_eq!(bring(&mut queue, 3_000).notice.incident.no, 2);
    assert_eq!(queue.next(3_000), Next::Wait(Some(61_000)));
}

#[test]
fn failures_are_repeated_slower_and_slower_and_given_up_in_the_end() {
    let mut queue = queue(PEOPLE);
    queue.offer(notice(Occasion::Opened, 0));
    let mut now_ms = 0;
    let mut pauses_s = Vec::new();
    loop {
        let Next::Bring(due) = queue.next(now_ms) else { panic!("it is due") };
        let fate = queue.on_failed(&due, true, now_ms);
        if fate == Fate::GivenUp {
            break;
        }
        let Next::Wait(Some(at_ms)) = queue.next(now_ms) else { panic!("it waits") };
        pauses_s.push((at_ms - now_ms) / 1_000);
        now_ms = at_ms;
    }
    assert_eq!(pauses_s[..9], [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert!((3_600_000..3_700_000).contains(&now_ms), "{now_ms}");
    assert_eq!(queue.next(now_ms), Next::Wait(None));
}

#[test]
fn what_will_never_be_taken_is_given_up_at_once() {
    let mut queue = queue(PEOPLE);
    queue.offer(notice(Occasion::Opened, 0));
    let Next::Bring(due) = queue.next(0) else { panic!("it is due") };
    assert_eq!(queue.on_failed(&due, false, 0), Fate::GivenUp);
    assert_eq!(queue.next(0), Next::Wait(None));
    // After an answer nothing is held against the address.
    queue.offer(of(4, Occasion::Opened, 1_000));
    bring(&mut queue, 1_000);
    assert_eq!(queue.failures(), 0);
}

#[test]
fn what_comes_while_a_message_is_under_way_is_the_next_one() {
    let mut queue = queue(PEOPLE);
    queue.offer(notice(Occasion::Opened, 0));
    let Next::Bring(due) = queue.next(0) else { panic!("it is due") };
    queue.offer(notice(Occasion::Escalated, 5));
    queue.on_brought(&due, 10);
    assert_eq!(queue.next(10), Next::Wait(Some(60_010)));
    assert_eq!(bring(&mut queue, 60_010).occasions, [(5, Occasion::Escalated)]);
}

#[test]
fn silence_and_low_severity_are_respected() {
    let mut queue = queue(Taste { least: Severity::Critical, repeat_ms: None });
    queue.offer(notice(Occasion::Opened, 0));
    assert_eq!(queue.next(0), Next::Wait(None));
    let mut worse = notice(Occasion::Escalated, 1);
    worse.incident.severity = Severity::Critical;
    queue.offer(Notice { is_silenced: true, ..worse.clone() });
    assert_eq!(queue.next(1), Next::Wait(None));
    queue.offer(worse);
    bring(&mut queue, 1);
    // Who has heard of it hears of its end, however bad it is called then.
    queue.offer(resolved(3, 100_000));
    assert_eq!(bring(&mut queue, 100_000).notice.occasion, Occasion::Resolved);
}

#[test]
fn who_forgets_is_told_again_until_the_end() {
    let mut queue = queue(FORGETFUL);
    queue.offer(notice(Occasion::Opened, 0));
    bring(&mut queue, 0);
    assert_eq!(queue.next(1), Next::Wait(Some(180_000)));
    let again = bring(&mut queue, 180_000);
    assert!(again.is_repeat && again.occasions.is_empty());
    assert_eq!(queue.next(180_000), Next::Wait(Some(360_000)));
    // A silence is no end; the end must be heard in a silence too.
    queue.offer(Notice { is_silenced: true, ..notice(Occasion::Escalated, 200_000) });
    queue.offer(Notice { is_silenced: true, ..resolved(3, 200_000) });
    assert_eq!(bring(&mut queue, 200_000).notice.occasion, Occasion::Resolved);
    assert_eq!(queue.next(900_000), Next::Wait(None));
}

#[test]
fn what_is_open_since_before_the_start_is_repeated_to_those_who_forget() {
    let mut forgetful = queue(FORGETFUL);
    forgetful.offer(notice(Occasion::Known, 1_000_000));
    assert!(bring(&mut forgetful, 1_000_000).is_repeat);
    let mut people = queue(PEOPLE);
    people.offer(notice(Occasion::Known, 1_000_000));
    assert_eq!(people.next(1_000_000), Next::Wait(None));
}

#[test]
fn what_is_called_less_bad_is_taken_back_once() {
    let mut queue = queue(FORGETFUL);
    queue.offer(notice(Occasion::Opened, 0));
    bring(&mut queue, 0);
    let mut lower = notice(Occasion::Known, 5);
    lower.incident.severity = Severity::Low;
    queue.offer(lower);
    let told: Vec<_> = [180_000, 360_000].map(|at| bring(&mut queue, at).told_as).to_vec();
    assert_eq!(told, [Some(Severity::High), Some(Severity::Low)]);
}

#[test]
fn the_queue_is_bounded_and_says_what_it_drops() {
    let mut queue = queue(PEOPLE);
    for no in 0..WAITING_MAX as u64 {
        assert!(queue.offer(of(no, Occasion::Opened, no)).is_none());
    }
    let dropped = queue.offer(of(1_000, Occasion::Opened, 1_000)).unwrap();
    assert_eq!(dropped.incident.no, 0);
    for _ in 0..100 {
        queue.offer(of(5, Occasion::Escalated, 2_000));
    }
    assert_eq!(queue.pending[&5].occasions.len(), OCCASIONS_MAX);
}

#[test]
fn a_silence_recalls_what_was_not_brought_yet() {
    for taste in [PEOPLE, FORGETFUL] {
        let mut queue = queue(taste);
        queue.offer(of(1, Occasion::Opened, 1_000));
        let Next::Bring(due) = queue.next(1_000) else { panic!("it is due") };
        queue.on_failed(&due, true, 1_000);
        queue.offer(of(2, Occasion::Opened, 1_500));
        queue.offer(of(1, Occasion::Silenced, 1_600));
        assert_eq!(bring(&mut queue, 60_000).notice.incident.no, 2, "only of the other one");
        assert!(queue.pending.is_empty());
    }
}

#[test]
fn what_another_process_tells_is_ended_where_it_was_told_and_nowhere_else() {
    let mut queue = queue(FORGETFUL);
    queue.offer(of(1, Occasion::Opened, 1_000));
    bring(&mut queue, 1_000);
    queue.offer(of(1, Occasion::Joined, 70_000));
    queue.offer(of(2, Occasion::Joined, 70_000));
    assert!(bring(&mut queue, 70_000).is_over());
    assert_eq!(queue.next(10 * 60_000), Next::Wait(None), "it is repeated no more");
}
