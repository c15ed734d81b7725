//! One request: which protocol and class it is, until when it is wanted, and whether it is answered here.
//!
//! Why it exists: both kinds of streams treat a request alike. What a session manager knows by itself it answers itself;
//! everything else is relayed. It must never change the meaning of a request, and never start one whose answer nobody waits for.

use std::time::Duration;

use buslane_chassis::api::{Backend, Call};
use buslane_chassis::clock::unix_ms;
use buslane_shared::class::{Class, Classes, Protocol, is_write};
use buslane_shared::limits::{BATCH_BYTES_MAX, DEADLINE_MS_DEFAULT, DEADLINE_MS_MAX};
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::wire::{self, answer::Result as Outcome, request::Op};
use tokio::time::Instant;

use crate::node::Port;
use crate::presence::Presence;

/// What an answer of one message or less costs while it waits to be written.
const SMALL_ANSWER_BYTES: usize = 512;

/// What a page of rooms or members costs: a thousand of a hundred bytes.
const PAGE_BYTES: usize = 128 * 1024;

/// What one element of a repeated field costs in memory beyond its bytes on the wire.
const ELEMENT_BYTES: usize = 48;

/// What to do with a request.
pub(crate) enum Plan {
    /// Here is the answer.
    Answer(wire::Answer),
    /// Ask the backend.
    Relay(Box<Relay>),
}

/// A request on its way to the backend.
pub(crate) struct Relay {
    pub(crate) id: u64,
    pub(crate) terms: Terms,
    /// Bytes that it and its answer may occupy.
    pub(crate) weight: usize,
    call: Call,
    request: wire::Request,
}

/// What is remembered of a request until its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) class: Class,
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
    /// Asks the backend.
    pub(crate) async fn run(self, backend: Backend) -> wire::Answer {
        backend.relay(self.call, self.request).await
    }
}

/// Decides about a request that took `frame_bytes` on the wire.
pub(crate) fn plan(
    port: &Port,
    presence: &Presence,
    request: wire::Request,
    frame_bytes: usize,
    now: Instant,
) -> Plan {
    let id = request.id;
    let Some(op) = &request.op else {
        port.meters.on_refusal("request", Code::Unsupported);
        return Plan::Answer(refuse(id, Refusal::of(Code::Unsupported)));
    };
    let protocol = Protocol::of(op);
    let class = Classes::default().of(protocol, presence.app_state());
    port.meters.on_request(protocol, class);
    match op {
        Op::Ping(_) => {
            let pong = wire::Pong { now_ms: unix_ms(), ..Default::default() };
            Plan::Answer(wire::Answer { id, result: Some(Outcome::Pong(pong)) })
        }
        Op::SetAppState(set) => {
            presence.set_app_state(set.state());
            Plan::Answer(wire::Answer { id, result: Some(Outcome::Done(wire::Done {})) })
        }
        _ => {
            let deadline = now + deadline(request.deadline_ms);
            let terms = Terms { class, is_write: is_write(op), began: now, deadline };
            let call = Call {
                user: presence.user.clone(),
                device: presence.device,
                session: presence.session,
                class,
                deadline,
                trace: rand::random(),
            };
            let weight = weight(op, frame_bytes);
            Plan::Relay(Box::new(Relay { id, terms, weight, call, request }))
        }
    }
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
fn weight(op: &Op, frame_bytes: usize) -> usize {
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
    frame_bytes + elements * ELEMENT_BYTES + answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_has_a_default_and_a_longest() {
        assert_eq!(deadline(0), Duration::from_secs(10));
        assert_eq!(deadline(5), Duration::from_millis(5));
        assert_eq!(deadline(u32::MAX), Duration::from_secs(60));
    }

    #[test]
    fn what_is_small_on_the_wire_and_large_in_memory_is_weighed_as_large() {
        let send = Op::Send(wire::Send { mentions: vec![String::new(); 1_000], ..Default::default() });
        assert!(weight(&send, 2_000) > 1_000 * size_of::<String>());
        let mark = Op::Mark(wire::Mark { cursors: vec![wire::Cursor::default(); 1_000] });
        assert!(weight(&mark, 2_000) >= 1_000 * size_of::<wire::Cursor>());
        assert!(weight(&Op::Sync(wire::Sync::default()), 20) >= BATCH_BYTES_MAX);
    }

    #[test]
    fn only_a_write_may_have_been_applied() {
        let now = Instant::now();
        let terms = |is_write| Terms { class: Class::Talk, is_write, began: now, deadline: now };
        for is_write in [true, false] {
            let answer = terms(is_write).give_up(7, Code::Deadline);
            let Some(Outcome::Refusal(refusal)) = answer.result else { panic!("{answer:?}") };
            assert_eq!((answer.id, refusal.maybe_applied), (7, is_write));
        }
    }
}
