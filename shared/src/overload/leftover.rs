//! How many seats background may have: what foreground leaves over, with a margin, and less when people wait.
//!
//! Two limits, the lower one holds. The margin: foreground that keeps `a` seats busy on average needs now and then
//! `a + b * sqrt(a)` of them (square-root staffing: Halfin and Whitt, 1981); `b` is 1.5 because a seat cannot be taken from a
//! job that runs. The brake: one more seat with each step while foreground is well and processors are free, three tenths
//! fewer when foreground is not (AIMD: Chiu and Jain, 1989), and then nothing until the effect can be seen. Neither goes
//! below the floor.

use crate::Nanos;
use crate::overload::signals::Severity;

/// Standard deviations of its load that foreground has in reserve.
const MARGIN: f64 = 1.5;

/// What is left after foreground was hurt.
const CUT: f64 = 0.7;

/// After a cut nothing changes for this long: what was begun before it must first be done.
const HOLD: Nanos = 100_000_000;

/// The seats that background always has: at least one.
pub fn floor_seats(seats: u32, floor_percent: u8) -> u32 {
    let floor = (u64::from(seats) * u64::from(floor_percent)).div_ceil(100);
    u32::try_from(floor).unwrap_or(seats).clamp(1, seats.max(1))
}

/// What a tick has shown.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// The moment.
    pub now: Nanos,
    /// Seats that foreground keeps busy on average.
    pub foreground_erlangs: f64,
    /// How bad it is for foreground.
    pub severity: Severity,
    /// Share of the processors that is busy.
    pub cpu_share: f64,
}

/// The controller.
#[derive(Debug, Clone)]
pub struct Leftover {
    seats: u32,
    floor: u32,
    cpu_max: f64,
    /// What the brake allows.
    allowed: u32,
    hold_until: Nanos,
}

impl Leftover {
    /// Fully open: a node that starts is calm.
    pub fn new(seats: u32, floor_percent: u8, cpu_max: f64) -> Self {
        let floor = floor_seats(seats, floor_percent);
        Self { seats, floor, cpu_max, allowed: seats, hold_until: 0 }
    }

    /// Takes over other settings. The brake stays where it was, as a part of the seats.
    pub fn reconfigure(&mut self, seats: u32, floor_percent: u8, cpu_max: f64) {
        let scaled = u64::from(self.allowed) * u64::from(seats) / u64::from(self.seats.max(1));
        self.floor = floor_seats(seats, floor_percent);
        self.allowed = u32::try_from(scaled).unwrap_or(seats).clamp(self.floor, seats.max(1));
        (self.seats, self.cpu_max) = (seats, cpu_max);
    }

    /// The seats that background may have until the next step. One step each 10 ms.
    pub fn step(&mut self, facts: Facts) -> u32 {
        let held = facts.now < self.hold_until;
        let most = self.most(facts.foreground_erlangs);
        match facts.severity {
            _ if held => {}
            Severity::Hard => {
                let cut = f64::from(self.allowed.min(most)) * CUT;
                self.allowed = (cut as u32).max(self.floor);
                self.hold_until = facts.now.saturating_add(HOLD);
            }
            Severity::Guard => {}
            Severity::Calm | Severity::Easy if facts.cpu_share < self.cpu_max => {
                self.allowed = (self.allowed + 1).min(self.seats);
            }
            Severity::Calm | Severity::Easy => {}
        }
        self.allowed.min(most).max(self.floor)
    }

    /// What foreground leaves.
    fn most(&self, erlangs: f64) -> u32 {
        let erlangs = erlangs.max(0.0);
        let taken = (erlangs + MARGIN * erlangs.sqrt()).ceil();
        let left = (f64::from(self.seats) - taken).max(0.0);
        (left as u32).max(self.floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TICK: Nanos = 10_000_000;

    fn facts(tick: u64, erlangs: f64, severity: Severity) -> Facts {
        Facts { now: tick * TICK, foreground_erlangs: erlangs, severity, cpu_share: 0.5 }
    }

    #[test]
    fn what_foreground_leaves_over() {
        let rows =
            [(0.0, 100), (1.0, 97), (4.0, 93), (25.0, 67), (64.0, 24), (81.0, 5), (100.0, 5), (1e9, 5)];
        for (erlangs, expected) in rows {
            let mut leftover = Leftover::new(100, 5, 0.92);
            assert_eq!(leftover.step(facts(0, erlangs, Severity::Calm)), expected, "{erlangs} erlangs");
        }
    }

    #[test]
    fn it_brakes_at_once_waits_for_the_effect_and_opens_seat_by_seat() {
        let mut leftover = Leftover::new(100, 5, 0.92);
        let mut step = |tick, severity| leftover.step(facts(tick, 0.0, severity));
        assert_eq!(step(0, Severity::Hard), 70);
        assert_eq!(step(1, Severity::Hard), 70, "held");
        assert_eq!(step(9, Severity::Calm), 70, "held");
        assert_eq!(step(10, Severity::Hard), 49);
        assert_eq!(step(20, Severity::Guard), 49, "neither more nor less");
        assert_eq!(step(21, Severity::Easy), 50);
        assert_eq!(step(22, Severity::Calm), 51);
        let busy = Facts { cpu_share: 0.92, ..facts(23, 0.0, Severity::Calm) };
        assert_eq!(leftover.step(busy), 51, "no processor is free");
    }

    #[test]
    fn a_cut_begins_at_what_background_really_had() {
        let mut leftover = Leftover::new(100, 5, 0.92);
        assert_eq!(leftover.step(facts(0, 25.0, Severity::Hard)), 46, "seven tenths of 67");
    }

    #[test]
    fn other_seats_keep_the_part() {
        let mut leftover = Leftover::new(100, 5, 0.92);
        leftover.step(facts(0, 0.0, Severity::Hard));
        leftover.reconfigure(200, 10, 0.92);
        assert_eq!(leftover.step(facts(1, 0.0, Severity::Calm)), 140);
        leftover.reconfigure(16, 50, 0.92);
        assert_eq!(leftover.step(facts(2, 1e9, Severity::Calm)), 8);
    }

    #[test]
    fn there_is_always_a_floor() {
        let rows = [(16, 5, 1), (16, 1, 1), (512, 5, 26), (100, 5, 5), (1, 50, 1)];
        for (seats, percent, expected) in rows {
            assert_eq!(floor_seats(seats, percent), expected, "{percent} % of {seats}");
        }
    }

    fn severities() -> impl Strategy<Value = Severity> {
        prop::sample::select(Severity::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn it_stays_between_the_floor_and_all(
            seats in 16u32..2_000,
            percent in 1u8..=50,
            steps in prop::collection::vec((severities(), -10.0f64..3_000.0, 0.0f64..1.2), 1..300),
        ) {
            let mut leftover = Leftover::new(seats, percent, 0.92);
            let floor = floor_seats(seats, percent);
            for (tick, (severity, erlangs, cpu_share)) in steps.into_iter().enumerate() {
                let now = tick as u64 * TICK;
                let given = leftover.step(Facts { now, foreground_erlangs: erlangs, severity, cpu_share });
                prop_assert!((floor..=seats).contains(&given));
                let margin = (erlangs.max(0.0) + MARGIN * erlangs.max(0.0).sqrt()).ceil();
                prop_assert!(given == floor || f64::from(given) + margin <= f64::from(seats));
            }
        }

        #[test]
        fn in_the_calm_everything_is_open_again(steps in prop::collection::vec(severities(), 0..100)) {
            let mut leftover = Leftover::new(200, 5, 0.92);
            for (tick, severity) in steps.iter().enumerate() {
                leftover.step(facts(tick as u64, 0.0, *severity));
            }
            let mut given = 0;
            for tick in 100..320 {
                given = leftover.step(facts(tick, 0.0, Severity::Calm));
            }
            prop_assert_eq!(given, 200);
        }
    }
}
