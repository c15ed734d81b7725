//! The conversation itself: one loop over what is typed, what arrives, what becomes of one's own messages and how the
//! connection is.

use std::collections::HashSet;
use std::time::Duration;

use buslane_client::{Client, Error, Event, Message, Outgoing, Receipt, SendState, State};
use buslane_shared::id::{ClientId, RoomId, UserId};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use serde_json::json;

use super::keyboard::{Keyboard, Line, Screen};
use super::marks::{Mark, Marks};
use crate::connect::{Connection, state_name, state_sentence};
use crate::failure::{Exit, Failure};
use crate::message_line::{MessageLine, sentence};
use crate::output::{Output, printable};

/// Messages that are shown at the start at most, however many are unread: two screens' worth of scrolling back.
const START_MAX: u32 = 1000;

/// Own messages without a receipt before the keyboard is made to wait.
const PENDING_MAX: usize = 64;

/// How long a message may be on its way before the person is told that it is.
const SLOW: Duration = Duration::from_secs(2);

/// How long the end of a pipe waits for the last receipts.
const LAST_RECEIPTS: Duration = Duration::from_secs(60);

/// One conversation on one screen.
pub struct Conversation<'a> {
    connection: &'a Connection,
    room: RoomId,
    peer: Option<&'a UserId>,
    screen: Screen,
    output: Output,
    marks: Marks,
    shown_upto: u64,
    typed: HashSet<ClientId>,
    pending: FuturesUnordered<BoxFuture<'static, (ClientId, Result<Receipt, Error>)>>,
    failed: Option<Failure>,
    said_slow: String,
    others: HashSet<UserId>,
}

impl<'a> Conversation<'a> {
    /// Of a connected client in a room.
    pub fn new(
        connection: &'a Connection,
        room: RoomId,
        peer: Option<&'a UserId>,
        screen: Screen,
        output: Output,
    ) -> Self {
        Self {
            connection,
            room,
            peer,
            screen,
            output,
            marks: Marks::default(),
            shown_upto: 0,
            typed: HashSet::new(),
            pending: FuturesUnordered::new(),
            failed: None,
            said_slow: String::new(),
            others: HashSet::new(),
        }
    }

    fn client(&self) -> &'a Client {
        &self.connection.client
    }

    /// Shows the last messages, and the unread ones.
    pub async fn begin(&mut self, history: u32) -> Result<(), Failure> {
        let room = self.client().describe_room(self.room).await.map_err(|e| self.connection.explain(&e))?;
        let last = room.head.saturating_sub(u64::from(history));
        let after = last.min(room.read).max(room.head.saturating_sub(u64::from(START_MAX)));
        let mut after = after.max(room.first.saturating_sub(1));
        if room.read < after && room.head > 0 && room.first <= room.read {
            self.talk("some unread messages are older than what is shown: `buslane tail` shows all")?;
        }
        loop {
            let page = self.client().sync(self.room, after, START_MAX).await;
            let page = page.map_err(|e| self.connection.explain(&e))?;
            for message in &page.messages {
                self.show(message)?;
                after = message.seq;
            }
            if !page.more || page.messages.is_empty() {
                break;
            }
        }
        self.shown_upto = self.shown_upto.max(after);
        Ok(())
    }

    /// Runs until the input ends and everything typed has its receipt.
    pub async fn run(mut self, mut keyboard: Keyboard) -> Result<(), Failure> {
        let mut events = self.client().events();
        let mut states = self.client().state();
        states.mark_unchanged();
        loop {
            let waiting = !self.pending.is_empty();
            tokio::select! {
                biased;
                Some((client_id, outcome)) = self.pending.next(), if waiting => self.on_outcome(client_id, outcome)?,
                event = events.next() => match event {
                    Some(event) => self.on_event(event)?,
                    None => return self.closed(&mut keyboard).await,
                },
                changed = states.changed() => {
                    let state = states.borrow_and_update().clone();
                    self.on_state(&state)?;
                    if changed.is_err() || matches!(state, State::Closed { .. }) {
                        return self.closed(&mut keyboard).await;
                    }
                }
                line = keyboard.next(), if self.pending.len() < PENDING_MAX => match line {
                    Some(line) => if self.on_line(line).await? == Next::End { break },
                    None => break,
                },
                () = tokio::time::sleep(SLOW), if waiting && self.screen.is_terminal() => self.say_slow()?,
            }
        }
        self.finish().await
    }

    async fn on_line(&mut self, line: Line) -> Result<Next, Failure> {
        let Line::Text(text) = line else {
            self.failed =
                Some(Failure::new(Exit::Refused, "too_long", "a line was longer than a message may be"));
            self.talk("this line is longer than a message may be; it was not sent")?;
            return Ok(Next::GoOn);
        };
        match text.trim() {
            "" => {}
            "/quit" if self.screen.is_terminal() => return Ok(Next::End),
            "/members" if self.screen.is_terminal() => self.show_members().await?,
            command if self.screen.is_terminal() && command.starts_with("/history") => {
                let count = command.trim_start_matches("/history").trim().parse().unwrap_or(20);
                self.show_history(count).await?;
            }
            _ => self.send(text).await?,
        }
        Ok(Next::GoOn)
    }

    async fn send(&mut self, text: String) -> Result<(), Failure> {
        match self.client().send(self.room, Bytes::from(text)).await {
            Ok(outgoing) => {
                let client_id = outgoing.client_id();
                self.typed.insert(client_id);
                self.pending.push(outcome(client_id, outgoing).boxed());
                Ok(())
            }
            Err(error) => self.on_failure(&error),
        }
    }

    fn on_outcome(&mut self, client_id: ClientId, outcome: Result<Receipt, Error>) -> Result<(), Failure> {
        match outcome {
            Ok(receipt) => {
                self.said_slow.clear();
                if self.output.json {
                    let value = json!({
                        "event": "receipt", "room": receipt.room.to_string(),
                        "client_id": client_id.to_string(), "seq": receipt.seq,
                    });
                    self.screen.show(&value.to_string())?;
                }
                let mark = self.marks.on_own(receipt.seq);
                self.on_mark(mark)
            }
            Err(error) => {
                // It is said here and now; it must not wait in the outbox for somebody who never looks.
                let _ = self.client().outbox().discard(client_id);
                self.typed.remove(&client_id);
                self.on_failure(&error)
            }
        }
    }

    fn on_failure(&mut self, error: &Error) -> Result<(), Failure> {
        let failure = self.connection.explain(error);
        let said = if self.output.json {
            self.screen.show(&failure.to_json())
        } else {
            self.talk(&format!("NOT SENT: {}", failure.message))
        };
        self.failed = Some(failure);
        said
    }

    fn on_event(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Message(message) if message.room == self.room => {
                if message.seq > self.shown_upto {
                    self.show(&message)?;
                }
                Ok(())
            }
            Event::Message(message) if message.notify && self.others.insert(message.sender.clone()) => self
                .talk(&format!(
                    "{} has written to you elsewhere: `buslane room list` shows where",
                    message.sender
                )),
            Event::Cursor { room, user, delivered, read } if room == self.room => {
                if self.peer.is_some_and(|peer| *peer == user) {
                    let mark = self.marks.on_cursor(delivered, read);
                    self.on_mark(mark)?;
                }
                Ok(())
            }
            Event::Skipped { room, from, to } if room == self.room => {
                self.talk(&format!("messages {from} to {to} are not kept any more"))
            }
            Event::RoomChanged { room, role: None } if room == self.room => {
                self.talk("you are no longer a member of this room")
            }
            Event::Outbox { room, state: SendState::Failed { .. }, .. } if room == self.room => Ok(()),
            _ => Ok(()),
        }
    }

    fn on_mark(&mut self, mark: Option<Mark>) -> Result<(), Failure> {
        let Some(mark) = mark else { return Ok(()) };
        let (name, seq, sign) = match mark {
            Mark::Delivered(seq) => ("delivered", seq, "✓✓ delivered"),
            Mark::Read(seq) => ("read", seq, "✓✓ read"),
        };
        if self.output.json {
            return self
                .screen
                .show(&json!({"event": name, "room": self.room.to_string(), "seq": seq}).to_string());
        }
        let line = format!("      {sign} (up to {seq})");
        self.talk(&self.output.dim(&line))
    }

    fn on_state(&mut self, state: &State) -> Result<(), Failure> {
        if self.output.json {
            return self.screen.show(&json!({"event": "state", "state": state_name(state)}).to_string());
        }
        let line = format!("      ({})", state_sentence(state));
        self.talk(&self.output.dim(&line))
    }

    /// Shows a message, unless it stands there because it was typed there; it counts as read from then on.
    fn show(&mut self, message: &Message) -> Result<(), Failure> {
        self.shown_upto = message.seq;
        self.client().mark_read(self.room, message.seq);
        let typed_here = self.typed.remove(&message.client_id);
        if self.output.json {
            let line = serde_json::to_string(&MessageLine::new(message));
            let line = line.map_err(|e| Failure::new(Exit::Refused, "internal", e.to_string()))?;
            return self.screen.show(&line);
        }
        if typed_here && self.screen.is_terminal() {
            return Ok(());
        }
        let line = sentence(message, &self.output);
        self.screen.show(&line)
    }

    async fn show_history(&mut self, count: u32) -> Result<(), Failure> {
        match self.client().history(self.room, 0, count.clamp(1, START_MAX)).await {
            Ok(page) => {
                for message in page.messages.iter().rev() {
                    let line = sentence(message, &self.output);
                    self.screen.show(&line)?;
                }
                Ok(())
            }
            Err(error) => self.talk(&self.connection.explain(&error).message),
        }
    }

    async fn show_members(&mut self) -> Result<(), Failure> {
        match self.client().members(self.room).await {
            Ok(members) => {
                let names: Vec<&str> = members.iter().map(|m| m.user.as_str()).collect();
                self.talk(&names.join(", "))
            }
            Err(error) => self.talk(&self.connection.explain(&error).message),
        }
    }

    fn say_slow(&mut self) -> Result<(), Failure> {
        let state = state_sentence(&self.client().state().borrow());
        let line = format!("      ... {} without a receipt yet ({state})", self.pending.len());
        if line == self.said_slow {
            return Ok(());
        }
        self.talk(&self.output.dim(&line))?;
        self.said_slow = line;
        Ok(())
    }

    /// The input is at its end: what was typed still gets its receipts.
    async fn finish(mut self) -> Result<(), Failure> {
        let limit = tokio::time::sleep(LAST_RECEIPTS);
        tokio::pin!(limit);
        let mut events = self.client().events();
        while !self.pending.is_empty() || (!self.typed.is_empty() && !self.screen.is_terminal()) {
            tokio::select! {
                Some((client_id, outcome)) = self.pending.next(), if !self.pending.is_empty() => {
                    self.on_outcome(client_id, outcome)?;
                }
                event = events.next() => match event {
                    Some(event) => self.on_event(event)?,
                    None => break,
                },
                () = &mut limit => {
                    return Err(Failure::new(
                        Exit::Unreachable,
                        "not_acknowledged",
                        format!("{} messages have no receipt yet; they stay in this device's outbox", self.pending.len()),
                    )
                    .retryable());
                }
            }
        }
        self.failed.map_or(Ok(()), Err)
    }

    /// The client is closed for good. A terminal whose line is being edited is left as it was found.
    async fn closed(&mut self, keyboard: &mut Keyboard) -> Result<(), Failure> {
        if self.screen.is_terminal() {
            self.talk("press Enter to end")?;
            keyboard.next().await;
        }
        match &*self.client().state().borrow() {
            State::Closed { reason } => Err(self.connection.explain(&reason.error())),
            _ => Err(Failure::new(Exit::Refused, "closed", "the client has ended")),
        }
    }

    fn talk(&mut self, line: &str) -> Result<(), Failure> {
        let line = if line.starts_with('\x1b') { line.to_owned() } else { printable(line).into_owned() };
        self.screen.talk(&line)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    End,
}

async fn outcome(client_id: ClientId, outgoing: Outgoing) -> (ClientId, Result<Receipt, Error>) {
    (client_id, outgoing.receipt().await)
}
