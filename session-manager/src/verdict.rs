//! Where it is written down what became of a request or a login: in the counts, in the session, and, where somebody may ask
//! why, in the memory of refusals.
//!
//! Why it exists: requests end in several places (at once, in a line, with the backend, on a bulk stream), and all of them must be
//! counted alike, each once. It must never cost a request that is served more than a few additions.

use std::time::Duration;

use buslane_chassis::clock;
use buslane_chassis::oversee::Refused;
use buslane_shared::class::{Class, Protocol};
use buslane_shared::id::{DeviceId, UserId};
use buslane_shared::mark::Lane;
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::wire::{self, answer::Result as Answered};
use tokio::time::Instant;

use crate::load::outcome::{Outcome, Reason};
use crate::node::Port;
use crate::presence::Presence;
use crate::request::Terms;

impl Port {
    /// A request is answered with what the backend has said.
    pub(crate) fn on_answered(
        &self,
        presence: &Presence,
        terms: &Terms,
        answer: &wire::Answer,
        took: Duration,
    ) {
        self.meters.on_answer(terms.class, took);
        let outcome = Outcome::of(answer);
        if outcome == Outcome::Served {
            self.node.load.tally.on_took(terms.class, took);
        }
        self.on_ended(presence, terms, outcome, answer);
    }

    /// A request is refused by this node.
    pub(crate) fn on_refused(
        &self,
        presence: &Presence,
        terms: &Terms,
        reason: Reason,
        answer: &wire::Answer,
    ) {
        // What nobody wants any more was neither served nor refused.
        if reason != Reason::Code(Code::Cancelled) {
            self.on_ended(presence, terms, Outcome::Refused(reason), answer);
        }
    }

    fn on_ended(&self, presence: &Presence, terms: &Terms, outcome: Outcome, answer: &wire::Answer) {
        let load = &self.node.load;
        load.tally.on_ended(terms.protocol, terms.class, outcome);
        presence.trail.note(load.clock.nanos(terms.began), terms.protocol, terms.class, outcome);
        if let (Outcome::Refused(_), Some(Answered::Refusal(refusal))) = (outcome, &answer.result) {
            self.remember(presence, terms, refusal);
        }
    }

    /// One more request of a session is refused for lack of capacity. Until when the stream that it came on is left unread, if so:
    /// all streams of a session together have as many refusals.
    pub(crate) fn on_busy(
        &self,
        presence: &Presence,
        refusal: &wire::Refusal,
        now: Instant,
    ) -> Option<Instant> {
        let now_nanos = self.node.load.clock.nanos(now);
        let at = presence.on_busy(Class::of_number(refusal.class), now_nanos)?;
        Some(now + Duration::from_nanos(at.saturating_sub(now_nanos)))
    }

    fn remember(&self, presence: &Presence, terms: &Terms, refusal: &wire::Refusal) {
        let says_why = matches!(refusal.code(), Code::Busy | Code::RateLimited | Code::Unavailable);
        if !says_why {
            return;
        }
        let stance = self.node.load.stances.get();
        self.node.refusals.note(Refused {
            at_ms: clock::unix_ms(),
            user: presence.user.clone(),
            device: Some(presence.device),
            what: terms.protocol.name(),
            code: refusal.code(),
            class: Some(terms.class),
            level: Some(terms.level.number()),
            cut: Some(stance.level),
            posture: stance.posture,
            retry_after_ms: Some(refusal.retry_after_ms).filter(|ms| *ms > 0),
            has_slot: false,
        });
    }

    /// What this node answers by itself was asked for and done.
    pub(crate) fn on_done_here(&self, protocol: Protocol, class: Class, took: Duration) {
        let tally = &self.node.load.tally;
        tally.on_offered(protocol, class);
        tally.on_took(class, took);
        tally.on_ended(protocol, class, Outcome::Served);
    }

    /// A hello was refused.
    pub(crate) fn on_hello_refused(
        &self,
        protocol: Protocol,
        class: Class,
        refusal: &Refusal,
        who: Option<(&UserId, DeviceId)>,
    ) {
        let load = &self.node.load;
        let outcome = match &refusal.busy {
            // At the wake port everybody is told his own time, with a slot or, when none is left, without.
            Some(_) if self.lane() == Lane::Wake => Outcome::Deferred,
            Some(_) => Outcome::Refused(Reason::Level),
            None => Outcome::Refused(Reason::Code(refusal.code)),
        };
        load.tally.on_ended(protocol, class, outcome);
        let Some(who) = who else { return };
        let stance = load.stances.get();
        let refused = Refused::of(refusal, (who.0, Some(who.1)), "hello", stance.posture, clock::unix_ms());
        if let Some(refused) = refused {
            self.node.refusals.note(Refused { cut: Some(stance.level), ..refused });
        }
    }
}
