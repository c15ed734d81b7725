//! One person of a conversation: a session that is kept up by the rules of the protocol, and an outbox that loses nothing.
//!
//! One message of a person is on the way at a time; what is refused goes again with the same client id, before anything behind
//! it, and its time goes on.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use buslane_client::raw::{FrameReader, Session};
use buslane_shared::frame::frame;
use buslane_shared::refusal::Code;
use buslane_shared::wire::{self, client_frame, event, message, request, server_frame};
use bytes::{BufMut, Bytes, BytesMut};

use super::outbox::{Letter, Outbox};
use super::{Shared, lines};
use crate::storm::fleet::Phone;
use crate::storm::history::{Continuity, Device, Room};
use crate::storm::live::Heard;
use crate::storm::net::{Net, Turned};
use crate::storm::scenario::Side;
use crate::storm::stage::Stage;
use crate::storm::tally::{Outcome, Stream};

/// How long a message may wait at the server.
const SEND_LIMIT_MS: u32 = 5_000;

/// How long a try to come back may take.
const OPEN_LIMIT: Duration = Duration::from_secs(5);

/// Messages of one page of what was missed.
const PAGE: u32 = 100;

/// Events after which the server is told that they are here: far below the bound of its mailbox.
const EVENTS_UNSEEN_MAX: u64 = 32;

/// The first wait after a session was lost, at most; it doubles up to the other one.
const BACK_OFF_MIN: Duration = Duration::from_millis(500);
const BACK_OFF_MAX: Duration = Duration::from_secs(20);

/// A person, as the record of the thread knows it.
#[derive(Debug, Clone, Copy)]
pub struct Witness {
    /// The phone.
    pub device: Device,
    /// Its conversation.
    pub room: Room,
}

/// A person with a session.
pub struct Speaker {
    phone: Phone,
    session: Option<Session>,
    room: Bytes,
    outbox: Outbox,
    body_bytes: usize,
    /// The place of the last message that it has.
    upto: u64,
    /// Messages were missed, and are to be fetched.
    is_behind: bool,
}

/// Why a session is over.
enum End {
    /// The run is.
    Stopped,
    /// The server closed it, and why.
    Closed(&'static str),
    /// The node is being stopped.
    Drained,
    /// Nobody said anything.
    Broken,
}

impl Speaker {
    /// Opens the first session.
    pub async fn open(
        mut phone: Phone,
        net: &Net,
        body_bytes: usize,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let session = phone
            .open_patiently(net, Side::Foreground, limit)
            .await
            .with_context(|| format!("a session for {}", phone.user))?;
        Ok(Self {
            phone,
            session: Some(session),
            room: Bytes::new(),
            outbox: Outbox::default(),
            body_bytes,
            upto: 0,
            is_behind: false,
        })
    }

    /// Its outbox.
    pub fn outbox(&self) -> Outbox {
        self.outbox.clone()
    }

    /// The room that it shares with somebody.
    pub async fn open_room(&mut self, peer: &str, limit: Duration) -> anyhow::Result<Bytes> {
        let session = self.session.as_mut().context("no session")?;
        let op = request::Op::OpenDirect(wire::OpenDirect { peer: peer.to_owned() });
        match session.request(FIRST_ID, op, limit).await? {
            wire::answer::Result::Room(room) => {
                self.room = room.room.clone();
                Ok(room.room)
            }
            other => anyhow::bail!("OpenDirect was answered with {other:?}"),
        }
    }

    /// The room that the other one has opened.
    pub fn take_room(&mut self, room: &Bytes) {
        self.room = room.clone();
    }

    /// Speaks and listens until the outbox is closed.
    pub async fn run(
        mut self,
        stage: Stage,
        net: Rc<Net>,
        shared: Rc<RefCell<Shared>>,
        witness: Witness,
    ) -> Phone {
        let mut talk = Talking { stage, shared, witness, letter: None, next_id: FIRST_ID + 1 };
        while !self.outbox.is_closed() && !talk.stage.stop.is_cancelled() {
            let Some(session) = self.session.take() else {
                self.session = self.come_back(&net, &talk.stage).await;
                if let Some(session) = &self.session {
                    let resumed = session.welcome.resumed;
                    let continuity = if resumed { Continuity::Resumed } else { Continuity::Fresh };
                    self.is_behind |= !resumed;
                    let mut shared = talk.shared.borrow_mut();
                    shared.record.on_session(talk.witness.device, continuity, Instant::now());
                }
                continue;
            };
            let end = talk.serve(&mut self, session).await;
            if let Some(letter) = talk.letter.take() {
                self.outbox.put_back(letter);
            }
            let mut shared = talk.shared.borrow_mut();
            match end {
                // Who was interrupted has not waited for what was on its way.
                End::Stopped if talk.stage.stop.is_cancelled() => {}
                End::Stopped => shared.record.on_end(talk.witness.device, Instant::now()),
                End::Drained => shared.drained += 1,
                End::Broken => shared.broken += 1,
                End::Closed(why) => *shared.closed_because.entry(why).or_default() += 1,
            }
        }
        self.phone
    }

    /// One more session; `None`: the run is over.
    async fn come_back(&mut self, net: &Net, stage: &Stage) -> Option<Session> {
        let mut ceiling = BACK_OFF_MIN;
        loop {
            if self.outbox.is_closed() || stage.stop.is_cancelled() {
                return None;
            }
            let wait = match self.phone.open(net, Side::Foreground, None, OPEN_LIMIT).await {
                Ok(session) => return Some(session),
                Err(Turned::PutOff { retry_after, .. }) => retry_after,
                Err(Turned::Refused { retry_after: Some(retry_after), .. }) => retry_after,
                Err(_) => {
                    let wait = ceiling.mul_f64(rand::random::<f64>());
                    ceiling = (ceiling * 2).min(BACK_OFF_MAX);
                    wait
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stage.stop.cancelled() => {}
            }
        }
    }
}

/// The id of the first request of a session.
const FIRST_ID: u64 = 1;

/// One session while it is served.
struct Talking {
    stage: Stage,
    shared: Rc<RefCell<Shared>>,
    witness: Witness,
    /// On the way to the server, or waiting to go again.
    letter: Option<Letter>,
    next_id: u64,
}

/// What is known of the session beside the letter.
struct Line {
    send: quinn::SendStream,
    /// Request that waits for its receipt.
    asked: Option<u64>,
    /// Request that fetches what was missed.
    fetching: Option<u64>,
    /// It was refused and goes again then.
    fetch_at: Option<tokio::time::Instant>,
    /// The letter goes again then.
    again_at: Option<tokio::time::Instant>,
    ping_at: tokio::time::Instant,
    ping_interval: Duration,
    last_event: u64,
    unseen: u64,
    connection: quinn::Connection,
    going_away: Option<Code>,
}

impl Talking {
    async fn serve(&mut self, speaker: &mut Speaker, session: Session) -> End {
        let Session { connection, send, mut recv, welcome } = session;
        self.shared.borrow_mut().on_posture(&self.stage, welcome.posture());
        let ping_interval = Duration::from_millis(welcome.ping_interval_ms.max(1_000).into());
        let now = tokio::time::Instant::now();
        let mut line = Line {
            send,
            asked: None,
            fetching: None,
            fetch_at: None,
            again_at: None,
            ping_at: now + ping_interval,
            ping_interval,
            last_event: if welcome.resumed { speaker.phone.seen() } else { 0 },
            unseen: 0,
            connection: connection.clone(),
            going_away: None,
        };
        let end = self.talk(speaker, &mut line, &mut recv).await;
        speaker.phone.set_seen(line.last_event);
        if matches!(end, End::Stopped) {
            connection.close(0u32.into(), b"");
        }
        end
    }

    async fn talk(&mut self, speaker: &mut Speaker, line: &mut Line, recv: &mut FrameReader) -> End {
        let outbox = speaker.outbox();
        // What came with the welcome is there already.
        if let Err(why) = self.hear_all(speaker, line, recv).await {
            return line.end(why);
        }
        loop {
            if outbox.is_closed() {
                return End::Stopped;
            }
            if speaker.is_behind && line.fetching.is_none() && line.fetch_at.is_none() {
                let id = self.id();
                let op = wire::Sync { room: speaker.room.clone(), after: speaker.upto, limit: PAGE };
                let fetch = wire::Request { id, deadline_ms: 0, op: Some(request::Op::Sync(op)) };
                line.fetching = Some(id);
                if line.write(client_frame::Kind::Request(fetch)).await.is_err() {
                    return line.end("write");
                }
            }
            if line.asked.is_none() && line.again_at.is_none() {
                self.letter = self.letter.take().or_else(|| outbox.pop());
                if let Some(letter) = self.letter.clone()
                    && self.write(speaker, line, letter).await.is_err()
                {
                    return line.end("write");
                }
            }
            tokio::select! {
                filled = recv.fill() => match filled {
                    Ok(true) => {
                        if let Err(why) = self.hear_all(speaker, line, recv).await {
                            return line.end(why);
                        }
                    }
                    Ok(false) => return line.end("stream"),
                    Err(error) => return line.end(error.name()),
                },
                () = outbox.changed() => {}
                () = sleep_until(line.again_at), if line.again_at.is_some() => line.again_at = None,
                () = sleep_until(line.fetch_at), if line.fetch_at.is_some() => line.fetch_at = None,
                () = tokio::time::sleep_until(line.ping_at) => {
                    let ping = wire::Request { id: self.id(), deadline_ms: 0, op: Some(request::Op::Ping(wire::Ping {})) };
                    if line.write(client_frame::Kind::Request(ping)).await.is_err() {
                        return line.end("write");
                    }
                }
                () = self.stage.stop.cancelled() => return End::Stopped,
            }
        }
    }

    /// Takes every frame that is there.
    async fn hear_all(
        &mut self,
        speaker: &mut Speaker,
        line: &mut Line,
        recv: &mut FrameReader,
    ) -> Result<(), &'static str> {
        while let Some(frame) = recv.ready::<wire::ServerFrame>().map_err(|_| "malformed")? {
            self.hear(speaker, line, frame).await;
        }
        Ok(())
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    async fn write(
        &mut self,
        speaker: &Speaker,
        line: &mut Line,
        letter: Letter,
    ) -> Result<(), quinn::WriteError> {
        let id = self.id();
        let Witness { device, room } = self.witness;
        let body = body(letter.conversation, letter.number, speaker.body_bytes);
        self.shared.borrow_mut().record.on_sent(device, room, &letter.client_id, &body, Instant::now());
        let send = wire::Send {
            room: speaker.room.clone(),
            client_id: letter.client_id,
            body,
            ..Default::default()
        };
        let request = wire::Request { id, deadline_ms: SEND_LIMIT_MS, op: Some(request::Op::Send(send)) };
        line.asked = Some(id);
        line.write(client_frame::Kind::Request(request)).await
    }

    async fn hear(&mut self, speaker: &mut Speaker, line: &mut Line, frame: wire::ServerFrame) {
        match frame.kind {
            Some(server_frame::Kind::Answer(answer)) => self.on_answer(speaker, line, answer),
            Some(server_frame::Kind::Event(event)) => self.on_event(speaker, line, event).await,
            Some(server_frame::Kind::GoAway(go_away)) => {
                line.going_away = Some(go_away.code());
            }
            _ => {}
        }
    }

    fn on_answer(&mut self, speaker: &mut Speaker, line: &mut Line, answer: wire::Answer) {
        if let Some(wire::answer::Result::Pong(pong)) = &answer.result {
            speaker.phone.take_passes(pong.passes.as_ref());
        }
        if line.fetching == Some(answer.id) {
            line.fetching = None;
            self.on_fetched(speaker, line, answer.result);
            return;
        }
        if line.asked != Some(answer.id) {
            return;
        }
        line.asked = None;
        let Some(letter) = &self.letter else { return };
        let now = Instant::now();
        let Witness { device, room } = self.witness;
        let mut shared = self.shared.borrow_mut();
        match answer.result {
            Some(wire::answer::Result::Receipt(receipt)) => {
                shared.record.on_receipt(device, room, &letter.client_id, receipt.seq, now);
                let latency = now.saturating_duration_since(letter.due);
                shared.tally.on_outcome(Stream::Receipt, letter.due, now, Outcome::Done(latency));
                self.letter = None;
            }
            Some(wire::answer::Result::Refusal(refusal)) => {
                let name = refusal.code().name();
                shared.record.on_refusal(device, room, &letter.client_id, &refusal, now);
                shared.tally.on_outcome(Stream::Receipt, letter.due, now, Outcome::Refused(name));
                let wait = Duration::from_millis(refusal.retry_after_ms.max(1).into());
                line.again_at = Some(tokio::time::Instant::now() + wait);
            }
            _ => {}
        }
    }

    /// A page of what was missed.
    fn on_fetched(&mut self, speaker: &mut Speaker, line: &mut Line, result: Option<wire::answer::Result>) {
        match result {
            Some(wire::answer::Result::Batch(batch)) => {
                for message in &batch.messages {
                    let now = Instant::now();
                    self.shared.borrow_mut().record.on_fetched(self.witness.device, message, now);
                    speaker.upto = speaker.upto.max(message.seq);
                    self.on_here(speaker, message, now);
                }
                speaker.is_behind = batch.more;
            }
            Some(wire::answer::Result::Refusal(refusal)) => {
                let wait = Duration::from_millis(refusal.retry_after_ms.max(100).into());
                line.fetch_at = Some(tokio::time::Instant::now() + wait);
            }
            _ => speaker.is_behind = false,
        }
    }

    async fn on_event(&mut self, speaker: &mut Speaker, line: &mut Line, event: wire::Event) {
        line.last_event = event.no;
        line.unseen += 1;
        match event.kind {
            Some(event::Kind::Delivery(delivery)) => {
                if let Some(message) = &delivery.message {
                    self.on_message(speaker, message);
                }
            }
            Some(event::Kind::Behind(_)) => {
                speaker.is_behind = true;
                self.shared.borrow_mut().record.on_behind(self.witness.device, Instant::now());
            }
            Some(event::Kind::Posture(changed)) => {
                line.ping_interval = Duration::from_millis(changed.ping_interval_ms.max(1_000).into());
                self.shared.borrow_mut().on_posture(&self.stage, changed.posture());
            }
            _ => {}
        }
        if line.unseen >= EVENTS_UNSEEN_MAX {
            line.unseen = 0;
            // A session that is over is noticed by its reader.
            let _ = line.write(client_frame::Kind::Seen(line.last_event)).await;
        }
    }
}

impl Talking {
    /// One of the other person, or one's own.
    fn on_message(&mut self, speaker: &mut Speaker, message: &wire::Message) {
        let now = Instant::now();
        self.shared.borrow_mut().record.on_delivery(self.witness.device, message, now);
        if !speaker.is_behind {
            speaker.upto = speaker.upto.max(message.seq);
        }
        self.on_here(speaker, message, now);
    }

    /// It has reached this phone, by itself or fetched.
    fn on_here(&mut self, speaker: &mut Speaker, message: &wire::Message, now: Instant) {
        let Some(message::Content::Body(body)) = &message.content else { return };
        let Some((conversation, number)) = numbers(body) else { return };
        let took = self.shared.borrow_mut().on_received(conversation, number, now);
        let Some(took) = took else { return };
        self.stage.live.on_heard(|| Heard {
            from: message.sender.clone(),
            to: speaker.phone.user.to_string(),
            text: text(body),
            took,
        });
    }
}

impl Line {
    async fn write(&mut self, kind: client_frame::Kind) -> Result<(), quinn::WriteError> {
        self.ping_at = tokio::time::Instant::now() + self.ping_interval;
        self.send.write_all(&frame(&wire::ClientFrame { kind: Some(kind) })).await
    }

    fn end(&self, why: &'static str) -> End {
        let said = self.connection.close_reason().map(Turned::from);
        match (self.going_away, &said) {
            (Some(Code::Draining), _) | (None, Some(Turned::Refused { name: "draining", .. })) => {
                End::Drained
            }
            (Some(code), _) => End::Closed(code.name()),
            (None, Some(Turned::Refused { name, .. })) => End::Closed(name),
            (None, Some(_)) => End::Broken,
            // The server ended the session and left the connection, or said what nobody understands.
            (None, None) => End::Closed(why),
        }
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}

/// Conversation and number, from which the other side knows when it was due, then what is said, then spaces; as much of it as
/// there is room for.
fn body(conversation: u32, number: u32, bytes: usize) -> Bytes {
    let bytes = bytes.max(NUMBERS_BYTES);
    let mut body = BytesMut::with_capacity(bytes.max(BODY_BYTES_USUAL));
    body.put_u32(conversation);
    body.put_u32(number);
    body.extend_from_slice(lines::line(conversation, number).as_bytes());
    body.resize(bytes, b' ');
    body.freeze()
}

/// A body that has room for what is said; others are made in one more step.
const BODY_BYTES_USUAL: usize = 64;

/// What is said in a body.
fn text(body: &[u8]) -> String {
    let said = body.split_at_checked(NUMBERS_BYTES).map_or(&[][..], |(_, said)| said);
    String::from_utf8_lossy(said).trim_end().to_owned()
}

/// Bytes of the two numbers.
const NUMBERS_BYTES: usize = 8;

fn numbers(body: &[u8]) -> Option<(u32, u32)> {
    let (conversation, rest) = body.split_first_chunk::<4>()?;
    let (number, _) = rest.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*conversation), u32::from_be_bytes(*number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_says_which_message_it_is() {
        let body = body(3, 70_000, 200);
        assert_eq!((body.len(), numbers(&body)), (200, Some((3, 70_000))));
        assert_eq!(text(&body), lines::line(3, 70_000));
        let short = super::body(3, 1, 12);
        assert_eq!((short.len(), numbers(&short), text(&short).len()), (12, Some((3, 1)), 4));
        assert_eq!((super::body(3, 1, 0).len(), text(b"short").as_str()), (NUMBERS_BYTES, ""));
        assert_eq!(numbers(b"short"), None);
    }
}
