//! Live sessions that were there before the storm: they send, look and fetch, claim too much, lose their connections and come
//! back.
//!
//! Open loop: what is due is offered at its time, whether the server keeps up or not, and its latency counts from then. One
//! thread does it all; a member is one task, and nothing between them is shared but counters.
//!
//! It must never offer less because the server is slow, try more often than the plan says, or lose count of what it was given.

mod agenda;
mod end;
mod heard;
mod ledger;
mod line;
mod member;
mod notes;
mod opening;
mod outbox;
mod patience;
mod work;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use buslane_shared::id::UserId;
use bytes::Bytes;
use tokio::task::{JoinHandle, LocalSet};

use self::agenda::{Agenda, Due};
use self::ledger::Ledger;
use self::member::{Member, Role};
use self::notes::{Book, Notes};
use self::opening::Opened;
use self::outbox::Outbox;
use self::patience::Manners;
use self::work::Kind;
use super::fleet::{self, Phone};
use super::generator::Cue;
use super::history::Record;
use super::lateness::Lateness;
use super::net::Net;
use super::pulse::Pulse;
use super::scenario::Crowd;
use super::stage::Stage;
use super::tail;
use super::tally::{Outcome, Tally};
use super::timing::Timing;
use crate::simulate::random::Random;

/// Source addresses, at most.
const ADDRESSES_MAX: usize = 256;

/// How long the server is given to hear that sessions are closed.
const SETTLE: Duration = Duration::from_secs(1);

/// Things that are handed out late in a row before answers are read again.
const LATE_IN_A_ROW: u32 = 64;

/// Streams of random numbers of one seed: members count on from here.
const MEMBERS: u64 = 16;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct CrowdPlan {
    /// Who they are. An odd one gets company: everybody has a neighbour.
    pub crowd: Crowd,
    /// Names of users begin with this, so that runs against one server do not meet.
    pub prefix: String,
    /// When bursts of messages are due, in seconds from the storm's beginning, ascending.
    pub messages: Vec<f64>,
    /// When something is fetched.
    pub fetches: Vec<f64>,
    /// When connections are lost, and how many percent of them.
    pub drops: Vec<(f64, u8)>,
    /// Sessions are opened at this pace.
    pub opens_per_s: f64,
}

/// What was seen.
#[derive(Debug)]
pub struct CrowdOutcome {
    /// Counts and latencies.
    pub tally: Tally,
    /// Live sessions that the server closed without being asked to, and without being stopped itself, by what it said.
    pub closed_because: BTreeMap<&'static str, u64>,
    /// Sessions that ended because a node was being stopped.
    pub drained: u64,
    /// Sessions that broke without a word from the server.
    pub broken: BTreeMap<&'static str, u64>,
    /// Messages with a receipt.
    pub stored: u64,
    /// Messages that arrived at the neighbour, each counted once.
    pub received: u64,
    /// Clients that lost their connection by the plan, in the drop that took the longest.
    pub dropped: u64,
    /// From that drop until the last of them was back; `None`: not all are, or there was none.
    pub all_back_s: Option<f64>,
    /// From that drop until each of them who is back was back.
    pub back: Vec<Duration>,
    /// How late this thread was itself with what was due.
    pub lateness: Lateness,
    /// How far the thread's network was behind.
    pub network_late: Lateness,
    /// What was sent, answered and received.
    pub record: Record,
    /// The members: neighbours are `2n` and `2n + 1`.
    pub phones: Vec<Phone>,
    /// The room of each pair of neighbours.
    pub rooms: Vec<Bytes>,
}

/// Plays the crowd.
pub async fn run(stage: Stage, plan: CrowdPlan, cue: Cue) -> anyhow::Result<CrowdOutcome> {
    LocalSet::new().run_until(play(stage, plan, cue)).await
}

async fn play(stage: Stage, plan: CrowdPlan, cue: Cue) -> anyhow::Result<CrowdOutcome> {
    let notes = Notes::default();
    let cast = tokio::select! {
        cast = Cast::assemble(&stage, &plan, &notes) => cast?,
        () = stage.stop.cancelled() => anyhow::bail!("the run was given up"),
    };
    let timing = cue.ready().await?;
    notes.begin(Tally::new(timing, stage.live.clone()), cast.ledger(timing.begin()));
    let pulse = Pulse::start(timing);
    let lateness = cast.direct(&stage, plan, &timing, &notes).await;
    let network_late = pulse.finish();
    // Of a run that was interrupted as well, or what was on its way then would seem lost.
    tail::wait(|| cast.has_all(), || notes.arrived()).await;
    let (phones, rooms) = cast.dismiss().await?;
    let Book { tally, ledger, closed_because, drained, broken, stored, received, drops, .. } = notes.take();
    // What matters is when everybody was back, so one who is not counts most.
    let hit = drops.iter().filter(|drop| drop.clients() > 0);
    let slowest = hit.max_by_key(|drop| drop.all_back().unwrap_or(Duration::MAX));
    Ok(CrowdOutcome {
        tally: tally.context("the run has not begun")?,
        closed_because,
        drained,
        broken,
        stored,
        received,
        dropped: slowest.map_or(0, notes::Dropped::clients),
        all_back_s: slowest.and_then(|drop| drop.all_back()).map(|took| took.as_secs_f64()),
        back: slowest.map(|drop| drop.back().to_vec()).unwrap_or_default(),
        lateness,
        network_late,
        record: ledger.context("the run has not begun")?.into_record(),
        phones,
        rooms,
    })
}

/// The members, while they live.
struct Cast {
    net: Rc<Net>,
    rooms: Vec<Bytes>,
    seats: Vec<Seat>,
}

/// One member, as seen from outside.
struct Seat {
    user: UserId,
    role: Role,
    outbox: Outbox,
    task: JoinHandle<Phone>,
}

impl Cast {
    /// Enrols everybody and opens their sessions; each is served from then on.
    async fn assemble(stage: &Stage, plan: &CrowdPlan, notes: &Notes) -> anyhow::Result<Self> {
        let count = (plan.crowd.sessions as usize).next_multiple_of(2);
        let net = Rc::new(Net::new(&stage.target, count.clamp(1, ADDRESSES_MAX))?);
        let side = Role::of(&plan.crowd, Manners::Obedient).side;
        let phones = fleet::enrol(&net, &stage.target, &plan.prefix, count, side).await?;
        let mut pairs = Vec::with_capacity(count / 2);
        let serve = |number: usize, pair: [Opened; 2]| {
            let [one, other] = pair;
            let room = one.room.clone();
            let seats = [(2 * number, one), (2 * number + 1, other)]
                .map(|(member, opened)| seat(stage, plan, notes, &net, member, opened));
            pairs.push((number, room, seats));
        };
        opening::open_all(&net, phones, side, plan.opens_per_s, serve).await?;
        pairs.sort_by_key(|(number, ..)| *number);
        let mut cast = Self { net, rooms: Vec::with_capacity(pairs.len()), seats: Vec::with_capacity(count) };
        for (_, room, seats) in pairs {
            cast.rooms.push(room);
            cast.seats.extend(seats);
        }
        Ok(cast)
    }

    /// A record of the run, in which nothing has happened yet.
    fn ledger(&self, begin: Instant) -> Ledger {
        let pairs = self.seats.chunks_exact(2).zip(&self.rooms).filter_map(|(pair, room)| {
            let [one, other] = pair else { return None };
            Some(([one.user.as_str(), other.user.as_str()], room))
        });
        Ledger::open(pairs, begin)
    }

    /// Hands out what is due when it is due, to the end of the plan. Answers how late that was.
    async fn direct(&self, stage: &Stage, plan: CrowdPlan, timing: &Timing, notes: &Notes) -> Lateness {
        let burst = plan.crowd.burst as usize;
        let mut agenda = Agenda::new(self.seats.len(), plan.messages, plan.fetches, plan.drops, stage.seed);
        let (mut lateness, mut late_in_a_row) = (Lateness::default(), 0);
        while let Some((offset_s, due)) = agenda.take_next() {
            let at = timing.at(offset_s);
            if at >= timing.end() || !wait(stage, at, &mut late_in_a_row).await {
                break;
            }
            lateness.record(timing.phase(at), at.elapsed());
            match due {
                Due::Messages { member } => self.hand_out(notes, member, burst, at, message),
                Due::Fetch { member } => self.hand_out(notes, member, 1, at, || Kind::Fetch),
                Due::Drop { members } => {
                    let drop = notes.begin_drop(Instant::now());
                    let lost = members.iter().filter_map(|member| self.seats.get(*member));
                    lost.for_each(|seat| seat.outbox.drop_connection(drop));
                }
            }
        }
        let end = tokio::time::sleep_until(timing.end().into());
        tokio::select! {
            () = end => {}
            () = stage.stop.cancelled() => {}
        }
        lateness
    }

    fn hand_out(&self, notes: &Notes, member: usize, count: usize, due: Instant, kind: impl Fn() -> Kind) {
        let Some(seat) = self.seats.get(member) else { return };
        let stream = seat.role.stream(&kind());
        (0..count).for_each(|_| notes.on_offered(stream, due));
        for _ in 0..seat.outbox.put(count, due, kind) {
            notes.on_outcome(stream, due, Outcome::Failed("driver_backlog"));
        }
    }

    /// Whether everybody has the answers, and what the neighbour has sent.
    fn has_all(&self) -> bool {
        self.seats.chunks_exact(2).all(is_pair_done)
    }

    /// Ends all sessions. The phones, and the rooms of their pairs.
    async fn dismiss(self) -> anyhow::Result<(Vec<Phone>, Vec<Bytes>)> {
        self.seats.iter().for_each(|seat| seat.outbox.close());
        let mut phones = Vec::with_capacity(self.seats.len());
        for seat in self.seats {
            phones.push(seat.task.await.context("a member's task")?);
        }
        self.net.settle(SETTLE).await;
        Ok((phones, self.rooms))
    }
}

/// Gives a member its work and lets it live.
fn seat(
    stage: &Stage,
    plan: &CrowdPlan,
    notes: &Notes,
    net: &Rc<Net>,
    number: usize,
    opened: Opened,
) -> Seat {
    let user = opened.phone.user.clone();
    let mut random = Random::new(stage.seed, MEMBERS + number as u64);
    let is_naive = random.below(100) < plan.crowd.naive_percent.into();
    let role = Role::of(&plan.crowd, if is_naive { Manners::Naive } else { Manners::Obedient });
    let (member, session) = Member::new(number, opened, role, notes.clone(), random);
    let outbox = member.outbox.clone();
    let task = tokio::task::spawn_local(member.run(session, net.clone()));
    Seat { user, role, outbox, task }
}

/// Whether two neighbours have their answers, and each has what the other one has sent.
fn is_pair_done(pair: &[Seat]) -> bool {
    let [one, other] = pair else { return true };
    let (one, other) = (&one.outbox, &other.outbox);
    one.is_done() && other.is_done() && one.has_heard(other) && other.has_heard(one)
}

/// Waits until something is due; false: the run was stopped. When many things are late in a row, answers are read in between.
async fn wait(stage: &Stage, until: Instant, late_in_a_row: &mut u32) -> bool {
    if until > Instant::now() {
        *late_in_a_row = 0;
        tokio::select! {
            () = tokio::time::sleep_until(until.into()) => {}
            () = stage.stop.cancelled() => {}
        }
    } else {
        *late_in_a_row += 1;
        if (*late_in_a_row).is_multiple_of(LATE_IN_A_ROW) {
            tokio::task::yield_now().await;
        }
    }
    !stage.stop.is_cancelled()
}

fn message() -> Kind {
    Kind::Message { client_id: uuid::Uuid::now_v7().into_bytes() }
}
