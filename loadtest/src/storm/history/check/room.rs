//! One room: the story of each of its messages, and its log.

use std::collections::HashMap;

use super::hearing::{Heard, Hearing};
use crate::storm::history::findings::{Findings, Promise};
use crate::storm::history::logs::{Line, RoomLog};
use crate::storm::history::record::{CHANGE, ClientKey, Device, Entry, Kind, Print, Record, RoomFacts};
use crate::storm::history::timeline::{Happening, Timeline};

/// Everything about one room.
#[derive(Debug, Clone, Copy)]
pub struct Room<'a> {
    pub facts: &'a RoomFacts,
    pub happenings: &'a [Happening<'a>],
    pub log: Option<&'a RoomLog>,
}

/// What became of one message.
#[derive(Debug)]
struct Story {
    device: u32,
    client_id: ClientKey,
    print: Print,
    tries: u32,
    refused: u32,
    /// Places in the record of the first try, and of the last one before the receipt.
    first_try: usize,
    last_try: usize,
    first_ms: u32,
    receipt: Option<u64>,
    /// The highest sequence that its sender had seen before.
    seen_before: u64,
    /// Where it is, as far as anybody but its sender was told.
    place: Option<u64>,
}

/// The check of one room while it goes on.
struct Checking<'a> {
    record: &'a Record,
    timeline: &'a Timeline<'a>,
    room: Room<'a>,
    stories: HashMap<ClientKey, Story>,
    hearings: HashMap<u32, Hearing>,
    /// What is at each sequence, as the log says, or else who heard it first.
    at_seq: HashMap<u64, (ClientKey, Print)>,
    /// From which sequence on a user is a member, or is not any more; in order.
    changes: HashMap<u32, Vec<(u64, bool)>>,
    findings: &'a mut Findings,
}

/// Checks one room.
pub fn check<'a>(record: &'a Record, timeline: &'a Timeline<'a>, room: Room<'a>, findings: &'a mut Findings) {
    let mut checking = Checking {
        record,
        timeline,
        room,
        stories: HashMap::new(),
        hearings: HashMap::new(),
        at_seq: HashMap::new(),
        changes: HashMap::new(),
        findings,
    };
    checking.read_members();
    checking.read_sends();
    checking.read_log();
    checking.check_receipts();
    checking.hear();
    checking.check_delivered();
    checking.check_senders();
    checking.count();
}

impl<'a> Checking<'a> {
    /// Who is a member when.
    fn read_members(&mut self) {
        for user in &self.room.facts.members {
            self.changes.entry(*user).or_default().push((0, true));
        }
        for change in self.room.log.iter().flat_map(|log| &log.changes) {
            if let Some(user) = self.record.number_of_user(&change.user) {
                self.changes.entry(user).or_default().push((change.seq, change.is_member));
            }
        }
    }

    fn is_member(&self, device: u32, seq: u64) -> bool {
        let changes = self.record.user_of(device).and_then(|user| self.changes.get(&user));
        let last = changes.and_then(|changes| changes.iter().rev().find(|(since, _)| *since <= seq));
        last.is_some_and(|(_, is_member)| *is_member)
    }

    /// The senders' side.
    fn read_sends(&mut self) {
        let mut seen: HashMap<u32, u64> = HashMap::new();
        for (place, happening) in self.room.happenings.iter().enumerate() {
            let entry = happening.entry;
            match entry.kind {
                Kind::Sent => self.on_sent(entry, place, seen.get(&entry.device).copied().unwrap_or(0)),
                Kind::Receipt => self.on_receipt(entry),
                Kind::Refused => {
                    if let Some(story) = self.stories.get_mut(&entry.client_id) {
                        story.refused += 1;
                    }
                }
                Kind::Delivered | Kind::Fetched => {
                    let highest = seen.entry(entry.device).or_default();
                    *highest = entry.seq.max(*highest);
                }
                Kind::Opened | Kind::Resumed | Kind::Behind | Kind::Ended => {}
            }
        }
    }

    fn on_sent(&mut self, entry: &Entry, place: usize, seen_before: u64) {
        let story = self.stories.entry(entry.client_id).or_insert_with(|| Story {
            device: entry.device,
            client_id: entry.client_id,
            print: entry.print,
            tries: 0,
            refused: 0,
            first_try: place,
            last_try: place,
            first_ms: entry.at_ms,
            receipt: None,
            seen_before,
            place: None,
        });
        story.tries += 1;
        if story.receipt.is_none() {
            story.last_try = place;
        }
    }

    fn on_receipt(&mut self, entry: &Entry) {
        let is_member = self.is_member(entry.device, entry.seq);
        let (who, seq) = (self.teller(entry), entry.seq);
        let Some(story) = self.stories.get_mut(&entry.client_id) else { return };
        self.findings.on_checked(Promise::OneSeqForAnId, 1);
        self.findings.on_checked(Promise::MembersOnly, 1);
        let before = *story.receipt.get_or_insert(seq);
        if before != seq {
            self.findings.on_broken(Promise::OneSeqForAnId, || {
                format!("{} has receipts for {before} and for {seq}", who())
            });
        }
        if !is_member {
            self.findings.on_broken(Promise::MembersOnly, || {
                format!("{}, who is not a member, has a receipt for {seq}", who())
            });
        }
    }

    /// The log for itself, and whether everything in it was sent.
    fn read_log(&mut self) {
        let Some(log) = self.room.log else { return };
        self.findings.rooms_read += u64::from(log.unread.is_none());
        let mut expected = log.first;
        for line in &log.lines {
            self.findings.on_checked(Promise::RoomIsDense, 1);
            if line.seq != expected {
                let facts = self.room.facts;
                self.findings.on_broken(Promise::RoomIsDense, || {
                    format!("in the log of {} there is {} where {expected} should be", name(facts), line.seq)
                });
            }
            expected = line.seq + 1;
            self.at_seq.entry(line.seq).or_insert((line.client_id, line.print));
            self.on_visible(line, || "the log".to_owned());
        }
    }

    /// Something is there, for whoever looks: was it sent, so, and only once?
    fn on_visible(&mut self, line: &Line, to_whom: impl Fn() -> String) {
        let Line { seq, client_id, print } = *line;
        if print == CHANGE {
            return;
        }
        self.findings.on_checked(Promise::NothingInvented, 1);
        let facts = self.room.facts;
        let what = || format!("{} has {seq} of {}", to_whom(), name(facts));
        let id = uuid(client_id);
        let Some(story) = self.stories.get_mut(&client_id) else {
            // Of a record that was cut nobody knows what was sent later.
            if !self.record.is_cut() {
                let tell = || format!("{} (client id {id}), which nobody sent", what());
                self.findings.on_broken(Promise::NothingInvented, tell);
            }
            return;
        };
        self.findings.on_checked(Promise::OneMessageForASeq, 1);
        self.findings.on_checked(Promise::OneSeqForAnId, 1);
        self.findings.on_checked(Promise::RefusedIsNowhere, 1);
        let place = *story.place.get_or_insert(seq);
        if place != seq {
            let tell = || format!("{} (client id {id}), which is also {place}", what());
            self.findings.on_broken(Promise::OneSeqForAnId, tell);
        }
        if print != story.print {
            let tell = || format!("{} with other words or another sender than it was sent with", what());
            self.findings.on_broken(Promise::OneMessageForASeq, tell);
        }
        if story.tries == story.refused {
            let tell = || format!("{}, and its sender was told that it is certainly not stored", what());
            self.findings.on_broken(Promise::RefusedIsNowhere, tell);
        }
    }

    /// Receipts against the log.
    fn check_receipts(&mut self) {
        let mut stored: HashMap<ClientKey, u64> = HashMap::new();
        for line in self.room.log.iter().flat_map(|log| &log.lines) {
            stored.entry(line.client_id).or_insert(line.seq);
        }
        let mut taken: HashMap<u64, ClientKey> = HashMap::new();
        let facts = self.room.facts;
        let room = || name(facts);
        for story in self.stories.values() {
            let Some(seq) = story.receipt else { continue };
            let id = uuid(story.client_id);
            let of = *taken.entry(seq).or_insert(story.client_id);
            if of != story.client_id {
                self.findings.on_broken(Promise::RoomIsDense, || {
                    format!("{} and {id} both have a receipt for {seq} of {}", uuid(of), room())
                });
            }
            // What is below its beginning was trimmed, and what is behind an end that was not reached is not known.
            let Some(log) = self.room.log.filter(|log| seq >= log.first && log.reaches(seq)) else {
                continue;
            };
            self.findings.on_checked(Promise::ReceiptIsStored, 1);
            match stored.get(&story.client_id) {
                None => self.findings.on_broken(Promise::ReceiptIsStored, || {
                    format!(
                        "{id} has a receipt for {seq} of {}, whose log has {} messages",
                        room(),
                        log.lines.len()
                    )
                }),
                Some(place) => {
                    self.findings.on_checked(Promise::ReceiptIsTheLogs, 1);
                    if *place != seq {
                        self.findings.on_broken(Promise::ReceiptIsTheLogs, || {
                            format!("{id} has a receipt for {seq} of {} and is stored as {place}", room())
                        });
                    }
                }
            }
        }
    }

    /// What the phones have heard.
    fn hear(&mut self) {
        for happening in self.room.happenings {
            if !matches!(happening.entry.kind, Kind::Delivered | Kind::Fetched) {
                continue;
            }
            let entry = happening.entry;
            self.findings.checked_deliveries += 1;
            self.on_heard(entry);
            let hearing = self.hearings.entry(entry.device).or_default();
            let heard = hearing.on_heard(happening);
            if entry.kind == Kind::Fetched {
                continue;
            }
            self.findings.on_checked(Promise::DeliveredOnce, 1);
            self.findings.on_checked(Promise::DeliveredInOrder, 1);
            let (who, seq) = (self.teller(entry), entry.seq);
            let findings = &mut *self.findings;
            match heard {
                Heard::New => {}
                Heard::Repeated => findings.repeated += 1,
                Heard::Twice => {
                    let tell = || format!("{} got {seq} twice in one session", who());
                    findings.on_broken(Promise::DeliveredOnce, tell);
                }
                Heard::Behind(last) => {
                    let tell = || format!("{} got {seq} after {last}", who());
                    findings.on_broken(Promise::DeliveredInOrder, tell);
                }
            }
        }
    }

    fn on_heard(&mut self, entry: &Entry) {
        let Entry { device, seq, client_id, print, .. } = *entry;
        let who = self.teller(entry);
        let here = *self.at_seq.entry(seq).or_insert((client_id, print));
        if here != (client_id, print) {
            self.findings.on_broken(Promise::OneMessageForASeq, || {
                format!("{} got {} as {seq}, which is {} for others", who(), uuid(client_id), uuid(here.0))
            });
        }
        self.on_visible(&Line { seq, client_id, print }, &who);
        if print == CHANGE {
            // Who goes is told so.
            return;
        }
        self.findings.on_checked(Promise::MembersOnly, 1);
        if !self.is_member(device, seq) {
            let tell = || format!("{}, who is not a member then, got {seq}", who());
            self.findings.on_broken(Promise::MembersOnly, tell);
        }
    }

    /// Has everybody who was there got what has a receipt?
    fn check_delivered(&mut self) {
        // Of a record that was cut nobody knows what came later.
        if self.record.is_cut() {
            return;
        }
        let members: Vec<u32> = self.changes.keys().copied().collect();
        let devices: Vec<u32> =
            members.iter().filter_map(|user| self.timeline.devices_of.get(user)).flatten().copied().collect();
        let deaf = Hearing::default();
        let facts = self.room.facts;
        for device in devices {
            let hearing = self.hearings.get(&device).unwrap_or(&deaf);
            for story in self.stories.values() {
                let Some(seq) = story.receipt else { continue };
                if story.device == device || !self.is_member(device, seq) {
                    continue;
                }
                let must = hearing.must_have(self.timeline, device, seq, story.first_ms);
                self.findings.on_checked(Promise::ReceiptIsDelivered, u64::from(must || hearing.has(seq)));
                if must && !hearing.has(seq) {
                    let who = self.record.name_of(Device(device));
                    self.findings.on_broken(Promise::ReceiptIsDelivered, || {
                        let at_s = f64::from(story.first_ms) / 1e3;
                        format!("{who} never got {seq} of {}, sent at {at_s:.1} s", name(facts))
                    });
                }
            }
        }
    }

    /// The order in which each sender sent, and what he had seen.
    fn check_senders(&mut self) {
        let mut of_sender: HashMap<u32, Vec<(&Story, u64)>> = HashMap::new();
        for story in self.stories.values() {
            if let Some(seq) = story.receipt {
                of_sender.entry(story.device).or_default().push((story, seq));
            }
        }
        let facts = self.room.facts;
        for (device, mut stories) in of_sender {
            let sender = self.record.name_of(Device(device));
            stories.sort_unstable_by_key(|(story, _)| story.first_try);
            let mut done = stories.clone();
            done.sort_unstable_by_key(|(story, _)| story.last_try);
            let mut done = done.into_iter().peekable();
            let mut highest = 0;
            for (story, seq) in stories {
                // Only what was not tried again after this one was sent must be before it.
                while let Some((_, before)) = done.next_if(|(other, _)| other.last_try < story.first_try) {
                    highest = before.max(highest);
                }
                self.findings.on_checked(Promise::SendersOrder, 1);
                self.findings.on_checked(Promise::SeenIsBefore, 1);
                if seq < highest {
                    self.findings.on_broken(Promise::SendersOrder, || {
                        format!("in {} what {sender} sent after {highest} is {seq}", name(facts))
                    });
                }
                if seq <= story.seen_before {
                    let seen = story.seen_before;
                    self.findings.on_broken(Promise::SeenIsBefore, || {
                        format!("{sender} had seen {seen} of {} before he sent what is {seq}", name(facts))
                    });
                }
            }
        }
    }

    fn count(&mut self) {
        for story in self.stories.values() {
            self.findings.checked_messages += 1;
            self.findings.acknowledged += u64::from(story.receipt.is_some());
            self.findings.unknown += u64::from(story.receipt.is_none() && story.tries > story.refused);
        }
    }

    /// Whose entry it is, in words, when they are wanted.
    fn teller(&self, entry: &Entry) -> impl Fn() -> String + use<'a> {
        let (record, facts) = (self.record, self.room.facts);
        let (device, at_s) = (Device(entry.device), f64::from(entry.at_ms) / 1e3);
        move || format!("{} at {at_s:.1} s in {}", record.name_of(device), name(facts))
    }
}

/// The first bytes of its id are enough to tell a room.
fn name(facts: &RoomFacts) -> String {
    let id: String = facts.id.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("room {id}")
}

fn uuid(client_id: ClientKey) -> uuid::Uuid {
    uuid::Uuid::from_bytes(client_id)
}
