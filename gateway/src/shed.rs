//! Whether a device that wants in gets its ticket now or a time to come back: the gateway's part in keeping storms away from
//! session managers that are full.
//!
//! Why it exists: a handshake at a full manager costs that manager as much as a login does, so whoever would only be deferred
//! there is deferred here. The decision is a value made from a struct of facts. It must never defer what a person looks at, and
//! never anybody twice who keeps to the slot that he was given.

use buslane_shared::overload::posture::Report;
use buslane_shared::wire::Posture;

/// For whom the ticket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// A person looks at the app.
    Foreground,
    /// The phone acts alone.
    Background,
}

/// How the session manager of the user stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// Nothing was heard of it lately: it judges for itself.
    Unknown,
    /// It takes whoever comes.
    Open,
    /// It defers background logins.
    Full,
}

impl Lane {
    /// Its name: metric label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Foreground => "foreground",
            Self::Background => "background",
        }
    }
}

impl Manager {
    /// As its own report says.
    pub fn of(report: &Report) -> Self {
        let full = report.posture == Posture::Emergency || report.ledger_ms > 0;
        if full { Self::Full } else { Self::Open }
    }
}

/// What the slot that was shown is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// None was shown.
    Absent,
    /// Its time is now.
    Due,
    /// Its time comes in so many milliseconds.
    Early(u32),
    /// Its time is over.
    Late,
    /// It was never given to anybody for here, or has been used. The word is a metric label.
    Bad(&'static str),
}

impl Slot {
    /// Its name: metric label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Due => "due",
            Self::Early(_) => "early",
            Self::Late => "late",
            Self::Bad(why) => why,
        }
    }
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It gets its ticket.
    Ticket,
    /// It gets a slot.
    Defer,
    /// It keeps its slot and waits for the rest of the time, in milliseconds.
    Wait(u32),
    /// It is told that the slot is worth nothing.
    BadSlot,
}

impl Verdict {
    /// Its name: metric label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Defer => "deferred",
            Self::Wait(_) => "early",
            Self::BadSlot => "bad_slot",
        }
    }
}

/// Decides.
pub fn decide(lane: Lane, manager: Manager, slot: Slot) -> Verdict {
    match (lane, manager, slot) {
        // A person has opened the app: whatever was promised to the phone before does not matter any more.
        (Lane::Foreground, _, _) => Verdict::Ticket,
        (Lane::Background, _, Slot::Bad(_)) => Verdict::BadSlot,
        (Lane::Background, Manager::Unknown | Manager::Open, _) => Verdict::Ticket,
        (Lane::Background, Manager::Full, Slot::Due) => Verdict::Ticket,
        (Lane::Background, Manager::Full, Slot::Early(wait_ms)) => Verdict::Wait(wait_ms),
        (Lane::Background, Manager::Full, Slot::Absent | Slot::Late) => Verdict::Defer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(verdict: Verdict) -> String {
        format!("{verdict:?}").to_lowercase()
    }

    #[test]
    fn the_whole_table() {
        let slots = [Slot::Absent, Slot::Due, Slot::Early(7), Slot::Late, Slot::Bad("forged")];
        let expected = [
            "Foreground Unknown: ticket ticket ticket ticket ticket",
            "Foreground Open: ticket ticket ticket ticket ticket",
            "Foreground Full: ticket ticket ticket ticket ticket",
            "Background Unknown: ticket ticket ticket ticket badslot",
            "Background Open: ticket ticket ticket ticket badslot",
            "Background Full: defer ticket wait(7) defer badslot",
        ];
        let mut table = Vec::new();
        for lane in [Lane::Foreground, Lane::Background] {
            for manager in [Manager::Unknown, Manager::Open, Manager::Full] {
                let row: Vec<String> = slots.iter().map(|slot| short(decide(lane, manager, *slot))).collect();
                table.push(format!("{lane:?} {manager:?}: {}", row.join(" ")));
            }
        }
        assert_eq!(table, expected);
    }

    #[test]
    fn a_manager_is_full_in_an_emergency_and_while_others_wait_for_their_slots() {
        use Posture::{Emergency, Guard, Normal, Recovery};
        let standing = |posture, ledger_ms| Manager::of(&Report { posture, ledger_ms, ..Report::default() });
        for posture in [Normal, Guard, Recovery] {
            assert_eq!(standing(posture, 0), Manager::Open, "{posture:?}");
            assert_eq!(standing(posture, 1), Manager::Full, "{posture:?}");
        }
        assert_eq!(standing(Emergency, 0), Manager::Full);
    }
}
