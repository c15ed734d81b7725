//! What a check has found: how often each promise was looked at, and how often it was broken.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Examples that are kept of each promise that was broken.
const EXAMPLES: usize = 10;

/// What must hold of every run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// A message with a receipt is in the log.
    ReceiptIsStored,
    /// A message with a receipt has reached every other phone of the room that was there.
    ReceiptIsDelivered,
    /// A client id has one place in the room, whatever was tried again.
    OneSeqForAnId,
    /// A phone gets a message once in a session.
    DeliveredOnce,
    /// A receipt names the place that the log has.
    ReceiptIsTheLogs,
    /// A phone hears a room in its order.
    DeliveredInOrder,
    /// What somebody sent later, and was stored, has the later place.
    SendersOrder,
    /// What somebody saw before he sent has the earlier place.
    SeenIsBefore,
    /// Nothing reaches who is not a member, nor is taken from him.
    MembersOnly,
    /// A place of a room holds one message, the same for everybody, as it was sent.
    OneMessageForASeq,
    /// Nothing is there that nobody sent.
    NothingInvented,
    /// What was certainly refused is nowhere.
    RefusedIsNowhere,
    /// The places of a room are 1, 2, 3, ... without a hole.
    RoomIsDense,
}

impl Promise {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Self::ReceiptIsStored => "a message with a receipt is in the log",
            Self::ReceiptIsDelivered => "a message with a receipt reaches the other phones of its room",
            Self::OneSeqForAnId => "a message has one place, however often it was tried",
            Self::DeliveredOnce => "a phone gets a message once in a session",
            Self::ReceiptIsTheLogs => "a receipt names the place that the log has",
            Self::DeliveredInOrder => "a phone hears a room in its order",
            Self::SendersOrder => "messages of a sender keep their order",
            Self::SeenIsBefore => "what was seen before a send has an earlier place",
            Self::MembersOnly => "only members hear and speak",
            Self::OneMessageForASeq => "a place of a room holds one message, as it was sent",
            Self::NothingInvented => "nothing is there that nobody sent",
            Self::RefusedIsNowhere => "what was certainly refused is nowhere",
            Self::RoomIsDense => "places of a room have no hole and are not used twice",
        }
    }
}

/// One promise in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// How often it was looked at.
    pub checked: u64,
    /// How often it was broken.
    pub broken: u64,
}

/// What a check has found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// Messages with a receipt that are not in the log, or have not reached a phone that was there.
    pub lost: u64,
    /// Messages with two places, or delivered twice in a session.
    pub duplicated: u64,
    /// Receipts and deliveries against the order of the room or of the sender.
    pub reordered: u64,
    /// Deliveries to those who are not members, and receipts for them.
    pub misdelivered: u64,
    /// Messages that are there though nobody sent them, not like that, or though they were certainly refused.
    pub invented: u64,
    /// Places of a room that are missing or used twice.
    pub holes: u64,
    /// Messages of which nobody said what became of them. They may be there or not.
    pub unknown: u64,
    /// Deliveries that came again after a session was resumed, which is allowed.
    pub repeated: u64,
    /// Messages that were sent.
    pub checked_messages: u64,
    /// Of them, with a receipt.
    pub acknowledged: u64,
    /// Messages that phones received.
    pub checked_deliveries: u64,
    /// Rooms in which something happened.
    pub rooms: u64,
    /// Of them, those whose log was read back to its end.
    pub rooms_read: u64,
    /// Each promise.
    pub promises: BTreeMap<Promise, Held>,
    /// The first of each kind, in words.
    pub examples: Vec<String>,
    /// The record was full before the run was over.
    pub is_cut: bool,
    /// What this check could not look at.
    pub notes: Vec<String>,
}

impl Findings {
    /// How often any promise was broken.
    pub fn violations(&self) -> u64 {
        self.promises.values().map(|held| held.broken).sum()
    }

    /// What was checked, over how much, and how often it was broken: a line for each promise that there was anything to hold
    /// against.
    pub fn statement(&self) -> Vec<String> {
        let line = |promise: &Promise, held: &Held| {
            format!("{}: {} broken of {}", promise.text(), held.broken, held.checked)
        };
        self.promises.iter().filter(|(_, held)| held.checked > 0).map(|(p, held)| line(p, held)).collect()
    }

    pub(super) fn on_checked(&mut self, promise: Promise, times: u64) {
        self.promises.entry(promise).or_default().checked += times;
    }

    pub(super) fn on_broken(&mut self, promise: Promise, example: impl FnOnce() -> String) {
        let held = self.promises.entry(promise).or_default();
        held.broken += 1;
        if held.broken <= EXAMPLES as u64 {
            self.examples.push(format!("{}, but {}", promise.text(), example()));
        }
        *match promise {
            Promise::ReceiptIsStored | Promise::ReceiptIsDelivered => &mut self.lost,
            Promise::OneSeqForAnId | Promise::DeliveredOnce => &mut self.duplicated,
            Promise::ReceiptIsTheLogs
            | Promise::DeliveredInOrder
            | Promise::SendersOrder
            | Promise::SeenIsBefore => &mut self.reordered,
            Promise::MembersOnly => &mut self.misdelivered,
            Promise::OneMessageForASeq | Promise::NothingInvented | Promise::RefusedIsNowhere => {
                &mut self.invented
            }
            Promise::RoomIsDense => &mut self.holes,
        } += 1;
    }
}
