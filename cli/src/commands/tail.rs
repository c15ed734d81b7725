//! `tail`: the log of a room, as the server has it, in order and without a hole.
//!
//! It reads the log itself and not what this device has received before, so that what it prints can be compared with
//! receipts. With `--follow` a delivery is only the hint that there is more to read.

use std::time::Duration;

use buslane_client::{Client, Error, Event, Message, State};
use buslane_shared::id::{RoomId, UserId};
use buslane_shared::limits::BATCH_MESSAGES_MAX;
use clap::Args;

use crate::connect::{ClientArgs, Connection, announce_first_use, with_client};
use crate::failure::{Exit, Failure};
use crate::message_line::{MessageLine, sentence};
use crate::output::Output;

/// How long `--follow` waits for a hint before it looks by itself: a hint may be lost, the log is not.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// Wait before the log is asked again after an error that may pass.
const TRY_AGAIN: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
Examples:
  buslane tail --with bob --as alice
  buslane tail --with bob --from -10 --as alice           the last ten
  buslane tail --room ROOM --from 120 --count 50 --json --as alice
  buslane tail --room ROOM --follow --as alice

With --json a line for each message: room, seq, sender, client_id, text, sent_at.
A change of a group's members has `event` and `users` in place of `text`.";

/// Arguments of `tail`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TailArgs {
    #[command(flatten)]
    which: Which,
    /// First number to print; -10 is the tenth from the end
    #[arg(long, value_name = "SEQ", default_value_t = 1, allow_hyphen_values = true)]
    from: i64,
    /// End after so many messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Go on with what comes, until Ctrl-C or --count
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// Which room.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// The conversation with this user
    #[arg(long = "with", value_name = "NAME")]
    peer: Option<UserId>,
    /// The room with this id
    #[arg(long, value_name = "ID")]
    room: Option<RoomId>,
}

impl Which {
    /// The room's id, which the server must know.
    pub async fn find(&self, client: &Client) -> Result<RoomId, Error> {
        match (&self.room, &self.peer) {
            (Some(room), _) => Ok(*room),
            (None, Some(peer)) => client.room_direct(peer).await.map(|room| room.id),
            (None, None) => {
                Err(Error::Invalid { field: "room", detail: "name it with --room or --with".to_owned() })
            }
        }
    }

    /// With whom, if it is a conversation of two.
    pub fn peer(&self) -> Option<&UserId> {
        self.peer.as_ref()
    }
}

/// Runs `tail`.
pub fn run(args: TailArgs, output: Output) -> Result<(), Failure> {
    super::block_on(async {
        announce_first_use(&args.client, &output)?;
        with_client(&args.client, async |connection| {
            tokio::select! {
                ended = print(&args, connection, output) => ended,
                _ = tokio::signal::ctrl_c() => Ok(()),
            }
        })
        .await
    })
}

/// Where in the log a run is.
struct Reader {
    room: RoomId,
    after: u64,
    left: Option<u64>,
}

async fn print(args: &TailArgs, connection: &Connection, output: Output) -> Result<(), Failure> {
    let client = &connection.client;
    let room = args.which.find(client).await.map_err(|e| connection.explain(&e))?;
    let after = match u64::try_from(args.from) {
        Ok(from) => from.saturating_sub(1),
        Err(_) => {
            let head = client.describe_room(room).await.map_err(|e| connection.explain(&e))?.head;
            head.saturating_sub(args.from.unsigned_abs())
        }
    };
    let mut reader = Reader { room, after, left: args.count };
    read_on(&mut reader, connection, output).await?;
    if !args.follow {
        return Ok(());
    }
    let mut events = client.events();
    let mut states = client.state();
    while reader.left != Some(0) {
        let hint = async {
            loop {
                match events.next().await {
                    Some(Event::Message(m)) if m.room != room || m.seq <= reader.after => {}
                    other => break other,
                }
            }
        };
        tokio::select! {
            event = hint => if event.is_none() { return closed(connection) },
            changed = states.changed() => if changed.is_err() { return closed(connection) },
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
        match read_on(&mut reader, connection, output).await {
            Err(failure) if failure.retryable => tokio::time::sleep(TRY_AGAIN).await,
            other => other?,
        }
    }
    Ok(())
}

/// Prints everything up to the head of the log.
async fn read_on(reader: &mut Reader, connection: &Connection, output: Output) -> Result<(), Failure> {
    while reader.left != Some(0) {
        let wanted = reader.left.unwrap_or(u64::MAX).min(u64::from(BATCH_MESSAGES_MAX));
        let wanted = u32::try_from(wanted).unwrap_or(BATCH_MESSAGES_MAX);
        let page = connection.client.sync(reader.room, reader.after, wanted).await;
        let page = page.map_err(|e| connection.explain(&e))?;
        for message in &page.messages {
            print_message(message, output)?;
            reader.after = message.seq;
            reader.left = reader.left.map(|left| left.saturating_sub(1));
        }
        if !page.more || page.messages.is_empty() {
            break;
        }
    }
    Ok(())
}

fn print_message(message: &Message, output: Output) -> Result<(), Failure> {
    output.result(&MessageLine::new(message), || sentence(message, &output))
}

fn closed(connection: &Connection) -> Result<(), Failure> {
    match &*connection.client.state().borrow() {
        State::Closed { reason } => Err(connection.explain(&reason.error())),
        _ => Err(Failure::new(Exit::Refused, "closed", "the client has ended")),
    }
}
