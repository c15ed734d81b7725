//! `chat`: a conversation in a terminal, or a scripted one over pipes.
//!
//! What is typed goes into the device's durable outbox and is on the way from then on, whatever the connection does; the
//! state of the connection is said as it is. A message is shown as read to the other side when it has been shown here.

mod conversation;
mod keyboard;
mod marks;

use std::time::Duration;

use buslane_client::{Error, State};
use buslane_shared::id::{RoomId, UserId};
use buslane_shared::refusal::Code;
use clap::Args;

use crate::connect::{ClientArgs, Connection, announce_first_use, state_sentence};
use crate::failure::Failure;
use crate::output::Output;

use self::conversation::Conversation;
use self::keyboard::Screen;

/// How often a chat looks whether the other one has come.
const LOOK_FOR_PEER: Duration = Duration::from_secs(1);

/// How long a scripted chat waits for the other one; a person may wait as long as they like.
const PEER_LIMIT: Duration = Duration::from_secs(30);

const EXAMPLES: &str = "\
Examples:
  buslane chat --as alice --with bob              type, Enter sends, Ctrl-D ends
  buslane chat --as alice --room ROOM --history 50
  echo \"on my way\" | buslane chat --as alice --with bob

In a conversation:
  /history [N]   earlier messages
  /members       who is in the room
  /quit          end";

/// Arguments of `chat`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ChatArgs {
    #[command(flatten)]
    which: super::tail::Which,
    /// Messages to show at the start; unread ones are shown in any case
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1000))]
    history: u32,
    #[command(flatten)]
    client: ClientArgs,
}

/// Runs `chat`.
pub fn run(args: ChatArgs, output: Output) -> Result<(), Failure> {
    super::block_on(async {
        announce_first_use(&args.client, &output)?;
        let connection = args.client.start(args.client.conversing()?).await?;
        let ended = converse(&args, &connection, output).await;
        connection.close().await;
        // The thread of the keyboard may still wait for a pipe; the process ends without it.
        ended
    })
}

async fn converse(args: &ChatArgs, connection: &Connection, output: Output) -> Result<(), Failure> {
    until_up(connection, output).await?;
    let room = find_room(args, connection, output).await?;
    let prompt = format!("{}> ", args.client.user);
    let (keyboard, screen) = keyboard::open(output, prompt)?;
    welcome(&screen, args, output);
    let mut conversation = Conversation::new(connection, room, args.which.peer(), screen, output);
    conversation.begin(args.history).await?;
    conversation.run(keyboard).await
}

fn welcome(screen: &Screen, args: &ChatArgs, output: Output) {
    if screen.is_terminal() {
        let with = args.which.peer().map_or_else(|| "the room".to_owned(), UserId::to_string);
        output.talk(&format!("you are {}, talking to {with}; /quit or Ctrl-D ends", args.client.user));
    }
}

/// Waits for the first session, saying what happens meanwhile. A conversation has all the time.
async fn until_up(connection: &Connection, output: Output) -> Result<(), Failure> {
    let mut states = connection.client.state();
    let mut said = String::new();
    loop {
        let state = states.borrow_and_update().clone();
        if state.is_up() {
            return Ok(());
        }
        if let State::Closed { reason } = &state {
            return Err(connection.explain(&reason.error()));
        }
        if let State::Connecting { cause: Some(cause), .. } = &state {
            // A wrong CA does not heal by waiting, and a person waits for something that never comes.
            let failure = connection.explain(cause);
            if !failure.retryable {
                return Err(failure);
            }
            let sentence =
                state_sentence(&State::Connecting { attempt: 0, next_in: Duration::ZERO, cause: None });
            if said != failure.message {
                output.talk(&format!("{sentence} {}", failure.message));
                said = failure.message;
            }
        }
        if states.changed().await.is_err() {
            return Err(Failure::usage("the client has ended"));
        }
    }
}

/// The room; the other one of a pair may come later than this one.
async fn find_room(args: &ChatArgs, connection: &Connection, output: Output) -> Result<RoomId, Failure> {
    use std::io::IsTerminal;
    let mut waited = Duration::ZERO;
    loop {
        match args.which.find(&connection.client).await {
            Ok(room) => return Ok(room),
            Err(Error::Refused(refused)) if refused.code == Code::UnknownUser => {
                if !std::io::stdin().is_terminal() && waited >= PEER_LIMIT {
                    return Err(connection.explain(&Error::Refused(refused)));
                }
                if waited.is_zero() {
                    let peer = args.which.peer().map_or_else(String::new, UserId::to_string);
                    output.talk(&format!(
                        "{peer} is not here yet: waiting until `buslane chat --as {peer}` runs for the first time (Ctrl-C ends)"
                    ));
                }
            }
            Err(error) if error.retryable() => {}
            Err(error) => return Err(connection.explain(&error)),
        }
        tokio::time::sleep(LOOK_FOR_PEER).await;
        waited += LOOK_FOR_PEER;
    }
}
