//! Who may log in at the background port: now, at a slot, or not told.
//!
//! Decided on the first packet, before anything is spent, and again for the few who pass and turn out to ask for more than
//! they said. A bucket holds the rate that the node can take. Whoever returns in his slot is admitted whatever the bucket
//! says: his place was promised. Others take what is left over, and otherwise get a slot behind all that were given before,
//! or the one that they were told already, so nobody gains by asking often. Whoever has a mark and a slot that is near is held until then and
//! told nothing: to come a second time costs both ends more than to keep a packet. Answers are bounded too: beyond [`ANSWER_SHARE`] of
//! the processors, silence.

use super::rate::{LoginRate, Window};
use super::settings::Background;
use crate::Nanos;
use crate::mark::{Kind, Mark};
use crate::slots::{Asker, Grant, Ledger, Rates};
use crate::wire::Posture;

/// Logins that may be ahead of their rate, in time: what a moment of the calm brings at once.
const BURST: Nanos = 100_000_000;

/// Strangers are let in only while less than this is used up: those who hold a pass go first. In an emergency the same holds
/// for passes: those who hold a slot go first.
const BURST_OF_STRANGERS: Nanos = BURST / 4;

/// The smallest part of the rate that those without a slot have.
const OPEN_MIN: f64 = 0.01;

/// The bucket never owes more than this: slots that came all at once are paid back in this time.
const DEBT_MAX: Nanos = 1_000_000_000;

/// Whoever finds no place in his time comes again after this, and up to twice of it. A client that heard nothing would come after a
/// second, then after two more and four more.
const MOMENT: Nanos = 150_000_000;

/// Whoever is held and finds no place is looked at again after this part of it: nothing has to go to him and back.
const MOMENT_HELD: Nanos = 4;

/// Part of the processors that answers to those who are turned away may cost.
pub const ANSWER_SHARE: f64 = 0.15;

/// What an answer to a first packet costs (measured: 10 to 11 us).
pub const ANSWER_COST: Nanos = 11_000;

/// What it costs to drop a first packet (measured: 2.1 to 2.4 us).
pub const SILENCE_COST: Nanos = 2_400;

const SECOND: f64 = 1e9;

/// What the client has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ask {
    /// A slot of this node, in its time.
    Slot,
    /// A pass that was given to a session: it wants to go on.
    Resume,
    /// A pass of a gateway.
    Pass,
    /// Nothing.
    Stranger,
}

impl Ask {
    /// What a mark that was read at this node asks for.
    pub fn of(mark: Option<&Mark>) -> Self {
        match mark.map(|m| (m.kind, m.node)) {
            Some((Kind::Slot, _)) => Self::Slot,
            Some((Kind::Pass, Some(_))) => Self::Resume,
            Some((Kind::Pass, None)) => Self::Pass,
            None => Self::Stranger,
        }
    }
}

/// Who is at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comer {
    /// What he has shown.
    pub ask: Ask,
    /// Who he is, where it is known.
    pub asker: Option<Asker>,
    /// Which places for handshakes are free. Whoever is let in where there is none is heard by nobody, and tries again after seconds; to
    /// be told when to come is better.
    pub places: Places,
    /// When his packet came, if there is room to hold it.
    pub came: Option<Nanos>,
}

impl Comer {
    /// Whether a place is free for him.
    pub fn has_place(&self) -> bool {
        match self.ask {
            Ask::Slot => self.places != Places::None,
            Ask::Resume | Ask::Pass | Ask::Stranger => self.places == Places::Free,
        }
    }
}

/// Which places for handshakes are free at the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Places {
    /// Some for everybody.
    Free,
    /// Only those that are kept for slots.
    ForSlots,
    /// None.
    None,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Come in.
    Admit,
    /// Come back then.
    Defer(Grant),
    /// Nothing is said: his packet is held until this time, which is his in the books, and judged again then.
    Hold(Nanos),
    /// There is no place within the horizon: come back some time.
    Later,
    /// His slot is good, but every place is taken: he keeps it and comes again in a moment.
    Wait,
    /// Nothing is said.
    Silence,
}

/// The background port's books.
#[derive(Debug, Clone)]
pub struct Logins {
    rate: LoginRate,
    ledger: Ledger,
    /// The longest that somebody is held.
    hold_max: Nanos,
    /// Until when the bucket is used up.
    used_until: Nanos,
    /// The same for the part of those without a slot, while they have only a part.
    opened_until: Nanos,
    /// The same for answers.
    answered_until: Nanos,
    answer_every: Nanos,
    /// Part of the rate that those without a slot have; less than 1 while the node recovers.
    open: f64,
    /// Processor time for those who were turned away, since the last window.
    turned_away: Nanos,
}

impl Logins {
    /// For a node with this many processors.
    pub fn new(settings: &Background, processors: u32) -> Self {
        let per_s = f64::from(processors.max(1)) * SECOND * ANSWER_SHARE / ANSWER_COST as f64;
        Self {
            rate: LoginRate::new(settings.logins_per_s_max),
            ledger: ledger(settings),
            hold_max: ms(settings.hold_ms_max),
            used_until: 0,
            opened_until: 0,
            answered_until: 0,
            answer_every: (SECOND / per_s) as Nanos,
            open: 1.0,
            turned_away: 0,
        }
    }

    /// Takes over other settings; what was promised stays promised.
    pub fn reconfigure(&mut self, settings: &Background) {
        self.rate.set_max(settings.logins_per_s_max);
        self.hold_max = ms(settings.hold_ms_max);
        self.ledger.reconfigure(
            settings.slot_fill,
            ms(settings.slot_horizon_ms),
            ms(settings.slot_tolerance_ms),
        );
    }

    /// Decides about somebody, where the posture is this. `random` are uniform bits.
    pub fn decide(&mut self, now: Nanos, who: Comer, posture: Posture, random: u32) -> Verdict {
        let Comer { ask, asker, .. } = who;
        let has_place = who.has_place();
        let hold_until = who.came.map(|came| came.saturating_add(self.hold_max)).unwrap_or_default();
        if !has_place && let Some(verdict) = self.keep_waiting(now, ask, asker, hold_until, random) {
            return verdict;
        }
        // Who comes in the time that he was promised, with a pass in place of the slot, has not listened and is in time all the same.
        let is_due = has_place && asker.is_some_and(|asker| self.redeem(asker, now));
        let ask = if is_due { Ask::Slot } else { ask };
        let used = self.used_until.saturating_sub(now);
        let admitted = match ask {
            Ask::Slot => true,
            // New logins wait for their turn, and get what those who have one leave over.
            Ask::Pass if posture == Posture::Emergency => used < BURST_OF_STRANGERS,
            Ask::Pass | Ask::Resume => used < BURST,
            Ask::Stranger => used < BURST_OF_STRANGERS,
        } && has_place
            && self.is_open_for(ask, now);
        if admitted {
            let cost = self.every();
            if ask != Ask::Slot {
                let part = self.open.max(OPEN_MIN);
                self.opened_until = self.opened_until.max(now) + (cost as f64 / part) as Nanos;
            }
            self.used_until = (self.used_until.max(now) + cost).min(now + DEBT_MAX);
            return Verdict::Admit;
        }
        if ask != Ask::Stranger && self.next(asker, now).is_some_and(|at| at <= hold_until) {
            self.turned_away += SILENCE_COST;
            return match self.defer(now, asker, random) {
                Verdict::Defer(grant) => Verdict::Hold(grant.at),
                other => other,
            };
        }
        if ask == Ask::Stranger || !self.may_answer(now) {
            self.turned_away += SILENCE_COST;
            return Verdict::Silence;
        }
        self.turned_away += ANSWER_COST;
        self.defer(now, asker, random)
    }

    /// About when his slot is, or the next one if he has none.
    fn next(&self, asker: Option<Asker>, now: Nanos) -> Option<Nanos> {
        self.ledger.next(asker, now, self.rates())
    }

    /// What becomes of somebody who comes in his time while there is no place for him; `None`: it is not his time.
    fn keep_waiting(
        &mut self,
        now: Nanos,
        ask: Ask,
        asker: Option<Asker>,
        hold_until: Nanos,
        random: u32,
    ) -> Option<Verdict> {
        let again = now.saturating_add(moment(random));
        let verdict = match ask {
            Ask::Slot => Verdict::Wait,
            Ask::Resume | Ask::Pass | Ask::Stranger => {
                Verdict::Defer(self.ledger.keep_waiting(asker?, now, again)?)
            }
        };
        let soon = now.saturating_add(moment(random) / MOMENT_HELD);
        if soon <= hold_until {
            self.turned_away += SILENCE_COST;
            return Some(Verdict::Hold(soon));
        }
        let may_answer = self.may_answer(now);
        self.turned_away += if may_answer { ANSWER_COST } else { SILENCE_COST };
        Some(if may_answer { verdict } else { Verdict::Silence })
    }

    /// A slot for somebody who is inside already and cannot be served: behind all others, or the one that he has.
    pub fn defer(&mut self, now: Nanos, asker: Option<Asker>, random: u32) -> Verdict {
        match self.ledger.grant_to(asker, now, 1.0, self.rates(), random) {
            Some(grant) => Verdict::Defer(grant),
            None => Verdict::Later,
        }
    }

    /// Takes a window of about 100 ms into account. `open` is the part of the rate for those without a slot. What those who
    /// were turned away have cost is neither the price of a login nor to be had for one.
    pub fn step(&mut self, window: Window, open: f64, posture: Posture) {
        let turned_away = std::mem::take(&mut self.turned_away);
        let window = Window {
            spent: window.spent.saturating_sub(turned_away),
            available: window.available.saturating_sub(turned_away),
            ..window
        };
        self.rate.step(window, posture == Posture::Normal);
        if self.open >= 1.0 {
            // What was let in before a recovery is not held against those who come in it.
            self.opened_until = 0;
        }
        self.open = open.clamp(0.0, 1.0);
    }

    /// Somebody has come in his time: it is kept, and is not told again. False: it was none of his.
    pub fn redeem(&mut self, asker: Asker, now: Nanos) -> bool {
        self.ledger.redeem(asker, now)
    }

    /// Gives back what was needed in a storm that is over.
    pub fn tidy(&mut self, now: Nanos) {
        self.ledger.tidy(now);
    }

    /// Others have given out slots of this node up to this time.
    pub fn advance(&mut self, until: Nanos) {
        self.ledger.advance(until);
    }

    /// Logins that the node can take, per second: now, and in a while.
    pub fn rates(&self) -> Rates {
        Rates { now: self.rate.per_s(), later: self.rate.per_s_in_a_while() }
    }

    /// Until the first free place in the ledger.
    pub fn ledger_length(&self, now: Nanos) -> Nanos {
        self.ledger.length(now)
    }

    /// While the node recovers, those without a slot have a bucket of their own, which holds their part of the rate.
    fn is_open_for(&self, ask: Ask, now: Nanos) -> bool {
        ask == Ask::Slot || self.open >= 1.0 || self.opened_until <= now + BURST
    }

    fn every(&self) -> Nanos {
        (SECOND / self.rate.per_s()) as Nanos
    }

    fn may_answer(&mut self, now: Nanos) -> bool {
        if self.answered_until > now + BURST {
            return false;
        }
        self.answered_until = self.answered_until.max(now) + self.answer_every;
        true
    }
}

/// How long somebody waits for a place: about as long as a handshake takes while all places are taken.
pub fn moment(random: u32) -> Nanos {
    MOMENT + Nanos::from(random) * MOMENT / Nanos::from(u32::MAX)
}

fn ledger(settings: &Background) -> Ledger {
    Ledger::new(settings.slot_fill, ms(settings.slot_horizon_ms), ms(settings.slot_tolerance_ms))
}

fn ms(ms: u32) -> Nanos {
    Nanos::from(ms) * 1_000_000
}

#[cfg(test)]
mod tests;
