//! 500 conversations at 1,000 messages a second in all: from the moment a message is due to the moment the other phone has
//! it. Open loop: a message that is sent late counts from when it was due.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use buslane_client::session::Session;
use buslane_shared::frame::frame;
use buslane_shared::wire::{self, client_frame, event, message, request, server_frame};
use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::Plan;
use crate::figures::Figure;
use crate::latency::{Latencies, Percentiles};
use crate::phone::{Phone, enrol_many, transport};
use crate::server::Server;

const PAIRS: usize = 500;
const PER_SECOND: usize = 1_000;
const SECONDS: usize = 15;
const BODY_BYTES: usize = 200;
/// After the last message was due, what has not arrived by then is missing.
const TAIL: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
struct Schedule {
    first: Instant,
    period: Duration,
    count: usize,
}

impl Schedule {
    fn due(&self, n: usize) -> Instant {
        self.first + self.period * n as u32
    }
}

struct Measured {
    received: Latencies,
    lateness: Latencies,
}

pub async fn run(plan: &Plan) -> anyhow::Result<Vec<Figure>> {
    let server = Server::up(&plan.program, &plan.folder("pairs")?.join("data")).await?;
    let transport = transport(&server.ready.ca)?;
    let pairs = plan.scaled(PAIRS, 20);
    let phones = enrol_many(&transport, &server.ready, "pair", 2 * pairs).await?;
    let each = SECONDS * PER_SECOND / PAIRS;
    let results =
        Arc::new(Mutex::new(Measured { received: Latencies::default(), lateness: Latencies::default() }));
    let start = Instant::now() + Duration::from_secs(3) + Duration::from_millis(4 * pairs as u64);
    let period = Duration::from_secs_f64(PAIRS as f64 / PER_SECOND as f64);
    let mut tasks = JoinSet::new();
    for (n, pair) in phones.chunks_exact(2).enumerate() {
        let [from, to] = pair else { continue };
        let mut sender = from.open(&transport).await?;
        let receiver = to.open(&transport).await?;
        let room = open_room(&mut sender, to).await?;
        let first = start + period.mul_f64(n as f64 / pairs as f64);
        let schedule = Schedule { first, period, count: each };
        tasks.spawn(send_on_time(sender, room, schedule, results.clone()));
        tasks.spawn(receive(receiver, schedule, results.clone()));
    }
    anyhow::ensure!(
        Instant::now() < start,
        "this machine was too slow to open {} sessions in time",
        2 * pairs
    );
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    server.stop().await?;
    let results = results.lock().await;
    let Percentiles { p50, p99, .. } = results.received.percentiles();
    let (count, late) = (results.received.len(), results.lateness.percentiles().p99);
    let what = "send to received by the other phone, 500 pairs, 1,000 msg/s";
    Ok(vec![
        Figure::at_most(
            what,
            "p50 <= 2 ms",
            p50,
            2.0,
            format!("p50 {p50:.2} ms ({count} messages, {pairs} pairs)"),
        ),
        Figure::at_most(
            what,
            "p99 <= 10 ms",
            p99,
            10.0,
            format!("p99 {p99:.2} ms (the driver's own lateness p99: {late:.2} ms)"),
        ),
    ])
}

async fn open_room(session: &mut Session, peer: &Phone) -> anyhow::Result<Bytes> {
    let op = request::Op::OpenDirect(wire::OpenDirect { peer: peer.user.to_string() });
    match session.request(1, op, Duration::from_secs(10)).await? {
        wire::answer::Result::Room(room) => Ok(room.room),
        other => anyhow::bail!("OpenDirect answered {other:?}"),
    }
}

/// Sends on schedule, whatever the server does; answers are read on the side.
async fn send_on_time(
    session: Session,
    room: Bytes,
    schedule: Schedule,
    results: Arc<Mutex<Measured>>,
) -> anyhow::Result<()> {
    let Session { connection, mut send, mut recv, .. } = session;
    let count = schedule.count;
    let mut lateness = Latencies::default();
    let receipts = tokio::spawn(async move {
        let mut seen = 0;
        while seen < count {
            let frame =
                recv.next::<wire::ServerFrame>().await?.context("the server ended a sender's stream")?;
            if let Some(server_frame::Kind::Answer(answer)) = frame.kind {
                match answer.result {
                    Some(wire::answer::Result::Receipt(_)) => seen += 1,
                    other => anyhow::bail!("a send was answered with {other:?}"),
                }
            }
        }
        anyhow::Ok(())
    });
    for n in 0..count {
        let due = schedule.due(n);
        sleep_until(due).await;
        lateness.record(due.elapsed());
        let request = wire::Request {
            id: n as u64 + 2,
            deadline_ms: 0,
            op: Some(request::Op::Send(wire::Send {
                room: room.clone(),
                client_id: Bytes::copy_from_slice(uuid::Uuid::now_v7().as_bytes()),
                body: body(n),
                ..Default::default()
            })),
        };
        send.write_all(&frame(&wire::ClientFrame { kind: Some(client_frame::Kind::Request(request)) }))
            .await?;
    }
    timeout(TAIL, receipts).await.context("receipts are missing")???;
    connection.close(0u32.into(), b"");
    results.lock().await.lateness.merge(&lateness);
    Ok(())
}

/// The number of the message, then padding: the receiver knows from the number when it was due.
fn body(n: usize) -> Bytes {
    let mut body = (n as u64).to_be_bytes().to_vec();
    body.resize(BODY_BYTES, b'.');
    body.into()
}

/// Takes events until all have come; each counts from when it was due.
async fn receive(session: Session, schedule: Schedule, results: Arc<Mutex<Measured>>) -> anyhow::Result<()> {
    let Session { connection, mut recv, send: _open, .. } = session;
    let mut latencies = Latencies::default();
    let end = schedule.due(schedule.count) + TAIL;
    for seen in 0..schedule.count {
        let number = loop {
            let next = tokio::time::timeout_at(end, recv.next::<wire::ServerFrame>()).await;
            let frame =
                next.with_context(|| format!("only {seen} of {} messages arrived", schedule.count))??;
            if let Some(number) = number_of(&frame.context("the server ended a receiver's stream")?) {
                break number;
            }
        };
        anyhow::ensure!(number == seen as u64, "message {number} came when {seen} was due");
        latencies.record(schedule.due(seen).elapsed());
    }
    connection.close(0u32.into(), b"");
    results.lock().await.received.merge(&latencies);
    Ok(())
}

/// The number of the message in a delivery.
fn number_of(frame: &wire::ServerFrame) -> Option<u64> {
    let Some(server_frame::Kind::Event(wire::Event { kind: Some(event::Kind::Delivery(delivery)), .. })) =
        &frame.kind
    else {
        return None;
    };
    let Some(message::Content::Body(body)) = &delivery.message.as_ref()?.content else { return None };
    body.first_chunk::<8>().map(|n| u64::from_be_bytes(*n))
}
