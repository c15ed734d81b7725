//! The conversations that are watched: pairs of people, from before the storm to the end. What they see is the figure that
//! matters.
//!
//! It runs on a thread of its own at normal priority. A metronome thread sleeps until the next message is due, so messages do
//! not wait for a timer that knows only whole milliseconds; how late this side is all the same is measured with every message.
//! A message counts from when it was due until the other phone has it, however often it had to be tried again.
//!
//! It must never send less because the server is slow: what is due waits in the speaker's outbox, and its time runs.

mod lines;
mod metronome;
mod outbox;
mod speaker;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use buslane_shared::wire::Posture;
use bytes::Bytes;
use tokio::task::LocalSet;

use self::metronome::Metronome;
use self::outbox::Outbox;
use self::speaker::{Speaker, Witness};
use super::fleet::{self, Phone};
use super::generator::Cue;
use super::history::{Continuity, Record};
use super::lateness::Lateness;
use super::net::Net;
use super::scenario::{Side, Talk};
use super::stage::Stage;
use super::tail;
use super::tally::{Outcome, Stream, Tally};
use super::timing::Timing;

/// Source addresses: few people, so few are enough.
const ADDRESSES: usize = 16;

/// How long one step of the preparation may take.
const STEP_LIMIT: Duration = Duration::from_secs(20);

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The conversations.
    pub talk: Talk,
    /// Names of users begin with this, so that runs against one server do not meet.
    pub prefix: String,
}

/// What was seen.
#[derive(Debug)]
pub struct Seen {
    /// Counts and latencies.
    pub tally: Tally,
    /// How late this thread was with a message, by seconds of the run: the worst.
    pub lateness: Vec<Duration>,
    /// The same of all messages, by phase.
    pub lateness_by_phase: Lateness,
    /// Posture changes as live clients were told, the first of each: when, and the posture from then on.
    pub postures: Vec<(Instant, Posture)>,
    /// Sessions that the server ended, by what it said, without being stopped itself.
    pub closed_because: BTreeMap<&'static str, u64>,
    /// Sessions that ended because a node was being stopped.
    pub drained: u64,
    /// Sessions that broke without a word from the server.
    pub broken: u64,
    /// Everything that was sent, answered and received.
    pub record: Record,
    /// The people, to read their logs afterwards.
    pub phones: Vec<Phone>,
    /// The room of each conversation; its people are the phones `2n` and `2n + 1`.
    pub rooms: Vec<Bytes>,
}

/// What all tasks of this thread share.
struct Shared {
    tally: Tally,
    lateness: Vec<Duration>,
    /// When the run begins. What was told before and is only read now is no news of the run.
    begin: Instant,
    lateness_by_phase: Lateness,
    postures: Vec<(Instant, Posture)>,
    closed_because: BTreeMap<&'static str, u64>,
    drained: u64,
    broken: u64,
    record: Record,
    /// Messages that the other phone does not have yet, by conversation and number.
    on_the_way: HashMap<(u32, u32), Instant>,
    deadline: Duration,
}

impl Shared {
    fn on_posture(&mut self, stage: &Stage, posture: Posture) {
        if self.postures.last().is_some_and(|(_, last)| *last == posture) {
            return;
        }
        let now = Instant::now();
        if now < self.begin {
            // Sessions that nobody read while the others were made hear the whole past at once; only its end counts.
            self.postures.clear();
        }
        self.postures.push((now, posture));
        stage.live.set_posture(posture);
    }

    /// The person of this number, as the record knows it. Its session is open already.
    fn witness(&mut self, n: usize, names: &[String], rooms: &[Bytes], began: Instant) -> Witness {
        let device = self.record.device(names.get(n).map_or("", String::as_str));
        let pair = names.iter().skip(n - n % 2).take(2).map(String::as_str);
        let room =
            self.record.room(rooms.get(n / 2).map_or(&[], |room| room), pair.filter(|_| n.is_multiple_of(2)));
        self.record.on_session(device, Continuity::Fresh, began);
        Witness { device, room }
    }

    /// How long it was on its way. What was given up already, or comes twice, is the checker's business.
    fn on_received(&mut self, conversation: u32, number: u32, now: Instant) -> Option<Duration> {
        let due = self.on_the_way.remove(&(conversation, number))?;
        let latency = now.saturating_duration_since(due);
        let outcome = if latency <= self.deadline { Outcome::Done(latency) } else { Outcome::Late(latency) };
        self.tally.on_outcome(Stream::Talk, due, now, outcome);
        Some(latency)
    }

    /// What has not arrived by the end is as late as the run was long.
    fn give_up(&mut self, now: Instant) {
        let missing: Vec<Instant> = self.on_the_way.drain().map(|(_, due)| due).collect();
        for due in missing {
            let outcome = Outcome::Never(now.saturating_duration_since(due));
            self.tally.on_outcome(Stream::Talk, due, now, outcome);
        }
    }
}

/// Plays the conversations.
pub async fn run(stage: Stage, plan: Plan, cue: Cue) -> anyhow::Result<Seen> {
    LocalSet::new().run_until(play(stage, plan, cue)).await
}

async fn play(stage: Stage, plan: Plan, cue: Cue) -> anyhow::Result<Seen> {
    let pairs = plan.talk.pairs as usize;
    let net = Rc::new(Net::new(&stage.target, ADDRESSES.min(2 * pairs))?);
    let phones = fleet::enrol(&net, &stage.target, &plan.prefix, 2 * pairs, Side::Foreground).await?;
    let names: Vec<String> = phones.iter().map(|phone| phone.user.to_string()).collect();
    let mut speakers = Vec::with_capacity(2 * pairs);
    for phone in phones {
        speakers.push(Speaker::open(phone, &net, plan.talk.body_bytes as usize, STEP_LIMIT).await?);
    }
    let mut rooms = Vec::with_capacity(pairs);
    for (pair, peer) in speakers.chunks_exact_mut(2).zip(names.iter().skip(1).step_by(2)) {
        let [one, other] = pair else { continue };
        let room = one.open_room(peer, STEP_LIMIT).await.context("a room for a conversation")?;
        other.take_room(&room);
        rooms.push(room);
    }

    let timing = cue.ready().await?;
    let shared = Rc::new(RefCell::new(Shared {
        tally: Tally::new(timing, stage.live.clone()),
        lateness: vec![Duration::ZERO; timing.seconds()],
        begin: timing.begin(),
        lateness_by_phase: Lateness::default(),
        postures: Vec::new(),
        closed_because: BTreeMap::new(),
        drained: 0,
        broken: 0,
        record: Record::new(timing.begin()),
        on_the_way: HashMap::new(),
        deadline: Duration::from_millis(plan.talk.deadline_ms.into()),
    }));
    let mut tasks = Vec::with_capacity(speakers.len());
    let mut outboxes = Vec::with_capacity(speakers.len());
    for (n, speaker) in speakers.into_iter().enumerate() {
        outboxes.push(speaker.outbox());
        let witness = shared.borrow_mut().witness(n, &names, &rooms, timing.begin());
        tasks.push(tokio::task::spawn_local(speaker.run(
            stage.clone(),
            net.clone(),
            shared.clone(),
            witness,
        )));
    }
    send_all(&stage, &plan, &timing, &shared, &outboxes).await;
    let on_the_way = || shared.borrow().on_the_way.len() as u64;
    tokio::select! {
        () = tail::wait(|| on_the_way() == 0, on_the_way) => {}
        () = stage.stop.cancelled() => {}
    }
    shared.borrow_mut().give_up(Instant::now());
    for outbox in &outboxes {
        outbox.close();
    }
    let mut phones = Vec::with_capacity(tasks.len());
    for task in tasks {
        phones.push(task.await.context("a speaker's task")?);
    }
    let shared =
        Rc::try_unwrap(shared).map_err(|_| anyhow::anyhow!("a speaker is still there"))?.into_inner();
    Ok(Seen {
        tally: shared.tally,
        lateness: shared.lateness,
        lateness_by_phase: shared.lateness_by_phase,
        postures: shared.postures,
        closed_because: shared.closed_because,
        drained: shared.drained,
        broken: shared.broken,
        record: shared.record,
        phones,
        rooms,
    })
}

/// Puts each message into its speaker's outbox when it is due.
async fn send_all(
    stage: &Stage,
    plan: &Plan,
    timing: &Timing,
    shared: &Rc<RefCell<Shared>>,
    outboxes: &[Outbox],
) {
    let mut metronome = Metronome::start(*timing, plan.talk.messages_per_s, stage.seed);
    let pairs = outboxes.len() / 2;
    let mut number = 0usize;
    loop {
        let due = tokio::select! {
            due = metronome.next() => due,
            () = stage.stop.cancelled() => None,
        };
        let Some(due) = due else { return };
        // Each conversation in turn; in a conversation the two speak in turns.
        let (conversation, turn) = (number % pairs.max(1), number / pairs.max(1));
        let Some(outbox) = outboxes.get(2 * conversation + turn % 2) else { return };
        {
            let mut shared = shared.borrow_mut();
            let late = due.elapsed();
            shared.lateness_by_phase.record(timing.phase(due), late);
            if let Some(worst) = shared.lateness.get_mut(timing.second(due)) {
                *worst = late.max(*worst);
            }
            shared.tally.on_offered(Stream::Talk, due);
            shared.tally.on_offered(Stream::Receipt, due);
            shared.on_the_way.insert((conversation as u32, turn as u32), due);
        }
        outbox.put(conversation as u32, turn as u32, due);
        number += 1;
    }
}
