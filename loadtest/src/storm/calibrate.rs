//! What the server can do on this machine, found before each run: processor time of a session that is opened and closed, of a login (with
//! the request that every client makes then) and of a message, on a server of its own without any control of load. Scenarios state their
//! load in multiples of it.
//!
//! A message is measured alone and, where load or a limit is reckoned by it, on a full server. On a busy server packets, wakes and commits are shared by many of them: one costs half of what it costs
//! alone. So half of what a full server does keeps a processor nearly busy, and is no half of it; scenarios are stated in multiples of
//! what it can do where each comes alone, and what is served of more than everything is held against what a full one does.
//!
//! It is the processor time that counts, from the kernel's accounts, so it does not matter how fast the driver is.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use buslane_client::raw::Session;
use buslane_shared::frame::frame;
use buslane_shared::wire::{self, client_frame, request, server_frame};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::LocalSet;

use super::fleet::{self, Phone};
use super::net::Net;
use super::result::{Capacity, Costs};
use super::scenario::Side;
use super::stage::Target;
use crate::account::cpu_time;

/// Logins at a time, from as many phones: enough to keep one processor busy.
const LOGINS_AT_A_TIME: usize = 48;

/// Conversations. So many that each is quiet for longer than a phone waits with an acknowledgement, as those of people are: with
/// fewer of them many frames share a packet, and a message seems to cost half of what it does.
const PAIRS: usize = 500;

/// Conversations that send at a time, where what is measured is a message that comes alone.
const ALONE: usize = 1;

/// The same, where the server is to be full.
const FULL: usize = 64;

/// Logins are measured in so many windows, after a warm-up, and the window in the middle counts: one in which the machine was slow for a
/// moment says nothing.
const WINDOWS: usize = 5;
const WINDOW: Duration = Duration::from_secs(1);

/// Messages are measured for longer, and all of it counts: what the store writes out in the background belongs to what they cost.
const MESSAGE_WINDOWS: usize = 10;
const WARM_UP: Duration = Duration::from_secs(1);

/// How long one step may take.
const STEP_LIMIT: Duration = Duration::from_secs(20);

/// Bytes of a message.
const BODY_BYTES: usize = 200;

/// The wake port runs on one thread, so logins cannot use more than one processor.
pub(super) const LOGIN_PROCESSORS: f64 = 1.0;

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server.
    pub target: Target,
    /// Its processes.
    pub pids: watch::Receiver<Vec<u32>>,
    /// Processors that it may use.
    pub processors: f64,
    /// Messages that one sends at once where the server is full.
    pub burst: usize,
    /// Whether it is to be found what a full server does.
    pub full: bool,
}

/// Measures. Runs on the calling thread's runtime, which must be of one thread.
pub async fn run(plan: Plan) -> anyhow::Result<(Capacity, Costs)> {
    LocalSet::new().run_until(measure(plan)).await
}

async fn measure(plan: Plan) -> anyhow::Result<(Capacity, Costs)> {
    let net = Rc::new(Net::new(&plan.target, LOGINS_AT_A_TIME)?);
    let phones =
        fleet::enrol(&net, &plan.target, "calibrate-login", LOGINS_AT_A_TIME, Side::Background).await?;
    let (phones, session) =
        logins(&plan, &net, phones, Then::Leave).await.context("measuring what a session costs")?;
    let (_, login) = logins(&plan, &net, phones, Then::Ask).await.context("measuring what a login costs")?;
    let Messages { alone, full } = messages(&plan, &net).await.context("measuring what a message costs")?;
    let capacity = Capacity {
        processors: plan.processors,
        logins_per_s: plan.processors.min(LOGIN_PROCESSORS) / login,
        sessions_per_s: plan.processors.min(LOGIN_PROCESSORS) / session,
        messages_per_s: plan.processors / alone,
        messages_full_per_s: full.map(|cost| plan.processors / cost),
    };
    let us = |cost: f64| Some(cost * 1e6);
    Ok((
        capacity,
        Costs {
            login: us(login),
            session: us(session),
            message: us(alone),
            message_full: full.and_then(us),
            refusal: None,
        },
    ))
}

/// Processor seconds of one operation: what was used in a window, by what was done meanwhile.
struct Meter {
    pids: watch::Receiver<Vec<u32>>,
    done: Rc<RefCell<u64>>,
    end: Instant,
}

impl Meter {
    fn new(plan: &Plan, windows: usize) -> Self {
        let end = Instant::now() + WARM_UP + WINDOW * windows as u32;
        Self { pids: plan.pids.clone(), done: Rc::default(), end }
    }

    fn used(&self) -> anyhow::Result<(f64, u64)> {
        let mut used = Duration::ZERO;
        for pid in self.pids.borrow().iter() {
            used += cpu_time(*pid).context("the server has ended")?;
        }
        Ok((used.as_secs_f64(), *self.done.borrow()))
    }

    /// What was used, and what was done, in each window until the end.
    async fn windows(&self) -> anyhow::Result<Vec<(f64, u64)>> {
        tokio::time::sleep(WARM_UP).await;
        let mut windows = Vec::new();
        let mut before = self.used()?;
        loop {
            tokio::time::sleep(WINDOW).await;
            let now = self.used()?;
            windows.push((now.0 - before.0, now.1 - before.1));
            before = now;
            if Instant::now() + WINDOW / 2 > self.end {
                return Ok(windows);
            }
        }
    }
}

/// The cost of one in all windows together.
fn mean(windows: &[(f64, u64)]) -> anyhow::Result<f64> {
    let done: u64 = windows.iter().map(|(_, done)| done).sum();
    let used: f64 = windows.iter().map(|(used, _)| used).sum();
    anyhow::ensure!(done > 0, "nothing was done in {} s", windows.len());
    anyhow::ensure!(used > 0.0, "the kernel has accounted no processor time for it");
    Ok(used / done as f64)
}

/// The cost of one in the window in the middle. A window in which nothing was done had the highest.
fn middle(windows: &[(f64, u64)]) -> anyhow::Result<f64> {
    let mean = mean(windows)?;
    let cost = |(used, done): &(f64, u64)| if *done > 0 { used / *done as f64 } else { f64::INFINITY };
    let mut costs: Vec<f64> = windows.iter().map(cost).collect();
    costs.sort_by(f64::total_cmp);
    let middle = costs.get(costs.len() / 2).copied().filter(|cost| *cost > 0.0 && cost.is_finite());
    // So little was done that most windows are empty: all of them together.
    Ok(middle.unwrap_or(mean))
}

/// What a client does once it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Nothing: what a return costs.
    Leave,
    /// Asks for its rooms, as phones do that want in.
    Ask,
}

async fn logins(
    plan: &Plan,
    net: &Rc<Net>,
    phones: Vec<Phone>,
    then: Then,
) -> anyhow::Result<(Vec<Phone>, f64)> {
    let meter = Meter::new(plan, WINDOWS);
    let mut tasks = Vec::new();
    for phone in phones {
        let (net, done, end) = (net.clone(), meter.done.clone(), meter.end);
        tasks.push(tokio::task::spawn_local(login_again_and_again(phone, net, done, end, then)));
    }
    let cost = middle(&meter.windows().await?)?;
    let mut phones = Vec::with_capacity(tasks.len());
    for task in tasks {
        phones.push(task.await??);
    }
    Ok((phones, cost))
}

async fn login_again_and_again(
    mut phone: Phone,
    net: Rc<Net>,
    done: Rc<RefCell<u64>>,
    end: Instant,
    then: Then,
) -> anyhow::Result<Phone> {
    while Instant::now() < end {
        let mut session = phone.open_patiently(&net, Side::Background, STEP_LIMIT).await?;
        if then == Then::Ask {
            let rooms = request::Op::ListRooms(wire::ListRooms::default());
            session.request(1, rooms, STEP_LIMIT).await?;
        }
        session.close();
        // Each time a whole login, not the continuation of the one before.
        phone.forget_session();
        *done.borrow_mut() += 1;
    }
    Ok(phone)
}

/// Processor seconds of a message.
struct Messages {
    alone: f64,
    full: Option<f64>,
}

/// A session that sends, and the room that it sends to.
type Sender = (Session, Bytes);

async fn messages(plan: &Plan, net: &Rc<Net>) -> anyhow::Result<Messages> {
    let mut phones =
        fleet::enrol(net, &plan.target, "calibrate-talk", 2 * PAIRS, Side::Foreground).await?.into_iter();
    let (mut senders, mut receivers) = (Vec::with_capacity(PAIRS), Vec::with_capacity(PAIRS));
    while let (Some(mut one), Some(mut other)) = (phones.next(), phones.next()) {
        let peer = other.user.to_string();
        let mut sender = one.open_patiently(net, Side::Foreground, STEP_LIMIT).await?;
        let receiver = other.open_patiently(net, Side::Foreground, STEP_LIMIT).await?;
        let op = request::Op::OpenDirect(wire::OpenDirect { peer });
        let wire::answer::Result::Room(room) = sender.request(1, op, STEP_LIMIT).await? else {
            anyhow::bail!("OpenDirect was not answered with a room");
        };
        senders.push((sender, room.room));
        receivers.push(tokio::task::spawn_local(read_all(receiver)));
    }
    let (mut senders, alone) = at_a_time(plan, senders, ALONE, 1).await?;
    let mut full = None;
    if plan.full {
        let cost;
        (senders, cost) = at_a_time(plan, senders, FULL, plan.burst).await?;
        full = Some(cost);
    }
    for (session, _) in &senders {
        session.connection.close(0u32.into(), b"");
    }
    receivers.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(Messages { alone, full })
}

/// What a message costs when so many conversations send at a time, a burst each.
async fn at_a_time(
    plan: &Plan,
    senders: Vec<Sender>,
    many: usize,
    burst: usize,
) -> anyhow::Result<(Vec<Sender>, f64)> {
    let mut shares: Vec<Vec<Sender>> = (0..many).map(|_| Vec::new()).collect();
    for (n, sender) in senders.into_iter().enumerate() {
        if let Some(share) = shares.get_mut(n % many) {
            share.push(sender);
        }
    }
    let meter = Meter::new(plan, MESSAGE_WINDOWS);
    let talk = |share| tokio::task::spawn_local(send_in_turn(share, burst, meter.done.clone(), meter.end));
    let talks: Vec<_> = shares.into_iter().map(talk).collect();
    let windows = meter.windows().await?;
    let mut senders = Vec::with_capacity(PAIRS);
    // Whoever could not send knows why.
    for talk in talks {
        senders.extend(talk.await??);
    }
    Ok((senders, mean(&windows)?))
}

/// One message after another, each in the next conversation.
async fn send_in_turn(
    mut share: Vec<Sender>,
    burst: usize,
    done: Rc<RefCell<u64>>,
    end: Instant,
) -> anyhow::Result<Vec<Sender>> {
    // Requests of a session are numbered; opening the room was the first one.
    let mut id = 1;
    'talk: loop {
        for (session, room) in &mut share {
            if Instant::now() >= end {
                break 'talk;
            }
            let mut bytes = Vec::new();
            for _ in 0..burst {
                id += 1;
                bytes.extend_from_slice(&message(id, room));
            }
            session.send.write_all(&bytes).await?;
            *done.borrow_mut() += receipts(session, burst).await?;
        }
    }
    Ok(share)
}

/// Waits for the answers to so many requests, and counts the receipts among them.
async fn receipts(session: &mut Session, requests: usize) -> anyhow::Result<u64> {
    let (mut answers, mut receipts) = (0, 0);
    while answers < requests {
        let frame = session.recv.next::<wire::ServerFrame>().await?.context("the server ended a session")?;
        if let Some(server_frame::Kind::Answer(answer)) = frame.kind {
            answers += 1;
            receipts += u64::from(matches!(answer.result, Some(wire::answer::Result::Receipt(_))));
        }
    }
    Ok(receipts)
}

fn message(id: u64, room: &Bytes) -> Bytes {
    let op = request::Op::Send(wire::Send {
        room: room.clone(),
        client_id: Bytes::copy_from_slice(uuid::Uuid::now_v7().as_bytes()),
        body: Bytes::from_static(&[b'.'; BODY_BYTES]),
        ..Default::default()
    });
    let request = wire::Request { id, deadline_ms: 0, op: Some(op) };
    frame(&wire::ClientFrame { kind: Some(client_frame::Kind::Request(request)) })
}

/// Events after which the server is told that they are here.
const EVENTS_UNSEEN_MAX: u64 = 64;

/// Takes what comes, as a phone that is looked at does.
async fn read_all(mut session: Session) -> anyhow::Result<()> {
    let mut unseen = 0;
    while let Some(kind) = session.recv().await? {
        let server_frame::Kind::Event(event) = kind else { continue };
        unseen += 1;
        if unseen >= EVENTS_UNSEEN_MAX {
            unseen = 0;
            session.send(client_frame::Kind::Seen(event.no)).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_in_which_the_machine_was_slow_says_nothing() {
        let cost = middle(&[(1.0, 1_000), (0.9, 1_000), (0.9, 100), (1.1, 1_000), (1.0, 0)]).unwrap();
        assert_eq!(cost, 1.1 / 1_000.0, "the slow one and the empty one are above it");
    }

    #[test]
    fn what_is_written_in_the_background_belongs_to_a_message() {
        let cost = mean(&[(1.0, 1_000), (1.0, 600), (1.0, 1_400)]).unwrap();
        assert_eq!(cost, 3.0 / 3_000.0);
        assert!(mean(&[(0.0, 5)]).is_err());
        assert!(mean(&[(0.5, 0)]).is_err());
    }

    #[test]
    fn so_little_that_most_windows_are_empty_counts_as_a_whole() {
        assert_eq!(middle(&[(0.0, 0), (0.5, 2), (0.5, 0), (0.0, 0), (0.0, 0)]).unwrap(), 0.5);
        assert!(middle(&[(0.5, 0)]).is_err());
        assert!(middle(&[(0.0, 5)]).is_err());
        assert!(middle(&[]).is_err());
    }
}
