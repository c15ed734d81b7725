use super::*;
use crate::simulate::job::JobId;

const MS: Nanos = 1_000_000;
const SECOND: Nanos = 1_000 * MS;

fn login(id: u32, shows: Shows) -> Job {
    Job {
        id: JobId(id),
        user: id,
        protocol: Protocol::Login,
        class: Class::Wake,
        shows,
        deadline: 100 * SECOND,
    }
}

fn told(arrival: Arrival) -> Option<Told> {
    match arrival {
        Arrival::Refuse(refusal) => Some(refusal.told),
        Arrival::Run | Arrival::Queue => None,
    }
}

#[test]
fn a_storm_is_given_slots_before_any_handshake_and_strangers_silence() {
    let mut buslane = Buslane::new(settings::Policy::Buslane, 32);
    let answers: Vec<_> = (0..2_000).map(|id| buslane.arrive(&login(id, Shows::Pass), 0)).collect();
    let slots = answers.iter().filter(|a| matches!(told(**a), Some(Told::Slot(_)))).count();
    assert!(slots > 500, "{slots}");
    let early = |a: &&Arrival| matches!(a, Arrival::Refuse(r) if r.rejection == Rejection::Early);
    assert!(answers.iter().filter(early).count() > 500);
    assert_eq!(told(buslane.arrive(&login(9_000, Shows::Nothing), 0)), Some(Told::Nothing));
}

#[test]
fn a_slot_counts_in_its_time_only() {
    let buslane = Buslane::new(settings::Policy::Buslane, 32);
    let ask = |at| buslane.ask(&login(1, Shows::Slot(at)), 10 * SECOND);
    assert_eq!(ask(10 * SECOND + 900 * MS), Ask::Slot);
    assert_eq!(ask(12 * SECOND), Ask::Pass);
}

#[test]
fn who_claims_too_much_is_background() {
    let mut buslane = Buslane::new(settings::Policy::Buslane, 32);
    let sync =
        Job { protocol: Protocol::MessageSync, class: Class::Look, user: 7, ..login(1, Shows::Session) };
    let believed = (0..100).filter(|_| buslane.believed(&sync, 0) == Class::Look).count();
    assert_eq!(believed, 20);
    let mut fixed = Buslane::new(settings::Policy::Static, 32);
    assert!((0..100).all(|_| fixed.believed(&sync, 0) == Class::Look), "static seats believe everything");
}

#[test]
fn an_order_for_later_holds_in_its_time() {
    let mut buslane = Buslane::new(settings::Policy::Buslane, 32);
    buslane.arm(Armed { from: SECOND, until: 2 * SECOND });
    let mut at = |seconds: f64| {
        buslane.tick((seconds * 1e9) as Nanos, &Readings { front: 0.1, wake: 0.0 });
        buslane.posture()
    };
    assert_eq!(at(0.9), Some(Posture::Normal));
    assert_eq!(at(1.1), Some(Posture::Emergency));
    assert_eq!(at(2.1), Some(Posture::Normal));
}
