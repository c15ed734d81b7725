//! The scenarios that Buslane is held to. Costs are chosen so that a node of 32 seats does 16,000 foreground requests or
//! 4,000 logins a second.

use buslane_shared::Nanos;
use buslane_shared::class::{Class, Protocol};

use super::{Kind, Patience, Scenario, Stream, Trouble};
use crate::simulate::job::Sender;
use crate::simulate::policy::Armed;
use crate::simulate::shape::Shape;

/// Names of all scenarios, in their order.
pub const NAMES: [&str; 10] = [
    "pohang",
    "gyeongju",
    "worldcup",
    "metastable",
    "slow-store",
    "reconnect",
    "edge",
    "calm",
    "liars",
    "newyear",
];

const SECOND: Nanos = 1_000_000_000;
const MS: f64 = 1e6;

/// People in conversations: each wants something every few seconds, in the worst storm twice a second.
const PERSONS: u32 = 20_000;

/// Phones that lie: one in twenty of some thirty thousand.
const LIARS: u32 = 1_600;

/// Seats' time of a sync without what it depends on.
const SYNC: f64 = MS;

/// The scenario of this name.
pub fn known(name: &str) -> Option<Scenario> {
    let scenario = match name {
        "pohang" => pohang(),
        "gyeongju" => gyeongju(),
        "worldcup" => worldcup(),
        "metastable" => metastable(),
        "slow-store" => slow_store(),
        "reconnect" => reconnect(),
        "edge" => edge(),
        "calm" => calm(),
        "liars" => liars(),
        "newyear" => new_year(),
        _ => return None,
    };
    Some(scenario)
}

fn base(name: &'static str, what: &'static str, seconds: Nanos, surge: (Nanos, Nanos)) -> Scenario {
    Scenario {
        name,
        what,
        horizon: seconds * SECOND,
        surge,
        judged_until: None,
        patience: Patience { attempt: 3 * SECOND, total: 3 * SECOND, tries_max: 4 },
        naive: 0.1,
        streams: Vec::new(),
        trouble: None,
        armed: None,
    }
}

fn pohang() -> Scenario {
    Scenario {
        streams: vec![
            people(Shape::level(0.1)),
            logins(lines(&[(10.0, 0.3), (40.0, 2.4), (50.0, 2.4), (60.0, 0.2)])),
            syncs(Shape::level(0.05)),
        ],
        ..base(
            "pohang",
            "five times the load within 30 s, 4 % of it foreground",
            160,
            (10 * SECOND, 60 * SECOND),
        )
    }
}

fn gyeongju() -> Scenario {
    Scenario {
        naive: 0.5,
        streams: vec![
            people(Shape::level(0.2)),
            logins(lines(&[(10.0, 0.1), (10.0, 13.0), (13.0, 13.0), (13.0, 0.1)])),
        ],
        ..base(
            "gyeongju",
            "logins of 13 times the capacity for 3 s, half of the phones naive",
            120,
            (10 * SECOND, 13 * SECOND),
        )
    }
}

fn worldcup() -> Scenario {
    let surge = (10 * SECOND, 30 * SECOND);
    Scenario {
        naive: 0.3,
        judged_until: Some(surge.1),
        streams: vec![
            people(lines(&[(10.0, 0.3), (10.0, 2.85), (30.0, 2.85), (30.0, 0.3)])),
            logins(Shape::level(0.15)),
        ],
        ..base("worldcup", "foreground itself, 9.5 times the usual (2.85 of capacity) for 20 s", 90, surge)
    }
}

fn metastable() -> Scenario {
    let surge = (10 * SECOND, 20 * SECOND);
    Scenario {
        naive: 1.0,
        patience: Patience { attempt: SECOND, total: 4 * SECOND, tries_max: 4 },
        streams: vec![people(Shape::level(0.6)), syncs(Shape::level(0.2))],
        trouble: Some(Trouble { from: surge.0, until: surge.1, speed: 0.5, dependency: super::DEPENDENCY }),
        ..base(
            "metastable",
            "80 % load, half of the capacity gone for 10 s, every client tries 3 times more",
            60,
            surge,
        )
    }
}

fn slow_store() -> Scenario {
    let surge = (10 * SECOND, 30 * SECOND);
    Scenario {
        streams: vec![people(Shape::level(0.3)), syncs(Shape::level(0.3))],
        trouble: Some(Trouble { from: surge.0, until: surge.1, speed: 1.0, dependency: 2 * SECOND }),
        ..base("slow-store", "what background depends on takes 2 s instead of 2 ms for 20 s", 80, surge)
    }
}

/// 400,000 sessions at the node, 16 of them a seat's second of resuming... as load: 17 % of them are 8.5 s of the whole node.
fn reconnect() -> Scenario {
    let twice = |small: f64, first: f64, second: f64| {
        let points = [
            (10.0, small),
            (10.0, first),
            (10.2, first),
            (10.2, small),
            (40.0, small),
            (40.0, second),
            (40.2, second),
            (40.2, small),
        ];
        lines(&points)
    };
    Scenario {
        streams: vec![
            people(Shape::level(0.15)),
            people_again(twice(0.0, 1.7, 2.0)),
            resumes(twice(0.05, 41.0, 48.0)),
        ],
        ..base(
            "reconnect",
            "17 % of 400,000 sessions die at once, and 30 s later a node of six; 4 % of them are looked at",
            120,
            (10 * SECOND, 40 * SECOND + SECOND / 5),
        )
    }
}

fn edge() -> Scenario {
    let surge = (10 * SECOND, 130 * SECOND);
    Scenario {
        judged_until: Some(surge.1),
        streams: vec![
            people(Shape::level(0.5)),
            logins(Shape::Waves { from: 10.0, before: 0.2, mean: 0.5, swing: 0.2 }),
        ],
        ..base("edge", "20 % under and over capacity by turns, periods of 0.1 to 10 s", 135, surge)
    }
}

/// A day is represented by its bursts: sixty in two minutes. Between them nothing happens, so nothing is lost.
fn calm() -> Scenario {
    let bursts = |mean| Shape::Bursts { mean, times: 3.0, every: 2.0, long: 0.2 };
    Scenario {
        streams: vec![people(bursts(0.15)), logins(bursts(0.1)), syncs(bursts(0.05))],
        ..base(
            "calm",
            "usual load with 60 bursts of three times as much for 200 ms",
            120,
            (2 * SECOND, 120 * SECOND),
        )
    }
}

fn liars() -> Scenario {
    let liars = Stream {
        sender: Sender::Liar,
        kinds: vec![kind(1.0, Protocol::MessageSync, Class::Look, 2.0)],
        users: LIARS,
        load: lines(&[(10.0, 0.0), (10.0, 1.0), (40.0, 1.0), (40.0, 0.0)]),
    };
    Scenario {
        streams: vec![
            people(Shape::level(0.2)),
            logins(lines(&[(10.0, 0.2), (15.0, 1.5), (40.0, 1.5), (40.0, 0.1)])),
            liars,
        ],
        ..base(
            "liars",
            "a storm in which one phone of twenty says that all it wants is foreground, 10 times a second",
            120,
            (10 * SECOND, 40 * SECOND),
        )
    }
}

fn new_year() -> Scenario {
    Scenario {
        streams: vec![
            people(lines(&[(15.0, 0.2), (15.0, 0.6), (35.0, 0.6), (35.0, 0.2)])),
            logins(lines(&[(15.0, 0.1), (15.0, 8.0), (17.0, 8.0), (17.0, 0.1)])),
        ],
        armed: Some(Armed { from: 10 * SECOND, until: 45 * SECOND }),
        ..base(
            "newyear",
            "foreground three times and logins 80 times the usual, at a time that was known",
            110,
            (15 * SECOND, 35 * SECOND),
        )
    }
}

fn lines(points: &[(f64, f64)]) -> Shape {
    Shape::Lines(points.to_vec())
}

const fn kind(weight: f64, protocol: Protocol, class: Class, cost_ms: f64) -> Kind {
    Kind { weight, protocol, class, cost: cost_ms * MS }
}

fn people(load: Shape) -> Stream {
    Stream {
        sender: Sender::Person,
        kinds: vec![
            kind(2.0, Protocol::AppState, Class::Control, 0.5),
            kind(62.5, Protocol::MessageSend, Class::Talk, 2.0),
            kind(30.0, Protocol::RoomOpen, Class::Look, 2.0),
            kind(5.0, Protocol::MessageHistory, Class::Bulk, 3.0),
            kind(0.5, Protocol::Login, Class::Look, 8.0),
        ],
        users: PERSONS,
        load,
    }
}

/// People whose session has died while they looked at it.
fn people_again(load: Shape) -> Stream {
    let kinds = vec![kind(1.0, Protocol::Resume, Class::Look, 4.0)];
    Stream { sender: Sender::Person, kinds, users: PERSONS, load }
}

fn logins(load: Shape) -> Stream {
    phones(kind(1.0, Protocol::Login, Class::Wake, 8.0), load)
}

fn resumes(load: Shape) -> Stream {
    phones(kind(1.0, Protocol::Resume, Class::Wake, 4.0), load)
}

fn syncs(load: Shape) -> Stream {
    phones(Kind { cost: SYNC, ..kind(1.0, Protocol::MessageSync, Class::Wake, 0.0) }, load)
}

fn phones(kind: Kind, load: Shape) -> Stream {
    Stream { sender: Sender::Phone, kinds: vec![kind], users: 0, load }
}
