//! Everything that one run has gathered, and the result that is made of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::cast::Outcomes;
use super::trail::Postures;
use super::{Plan, policy_name, validity};
use crate::storm::calibrate::LOGIN_PROCESSORS;
use crate::storm::figures;
use crate::storm::history::Findings;
use crate::storm::result::{
    ByPhase, Capacity, Check, Costs, LoginFigures, Memory, Origin, Run, Second, Summary, Verdict,
};
use crate::storm::scenario::Scenario;
use crate::storm::tally::{Stream, Tally};
use crate::storm::thresholds;
use crate::storm::timing::{Phase, Timing};
use crate::storm::watch::Watched;

/// Fewer clients that were turned away say nothing about what one of them costs.
const TURNED_AWAY_MIN: u64 = 200;

/// What people want, and what they are told that it is stored.
const PEOPLE: [Stream; 5] = [Stream::Talk, Stream::Receipt, Stream::LookLogin, Stream::Crowd, Stream::Look];

/// Everything of one run.
pub struct Gathered {
    pub timing: Timing,
    pub capacity: Capacity,
    pub costs: Costs,
    /// The capacity that was measured after the run.
    pub capacity_after: Option<Capacity>,
    /// And what things cost then.
    pub costs_after: Option<Costs>,
    /// What is to be known and leaves the run valid.
    pub remarks: Vec<String>,
    pub outcomes: Outcomes,
    /// The node's own postures; empty: nobody could ask it.
    pub postures: Postures,
    /// What was done to the server, and when.
    pub marks: Vec<(f64, String)>,
    /// Why the run did not last to its end.
    pub ended_early: Option<String>,
    /// What else is to be known.
    pub notes: Vec<String>,
    /// What the checker has found; `Err`: why it could not look.
    pub findings: Result<Findings, String>,
    /// What the kernel has accounted.
    pub watched: Option<Watched>,
}

/// From this share on it is told what the host took away.
const STOLEN_TOLD: f64 = 0.01;

impl Gathered {
    /// The result.
    pub fn into_run(mut self, plan: &Plan, origin: Origin) -> Run {
        let tally = self.take_tally();
        let summary = self.summary(plan, &tally);
        let seconds = self.seconds(&tally);
        let notes = self.notes();
        let postures = self.postures().iter();
        Run {
            summary,
            plan: plan.scenario.clone(),
            scale: plan.scale,
            origin,
            seconds,
            streams: figures::streams(&tally),
            postures: postures
                .map(|(at, posture)| {
                    let name = buslane_shared::overload::posture::name(*posture);
                    (self.timing.offset_s(*at), name.to_owned())
                })
                .collect(),
            marks: self.marks,
            notes,
        }
    }

    /// The node's own postures or, where nobody could ask it, what clients were told.
    fn postures(&self) -> &Postures {
        if self.postures.is_empty() { &self.outcomes.talk.postures } else { &self.postures }
    }

    /// What else is to be known of the run, in sentences.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(phones) = &self.outcomes.phones {
            let late = phones.started_late.p99_ms_of_all().unwrap_or_default();
            notes.push(format!(
                "The driver began with a client {late:.0} ms (p99) after it was due, and had no time left in {} s.",
                phones.saturated_s
            ));
        }
        if let Some(flood) = &self.outcomes.flood {
            let sent: u64 = flood.packets_by_second().iter().sum();
            notes.push(format!(
                "A flood of {sent} first packets was sent; {} more were due and left out, because the driver was behind.",
                flood.not_sent
            ));
        }
        let (phones, crowds) = (self.outcomes.phones.as_ref(), &self.outcomes.crowds);
        let broken = crowds.iter().flat_map(|crowd| crowd.broken.values()).sum::<u64>()
            + phones.map_or(0, |phones| phones.broken)
            + self.outcomes.talk.broken;
        let drained = self.outcomes.talk.drained
            + crowds.iter().map(|crowd| crowd.drained).sum::<u64>()
            + phones.map_or(0, |phones| phones.drained);
        if broken + drained > 0 {
            notes.push(format!(
                "{drained} sessions were asked to leave by a node that was being stopped; {broken} sessions of the others broke \
                 without a word."
            ));
        }
        if let Some(silent) = &self.outcomes.silent {
            notes.push(format!(
                "{} clients began a handshake and fell silent, {} at most at a time; the server held {} of them and \
                 turned {} away.",
                silent.opened, silent.most_at_a_time, silent.held, silent.turned_away
            ));
        }
        notes.extend(self.back());
        notes.extend(self.remarks.iter().cloned());
        notes.extend(self.capacity_after.map(|after| {
            let could = |capacity: &Capacity| {
                let full = capacity.messages_full_per_s.map(|full| format!(" ({full:.0} where it is full)"));
                format!(
                    "{:.0} messages{} or {:.0} logins",
                    capacity.messages_per_s,
                    full.unwrap_or_default(),
                    capacity.logins_per_s
                )
            };
            format!(
                "Before the run the server could do {} a second, after it {}. Shares of the capacity are of {}.",
                could(&self.capacity),
                could(&after),
                could(&self.capacity_meanwhile())
            )
        }));
        notes.extend(stolen_note(&self.stolen()));
        for crowd in &self.outcomes.crowds {
            let late = crowd.lateness.p99_ms_of_all().unwrap_or_default();
            notes.push(format!("The driver's thread of a crowd was late by {late:.1} ms (p99) itself."));
        }
        if let Ok(findings) = &self.findings {
            notes.extend(findings.statement());
            notes.extend(findings.examples.iter().cloned());
            notes.extend(findings.notes.iter().cloned());
        }
        notes
    }

    /// Share of the server's processors that the host took away.
    pub fn stolen(&self) -> ByPhase {
        let of = |phase| {
            let taken = self.watched.as_ref()?.stolen_in(phase)?;
            figures::share(taken, self.capacity.processors)
        };
        ByPhase { quiet: of(Phase::Quiet), storm: of(Phase::Storm), after: of(Phase::After) }
    }

    /// What all threads have seen, together.
    fn take_tally(&mut self) -> Tally {
        let empty = || Tally::new(self.timing, Arc::default());
        let mut all = empty();
        all.merge(std::mem::replace(&mut self.outcomes.talk.tally, empty()));
        for crowd in &mut self.outcomes.crowds {
            all.merge(std::mem::replace(&mut crowd.tally, empty()));
        }
        if let Some(phones) = &mut self.outcomes.phones {
            all.merge(std::mem::replace(&mut phones.tally, empty()));
        }
        all
    }

    fn summary(&self, plan: &Plan, tally: &Tally) -> Summary {
        let posture = figures::postures(&self.timing, &self.outcomes.talk.postures, &self.postures);
        let p99 = figures::p99_ms(tally, Stream::Talk);
        let logins = self.logins(tally);
        let rss = self.memory();
        let floor = figures::floor_kept(tally, &self.capacity_meanwhile());
        let findings = self.findings.as_ref().ok();
        let closed_because = self.closed_because();
        let mut summary = Summary {
            scenario: plan.scenario.name.clone(),
            policy: policy_name(&plan.scenario, plan.policy.as_deref(), plan.against.as_ref()).to_owned(),
            seed: plan.seed,
            valid: true,
            invalid_because: Vec::new(),
            fg_success: figures::success(tally, &[Stream::Talk], Phase::Storm),
            fg_p99_ms: p99,
            fg_p99_ratio: p99.storm.zip(p99.quiet).and_then(|(storm, quiet)| figures::share(storm, quiet)),
            bg_floor_kept: floor,
            logins,
            enter_ms: posture.enter_ms,
            exit_s: posture.exit_s,
            lost: findings.map(|found| found.lost),
            duplicated: findings.map(|found| found.duplicated),
            reordered: findings.map(|found| found.reordered),
            misdelivered: findings.map(|found| found.misdelivered),
            live_sessions_closed: closed_because.values().sum(),
            closed_because,
            rss_mib: rss,
            server_cpu_us: Costs { refusal: self.refusal_us(tally), ..self.costs },
            driver_lateness_p99_ms: self.outcomes.talk.lateness_by_phase.p99_ms_of_all(),
            driver_lateness_ms: self.outcomes.talk.lateness_by_phase.p99_ms(),
            stolen: self.stolen(),
            capacity: self.capacity,
            capacity_after: self.capacity_after,
            figures: BTreeMap::new(),
            checks: Vec::new(),
            verdict: Verdict::Invalid,
        };
        summary.figures = self.figures(&plan.scenario, &summary, tally, posture.changes);
        summary.checks = thresholds::checks(&summary.figures, &plan.scenario.limits);
        summary.invalid_because = validity::doubts(self, &plan.scenario, &p99);
        summary.valid = summary.invalid_because.is_empty();
        summary.verdict = verdict(summary.valid, &summary.checks);
        summary
    }

    fn figures(
        &self,
        scenario: &Scenario,
        summary: &Summary,
        tally: &Tally,
        posture_changes: u64,
    ) -> BTreeMap<String, f64> {
        let meanwhile = self.capacity_meanwhile();
        let goodput = figures::goodput(tally, &self.capacity, &meanwhile, validity::is_full(scenario));
        let memory = summary.rss_mib.after.zip(summary.rss_mib.before);
        let looks = [Stream::LookLogin, Stream::Look];
        let phones = self.outcomes.phones.as_ref();
        let findings = self.findings.as_ref().ok();
        let count = |count: Option<u64>| count.map(|count| count as f64);
        let named = [
            ("fg_success", summary.fg_success),
            ("fg_p99_ratio", summary.fg_p99_ratio),
            ("fg_p99_ms_storm", summary.fg_p99_ms.storm),
            ("enter_ms", summary.enter_ms),
            ("exit_s", summary.exit_s),
            ("logins_of_possible", summary.logins.done_of_possible),
            ("slots_kept", summary.logins.slots_kept),
            ("attempts_per_deferred", summary.logins.attempts_per_deferred),
            ("left_outside", phones.map(|phones| phones.left_outside as f64)),
            ("bg_floor_kept", summary.bg_floor_kept.map(|kept| if kept { 1.0 } else { 0.0 })),
            ("goodput_of_capacity", goodput),
            ("look_success", figures::success(tally, &looks, Phase::Storm)),
            ("fg_refused", Some(figures::refused(tally, &PEOPLE, Phase::Storm) as f64)),
            ("lost", count(findings.map(|found| found.lost))),
            ("duplicated", count(findings.map(|found| found.duplicated))),
            ("reordered", count(findings.map(|found| found.reordered))),
            ("misdelivered", count(findings.map(|found| found.misdelivered))),
            ("invented", count(findings.map(|found| found.invented))),
            ("holes", count(findings.map(|found| found.holes))),
            ("live_sessions_closed", Some(summary.live_sessions_closed as f64)),
            ("memory_ratio", memory.and_then(|(after, before)| figures::share(after, before))),
            ("back_ratio", self.back_ratio()),
            ("posture_changes", Some(posture_changes as f64)),
            ("amplification", self.outcomes.flood.as_ref().and_then(|flood| flood.amplification())),
        ];
        named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    fn logins(&self, tally: &Tally) -> LoginFigures {
        let figures = figures::logins(tally, &self.capacity_meanwhile(), self.possible_logins_per_s());
        let Some(phones) = &self.outcomes.phones else { return figures };
        LoginFigures {
            deferred: phones.deferred,
            slots_promised: phones.slots_promised,
            slots_kept: figures::share(phones.slots_kept as f64, phones.came_in_slot as f64),
            left_outside: phones.left_outside,
            // Those who do not listen try as often as they like: no server can change that.
            attempts_per_deferred: figures::share(
                phones.tries_of_obedient_deferred as f64,
                phones.obedient_deferred as f64,
            ),
            ..figures
        }
    }

    /// Logins that the server could do beside the foreground, and may.
    fn possible_logins_per_s(&self) -> f64 {
        self.possible_per_s(|costs| costs.login).min(self.capacity_meanwhile().logins_per_s)
    }

    /// The same of sessions that are only opened.
    fn possible_sessions_per_s(&self) -> f64 {
        self.possible_per_s(|costs| costs.session).min(self.capacity_meanwhile().sessions_per_s)
    }

    /// What the processors can do beside the foreground, by what it cost before and after the run.
    fn possible_per_s(&self, cost: fn(&Costs) -> Option<f64>) -> f64 {
        self.cost_meanwhile(cost).map_or(f64::INFINITY, |us| {
            let free = self.capacity.processors * self.free_share();
            free.min(LOGIN_PROCESSORS) * 1e6 / us
        })
    }

    /// Between what it cost before and after the run.
    fn cost_meanwhile(&self, cost: fn(&Costs) -> Option<f64>) -> Option<f64> {
        let costs = [Some(&self.costs), self.costs_after.as_ref()];
        let costs: Vec<f64> = costs.into_iter().flatten().filter_map(cost).collect();
        figures::share(costs.iter().sum(), costs.len() as f64)
    }

    /// What the server could do in the run: between what was measured before and after it.
    fn capacity_meanwhile(&self) -> Capacity {
        self.capacity.between(self.capacity_after)
    }

    /// What the foreground left over of the server's processors before the storm.
    fn free_share(&self) -> f64 {
        let used = self.watched.as_ref().and_then(|watched| watched.processors_in(Phase::Quiet));
        match used {
            Some(used) => (1.0 - used / self.capacity.processors.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0),
            None => 1.0,
        }
    }

    /// How long it took until all clients that were dropped were back, of what it takes at best.
    fn back_ratio(&self) -> Option<f64> {
        let crowds = self.outcomes.crowds.iter().filter(|crowd| crowd.dropped > 0);
        let dropped: u64 = crowds.clone().map(|crowd| crowd.dropped).sum();
        // Where somebody never came back there is no such time.
        let took = crowds.map(|crowd| crowd.all_back_s).collect::<Option<Vec<f64>>>()?;
        let took = took.into_iter().reduce(f64::max)?;
        let best = dropped as f64 / self.possible_sessions_per_s();
        figures::share(took, best)
    }

    /// When those who were dropped were back, in a sentence.
    fn back(&self) -> Option<String> {
        let crowds = self.outcomes.crowds.iter();
        let mut back: Vec<Duration> = crowds.flat_map(|crowd| crowd.back.iter().copied()).collect();
        back.sort_unstable();
        let at = |share: f64| back.get(((back.len() as f64 * share).ceil() as usize).saturating_sub(1));
        let [half, most, last] = [0.5, 0.99, 1.0].map(|share| at(share).map(Duration::as_secs_f64));
        Some(format!(
            "Of {} clients that lost their connection and came back half were back after {:.2} s, 99 % after {:.2} s, the last after {:.2} s.",
            back.len(),
            half?,
            most?,
            last?
        ))
    }

    /// Live sessions that the server closed, by what it said.
    fn closed_because(&self) -> BTreeMap<String, u64> {
        let crowds = self.outcomes.crowds.iter().map(|crowd| &crowd.closed_because);
        let phones = self.outcomes.phones.iter().map(|phones| &phones.closed_because);
        let mut all = BTreeMap::new();
        for (why, count) in crowds.chain(phones).chain([&self.outcomes.talk.closed_because]).flatten() {
            *all.entry((*why).to_owned()).or_default() += count;
        }
        all
    }

    fn memory(&self) -> Memory {
        let Some(watched) = &self.watched else { return Memory::default() };
        Memory {
            before: watched.rss_mib_before(),
            peak: watched.rss_mib_peak(),
            // Of a run that was cut short nobody knows.
            after: watched.rss_mib_after().filter(|_| self.ended_early.is_none()),
        }
    }

    /// What is left of the storm's processor time after logins and messages, for each that was turned away.
    fn refusal_us(&self, tally: &Tally) -> Option<f64> {
        let used = self.watched.as_ref()?.processors_in(Phase::Storm)?;
        let storm_s = (self.timing.storm_end() - self.timing.storm_begin()).as_secs_f64();
        let (first, end) =
            (self.timing.second(self.timing.storm_begin()), self.timing.second(self.timing.storm_end()));
        let (mut logins, mut messages, mut turned_away) = (0, 0, 0);
        for (stream, track) in tally.tracks() {
            for slice in track.slices.get(first..end).into_iter().flatten() {
                turned_away += slice.turned_away;
                match stream {
                    Stream::LookLogin | Stream::WakeLogin => logins += slice.served,
                    Stream::Receipt | Stream::Crowd => messages += slice.served,
                    _ => {}
                }
            }
        }
        let useful = logins as f64 * self.cost_meanwhile(|costs| costs.login)?
            + messages as f64 * self.cost_meanwhile(|costs| costs.message_full.or(costs.message))?;
        let left = used * storm_s * 1e6 - useful;
        (turned_away >= TURNED_AWAY_MIN && left > 0.0).then(|| left / turned_away as f64)
    }

    fn seconds(&self, tally: &Tally) -> Vec<Second> {
        let mut seconds: Vec<Second> = figures::seconds(tally)
            .into_iter()
            .enumerate()
            .map(|(n, streams)| {
                let at_s = self.timing.second_offset_s(n);
                Second {
                    at_s,
                    phase: Some(self.timing.phase(self.timing.at(at_s))),
                    streams,
                    ..Second::default()
                }
            })
            .collect();
        for (second, late) in seconds.iter_mut().zip(&self.outcomes.talk.lateness) {
            second.driver_lateness_ms = Some(figures::ms(*late));
        }
        if let Some(watched) = &self.watched {
            for (second, sample) in seconds.iter_mut().zip(watched.seconds()) {
                second.server_processors = sample.server_processors;
                second.driver_processors = sample.driver_processors;
                second.server_rss_mib = sample.server_rss_mib;
            }
        }
        if let Some(flood) = &self.outcomes.flood {
            for (second, packets) in seconds.iter_mut().zip(flood.packets_by_second()) {
                second.flood_packets = Some(*packets);
            }
        }
        seconds
    }
}

fn verdict(valid: bool, checks: &[Check]) -> Verdict {
    match (valid, checks.iter().all(|check| check.pass)) {
        (false, _) => Verdict::Invalid,
        (true, true) => Verdict::Pass,
        (true, false) => Verdict::Fail,
    }
}

/// What is said of a host that took processor time away; nothing where it was next to none.
fn stolen_note(share: &ByPhase) -> Option<String> {
    let shares = [share.quiet, share.storm, share.after];
    shares.iter().flatten().any(|share| *share >= STOLEN_TOLD).then(|| {
        let percent = |share: Option<f64>| share.map_or("?".to_owned(), |share| format!("{:.0} %", 100.0 * share));
        format!(
            "The host of this machine took away {} of the server's processors before the storm, {} in it and {} after it (steal).",
            percent(share.quiet),
            percent(share.storm),
            percent(share.after)
        )
    })
}
