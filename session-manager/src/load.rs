//! Who goes first at this node, and what everybody is told about it.
//!
//! The decisions are those of [`buslane_shared::overload`]; here is what feeds them and what obeys them. `seats` holds the
//! lanes and who waits in them, `lines` what waits in one session; `pulse` is the loop that gathers the readings every ten
//! milliseconds, steps the brain and sets everybody's limits; `system`, `lateness` and `dependency` read the signals;
//! `stance` is what holds and what clients are told; `census` counts what was decided, `tally` what was asked for and what became of
//! it (`outcome`); `overseer` shows all of it to an operator.
//!
//! Why it exists: a request is decided on where it comes in, in less than a microsecond, from numbers that were computed
//! before it came. It must never close a live session, and never wait.

mod blame;
mod census;
mod dependency;
pub(crate) mod lateness;
pub(crate) mod lines;
pub(crate) mod outcome;
pub(crate) mod overseer;
pub(crate) mod passes;
pub(crate) mod pulse;
pub(crate) mod seats;
mod stance;
mod system;
pub(crate) mod tally;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use buslane_chassis::clock;
use buslane_shared::Nanos;
use buslane_shared::class::{Class, Classes, Protocol};
use buslane_shared::overload::lanes::Why;
use buslane_shared::overload::level::{Level, Standing};
use buslane_shared::overload::posture::{self, Usual};
use buslane_shared::overload::settings::{Complaint, Policy, Settings};
use buslane_shared::overload::valve::Valve;
use buslane_shared::refusal::{Busy, Refusal};
use buslane_shared::wire;
use bytes::Bytes;
use metrics::gauge;
use tokio::time::Instant;

pub(crate) use census::{Census, Decision};
pub(crate) use dependency::{Dependency, Pace};
use seats::Seats;
pub(crate) use stance::{Stance, Stances};
use tally::Tally;

use crate::config::Config;
use crate::gate::Gate;
use crate::presence::Presence;

/// Foreground that was refused comes back after this, and up to twice as long: long enough for a burst to be over, short
/// enough for a person to wait for.
const FOREGROUND_RETRY: Duration = Duration::from_secs(1);

/// The same for background, which nobody waits for.
const BACKGROUND_RETRY: Duration = Duration::from_secs(5);

/// As many who claim as much as they may are people, for whom a session that claims more has to stand back. With fewer it takes nothing
/// from anybody.
const PEOPLE: u64 = 10;

/// Beyond this share of the processors, in the mean of [`FULL_MEAN`], there is nothing to spare, whatever the posture is: what one
/// does another waits for.
const FULL_SHARE: f64 = 0.8;

/// What is looked back on for it: with 300 ms people waited for the first second of `load run liars`.
const FULL_MEAN: Nanos = 100_000_000;

/// For so long after that there is still nothing to spare for who claims too much: what made the node busy is held back, not gone.
const FULL_FOR: Nanos = 30_000_000_000;

/// The time of load decisions: nanoseconds since the start of the node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn now(&self) -> Nanos {
        self.nanos(Instant::now())
    }

    pub(crate) fn nanos(&self, at: Instant) -> Nanos {
        u64::try_from(at.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The settings of this moment, and what was computed from them.
pub(crate) struct Knobs {
    pub(crate) settings: Settings,
    pub(crate) classes: Classes,
    dry_run: [bool; 8],
}

impl Knobs {
    fn new(settings: Settings) -> Result<Self, Complaint> {
        settings.check()?;
        let classes = settings.class_table()?;
        let dry_run = Class::ALL.map(|class| settings.dry_run.contains(&class));
        Ok(Self { settings, classes, dry_run })
    }

    /// Whether refusals of this class are only counted.
    pub(crate) fn is_dry_run(&self, class: Class) -> bool {
        self.dry_run.get(class.index()).copied().unwrap_or(false)
    }
}

/// Everything about load that the tasks of this node share.
pub(crate) struct Load {
    pub(crate) clock: Clock,
    knobs: ArcSwap<Knobs>,
    pub(crate) valve: Valve,
    pub(crate) seats: Arc<Seats>,
    pub(crate) census: Census,
    pub(crate) tally: Arc<Tally>,
    pub(crate) dependency: Dependency,
    pub(crate) stances: Stances,
    /// People other than one with a machine are here.
    people: AtomicBool,
    /// And the node has nothing to spare: who claims too much takes it from them.
    takes_from_others: AtomicBool,
    /// Whether background logins may begin.
    pub(crate) gate: Arc<Gate>,
    /// Logins of the wake port that have begun.
    pub(crate) logins: AtomicU32,
    logins_max: u32,
    /// What clients are told while nothing is the matter.
    usual: Usual,
    /// How many times that they were told in an emergency at most, with the settings of now or earlier ones.
    patience: AtomicU32,
    /// Makes the standing of users unknowable from outside.
    key: u64,
}

/// Where a request stands, and whether it is admitted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ranked {
    pub(crate) class: Class,
    pub(crate) level: Level,
    pub(crate) admitted: bool,
}

impl Load {
    pub(crate) fn new(config: &Config, gate: &Arc<Gate>) -> Result<Self, Complaint> {
        let settings = config.overload.0.clone();
        let usual = Usual {
            ping_interval_ms: config.times.ping_interval_ms,
            idle_limit_ms: config.times.idle_limit_ms,
        };
        let clock = Clock::start();
        let seats = Seats::new(&settings, clock);
        let patience = settings.posture.ping_factor.max(1);
        Ok(Self {
            clock,
            knobs: ArcSwap::from_pointee(Knobs::new(settings)?),
            valve: Valve::default(),
            seats,
            census: Census::new(),
            tally: Arc::new(Tally::new()),
            dependency: Dependency::default(),
            stances: Stances::new(clock::unix_ms()),
            people: AtomicBool::new(false),
            takes_from_others: AtomicBool::new(false),
            gate: Arc::clone(gate),
            logins: AtomicU32::new(0),
            logins_max: config.bounds.handshakes_max,
            usual,
            patience: AtomicU32::new(patience),
            key: u64::from_le_bytes(clock::random()),
        })
    }

    /// The settings of this moment.
    pub(crate) fn knobs(&self) -> Arc<Knobs> {
        self.knobs.load_full()
    }

    /// Ranks a request of a session, and says whether requests of its rank are admitted now. A claim to be foreground beyond
    /// what one session may claim makes it background.
    pub(crate) fn rank(&self, protocol: Protocol, presence: &Presence, now: Instant) -> Ranked {
        let knobs = self.knobs.load();
        let claimed = knobs.classes.of(protocol, presence.app_state());
        let limits = (claimed.is_foreground() && knobs.settings.policy == Policy::Buslane)
            .then_some(&knobs.settings.claims);
        let (believed, standing) =
            presence.rank(limits, self.clock.nanos(now), |user| self.standing(user), clock::unix_ms());
        let class = if believed { claimed } else { Class::Wake };
        if !believed {
            self.census.on(protocol, claimed, Decision::Demoted);
            if self.takes_from_others.load(Ordering::Relaxed) {
                presence.on_overclaimed(self.clock.nanos(now));
            }
        }
        self.judge(&knobs, protocol, class, standing)
    }

    fn judge(&self, knobs: &Knobs, protocol: Protocol, class: Class, standing: Standing) -> Ranked {
        let level = Level::new(class, standing);
        let mut admitted = self.valve.admit(protocol, level, standing.bits);
        if !admitted {
            if knobs.is_dry_run(class) {
                self.census.on(protocol, class, Decision::DryRun);
                admitted = true;
            } else {
                self.census.on(protocol, class, Decision::Level);
            }
        }
        Ranked { class, level, admitted }
    }

    fn standing(&self, user: &str) -> Standing {
        Standing::of(user, self.key, clock::unix_ms())
    }

    /// The level of a class for this user.
    pub(crate) fn level(&self, class: Class, user: &str) -> Level {
        Level::new(class, self.standing(user))
    }

    /// Ranks what is no request of a session yet.
    pub(crate) fn rank_login(&self, protocol: Protocol, app_state: wire::AppState, user: &str) -> Ranked {
        let knobs = self.knobs.load();
        self.judge(&knobs, protocol, knobs.classes.of(protocol, app_state), self.standing(user))
    }

    /// The lanes have turned a request away. `true`: it goes on without a seat, its class is only tried out.
    pub(crate) fn on_turned_away(&self, protocol: Protocol, class: Class, why: Why) -> bool {
        let is_dry_run = self.knobs.load().is_dry_run(class);
        let decision = if is_dry_run { Decision::DryRun } else { Decision::Lane(why) };
        self.census.on(protocol, class, decision);
        is_dry_run
    }

    /// The refusal of a request for lack of capacity. It always says when to come back, and never to all the same.
    pub(crate) fn busy(&self, class: Class, level: Level) -> Refusal {
        let least = if class.is_foreground() { FOREGROUND_RETRY } else { BACKGROUND_RETRY };
        let least_ms = u32::try_from(least.as_millis()).unwrap_or(u32::MAX);
        let retry_after_ms = rand::random_range(least_ms..=least_ms.saturating_mul(2));
        let posture = self.stances.get().posture;
        Refusal::busy(Busy { class, level: level.number(), posture, slot: Bytes::new() }, retry_after_ms)
    }

    /// What holds now.
    pub(crate) fn posture(&self) -> wire::Posture {
        self.stances.get().posture
    }

    /// Whether what holds has held for longer than a client is silent as a rule.
    pub(crate) fn has_held_for_a_ping(&self) -> bool {
        let held_ms = clock::unix_ms().saturating_sub(self.stances.get().since_ms);
        held_ms >= u64::from(self.usual.ping_interval_ms)
    }

    /// What a session in this app state is told now.
    pub(crate) fn advice(&self, app_state: wire::AppState) -> wire::Advice {
        let knobs = self.knobs.load();
        let posture = self.stances.get().posture;
        posture::advice(posture, &knobs.settings.posture, self.usual, &knobs.classes, app_state)
    }

    /// How long a client may be silent now: never less than any client was told lately.
    pub(crate) fn idle_limit(&self, now: Instant) -> Duration {
        let factor = if self.stances.is_patient(self.clock.nanos(now)) { self.patience() } else { 1 };
        Duration::from_millis(self.usual.idle_limit_ms.into()) * factor
    }

    /// Share of the places for logins at the wake port that are taken.
    pub(crate) fn handshakes_share(&self) -> f64 {
        f64::from(self.logins.load(Ordering::Relaxed)) / f64::from(self.logins_max.max(1))
    }

    /// Shows the lanes in the metrics.
    pub(crate) fn show_lanes(&self) {
        for lane in self.seats.with(|lanes, _| lanes.snapshot()) {
            let class = lane.class.name();
            gauge!("buslane_session_manager_seats_in_use", "class" => class).set(f64::from(lane.in_use));
            gauge!("buslane_session_manager_seats_waiting", "class" => class).set(f64::from(lane.waiting));
            let wait_s = lane.predicted_wait as f64 / 1e9;
            gauge!("buslane_session_manager_predicted_wait_seconds", "class" => class).set(wait_s);
        }
    }

    /// Takes note of how much foreground was offered in the last second.
    pub(crate) fn on_second(&self, foreground_offered: u64) {
        let one = u64::from(self.knobs.load().settings.claims.per_s);
        self.people.store(foreground_offered >= one * PEOPLE, Ordering::Relaxed);
    }

    /// Takes note of whether the node has anything to spare.
    pub(crate) fn set_full(&self, is_full: bool) {
        self.takes_from_others.store(is_full && self.people.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Takes over what holds now.
    pub(crate) fn set_stance(&self, stance: Stance) {
        let longest = Duration::from_millis(self.usual.idle_limit_ms.into()) * self.patience();
        self.stances.set(stance, self.clock.now(), longest);
    }

    /// Takes over other settings. Who has a seat keeps it, and who waits waits on.
    pub(crate) fn reconfigure(&self, settings: Settings) -> Result<(), Complaint> {
        let knobs = Knobs::new(settings)?;
        self.seats.with(|lanes, _| lanes.reconfigure(&knobs.settings));
        self.patience.fetch_max(knobs.settings.posture.ping_factor, Ordering::Relaxed);
        self.knobs.store(Arc::new(knobs));
        Ok(())
    }

    fn patience(&self) -> u32 {
        self.patience.load(Ordering::Relaxed)
    }
}

/// Whether the node has anything to spare: what one session takes is otherwise missed by others.
#[derive(Debug, Default)]
pub(crate) struct Fullness {
    /// How busy the processors are.
    mean: f64,
    until: Nanos,
}

impl Fullness {
    /// One tick. Whether there is nothing to spare.
    pub(crate) fn step(
        &mut self,
        now: Nanos,
        elapsed: Nanos,
        posture: wire::Posture,
        busy_share: f64,
    ) -> bool {
        let gain = (elapsed as f64 / FULL_MEAN as f64).min(1.0);
        self.mean += gain * (busy_share - self.mean);
        if self.mean >= FULL_SHARE {
            self.until = now.saturating_add(FULL_FOR);
        }
        posture != wire::Posture::Normal || now < self.until
    }
}

#[cfg(test)]
mod tests {
    use buslane_shared::wire::Posture;

    use super::*;

    const TICK: Nanos = 10_000_000;

    /// When it has changed, in milliseconds, while the processors are so busy for so many ticks.
    fn changes(busy: &[(f64, u64)]) -> Vec<(u64, bool)> {
        let (mut fullness, mut before, mut now, mut seen) = (Fullness::default(), false, 0, Vec::new());
        for (share, ticks) in busy {
            for _ in 0..*ticks {
                now += TICK;
                let is_full = fullness.step(now, TICK, Posture::Normal, *share);
                if is_full != before {
                    seen.push((now / 1_000_000, is_full));
                }
                before = is_full;
            }
        }
        seen
    }

    #[test]
    fn processors_that_stay_busy_are_full_and_a_moment_is_not() {
        assert!(changes(&[(0.75, 10_000)]).is_empty());
        assert!(changes(&[(0.3, 200), (1.0, 10), (0.3, 200)]).is_empty(), "100 ms");
        let [(began, true), (ended, false)] = changes(&[(0.3, 200), (1.0, 100), (0.3, 10_000)])[..] else {
            panic!("a second of it is no moment")
        };
        assert!((2_110..2_200).contains(&began), "{began}");
        assert!((33_000..33_200).contains(&ended), "{ended}");
    }

    #[test]
    fn every_posture_but_normal_is_enough() {
        let step = |posture| Fullness::default().step(TICK, TICK, posture, 0.1);
        let postures = [Posture::Normal, Posture::Guard, Posture::Emergency, Posture::Recovery];
        assert_eq!(postures.map(step), [false, true, true, true]);
    }
}
