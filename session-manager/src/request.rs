//! One request: which protocol and class it is, until when it is wanted, and whether it is answered here.
//!
//! Why it exists: both kinds of streams treat a request alike. What a session manager knows by itself it answers itself;
//! everything else is relayed, if requests of its level are admitted now. It must never change the meaning of a request, and
//! never start one whose answer nobody waits for.

use std::time::Duration;

use buslane_chassis::api::{Backend, Call};
use buslane_chassis::clock::unix_ms;
use buslane_chassis::trace::{Kind, Lead, Span};
use buslane_shared::Nanos;
use buslane_shared::class::{Class, Protocol, is_write};
use buslane_shared::limits::{BATCH_BYTES_MAX, DEADLINE_MS_DEFAULT, DEADLINE_MS_MAX};
use buslane_shared::overload::lanes::Why;
use buslane_shared::overload::level::Level;
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::slots::Asker;
use buslane_shared::wire::{self, answer::Result as Answered, request::Op};
use tokio::time::Instant;

use crate::flights::By;
use crate::load::outcome::{Outcome, Reason};
use crate::load::passes::{self, PASSES_EVERY_MS};
use crate::load::seats::{Taken, Want};
use crate::load::{Decision, Load, Ranked};
use crate::news;
use crate::node::{Node, Port};
use crate::presence::Presence;

/// What an answer of one message or less costs while it waits to be written.
const SMALL_ANSWER_BYTES: usize = 512;

/// What a page of rooms or members costs: a thousand of a hundred bytes.
const PAGE_BYTES: usize = 128 * 1024;

/// What one element of a repeated field costs in memory beyond its bytes on the wire.
const ELEMENT_BYTES: usize = 48;

/// How a request came to its seat, in a trace.
pub(crate) const AT_ONCE: &str = "admitted";
/// See [`AT_ONCE`].
pub(crate) const AFTER_A_WAIT: &str = "deferred";
/// See [`AT_ONCE`]: it got none.
const REFUSED: &str = "refused";
/// See [`AT_ONCE`]: its client did not wait for one.
pub(crate) const GIVEN_UP: &str = "given_up";
/// See [`AT_ONCE`]: it would have been refused, but its class is only tried out.
pub(crate) const DRY_RUN: &str = "dry_run";

/// What to do with a request.
pub(crate) enum Plan {
    /// Here is the answer.
    Answer(wire::Answer),
    /// It is refused.
    Refuse(wire::Answer),
    /// Ask the backend.
    Relay(Box<Relay>),
}

/// A request on its way to the backend.
pub(crate) struct Relay {
    pub(crate) id: u64,
    pub(crate) terms: Terms,
    /// Bytes that it and its answer may occupy.
    pub(crate) weight: usize,
    /// Bytes that it occupies before it is begun.
    held: usize,
    /// The deadline, as load decisions count time.
    deadline: Nanos,
    call: Call,
    request: wire::Request,
    span: Span,
}

/// What is remembered of a request until its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) protocol: Protocol,
    pub(crate) class: Class,
    pub(crate) level: Level,
    pub(crate) is_write: bool,
    pub(crate) began: Instant,
    pub(crate) deadline: Instant,
}

impl Terms {
    /// The answer when it is given up, for whichever reason.
    pub(crate) fn give_up(&self, id: u64, code: Code) -> wire::Answer {
        let refusal = Refusal::of(code);
        refuse(id, if self.is_write { refusal.maybe_applied() } else { refusal })
    }
}

impl Relay {
    /// The seat that it needs.
    pub(crate) fn want(&self) -> Want {
        let Terms { protocol, class, .. } = self.terms;
        // While it waits it has no answer.
        let bytes = u32::try_from(self.held).unwrap_or(u32::MAX);
        Want { protocol, class, bytes, deadline: self.deadline }
    }

    /// Bytes that it occupies before it is begun.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// It waits no more: this was decided. Its class is said now, because a write that waits may get that of another behind it.
    pub(crate) fn on_decided(&mut self, decision: &'static str) {
        self.span.note("buslane.class", self.terms.class.name());
        self.span.note("buslane.decision", decision);
        self.span.note_since("buslane.queue_wait_seconds", self.terms.began);
    }

    /// The lanes have no seat for it.
    pub(crate) fn turn_away(mut self, why: Why) {
        self.on_decided(REFUSED);
        self.span.turn_away(why.name());
    }

    /// Waits for a seat and asks the backend.
    pub(crate) async fn run_seated(mut self: Box<Self>, node: &Node) -> (wire::Answer, By) {
        let (id, Terms { protocol, class, level, .. }) = (self.id, self.terms);
        let load = &node.load;
        let offered = Instant::now();
        let seat = match load.seats.take(self.want()).await {
            Ok((seat, Taken::AtOnce)) => {
                load.census.on(protocol, class, Decision::Admitted);
                self.on_decided(AT_ONCE);
                Some(seat)
            }
            Ok((seat, Taken::AfterAWait)) => {
                load.census.on_waited(protocol, class, offered.elapsed());
                self.on_decided(AFTER_A_WAIT);
                Some(seat)
            }
            Err(why) if load.on_turned_away(protocol, class, why) => {
                self.on_decided(DRY_RUN);
                None
            }
            Err(why) => {
                self.turn_away(why);
                return (refuse(id, load.busy(class, level)), By::Node(Reason::Lane(why)));
            }
        };
        let mut asked = Asked { load, since: Instant::now(), deadline: self.terms.deadline, answered: false };
        let answer = self.run(load, node.backend.clone()).await;
        asked.answered = true;
        drop(seat);
        (answer, By::Backend)
    }

    /// Asks the backend.
    pub(crate) async fn run(mut self, load: &Load, backend: Backend) -> wire::Answer {
        // It may have changed while it waited.
        self.call.class = self.terms.class;
        let began = Instant::now();
        let answer = backend.relay(self.call, self.request).await;
        self.span.answered(&answer);
        load.dependency.on_answer(self.terms.protocol == Protocol::MessageSend, began.elapsed());
        answer
    }
}

/// A request that is with the backend. One that is given up at its deadline has timed out there; one that was never begun has not.
struct Asked<'a> {
    load: &'a Load,
    since: Instant,
    deadline: Instant,
    answered: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.answered && Instant::now() >= self.deadline {
            self.load.dependency.on_timeout(self.since.elapsed());
        }
    }
}

/// Decides about a request that took `frame_bytes` on the wire; `lead`: the trace of the login that it may belong to.
pub(crate) fn plan(
    port: &Port,
    presence: &Presence,
    request: wire::Request,
    frame_bytes: usize,
    now: Instant,
    lead: &mut Lead,
) -> Plan {
    if !matches!(request.op, Some(Op::SetAppState(_))) {
        news::remind(&port.node.load, presence);
    }
    let id = request.id;
    let deadline = now + deadline(request.deadline_ms);
    let terms =
        |protocol, class, level, is_write| Terms { protocol, class, level, is_write, began: now, deadline };
    let tally = &port.node.load.tally;
    let Some(op) = &request.op else {
        let (protocol, class) = (Protocol::Unknown, Class::Spare);
        let terms = terms(protocol, class, port.node.load.level(class, presence.user.as_str()), false);
        let answer = refuse(id, Refusal::of(Code::Unsupported));
        tally.on_offered(protocol, class);
        port.on_refused(presence, &terms, Reason::Code(Code::Unsupported), &answer);
        return Plan::Refuse(answer);
    };
    let protocol = Protocol::of(op);
    match op {
        Op::Ping(_) => {
            let class = class_here(port, protocol, presence);
            let answer = wire::Answer { id, result: Some(Answered::Pong(pong(port, presence))) };
            port.on_done_here(protocol, class, now.elapsed());
            Plan::Answer(answer)
        }
        Op::SetAppState(set) => {
            let class = class_here(port, protocol, presence);
            presence.set_app_state(set.state());
            // What it is told now depends on it.
            news::remind(&port.node.load, presence);
            presence.trail.note(port.node.load.clock.nanos(now), protocol, class, Outcome::Served);
            port.on_done_here(protocol, class, now.elapsed());
            Plan::Answer(wire::Answer { id, result: Some(Answered::Done(wire::Done {})) })
        }
        _ => {
            let load = &port.node.load;
            let Ranked { class, level, admitted } = load.rank(protocol, presence, now);
            port.meters.on_request(protocol, class);
            tally.on_offered(protocol, class);
            let terms = terms(protocol, class, level, is_write(op));
            if !admitted {
                let answer = refuse(id, load.busy(class, level));
                port.on_refused(presence, &terms, Reason::Level, &answer);
                let mut span = Span::refused(protocol.name(), Kind::Server).since(now);
                note(&mut span);
                span.note("buslane.class", class.name());
                span.note("buslane.decision", REFUSED);
                span.turn_away("level");
                return Plan::Refuse(answer);
            }
            let parent = lead.take();
            let trace = parent.trace_or(rand::random());
            let mut span = Span::below_or_root(parent, trace, protocol.name(), Kind::Server).since(now);
            note(&mut span);
            let call = Call {
                user: presence.user.clone(),
                device: presence.device,
                session: presence.session,
                class,
                deadline,
                trace,
                parent: span.context(),
            };
            let (held, answer) = weight(op, frame_bytes);
            let weight = held + answer;
            let deadline = load.clock.nanos(deadline);
            Plan::Relay(Box::new(Relay { id, terms, weight, held, deadline, call, request, span }))
        }
    }
}

/// What is said of every request that is traced.
fn note(span: &mut Span) {
    span.note("buslane.role", "session-manager");
    span.note("network.transport", "quic");
}

/// The class of what is answered here. It needs no seat: it costs no more than its refusal would.
fn class_here(port: &Port, protocol: Protocol, presence: &Presence) -> Class {
    let load = &port.node.load;
    let class = load.knobs().classes.of(protocol, presence.app_state());
    port.meters.on_request(protocol, class);
    load.census.on(protocol, class, Decision::Admitted);
    class
}

/// What a client that shows that it lives is told: what holds, and passes where it runs out of them.
fn pong(port: &Port, presence: &Presence) -> wire::Pong {
    let (node, now_ms) = (&port.node, unix_ms());
    let in_foreground = presence.app_state() == wire::AppState::Foreground;
    let passes = (in_foreground && presence.takes_passes(now_ms, PASSES_EVERY_MS)).then(|| {
        let class = node.load.knobs().classes.of(Protocol::Resume, presence.app_state());
        passes::make(&node.feed, &node.config.node, class, Asker::of(presence.device), now_ms)
    });
    let posture = node.load.stances.get().posture.into();
    wire::Pong { now_ms, posture, passes: passes.flatten() }
}

/// A refusal as answer to request `id`.
pub(crate) fn refuse(id: u64, refusal: Refusal) -> wire::Answer {
    wire::Answer { id, ..refusal.into() }
}

fn deadline(deadline_ms: u32) -> Duration {
    let ms = if deadline_ms == 0 { DEADLINE_MS_DEFAULT } else { deadline_ms.min(DEADLINE_MS_MAX) };
    Duration::from_millis(ms.into())
}

/// Bytes that a request and its answer may occupy. Estimated from above: it bounds what one client can make us hold.
fn weight(op: &Op, frame_bytes: usize) -> (usize, usize) {
    let (elements, answer) = match op {
        Op::Sync(_) | Op::History(_) => (0, BATCH_BYTES_MAX),
        Op::ListRooms(_) | Op::ListMembers(_) | Op::ListBlocked(_) => (0, PAGE_BYTES),
        Op::Send(send) => (send.mentions.len(), SMALL_ANSWER_BYTES),
        Op::CreateRoom(create) => (create.members.len(), SMALL_ANSWER_BYTES),
        Op::Invite(invite) => (invite.users.len(), SMALL_ANSWER_BYTES),
        Op::Mark(mark) => (mark.cursors.len(), SMALL_ANSWER_BYTES),
        Op::ReadCounts(_) | Op::ListDevices(_) => (0, SMALL_ANSWER_BYTES * 16),
        _ => (0, SMALL_ANSWER_BYTES),
    };
    (frame_bytes + elements * ELEMENT_BYTES, answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use buslane_shared::overload::level::Standing;

    #[test]
    fn a_deadline_has_a_default_and_a_longest() {
        assert_eq!(deadline(0), Duration::from_secs(10));
        assert_eq!(deadline(5), Duration::from_millis(5));
        assert_eq!(deadline(u32::MAX), Duration::from_secs(60));
    }

    #[test]
    fn what_is_small_on_the_wire_and_large_in_memory_is_weighed_as_large() {
        let send = Op::Send(wire::Send { mentions: vec![String::new(); 1_000], ..Default::default() });
        assert!(weight(&send, 2_000).0 > 1_000 * size_of::<String>());
        let mark = Op::Mark(wire::Mark { cursors: vec![wire::Cursor::default(); 1_000] });
        assert!(weight(&mark, 2_000).0 >= 1_000 * size_of::<wire::Cursor>());
        assert!(weight(&Op::Sync(wire::Sync::default()), 20).1 >= BATCH_BYTES_MAX);
    }

    #[test]
    fn only_a_write_may_have_been_applied() {
        let now = Instant::now();
        let level = Level::new(Class::Talk, Standing::of("alice", 0, 0));
        let protocol = Protocol::MessageSend;
        let terms =
            |is_write| Terms { protocol, class: Class::Talk, level, is_write, began: now, deadline: now };
        for is_write in [true, false] {
            let answer = terms(is_write).give_up(7, Code::Deadline);
            let Some(Answered::Refusal(refusal)) = answer.result else { panic!("{answer:?}") };
            assert_eq!((answer.id, refusal.maybe_applied), (7, is_write));
        }
    }
}
