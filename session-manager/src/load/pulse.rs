//! The pulse: every ten milliseconds the readings are gathered, the brain steps once, and everybody's limits are set.
//!
//! Why it exists: decisions on requests are made from numbers that are there already; here they are made. It runs on a thread
//! of normal priority and waits for nothing but its own timer: what it cannot have now (the wake port's books) it takes
//! with the next tick. What is dear to read is read less often.

use std::sync::Arc;
use std::time::Duration;

use buslane_chassis::clock;
use buslane_shared::Nanos;
use buslane_shared::class::Protocol;
use buslane_shared::overload::brain::{Brain, Facts, Outcome, TICK};
use buslane_shared::overload::lanes::Window;
use buslane_shared::overload::level::LEVELS;
use buslane_shared::overload::orders::Orders;
use buslane_shared::overload::posture::{self, Report, Source, emergency_share};
use buslane_shared::overload::rate;
use buslane_shared::overload::signals::{self, Readings};
use buslane_shared::overload::valve::Offered;
use buslane_shared::wire;
use metrics::{counter, gauge};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::blame::Blame;
use super::lateness::Lateness;
use super::system::{Processors, Stocks, System};
use super::{Fullness, Knobs, Pace, Stance};
use crate::WAKE_THREADS;
use crate::node::Node;

/// Ticks between two readings of the backend's pace, and between two reports while something changes.
const PACE_TICKS: u64 = 5;

/// Ticks between two readings of processor time.
const PROCESSOR_TICKS: u64 = 10;

/// Ticks between two readings of memory and descriptors.
const STOCK_TICKS: u64 = 100;

/// Ticks between two reports when nothing changes: a report that is older than a second counts for nothing elsewhere.
const REPORT_TICKS: u64 = 50;

/// Parts of the 100 ms over which logins are counted.
const LOGIN_PARTS: usize = 10;

/// How often foreground is counted.
const COUNTED_EVERY: Nanos = 1_000_000_000;

/// A thread is only late by its own doing while the node uses this share of the processors, or its logins this share of
/// what it takes: otherwise something else holds the machine up, and turning clients away would not help.
const OWN_SHARE_MIN: f64 = 0.5;

/// The loop's own memory.
pub(crate) struct Pulse {
    node: Arc<Node>,
    brain: Brain,
    knobs: Arc<Knobs>,
    orders: watch::Receiver<Arc<Orders>>,
    reports: watch::Sender<wire::Load>,
    lateness: Lateness,
    system: System,
    pace: Pace,
    offered: Box<Offered>,
    ticks: u64,
    /// Since foreground was counted last, and what it was then.
    counted_elapsed: Nanos,
    foreground_offered: u64,
    dependency: Option<signals::Dependency>,
    processors: Processors,
    stocks: Stocks,
    /// Logins asked for in each of the last ticks.
    asked: [u32; LOGIN_PARTS],
    /// The part of the login rate for those without a slot.
    open: f64,
    /// Since the books were stepped last.
    books_elapsed: Nanos,
    books_opened: u32,
    books_processors: Processors,
    gate_unsettled: bool,
    reported: Report,
    since_ms: u64,
    blame: Blame,
    fullness: Fullness,
}

impl Pulse {
    pub(crate) fn new(
        node: &Arc<Node>,
        orders: watch::Receiver<Arc<Orders>>,
        reports: watch::Sender<wire::Load>,
        lateness: Lateness,
    ) -> Self {
        let knobs = node.load.knobs();
        Self {
            brain: Brain::new(&knobs.settings),
            node: Arc::clone(node),
            knobs,
            orders,
            reports,
            lateness,
            system: System::new(),
            pace: Pace::default(),
            offered: Box::new([0; LEVELS]),
            ticks: 0,
            counted_elapsed: 0,
            foreground_offered: 0,
            dependency: None,
            processors: Processors::default(),
            stocks: Stocks::default(),
            asked: [0; LOGIN_PARTS],
            open: 1.0,
            books_elapsed: 0,
            books_opened: 0,
            books_processors: Processors::default(),
            gate_unsettled: false,
            reported: Report::default(),
            since_ms: clock::unix_ms(),
            blame: Blame::default(),
            fullness: Fullness::default(),
        }
    }

    /// Beats. Never returns; its owner stops it.
    pub(crate) async fn run(mut self) {
        let mut timer = interval(Duration::from_nanos(TICK));
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        loop {
            timer.tick().await;
            let now = Instant::now();
            let elapsed = Nanos::try_from(now.saturating_duration_since(last).as_nanos()).unwrap_or(TICK);
            last = now;
            self.tick(now, elapsed);
        }
    }

    fn tick(&mut self, now: Instant, elapsed: Nanos) {
        self.take_settings(now);
        self.read_what_is_due(now);
        self.count_foreground(elapsed);
        let load = &self.node.load;
        let (window, sojourn_min, costs) = load.seats.with(|lanes, now| {
            (lanes.take_window(now), lanes.take_sojourn_min(now), Protocol::ALL.map(|p| lanes.cost(p)))
        });
        load.valve.take_offered(&mut self.offered);
        let facts = Facts {
            readings: self.readings(now, &window, sojourn_min),
            elapsed,
            offered: &self.offered,
            completed: window.completed,
            saturated: window.saturated,
            foreground_backlog: window.foreground_backlog,
            foreground_erlangs: window.foreground_erlangs,
            cpu_share: self.processors.busy_share(),
            ledger: load.gate.ledger_length(now),
            peers_in_emergency: self.peers_in_emergency(now),
            orders: &self.orders.borrow().clone(),
            now_ms: clock::unix_ms(),
        };
        let outcome = self.brain.step(&facts);
        for (protocol, cost) in Protocol::ALL.into_iter().zip(costs) {
            load.valve.set_cost(protocol, cost);
        }
        load.valve.set_cut(outcome.cut);
        load.seats.with(|lanes, _| lanes.set_background_seats(outcome.background_seats));
        load.gate.set_posture(outcome.posture);
        let busy_share = self.processors.busy_share();
        let now_ns = load.clock.nanos(now);
        load.set_full(self.fullness.step(now_ns, elapsed, outcome.posture, busy_share));
        self.open = outcome.open;
        self.ticks += 1;
        self.keep_books(now, elapsed);
        self.tell(now, &outcome);
        self.node.load.census.on_tick(now);
    }

    /// The operator may have changed something since the last tick.
    fn take_settings(&mut self, now: Instant) {
        let knobs = self.node.load.knobs();
        if !Arc::ptr_eq(&knobs, &self.knobs) {
            self.brain.reconfigure(&knobs.settings);
            self.gate_unsettled = true;
            self.knobs = knobs;
        }
        if self.gate_unsettled {
            self.gate_unsettled = !self.node.load.gate.reconfigure(&self.knobs.settings, now);
        }
    }

    fn read_what_is_due(&mut self, now: Instant) {
        let load = &self.node.load;
        if self.ticks.is_multiple_of(PACE_TICKS) {
            self.dependency = self.pace.step(&load.dependency, load.clock.nanos(now));
        }
        if self.ticks.is_multiple_of(PROCESSOR_TICKS)
            && let Some(processors) = self.system.processors()
        {
            self.processors = processors;
            self.books_processors = self.books_processors + processors;
        }
        if self.ticks.is_multiple_of(STOCK_TICKS) {
            self.stocks = self.system.stocks();
        }
        if let Some(part) = self.asked.get_mut((self.ticks % LOGIN_PARTS as u64) as usize) {
            *part = load.gate.take_asked();
        }
    }

    fn readings(&self, now: Instant, window: &Window, sojourn_min: Option<Nanos>) -> Readings {
        let load = &self.node.load;
        let logins_100ms = self.asked.iter().sum();
        let login_budget_per_s = load.gate.rates().now;
        let logins_share = f64::from(logins_100ms) * 10.0 / login_budget_per_s.max(0.1);
        let is_busy = self.processors.own_share() >= OWN_SHARE_MIN || logins_share >= OWN_SHARE_MIN;
        Readings {
            now: load.clock.nanos(now),
            foreground_wait: window.foreground_wait,
            background_wait: window.background_wait,
            sojourn_min,
            lateness_p95: is_busy.then(|| self.lateness.p95()),
            seats_busy: window.seats_busy,
            logins_100ms,
            login_budget_per_s,
            dependency: self.dependency,
            memory: self.stocks.memory,
            descriptors: self.stocks.descriptors,
            handshakes: load.handshakes_share(),
        }
    }

    /// What the others report, as far as it can be trusted.
    fn peers_in_emergency(&self, now: Instant) -> f64 {
        let loads = self.node.feed.loads();
        let loads = loads.borrow();
        let nodes = self.node.feed.nodes();
        let own = &self.node.config.node;
        emergency_share(nodes.iter().filter(|node| node.name != *own).map(|node| {
            let posture = loads.fresh(&node.name, now).map(|report| report.posture);
            (node.weight, posture.unwrap_or_default())
        }))
    }

    /// How much foreground there is, once a second.
    fn count_foreground(&mut self, elapsed: Nanos) {
        self.counted_elapsed += elapsed;
        if self.counted_elapsed < COUNTED_EVERY {
            return;
        }
        let offered = self.node.load.tally.foreground_offered();
        self.node.load.on_second(offered.saturating_sub(self.foreground_offered));
        (self.counted_elapsed, self.foreground_offered) = (0, offered);
    }

    /// The books of the wake port, every 100 ms or as soon after that as they are free.
    fn keep_books(&mut self, now: Instant, elapsed: Nanos) {
        let gate = &self.node.load.gate;
        self.books_elapsed += elapsed;
        self.books_opened += gate.take_opened();
        if self.books_elapsed < TICK * PROCESSOR_TICKS || self.books_processors == Processors::default() {
            return;
        }
        let background = &self.knobs.settings.background;
        let processors = self.books_processors;
        let floor = processors.all as f64 * f64::from(background.floor_percent) / 100.0;
        let window = rate::Window {
            elapsed: self.books_elapsed,
            completed: self.books_opened,
            spent: processors.wake,
            available: (processors.wake + processors.idle).min(self.books_elapsed * WAKE_THREADS as Nanos),
            floor: floor as Nanos,
        };
        if gate.step(window, self.open, now) {
            (self.books_elapsed, self.books_opened) = (0, 0);
            self.books_processors = Processors::default();
        }
    }

    /// Tells clients, operators and the other nodes what holds.
    fn tell(&mut self, now: Instant, outcome: &Outcome) {
        let load = &self.node.load;
        if let Some(change) = outcome.change {
            self.since_ms = clock::unix_ms();
            let cause = outcome.judgement.cause;
            let signal = cause.map_or("none", |c| c.signal.name());
            let labels = [
                ("to", posture::name(change.to)),
                ("source", change.why.name()),
                ("signal", if change.why.order().is_some() { "none" } else { signal }),
            ];
            counter!("buslane_session_manager_posture_changes_total", &labels).increment(1);
            tracing::warn!(
                from = posture::name(change.from),
                to = posture::name(change.to),
                source = change.why.name(),
                order = change.why.order(),
                signal,
                value = cause.map(|c| c.value),
                limit = cause.map(|c| c.limit),
                "the posture has changed"
            );
        }
        let stance = Stance {
            posture: outcome.posture,
            since_ms: self.since_ms,
            measured: outcome.measured,
            source: match outcome.source {
                Source::Measured(_) => Source::Measured(outcome.judgement.cause),
                ordered => ordered,
            },
            cause: self.blame.step(outcome.measured, outcome.judgement.cause),
            level: outcome.cut.level(),
            background: load.gate.rates(),
            ledger_ms: u32::try_from(load.gate.ledger_length(now) / 1_000_000).unwrap_or(u32::MAX),
        };
        load.set_stance(stance);
        self.report(&stance);
        if self.ticks.is_multiple_of(PROCESSOR_TICKS) {
            self.show(&stance, outcome);
        }
    }

    /// For the backend and, through it, for gateways and the other nodes: a change at once, everything else by and by.
    fn report(&mut self, stance: &Stance) {
        let report = Report {
            posture: stance.posture,
            level: stance.level,
            background_per_s: stance.background.now,
            background_later_per_s: stance.background.later,
            ledger_ms: stance.ledger_ms,
            order: stance.source.order(),
            no: self.reported.no,
        };
        let urgent = report.posture != self.reported.posture || report.order != self.reported.order;
        let is_due = urgent
            || self.ticks.is_multiple_of(REPORT_TICKS)
            || (self.ticks.is_multiple_of(PACE_TICKS) && report != self.reported);
        if is_due {
            self.reported = Report { no: report.no + 1, ..report };
            self.reports.send_replace(self.reported.into());
        }
    }

    fn show(&self, stance: &Stance, outcome: &Outcome) {
        self.node.load.show_lanes();
        gauge!("buslane_session_manager_posture").set(f64::from(i32::from(stance.posture)));
        gauge!("buslane_session_manager_admission_level").set(f64::from(stance.level));
        gauge!("buslane_session_manager_background_seats").set(f64::from(outcome.background_seats));
        gauge!("buslane_session_manager_background_logins_per_second").set(stance.background.now);
        gauge!("buslane_session_manager_slot_ledger_seconds").set(f64::from(stance.ledger_ms) / 1e3);
        gauge!("buslane_session_manager_processors_busy_share").set(self.processors.busy_share());
        gauge!("buslane_session_manager_lateness_seconds").set(self.lateness.p95() as f64 / 1e9);
    }
}
