//! The run itself: clients, node and policy, one event after the other in virtual time.
//!
//! It decides nothing: the policy decides about jobs, `clients.rs` about coming back, `node.rs` about how long work takes.
//! Nothing in a run depends on anything but the scenario, the calls, the policy and the seed.

mod terms;

use std::collections::VecDeque;

use buslane_shared::Nanos;
use buslane_shared::wire::Posture;

use super::agenda::{Agenda, Event};
use super::clients::{self, Failed};
use super::job::{Call, Job, JobId, Manner, Sender, Shows};
use super::load::depends;
use super::node::{Node, Side};
use super::policy::{Arrival, Next, Policy, Refusal, Rejection, Spent, TICK, Told};
use super::random::Random;
use super::record::Record;
use super::tasks::{Task, Tasks};
use super::trace::Digest;

pub use terms::{Attempts, Outcome, Run};

/// Of the seed: the stream of numbers that clients draw from.
const CLIENTS: u64 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Away,
    Waiting,
    Over,
}

#[derive(Debug, Clone, Copy)]
struct Client {
    attempts: u32,
    phase: Phase,
}

/// Clients that wait, all equally long: so the first to begin is the first to give up.
type Queue = VecDeque<(Nanos, u32, u32)>;

struct World<'a> {
    run: Run<'a>,
    policy: Box<dyn Policy>,
    node: Node,
    tasks: Tasks,
    clients: Vec<Client>,
    agenda: Agenda,
    waits: [Queue; 3],
    random: Random,
    record: Record,
    attempts: Attempts,
    postures: Vec<(Nanos, Posture)>,
    digest: Digest,
    now: Nanos,
    came: usize,
    next_tick: Nanos,
}

/// Runs it to the scenario's end.
pub fn run(run: Run<'_>, mut policy: Box<dyn Policy>) -> anyhow::Result<Outcome> {
    if let Some(armed) = run.scenario.armed {
        policy.arm(armed);
    }
    let postures = policy.posture().map(|p| (0, p)).into_iter().collect();
    let mut world = World {
        node: Node::new(run.workers, policy.threads()),
        tasks: Tasks::default(),
        clients: vec![Client { attempts: 0, phase: Phase::Away }; run.calls.len()],
        agenda: Agenda::until(run.scenario.horizon),
        waits: Default::default(),
        random: Random::new(run.seed, CLIENTS),
        record: Record::new(run.scenario, run.ideal.judged_until, run.late_from)?,
        attempts: Attempts::default(),
        postures,
        digest: Digest::default(),
        now: 0,
        came: 0,
        next_tick: TICK,
        run,
        policy,
    };
    while world.step() {}
    world.attempts.left = world.tasks.len() as u64;
    Ok(Outcome {
        record: world.record,
        attempts: world.attempts,
        postures: world.postures,
        digest: world.digest.value(),
    })
}

/// What is next.
enum Due {
    Tick,
    Agenda,
    Call,
    Patience(usize),
}

impl World<'_> {
    /// The next event; false at the end.
    fn step(&mut self) -> bool {
        let (at, due) = self.due();
        if at >= self.run.scenario.horizon {
            return false;
        }
        self.now = at;
        match due {
            Due::Tick => self.tick(),
            Due::Agenda => match self.agenda.take() {
                Some(Event::Done(id)) => self.done(id),
                Some(Event::Attempt(call, shows)) => self.attempt(call, shows),
                None => {}
            },
            Due::Call => self.first(),
            Due::Patience(queue) => self.patience_over(queue),
        }
        true
    }

    /// What is due next, and when. At the same instant the order is that of this list.
    fn due(&mut self) -> (Nanos, Due) {
        let mut first = (self.next_tick, Due::Tick);
        if let Some(at) = self.agenda.due(first.0) {
            first = (at, Due::Agenda);
        }
        if let Some(call) = self.run.calls.get(self.came).filter(|c| c.at < first.0) {
            first = (call.at, Due::Call);
        }
        for (number, queue) in self.waits.iter().enumerate() {
            if let Some((at, ..)) = queue.front().filter(|w| w.0 < first.0) {
                first = (*at, Due::Patience(number));
            }
        }
        first
    }

    fn tick(&mut self) {
        self.next_tick += TICK;
        let readings = self.node.readings(self.now, TICK);
        self.policy.tick(self.now, &readings);
        if let Some(posture) = self.policy.posture()
            && self.postures.last().is_some_and(|(_, last)| *last != posture)
        {
            self.postures.push((self.now, posture));
            self.digest.add([self.now, posture as u64, 1]);
        }
        self.pump();
    }

    fn first(&mut self) {
        let number = self.came as u32;
        self.came += 1;
        let Some(call) = self.call(number) else { return };
        self.record.wanted(&call);
        self.attempt(number, clients::first_shows(&call));
    }

    fn attempt(&mut self, number: u32, shows: Shows) {
        let Some(call) = self.call(number) else { return };
        let Some(client) = self.clients.get_mut(number as usize) else { return };
        client.attempts += 1;
        client.phase = Phase::Waiting;
        let attempt = client.attempts;
        self.attempts.made += 1;
        self.digest.add([self.now, u64::from(number), u64::from(attempt)]);
        if call.is_login() && self.node.is_deaf(side(&call), self.now) {
            self.attempts.lost += 1;
            self.failed(number, Failed::Refused(Told::Nothing));
            return;
        }
        let patience = clients::patience(&call, &self.run.scenario.patience);
        let (id, came) = (self.tasks.next_id(), self.now);
        let Call { user, protocol, class, cost, .. } = call;
        let job = Job { id, user, protocol, class, shows, deadline: came + patience };
        let arrival = self.policy.arrive(&job, came);
        if let Arrival::Refuse(refusal) = arrival {
            self.attempts.refused += 1;
            self.refused(number, &call, refusal);
            return;
        }
        self.tasks.insert(Task {
            job,
            call: number,
            attempt,
            cost,
            came,
            taken: 0,
            began: 0,
            work: 0,
            in_flight: 0,
        });
        if arrival == Arrival::Run {
            self.take(id);
        }
        if let Some(queue) = self.waits.get_mut(queue_of(&call)) {
            queue.push_back((self.now + patience, number, attempt));
        }
        self.pump();
    }

    /// Lets everything go on that can.
    fn pump(&mut self) {
        loop {
            while let Some(next) = self.policy.next(self.now) {
                match next {
                    Next::Start(id) => self.take(id),
                    Next::Drop(id, refusal) => self.dropped(id, refusal),
                }
            }
            let Some(id) = self.node.next() else { return };
            self.begin(id);
        }
    }

    fn take(&mut self, id: JobId) {
        let Some(call) = self.tasks.find(id).and_then(|t| self.run.calls.get(t.call as usize)) else {
            return;
        };
        self.node.take(side(call), id);
        if let Some(task) = self.tasks.find(id) {
            task.taken = self.now;
            task.in_flight = self.node.in_flight();
        }
    }

    fn dropped(&mut self, id: JobId, refusal: Refusal) {
        let Some(task) = self.tasks.remove(id) else { return };
        let Some(call) = self.call(task.call) else { return };
        self.attempts.dropped += 1;
        if self.waits_for(&task) {
            self.refused(task.call, &call, refusal);
        } else {
            self.node.reject(side(&call), refusal.rejection.cost(), self.now);
        }
    }

    fn begin(&mut self, id: JobId) {
        let now = self.now;
        let Some(task) = self.tasks.find(id) else { return };
        let Some(call) = self.run.calls.get(task.call as usize) else { return };
        let work = (f64::from(task.cost) / self.run.scenario.speed(now)) as Nanos;
        let waiting = if depends(call) { self.run.scenario.dependency(now) } else { 0 };
        (task.began, task.work) = (now, work + waiting);
        let busy = self.node.begin(side(call), work, now) + waiting;
        self.agenda.add(now + busy.max(1), Event::Done(id));
    }

    fn done(&mut self, id: JobId) {
        let Some(task) = self.tasks.remove(id) else { return };
        let Some(call) = self.call(task.call) else { return };
        let now = self.now;
        self.node.end(side(&call), now);
        self.attempts.done += 1;
        self.digest.add([now, u64::from(task.call), u64::MAX]);
        let wanted = self.waits_for(&task);
        self.record.worked(&call, task.work, wanted, now);
        if wanted {
            self.record.answered(&call, task.attempt, task.came, now);
            self.set_phase(task.call, Phase::Over);
        }
        let spent =
            Spent { round_trip: now - task.taken, service: now - task.began, in_flight: task.in_flight };
        self.policy.done(&task.job, spent, now);
        self.pump();
    }

    fn patience_over(&mut self, queue: usize) {
        let Some((_, number, attempt)) = self.waits.get_mut(queue).and_then(VecDeque::pop_front) else {
            return;
        };
        let waits = |c: &&Client| c.phase == Phase::Waiting && c.attempts == attempt;
        if self.clients.get(number as usize).filter(waits).is_some() {
            self.failed(number, Failed::Unanswered);
        }
    }

    fn refused(&mut self, number: u32, call: &Call, refusal: Refusal) {
        self.node.reject(side(call), refusal.rejection.cost(), self.now);
        self.record.refused(call);
        let told = if refusal.rejection == Rejection::Silence { Told::Nothing } else { refusal.told };
        self.failed(number, Failed::Refused(told));
    }

    fn failed(&mut self, number: u32, failed: Failed) {
        let Some(call) = self.call(number) else { return };
        let attempts = self.clients.get(number as usize).map_or(0, |c| c.attempts);
        let patience = &self.run.scenario.patience;
        match clients::comeback(&call, patience, attempts, failed, self.now, &mut self.random) {
            Some(back) => {
                self.set_phase(number, Phase::Away);
                self.agenda.add(back.at.max(self.now + 1), Event::Attempt(number, back.shows));
            }
            None => {
                self.set_phase(number, Phase::Over);
                self.record.given_up(&call, matches!(failed, Failed::Refused(_)));
            }
        }
    }

    /// Whether the client still waits for this attempt.
    fn waits_for(&self, task: &Task) -> bool {
        let client = self.clients.get(task.call as usize);
        client.is_some_and(|c| c.phase == Phase::Waiting && c.attempts == task.attempt)
    }

    fn set_phase(&mut self, number: u32, phase: Phase) {
        if let Some(client) = self.clients.get_mut(number as usize) {
            client.phase = phase;
        }
    }

    fn call(&self, number: u32) -> Option<Call> {
        self.run.calls.get(number as usize).copied()
    }
}

fn side(call: &Call) -> Side {
    if call.is_login() && !call.class.is_foreground() { Side::Wake } else { Side::Front }
}

/// Which queue of patience a client is in: all in one wait equally long.
fn queue_of(call: &Call) -> usize {
    match (call.sender, call.manner) {
        (Sender::Person, _) => 0,
        (_, Manner::Obedient) => 1,
        (_, Manner::Naive) => 2,
    }
}

#[cfg(test)]
mod tests;
