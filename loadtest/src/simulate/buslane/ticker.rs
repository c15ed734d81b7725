//! What the session manager's ticker does every ten milliseconds: gather the signals, step the brain, hand out what follows.

use buslane_shared::class::Protocol;
use buslane_shared::overload::brain::{Brain, Facts};
use buslane_shared::overload::lanes::Lanes;
use buslane_shared::overload::level::LEVELS;
use buslane_shared::overload::logins::{Ask, Logins};
use buslane_shared::overload::orders::{Kind, Orders, Wish};
use buslane_shared::overload::rate;
use buslane_shared::overload::settings::Settings;
use buslane_shared::overload::signals::{self, Dependency};
use buslane_shared::overload::valve::Valve;
use buslane_shared::wire::Posture;
use buslane_shared::{Nanos, UnixMs};

use crate::simulate::node::PROCESSORS;
use crate::simulate::policy::{Armed, Readings, TICK};

/// Ticks of which the last are one window of logins.
const LOGIN_TICKS: usize = 10;

/// Logins that may be at work before it counts as much: the session manager's default of handshakes in flight.
const HANDSHAKES: f64 = 512.0;

/// How much the mean round trip follows one answer.
const RTT_GAIN: f64 = 0.05;

/// The time of day at which runs begin.
const EPOCH_MS: UnixMs = 1_700_000_000_000;

/// What it steers.
pub struct Parts<'a> {
    /// Seats.
    pub lanes: &'a mut Lanes,
    /// Admission of requests.
    pub valve: &'a Valve,
    /// Admission of background logins.
    pub logins: &'a mut Logins,
}

/// The ticker.
pub struct Ticker {
    brain: Brain,
    orders: Orders,
    posture: Posture,
    floor: f64,
    last: Nanos,
    offered: Box<[Nanos; LEVELS]>,
    /// Background logins asked for, by tick.
    asked: [u32; LOGIN_TICKS],
    window: rate::Window,
    rtt: Option<(Nanos, f64)>,
}

impl Ticker {
    /// With these settings.
    pub fn new(settings: &Settings) -> Self {
        Self {
            brain: Brain::new(settings),
            orders: Orders::default(),
            posture: Posture::Normal,
            floor: f64::from(settings.background.floor_percent) / 100.0,
            last: 0,
            offered: Box::new([0; LEVELS]),
            asked: [0; LOGIN_TICKS],
            window: rate::Window::default(),
            rtt: None,
        }
    }

    /// What holds now.
    pub fn posture(&self) -> Posture {
        self.posture
    }

    /// An operator gives an order for later.
    pub fn arm(&mut self, armed: Armed) {
        let wish = Wish {
            kind: Kind::Emergency,
            reason: "a known event".to_owned(),
            author: "operator".to_owned(),
            from_ms: Some(time_of_day(armed.from)),
            duration_ms: Some((armed.until - armed.from) / 1_000_000),
        };
        if let Ok(order) = self.orders.plan(wish, EPOCH_MS) {
            self.orders.give(order, EPOCH_MS);
        }
    }

    /// A background login is asked for. Whoever comes in his slot was invited.
    pub fn asked(&mut self, ask: Ask) {
        let [now, ..] = &mut self.asked;
        *now += u32::from(ask != Ask::Slot);
    }

    /// A background session was opened.
    pub fn opened(&mut self) {
        self.window.completed += 1;
    }

    /// The backend has answered a request: how it fares is read from what people send.
    pub fn answered(&mut self, protocol: Protocol, took: Nanos) {
        if protocol == Protocol::MessageSend {
            let (least, mean) = self.rtt.unwrap_or((took, took as f64));
            self.rtt = Some((least.min(took), mean + RTT_GAIN * (took as f64 - mean)));
        }
    }

    /// A tick.
    pub fn tick(&mut self, now: Nanos, readings: &Readings, logins_at_work: u32, parts: Parts<'_>) {
        let elapsed = now - std::mem::replace(&mut self.last, now);
        let Parts { lanes, valve, logins } = parts;
        let window = lanes.take_window(now);
        valve.take_offered(&mut self.offered);
        let signals = signals::Readings {
            now,
            foreground_wait: window.foreground_wait,
            background_wait: window.background_wait,
            sojourn_min: lanes.take_sojourn_min(now),
            lateness_p95: None,
            seats_busy: window.seats_busy,
            logins_100ms: self.asked.iter().sum(),
            login_budget_per_s: logins.rates().now,
            dependency: self.rtt.map(|(least, mean)| Dependency {
                rtt_min: least,
                rtt: mean as Nanos,
                timeouts_share: 0.0,
            }),
            memory: 0.0,
            descriptors: 0.0,
            handshakes: f64::from(logins_at_work) / HANDSHAKES,
        };
        let outcome = self.brain.step(&Facts {
            readings: signals,
            elapsed,
            offered: &self.offered,
            completed: window.completed,
            saturated: window.saturated,
            foreground_backlog: window.foreground_backlog,
            foreground_erlangs: window.foreground_erlangs,
            cpu_share: readings.front,
            ledger: logins.ledger_length(now),
            peers_in_emergency: 0.0,
            orders: &self.orders,
            now_ms: time_of_day(now),
        });
        self.posture = outcome.posture;
        valve.set_cut(outcome.cut);
        for protocol in Protocol::ALL {
            valve.set_cost(protocol, lanes.cost(protocol));
        }
        lanes.set_background_seats(outcome.background_seats);
        self.asked.rotate_right(1);
        let [now, ..] = &mut self.asked;
        *now = 0;
        self.step_logins(elapsed, readings, outcome.open, logins);
    }

    /// What background logins took and what was idle is what they can have: their threads run last.
    fn step_logins(&mut self, elapsed: Nanos, readings: &Readings, open: f64, logins: &mut Logins) {
        let whole = elapsed as f64 * PROCESSORS;
        self.window.elapsed += elapsed;
        self.window.spent += (readings.wake * whole) as Nanos;
        self.window.available += ((1.0 - readings.front).max(0.0) * whole) as Nanos;
        self.window.floor += (self.floor * whole) as Nanos;
        if self.window.elapsed >= TICK * LOGIN_TICKS as Nanos {
            logins.step(std::mem::take(&mut self.window), open, self.posture);
        }
    }
}

fn time_of_day(now: Nanos) -> UnixMs {
    EPOCH_MS + now / 1_000_000
}
