//! `send`: one message, or many, each with its receipt.
//!
//! One message goes through the durable outbox: if there is no receipt in time it stays there and goes out with the next
//! command of this device. Many are a load: the outbox is in memory, every message is sent under its own id until its
//! receipt is there, also over restarts of the server, and never twice.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use buslane_client::{AppState, Error, FirstLogin, Options, Outgoing, Receipt, Storage};
use buslane_shared::id::{RoomId, UserId};
use buslane_shared::limits::IN_FLIGHT_MAX;
use bytes::Bytes;
use clap::Args;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use crate::connect::{ClientArgs, Connection, announce_first_use};
use crate::failure::{Exit, Failure};
use crate::ledger::{Ledger, Sha256, Summary};
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  buslane send --to bob \"See you at eight\" --as alice
  buslane send --room ROOM \"Noodles?\" --as alice
  buslane send --to bob --count 100000 --size 200 --in-flight 256 --acks a.jsonl --as alice

With --json the summary is one line: sent, acked, failed, unknown, elapsed_s, msgs_per_s,
ack_ms.p50/.p99/.p999. --acks writes a line for each receipt as it arrives: client_id, room,
seq, sha256 of the body. The exit code is 0 only if every message has its receipt.";

/// Arguments of `send`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SendArgs {
    #[command(flatten)]
    target: Target,
    /// What to say
    #[arg(required_unless_present = "count", conflicts_with = "count")]
    text: Option<String>,
    /// Send so many messages of made-up text
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Bytes of each of them
    #[arg(long, value_name = "BYTES", default_value_t = 200, requires = "count")]
    size: usize,
    /// Messages without a receipt at a time
    #[arg(long, value_name = "K", default_value_t = 64, requires = "count",
          value_parser = clap::value_parser!(u16).range(1..=IN_FLIGHT_MAX as i64))]
    in_flight: u16,
    /// Write a line for each receipt into this file
    #[arg(long, value_name = "FILE")]
    acks: Option<PathBuf>,
    /// Longest wait between two tries to connect
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    reconnect_cap: Duration,
    /// How long to wait for a receipt before giving up
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    patience: Duration,
    #[command(flatten)]
    client: ClientArgs,
}

/// To whom.
#[derive(Debug, Clone, Args)]
#[group(id = "target", required = true, multiple = false)]
struct Target {
    /// This user
    #[arg(long = "to", value_name = "NAME")]
    peer: Option<UserId>,
    /// The room with this id
    #[arg(long, value_name = "ID")]
    room: Option<RoomId>,
}

/// Runs `send`.
pub fn run(args: SendArgs, output: Output) -> Result<(), Failure> {
    super::block_on(async {
        announce_first_use(&args.client, &output)?;
        let connection = args.client.start(options(&args)?).await?;
        let sent = tokio::select! {
            sent = send(&args, &connection, output) => sent,
            _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Refused, "interrupted", "interrupted")),
        };
        connection.close().await;
        sent
    })
}

fn options(args: &SendArgs) -> Result<Options, Failure> {
    let mut options = args.client.conversing()?;
    options.app_state = AppState::Foreground;
    options.first_login = FirstLogin::FromNow;
    options.reconnect.cap = args.reconnect_cap;
    options.reconnect.base = options.reconnect.base.min(args.reconnect_cap);
    options.reconnect.quick = options.reconnect.quick.min(args.reconnect_cap);
    if args.count.is_some() {
        options.storage = Storage::IdentityOnly(args.client.state()?);
        options.in_flight = usize::from(args.in_flight);
        options.in_flight_per_room = usize::from(args.in_flight);
    }
    Ok(options)
}

async fn send(args: &SendArgs, connection: &Connection, output: Output) -> Result<(), Failure> {
    // Made before anything is sent: a file that cannot be written must not be noticed afterwards.
    let mut ledger = Ledger::new(args.acks.as_deref())?;
    connection.up(args.patience).await?;
    let room = find(&args.target, connection).await?;
    let began = Instant::now();
    let worst = match (&args.text, args.count) {
        (Some(text), _) => one(text, room, args, connection, &mut ledger).await?,
        (None, count) => many(count.unwrap_or(0), room, args, connection, &mut ledger).await?,
    };
    ledger.flush()?;
    let summary = ledger.summary(began.elapsed());
    output.result(&summary, || sentence(&summary, args))?;
    if summary.complete() {
        return Ok(());
    }
    Err(incomplete(&summary, worst, connection, args))
}

async fn find(target: &Target, connection: &Connection) -> Result<RoomId, Failure> {
    match (target.room, &target.peer) {
        (Some(room), _) => Ok(room),
        (None, Some(peer)) => {
            connection.client.room_direct(peer).await.map(|room| room.id).map_err(|e| connection.explain(&e))
        }
        (None, None) => Err(Failure::usage("name the receiver with --to or the room with --room")),
    }
}

/// Sends one text by the durable outbox. Returns why there is no receipt.
async fn one(
    text: &str,
    room: RoomId,
    args: &SendArgs,
    connection: &Connection,
    ledger: &mut Ledger,
) -> Result<Option<Error>, Failure> {
    let body = Bytes::copy_from_slice(text.as_bytes());
    let sha256 = Sha256::of(&body);
    let flight = Flight::start(room, body, connection).await?;
    let client_id = flight.outgoing.client_id();
    ledger.on_sent();
    match tokio::time::timeout(args.patience, flight.land(sha256)).await {
        Ok(landed) => {
            if landed.outcome.is_err() {
                // It is reported here and now; it must not wait in the outbox for somebody who never looks.
                let _ = connection.client.outbox().discard(client_id);
            }
            book(landed, ledger)
        }
        Err(_) => Ok(Some(Error::Timeout { after: args.patience })),
    }
}

/// Sends `count` made-up messages, `in_flight` at a time. Returns why the last failed one failed.
async fn many(
    count: u64,
    room: RoomId,
    args: &SendArgs,
    connection: &Connection,
    ledger: &mut Ledger,
) -> Result<Option<Error>, Failure> {
    let mut flights = FuturesUnordered::new();
    let mut numbers = (1..=count).fuse();
    let mut worst = None;
    loop {
        while flights.len() < usize::from(args.in_flight) {
            let Some(number) = numbers.next() else { break };
            let body = made_up(number, args.size);
            let sha256 = Sha256::of(&body);
            let flight = Flight::start(room, body, connection).await?;
            ledger.on_sent();
            flights.push(flight.land(sha256));
        }
        let next = tokio::time::timeout(args.patience, flights.next()).await;
        let Ok(Some(landed)) = next else {
            // Nothing left, or nothing heard for too long.
            return Ok(worst.or_else(|| next.is_err().then_some(Error::Timeout { after: args.patience })));
        };
        worst = book(landed, ledger)?.or(worst);
        // Everything else that is there already, then one write for all of it.
        while let Some(Some(landed)) = flights.next().now_or_never() {
            worst = book(landed, ledger)?.or(worst);
        }
        ledger.flush()?;
    }
}

/// A message on its way.
struct Flight {
    outgoing: Outgoing,
    began: Instant,
}

/// What became of it.
struct Landed {
    outcome: Result<Receipt, Error>,
    sha256: Sha256,
    took: Duration,
}

impl Flight {
    async fn start(room: RoomId, body: Bytes, connection: &Connection) -> Result<Self, Failure> {
        let began = Instant::now();
        let outgoing = connection.client.send(room, body).await.map_err(|e| connection.explain(&e))?;
        Ok(Self { outgoing, began })
    }

    async fn land(self, sha256: Sha256) -> Landed {
        let outcome = self.outgoing.receipt().await;
        Landed { outcome, sha256, took: self.began.elapsed() }
    }
}

fn book(landed: Landed, ledger: &mut Ledger) -> Result<Option<Error>, Failure> {
    match landed.outcome {
        Ok(receipt) => {
            ledger.on_receipt(receipt.client_id, receipt.room, receipt.seq, &landed.sha256, landed.took)?;
            Ok(None)
        }
        Err(error) => {
            if error.maybe_applied() {
                ledger.on_unknown();
            } else {
                ledger.on_failed();
            }
            Ok(Some(error))
        }
    }
}

fn sentence(summary: &Summary, args: &SendArgs) -> String {
    if args.text.is_some() && summary.complete() {
        return format!("sent, stored after {:.1} ms", summary.ack_ms.p50);
    }
    format!(
        "{} sent, {} acknowledged, {} failed, {} unknown in {:.1} s: {:.0} a second; receipt after {:.2} ms (p50), \
         {:.2} ms (p99), {:.2} ms (p999)",
        summary.sent,
        summary.acked,
        summary.failed,
        summary.unknown,
        summary.elapsed_s,
        summary.msgs_per_s,
        summary.ack_ms.p50,
        summary.ack_ms.p99,
        summary.ack_ms.p999,
    )
}

fn incomplete(summary: &Summary, worst: Option<Error>, connection: &Connection, args: &SendArgs) -> Failure {
    let missing = summary.sent - summary.acked;
    let why = worst.map(|e| connection.explain(&e));
    let (code, reason, retryable) = match why {
        Some(failure) => (failure.code, failure.message, failure.retryable),
        None => ("not_acknowledged".to_owned(), "no receipt came in time".to_owned(), true),
    };
    let kept = if args.text.is_some() && summary.failed == 0 {
        "; it stays in this device's outbox and goes out with the next command that connects"
    } else {
        ""
    };
    let message = if args.text.is_some() {
        format!("{reason}{kept}")
    } else {
        format!("{missing} of {} messages have no receipt: {reason}", summary.sent)
    };
    Failure { retryable, ..Failure::new(Exit::Refused, &code, message) }
}

/// A text of `size` bytes that begins with its number, so that order can be checked by whoever reads it.
fn made_up(number: u64, size: usize) -> Bytes {
    let mut text = format!("{number} ").into_bytes();
    let letters = (b'a'..=b'z').cycle().skip(usize::try_from(number % 26).unwrap_or(0));
    let missing = size.saturating_sub(text.len());
    text.extend(letters.take(missing));
    text.truncate(size);
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_text_has_its_size_and_its_number() {
        assert_eq!(made_up(12, 8), Bytes::from_static(b"12 mnopq"));
        assert_eq!(made_up(12, 200).len(), 200);
        assert_eq!(made_up(123_456, 3), Bytes::from_static(b"123"));
        assert!(made_up(1, 0).is_empty());
    }
}
