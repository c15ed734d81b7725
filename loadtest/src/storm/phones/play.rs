//! The loop: whoever is due begins a try, whoever was turned away is put into the agenda, whoever is in has its errand.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use buslane_client::raw::Session;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

use super::PhonesOutcome;
use super::agenda::Agenda;
use super::counts::{Counts, Try};
use super::errand::{self, Ended};
use super::patience::{Manner, Patience};
use super::pool::Pool;
use crate::storm::fleet::{Phone, TRY_LIMIT};
use crate::storm::lateness::Lateness;
use crate::storm::net::{Net, Turned};
use crate::storm::pulse::Pulse;
use crate::storm::scenario::{Logins, Side};
use crate::storm::stage::Stage;
use crate::storm::tally::{Outcome, Tally};
use crate::storm::timing::Timing;

/// Tries that begin before the answers that have come are looked at.
const BATCH: usize = 32;

/// How long the last goodbyes may take to reach the server.
const SETTLE: Duration = Duration::from_millis(500);

/// One kind of client with its times and its phones.
pub struct Coming {
    /// What they do.
    pub logins: Logins,
    /// When one of them comes, in seconds from the storm's beginning.
    pub due: Vec<f64>,
    /// Who they are.
    pub phones: Vec<Phone>,
}

/// A kind of client while it plays.
struct Kind {
    side: Side,
    naive_percent: u8,
    gate_percent: u8,
    stay: Duration,
    pool: Pool,
}

/// A client that wants in.
struct Visit {
    phone: Phone,
    kind: usize,
    due: Instant,
    patience: Patience,
}

/// What is in the agenda.
enum Item {
    /// A client of this kind comes.
    Due(usize),
    /// One that is on its way tries again.
    Again(Box<Visit>),
}

/// How a task ends.
enum Report {
    Tried { visit: Box<Visit>, tried: Try, opened: Result<Box<Session>, Turned>, at: Instant },
    Asked { kind: usize, phone: Phone, session: Box<Session>, due: Instant, at: Instant, outcome: Outcome },
    Left { kind: usize, phone: Phone, ended: Option<Ended> },
}

/// One run.
pub struct Play {
    stage: Stage,
    net: Rc<Net>,
    timing: Timing,
    kinds: Vec<Kind>,
    agenda: Agenda<Item>,
    counts: Counts,
    /// Who is naive, and who asks the gateway: the same for the same seed.
    manners: StdRng,
    /// How long who waits.
    waits: StdRng,
    /// Tries that go on, and sessions.
    tasks: JoinSet<Report>,
    /// Tries that go on.
    trying: u64,
}

impl Play {
    /// Before the first one comes.
    pub fn new(stage: Stage, net: Rc<Net>, timing: Timing, coming: Vec<Coming>) -> Self {
        let mut agenda = Agenda::default();
        let mut kinds = Vec::with_capacity(coming.len());
        for (kind, Coming { logins, due, phones }) in coming.into_iter().enumerate() {
            for offset_s in due {
                agenda.put(timing.at(offset_s), Item::Due(kind));
            }
            kinds.push(Kind {
                side: logins.side,
                naive_percent: logins.naive_percent,
                gate_percent: logins.gate_percent,
                stay: Duration::try_from_secs_f64(logins.stay_s).unwrap_or_default(),
                pool: Pool::new(phones),
            });
        }
        Self {
            counts: Counts::new(Tally::new(timing, stage.live.clone())),
            manners: StdRng::seed_from_u64(stage.seed),
            waits: StdRng::seed_from_u64(stage.seed.wrapping_add(1)),
            stage,
            net,
            timing,
            kinds,
            agenda,
            tasks: JoinSet::new(),
            trying: 0,
        }
    }

    /// Until everybody was in and has left, or the run is over.
    pub async fn run(mut self) -> anyhow::Result<PhonesOutcome> {
        let stop = self.stage.stop.clone();
        let end = self.timing.end();
        let pulse = Pulse::start(self.timing);
        while !(self.agenda.is_empty() && self.tasks.is_empty()) && Instant::now() < end {
            let now = Instant::now();
            self.begin_what_is_due(now);
            if self.agenda.next_at().is_some_and(|at| at <= now) {
                // Not even a time that is past lets the others go first by itself.
                tokio::task::yield_now().await;
            }
            let next_at = self.agenda.next_at().unwrap_or(end).min(end);
            tokio::select! {
                Some(ended) = self.tasks.join_next() => self.take(ended.context("a client's task")?),
                () = tokio::time::sleep_until(next_at.into()) => {}
                () = stop.cancelled() => break,
            }
            while let Some(ended) = self.tasks.try_join_next() {
                self.take(ended.context("a client's task")?);
            }
        }
        Ok(self.finish(pulse.finish()).await)
    }

    /// A few at a time, so that the tries that go on are served in between.
    fn begin_what_is_due(&mut self, now: Instant) {
        for _ in 0..BATCH {
            match self.agenda.pop(now) {
                Some((due, Item::Due(kind))) => self.on_due(kind, due),
                Some((planned, Item::Again(visit))) => self.begin(visit, planned),
                None => return,
            }
        }
    }

    fn on_due(&mut self, kind: usize, due: Instant) {
        let Some(of) = self.kinds.get_mut(kind) else { return };
        self.counts.on_due(of.side, due);
        if let Some(phone) = of.pool.take(due) {
            self.begin_visit(kind, due, phone);
        }
    }

    fn begin_visit(&mut self, kind: usize, due: Instant, mut phone: Phone) {
        let Some(of) = self.kinds.get(kind) else { return };
        let mut happens = |percent: u8| self.manners.random_range(0..100) < percent;
        let manner = if happens(of.naive_percent) { Manner::Naive } else { Manner::Obedient };
        if happens(of.gate_percent) {
            phone.forget_ticket();
        } else {
            phone.forget_session();
        }
        let patience = Patience::new(manner, of.side);
        self.begin(Box::new(Visit { phone, kind, due, patience }), due);
    }

    fn begin(&mut self, mut visit: Box<Visit>, planned: Instant) {
        let Some(of) = self.kinds.get(visit.kind) else { return };
        let slot = visit.patience.begin(Instant::now());
        self.counts.on_try(&visit.patience);
        self.trying += 1;
        let (net, side) = (self.net.clone(), of.side);
        self.tasks.spawn_local(async move {
            let is_first = visit.patience.tries == 1;
            let tried = Try { planned, began: Instant::now(), is_first, showed_slot: slot.is_some() };
            let opened = visit.phone.open(&net, side, slot, TRY_LIMIT).await.map(Box::new);
            Report::Tried { visit, tried, opened, at: Instant::now() }
        });
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Tried { visit, tried, opened, at } => {
                self.trying -= 1;
                self.counts.on_tried(&tried);
                match opened {
                    Ok(session) => self.on_in(*visit, session, &tried, at),
                    Err(turned) => self.on_turned(visit, &turned, at),
                }
            }
            Report::Asked { kind, phone, session, due, at, outcome } => {
                let Some(of) = self.kinds.get(kind) else { return };
                self.counts.on_errand(of.side, due, at, outcome);
                let stay = of.stay;
                self.tasks.spawn_local(async move {
                    let ended = errand::stay_and_leave(session, stay).await;
                    Report::Left { kind, phone, ended }
                });
            }
            Report::Left { kind, phone, ended } => {
                self.counts.on_left(ended);
                let next = self.kinds.get_mut(kind).and_then(|of| of.pool.give_back(phone));
                if let Some((due, phone)) = next {
                    self.begin_visit(kind, due, phone);
                }
            }
        }
    }

    fn on_turned(&mut self, mut visit: Box<Visit>, turned: &Turned, at: Instant) {
        let Some(of) = self.kinds.get(visit.kind) else { return };
        let managers = visit.phone.addresses().len();
        let was_deferred = visit.patience.was_deferred;
        let wait = visit.patience.wait_after(turned, managers, at, &mut self.waits);
        self.counts.on_turned(of.side, visit.due, at, turned);
        if visit.patience.was_deferred && !was_deferred {
            self.counts.on_deferred(&visit.patience);
        }
        self.agenda.put(at + wait, Item::Again(visit));
    }

    fn on_in(&mut self, visit: Visit, mut session: Box<Session>, tried: &Try, at: Instant) {
        let Visit { phone, kind, due, .. } = visit;
        let Some(of) = self.kinds.get(kind) else { return };
        self.counts.on_in(of.side, due, at, tried);
        self.counts.on_errand_due(of.side, at);
        self.tasks.spawn_local(async move {
            let (answered_at, outcome) = errand::fetch(&mut session, at).await;
            Report::Asked { kind, phone, session, due: at, at: answered_at, outcome }
        });
    }

    /// Who is not in by now stays outside, those who were due and not begun included.
    async fn finish(mut self, network_late: Lateness) -> PhonesOutcome {
        let now = Instant::now().min(self.timing.end());
        let mut outside = self.trying;
        for (at, item) in self.agenda.drain() {
            match item {
                Item::Again(_) => outside += 1,
                Item::Due(kind) if at <= now => {
                    if let Some(of) = self.kinds.get(kind) {
                        self.counts.on_due(of.side, at);
                        self.counts.on_not_begun(at, now);
                        outside += 1;
                    }
                }
                Item::Due(_) => {}
            }
        }
        for due in self.kinds.iter().flat_map(|of| of.pool.waiting()) {
            self.counts.on_not_begun(due, now);
            outside += 1;
        }
        self.tasks.shutdown().await;
        self.net.settle(SETTLE).await;
        self.counts.finish(outside, network_late)
    }
}
