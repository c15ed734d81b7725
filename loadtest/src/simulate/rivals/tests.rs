use buslane_shared::Nanos;
use buslane_shared::class::{Class, Protocol};
use buslane_shared::wire::Posture;

use super::apf::Apf;
use super::cinnamon::Cinnamon;
use super::codel::CodelLifo;
use super::dagor::Dagor;
use super::fifo::Fifo;
use super::flip::Flip;
use super::gradient::Gradient2;
use super::limited::{Limit, Limited};
use super::partitioned::Partitioned;
use super::tower::Tower;
use super::vegas::Vegas;
use crate::simulate::job::{Job, JobId, Shows};
use crate::simulate::policy::{Arrival, Next, Policy, Readings, Rejection, Spent, TICK, Told};

const MS: Nanos = 1_000_000;
const SECOND: Nanos = 1_000 * MS;

fn job(id: u32, class: Class) -> Job {
    let protocol = if class == Class::Wake { Protocol::Login } else { Protocol::MessageSend };
    Job { id: JobId(id), user: id, protocol, class, shows: Shows::Session, deadline: 100 * SECOND }
}

fn spent(round_trip: Nanos, in_flight: u32) -> Spent {
    Spent { round_trip, service: round_trip, in_flight }
}

/// How many of so many jobs of a class run, wait and are refused.
fn offer(policy: &mut impl Policy, class: Class, count: u32, now: Nanos) -> [u32; 3] {
    let mut seen = [0; 3];
    for id in 0..count {
        let place = match policy.arrive(&job(id, class), now) {
            Arrival::Run => 0,
            Arrival::Queue => 1,
            Arrival::Refuse(_) => 2,
        };
        seen[place] += 1;
    }
    seen
}

#[test]
fn fifo_refuses_nobody() {
    assert_eq!(offer(&mut Fifo, Class::Wake, 10_000, 0), [10_000, 0, 0]);
}

#[test]
fn tower_refuses_beyond_its_limit_and_after_the_handshake() {
    let mut tower = Tower::new(32);
    assert_eq!(offer(&mut tower, Class::Talk, 40, 0), [32, 0, 8]);
    let Arrival::Refuse(refusal) = tower.arrive(&job(1, Class::Wake), 0) else { panic!("it is full") };
    assert_eq!((refusal.rejection, refusal.told), (Rejection::Late, Told::Busy));
    tower.done(&job(1, Class::Talk), spent(MS, 1), 0);
    assert_eq!(offer(&mut tower, Class::Talk, 2, 0), [1, 0, 1]);
}

#[test]
fn gradient_grows_while_trips_stay_and_shrinks_when_they_grow() {
    let mut limit = Gradient2::default();
    assert_eq!(offer(&mut Limited::new(Gradient2::default()), Class::Talk, 30, 0), [20, 0, 10]);
    let mut now = 0;
    let mut seconds = |limit: &mut Gradient2, count: u32, trip: Nanos| {
        for _ in 0..count * 20 {
            now += SECOND / 20;
            limit.sample(spent(trip, limit.limit()), now);
        }
        limit.limit()
    };
    let grown = seconds(&mut limit, 60, 2 * MS);
    assert!(grown > 50, "{grown}");
    let shrunk = seconds(&mut limit, 10, 20 * MS);
    assert!(shrunk < grown / 2, "{shrunk} of {grown}");
}

#[test]
fn vegas_grows_without_a_queue_and_shrinks_with_one() {
    let mut limit = Vegas::default();
    let samples = |limit: &mut Vegas, count: u32, trip: Nanos| {
        (0..count).for_each(|_| limit.sample(spent(trip, limit.limit()), 0));
        limit.limit()
    };
    let grown = samples(&mut limit, 20, MS);
    assert!(grown > 100, "{grown}");
    let shrunk = samples(&mut limit, 50, 4 * MS);
    assert!(shrunk < grown, "{shrunk} of {grown}");
}

#[test]
fn partitions_count_only_at_the_limit() {
    let mut limiter = Partitioned::default();
    assert_eq!(offer(&mut limiter, Class::Wake, 30, 0), [20, 0, 10], "all may be lent");
    assert_eq!(offer(&mut limiter, Class::Talk, 30, 0), [18, 0, 12], "nine tenths are promised");
}

#[test]
fn codel_drops_who_waits_too_long_and_takes_the_newest_first() {
    let mut codel = CodelLifo::new(1);
    assert_eq!(offer(&mut codel, Class::Talk, 3, 0), [1, 2, 0]);
    assert_eq!(codel.next(50 * MS), None, "everybody may wait 100 ms at first");
    assert!(matches!(codel.next(101 * MS), Some(Next::Drop(JobId(1), _))));
    assert!(matches!(codel.next(101 * MS), Some(Next::Drop(JobId(2), _))));
    assert_eq!(codel.next(101 * MS), None);
    for id in 10..13 {
        assert_eq!(codel.arrive(&job(id, Class::Talk), 300 * MS), Arrival::Queue);
    }
    codel.done(&job(0, Class::Talk), spent(MS, 1), 301 * MS);
    assert_eq!(codel.next(301 * MS), Some(Next::Start(JobId(12))));
    assert!(matches!(codel.next(306 * MS), Some(Next::Drop(JobId(10), _))), "5 ms under pressure");
}

/// Lets a policy be overloaded by as much background as foreground for so many seconds.
fn overload(policy: &mut impl Policy, seconds: u64) -> [u32; 2] {
    let (mut refused, mut busy) = ([0; 2], Vec::new());
    let mut id = 0;
    for tick in 0..seconds * 100 {
        let now = tick * TICK;
        refused = if tick % 100 == 0 { [0; 2] } else { refused };
        for n in 0..20 {
            id += 1;
            let class = if n % 2 == 0 { Class::Talk } else { Class::Wake };
            match policy.arrive(&job(id, class), now) {
                Arrival::Run => busy.push(job(id, class)),
                Arrival::Queue => {}
                Arrival::Refuse(_) => refused[n % 2] += 1,
            }
        }
        // Ten of twenty can be done.
        for _ in 0..10 {
            let Some(done) = busy.pop() else { break };
            policy.done(&done, spent(10 * MS, 10), now);
            while let Some(next) = policy.next(now) {
                if let Next::Start(id) = next {
                    busy.push(job(id.0, if id.0 % 2 == 1 { Class::Talk } else { Class::Wake }));
                }
            }
        }
        policy.tick(now, &Readings { front: 0.5, wake: 0.5 });
    }
    refused
}

#[test]
fn those_with_priorities_refuse_background_and_keep_foreground() {
    for (name, [foreground, background]) in [
        ("dagor", overload(&mut Dagor::new(10), 120)),
        ("cinnamon", overload(&mut Cinnamon::new(10), 30)),
        ("flip", overload(&mut Flip::new(10), 5)),
    ] {
        assert!(background > 500, "{name} refuses {background} of 1000 of background");
        assert!(foreground < 100, "{name} refuses {foreground} of 1000 of foreground");
    }
}

#[test]
fn the_flip_is_seen_once_a_second() {
    let mut flip = Flip::new(1);
    let mut posture = |from: u64, used: f64| {
        (from * 100..(from + 1) * 100)
            .for_each(|n| flip.tick((n + 1) * TICK, &Readings { front: used, wake: 0.0 }));
        flip.posture()
    };
    assert_eq!(posture(0, 0.5), Some(Posture::Normal));
    assert_eq!(posture(1, 1.0), Some(Posture::Emergency));
    assert_eq!(posture(2, 0.8), Some(Posture::Emergency));
    assert_eq!(posture(3, 0.6), Some(Posture::Normal));
}

#[test]
fn one_flow_of_kubernetes_cannot_fill_everybodys_queues() {
    let mut apf = Apf::new(32);
    let flood = |apf: &mut Apf, user: u32, count: u32| {
        (0..count)
            .map(|id| apf.arrive(&Job { user, ..job(user * 10_000 + id, Class::Wake) }, 0))
            .filter(|a| matches!(a, Arrival::Refuse(_)))
            .count()
    };
    let refused = flood(&mut apf, 1, 2_000);
    assert!(refused > 1_500, "a hand has six queues of 50: {refused}");
    let others = (2..30).map(|user| flood(&mut apf, user, 1)).sum::<usize>();
    assert!(others <= 2, "{others} of 28 others are refused");
    let Arrival::Refuse(refusal) = apf.arrive(&Job { user: 1, ..job(9, Class::Wake) }, 0) else {
        panic!("full")
    };
    assert_eq!(refusal.told, Told::At(SECOND));
}
