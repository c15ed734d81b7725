//! A server that keeps its promises, in a few lines: three phones of a room, a stranger, and a random course of events.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use buslane_shared::wire;
use proptest::prelude::*;

use crate::storm::history::logs::RoomLog;
use crate::storm::history::*;

/// The phone that never loses its session.
pub const STEADY: usize = 1;
/// A phone of no member.
pub const STRANGER: usize = 3;
/// The number of a message that nobody sent.
pub const NOBODYS: u32 = 9_999;

const USERS: [&str; 4] = ["ann", "bea", "cem", "dan"];
const MEMBERS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Opened,
    Resumed,
    Behind,
    Ended,
    Sent,
    Receipt,
    Refused,
    Delivered,
    Fetched,
}

/// Something that a phone writes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub what: What,
    pub device: usize,
    /// Of the message.
    pub number: u32,
    pub words: u32,
    pub seq: u64,
}

/// A place of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    pub seq: u64,
    pub number: u32,
    pub words: u32,
}

#[derive(Debug, Clone, Default)]
pub struct History {
    pub events: Vec<Event>,
    pub log: Vec<Line>,
    senders: BTreeMap<u32, usize>,
    queues: [VecDeque<Line>; MEMBERS],
    /// Sent, stored or not, and without a word about it.
    open: Vec<(usize, u32)>,
}

/// What happens next.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    Send(usize),
    /// Refused, and tried again later or never.
    SendRefused(usize),
    /// The receipt does not come.
    SendUnanswered {
        by: usize,
        stored: bool,
    },
    TryAgain(usize),
    Deliver(usize, usize),
    /// The connection is lost; what came last comes again.
    Resume(usize),
    /// The session is lost; what was missed is fetched or not.
    Restart {
        who: usize,
        fetches: bool,
    },
    Behind(usize),
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = || 0..MEMBERS;
    let unsteady = || (0..MEMBERS).prop_filter("steady", |who| *who != STEADY);
    let step = prop_oneof![
        4 => who().prop_map(Step::Send),
        1 => who().prop_map(Step::SendRefused),
        1 => (who(), any::<bool>()).prop_map(|(by, stored)| Step::SendUnanswered { by, stored }),
        1 => (0..8usize).prop_map(Step::TryAgain),
        6 => (who(), 1..4usize).prop_map(|(who, count)| Step::Deliver(who, count)),
        1 => unsteady().prop_map(Step::Resume),
        1 => (unsteady(), any::<bool>()).prop_map(|(who, fetches)| Step::Restart { who, fetches }),
        1 => unsteady().prop_map(Step::Behind),
    ];
    prop::collection::vec(step, 0..60)
}

impl History {
    /// Two people write to each other.
    pub fn plain() -> Self {
        let (send, deliver) = (Step::Send, |who| Step::Deliver(who, 1));
        Self::of(&[send(0), send(0), deliver(1), send(1), send(0), send(2), deliver(1), deliver(0), send(0)])
    }

    pub fn of(steps: &[Step]) -> Self {
        let mut history = Self::default();
        for device in 0..USERS.len() {
            history.note(What::Opened, device, Line { seq: 0, number: 0, words: 0 });
        }
        for step in steps {
            history.take(*step);
        }
        for device in 0..MEMBERS {
            history.deliver(device, usize::MAX);
            history.note(What::Ended, device, Line { seq: 0, number: 0, words: 0 });
        }
        history
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Send(by) => {
                let line = self.send(by);
                self.store(by, line, What::Receipt);
            }
            Step::SendRefused(by) => {
                let line = self.send(by);
                self.note(What::Refused, by, line);
                self.open.push((by, line.number));
            }
            Step::SendUnanswered { by, stored } => {
                let line = self.send(by);
                if stored {
                    self.append(by, line);
                }
                self.open.push((by, line.number));
            }
            Step::TryAgain(which) if which < self.open.len() => {
                let (by, number) = self.open.remove(which);
                let line = Line { seq: 0, number, words: number };
                self.note(What::Sent, by, line);
                match self.log.iter().find(|line| line.number == number) {
                    Some(known) => self.note(What::Receipt, by, *known),
                    None => self.store(by, line, What::Receipt),
                }
            }
            Step::TryAgain(_) => {}
            Step::Deliver(who, count) => self.deliver(who, count),
            Step::Resume(who) => {
                self.note(What::Resumed, who, Line { seq: 0, number: 0, words: 0 });
                let last =
                    self.events.iter().rev().find(|e| e.device == who && e.what != What::Sent).copied();
                let delivered =
                    self.events.iter().rev().find(|e| e.device == who && e.what == What::Delivered);
                if let (Some(_), Some(again)) = (last, delivered.copied()) {
                    self.events.push(again);
                }
            }
            Step::Restart { who, fetches } => {
                self.queues[who].clear();
                self.note(What::Opened, who, Line { seq: 0, number: 0, words: 0 });
                if fetches {
                    self.log.clone().into_iter().for_each(|line| self.note(What::Fetched, who, line));
                }
            }
            Step::Behind(who) => {
                self.queues[who].clear();
                self.note(What::Behind, who, Line { seq: 0, number: 0, words: 0 });
            }
        }
    }

    fn send(&mut self, by: usize) -> Line {
        let number = self.senders.len() as u32 + 1;
        self.senders.insert(number, by);
        let line = Line { seq: 0, number, words: number };
        self.note(What::Sent, by, line);
        line
    }

    fn store(&mut self, by: usize, line: Line, answer: What) {
        let line = self.append(by, line);
        self.note(answer, by, line);
    }

    fn append(&mut self, by: usize, line: Line) -> Line {
        let line = Line { seq: self.log.len() as u64 + 1, ..line };
        self.log.push(line);
        let others = self.queues.iter_mut().enumerate().filter(|(who, _)| *who != by);
        others.for_each(|(_, queue)| queue.push_back(line));
        line
    }

    fn deliver(&mut self, who: usize, count: usize) {
        let count = count.min(self.queues[who].len());
        for line in self.queues[who].drain(..count).collect::<Vec<_>>() {
            self.note(What::Delivered, who, line);
        }
    }

    fn note(&mut self, what: What, device: usize, line: Line) {
        let Line { seq, number, words } = line;
        self.events.push(Event { what, device, number, words, seq });
    }

    pub fn find(&self, wanted: impl Fn(&Event) -> bool) -> Option<usize> {
        self.events.iter().position(wanted)
    }

    pub fn receipt_of(&self, number: u32) -> Option<usize> {
        self.find(|event| event.what == What::Receipt && event.number == number)
    }

    /// Where a message with a receipt lies that is not the last one.
    pub fn place_of_acknowledged(&self) -> Option<usize> {
        let end = self.log.len().checked_sub(1)?;
        self.log[..end].iter().position(|line| self.receipt_of(line.number).is_some())
    }

    /// Two messages of a sender, one after the other in the room, both acknowledged at once.
    pub fn two_of_a_sender(&self) -> Option<(u32, u32)> {
        let tries =
            |number| self.events.iter().filter(|e| e.what == What::Sent && e.number == number).count();
        let plain = |line: &Line| tries(line.number) == 1 && self.receipt_of(line.number).is_some();
        let pair = self.log.windows(2).find(|pair| {
            self.senders[&pair[0].number] == self.senders[&pair[1].number] && pair.iter().all(plain)
        })?;
        Some((pair[0].number, pair[1].number))
    }

    /// Written down by the phones, read back, and checked.
    pub fn check(&self) -> Findings {
        let began = Instant::now();
        let mut record = Record::new(began);
        let devices = USERS.map(|user| record.device(user));
        let room = record.room(&[1; 16], USERS.into_iter().take(MEMBERS));
        for (step, event) in self.events.iter().enumerate() {
            let at = if event.what == What::Opened && step < USERS.len() {
                began
            } else {
                began + Duration::from_millis(10 * step as u64)
            };
            let (device, id, body) =
                (devices[event.device], client_id(event.number), event.words.to_be_bytes());
            match event.what {
                What::Opened => record.on_session(device, Continuity::Fresh, at),
                What::Resumed => record.on_session(device, Continuity::Resumed, at),
                What::Behind => record.on_behind(device, at),
                What::Ended => record.on_end(device, at),
                What::Sent => record.on_sent(device, room, &id, &body, at),
                What::Receipt => record.on_receipt(device, room, &id, event.seq, at),
                What::Refused => record.on_refusal(device, room, &id, &wire::Refusal::default(), at),
                What::Delivered => {
                    record.on_delivery(device, &self.message(event.seq, event.number, event.words), at)
                }
                What::Fetched => {
                    record.on_fetched(device, &self.message(event.seq, event.number, event.words), at)
                }
            }
        }
        let mut log = RoomLog { room: vec![1; 16], first: 1, ..RoomLog::default() };
        self.log.iter().for_each(|line| log.push(&self.message(line.seq, line.number, line.words)));
        check(&record, &[log])
    }

    fn message(&self, seq: u64, number: u32, words: u32) -> wire::Message {
        let sender = self.senders.get(&number).map_or("nobody", |sender| USERS[*sender]);
        let content = Some(wire::message::Content::Body(words.to_be_bytes().to_vec().into()));
        let (room, client_id) = (vec![1; 16].into(), client_id(number).to_vec().into());
        wire::Message { room, seq, sender: sender.into(), client_id, content, ..Default::default() }
    }
}

fn client_id(number: u32) -> [u8; 16] {
    let mut id = [7; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    id
}
