//! `top`: a running server in this terminal, live: posture, split by class, lanes, nodes, alerts, and orders.
//!
//! It asks what the page asks, once a second, and draws what it heard. What was not heard lately is called stale. However it
//! ends, by a key, a signal or a panic, the terminal is as it was.

mod ask;
mod draw;
mod keys;
mod order;
mod picture;

use std::io::{self, IsTerminal};
use std::time::Duration;

use buslane_chassis::clock;
use clap::Args;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::terminal;
use ratatui::layout::Rect;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::admin_client::{AdminArgs, AdminClient};
use crate::failure::{Exit, Failure};
use crate::output::{Output, print_line};

use ask::Asking;
use draw::Ink;
use keys::{Action, Ui};
use picture::{Heard, Picture};

/// How often the picture is drawn anew, so that ages go on where nothing comes.
const DRAW_EVERY: Duration = Duration::from_millis(500);

/// How long the reader of keys waits before it looks whether it is still wanted.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// Keys that wait to be handled: nobody types faster than that.
const KEYS_MAX: usize = 256;

/// The size of a picture where there is no terminal.
const COLUMNS: u16 = 80;
const ROWS: u16 = 24;

const EXAMPLES: &str = "\
Examples:
  buslane top
  buslane top --admin 10.0.0.5:7480 --token operator.token
  buslane top --once                     one picture as text

Keys: ? help, s sort, f classes, / filter, o order, q quit.";

/// Arguments of `top`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TopArgs {
    /// Print one picture as text and end
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs it.
pub fn run(args: &TopArgs, output: Output) -> Result<(), Failure> {
    let client = args.admin.client()?;
    super::block_on(async {
        let first = ask::all(&client).await?;
        if output.json {
            return output.result(&first, String::new);
        }
        if args.once {
            return once(first);
        }
        if !(io::stdout().is_terminal() && io::stdin().is_terminal()) {
            let message = "this is no terminal: use --once for one picture as text";
            return Err(Failure::new(Exit::Usage, "no_terminal", message));
        }
        live(client, first, if output.colour { Ink::Colour } else { Ink::Plain }).await
    })
}

fn once(first: Heard) -> Result<(), Failure> {
    let mut picture = Picture::default();
    let now_ms = clock::unix_ms();
    picture.hear(first, now_ms);
    let columns =
        if io::stdout().is_terminal() { terminal::size().map_or(COLUMNS, |(x, _)| x) } else { COLUMNS };
    let mut buffer = Buffer::empty(Rect::new(0, 0, columns.max(COLUMNS), ROWS));
    draw::all(&mut buffer, &picture, &Ui::default(), now_ms, Ink::Plain);
    print_line(&draw::text(&buffer))
}

async fn live(client: AdminClient, first: Heard, ink: Ink) -> Result<(), Failure> {
    let no_terminal =
        |e: io::Error| Failure::new(Exit::Usage, "no_terminal", format!("cannot use this terminal: {e}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_terminal)?;
    // It also restores the terminal when this program panics.
    let mut terminal = ratatui::try_init().map_err(no_terminal)?;
    let _restored = Restored;
    let mut asking = Asking::begin(client);
    let mut keys = keys_of_the_terminal();
    let (mut picture, mut ui) = (Picture::default(), Ui::default());
    picture.hear(first, clock::unix_ms());
    let mut ticks = tokio::time::interval(DRAW_EVERY);
    loop {
        let draw = |frame: &mut ratatui::Frame<'_>| {
            draw::all(frame.buffer_mut(), &picture, &ui, clock::unix_ms(), ink);
        };
        terminal.draw(draw).map_err(no_terminal)?;
        tokio::select! {
            _ = ticks.tick() => {}
            heard = asking.next() => picture.hear(heard, clock::unix_ms()),
            _ = terminate.recv() => return Ok(()),
            event = keys.recv() => {
                // Without a reader of keys nobody could end this.
                let Some(event) = event else { return Ok(()) };
                let Event::Key(key) = event else { continue };
                match ui.on_key(key) {
                    Action::Nothing => {}
                    Action::Quit => return Ok(()),
                    Action::Preview(order) => ui.on_preview(asking.preview(&order).await),
                    Action::Give(order) => ui.on_given(asking.give(&order).await),
                }
            }
        }
    }
}

/// Gives the terminal back.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Reads keys on a thread of its own, which ends when nobody listens any more.
fn keys_of_the_terminal() -> mpsc::Receiver<Event> {
    let (sender, keys) = mpsc::channel(KEYS_MAX);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            match event::poll(KEY_WAIT) {
                Ok(false) => {}
                Ok(true) => {
                    let Ok(event) = event::read() else { return };
                    if sender.blocking_send(event).is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    });
    keys
}

#[cfg(test)]
mod tests;
