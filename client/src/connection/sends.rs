//! Messages of the outbox on their way, and what the server answers to them.
//!
//! A message leaves the outbox with its receipt or with the app's word, never because a connection ended.

use std::time::{Duration, Instant};

use buslane_shared::backoff::{Policy, wait_after};
use buslane_shared::refusal::Code;
use buslane_shared::wire::{self, answer, request::Op};

use crate::error::Refused;
use crate::outbox::SendState;
use crate::pending::AfterRefusal;
use crate::types::{Content, Message, Receipt};

use super::{Connection, Purpose};

/// Bytes encoded and not written: some flights of messages. Beyond it nothing more is taken out of the outbox.
const OUT_BYTES_MAX: usize = 256 * 1024;

/// Waits of a message that the server refuses for a time without naming one.
const SEND_RETRY: Policy = Policy {
    base: Duration::from_millis(500),
    cap: Duration::from_secs(60),
    quick: Duration::from_millis(500),
    settle: Duration::from_secs(5),
};

impl Connection<'_> {
    pub(super) fn send_from_outbox(&mut self, now: Instant) {
        // One lock for a whole flight.
        let core = self.core;
        let mut outbox = core.outbox.lock();
        while self.out.len() < OUT_BYTES_MAX && outbox.in_flight() < self.in_flight_max {
            let Some((ordinal, send)) = outbox.next(now) else { break };
            self.ask_server(Op::Send(send), Purpose::Send { ordinal });
        }
    }

    pub(super) fn on_send_answer(&mut self, ordinal: u64, result: Option<answer::Result>) {
        match result {
            Some(answer::Result::Receipt(receipt)) => self.on_receipt(ordinal, &receipt),
            Some(answer::Result::Refusal(refusal)) => self.on_send_refused(ordinal, &refusal.into()),
            _ => {
                self.on_send_refused(ordinal, &Refused { maybe_applied: true, ..Refused::of(Code::Internal) })
            }
        }
    }

    fn on_receipt(&mut self, ordinal: u64, receipt: &wire::Receipt) {
        let Some(done) = self.core.outbox.lock().sent(ordinal) else { return };
        self.core.store.forget_send(ordinal);
        let told = Receipt {
            room: done.room,
            seq: receipt.seq,
            client_id: done.client_id,
            sent_at_ms: receipt.sent_at_ms,
            duplicate: receipt.duplicate,
        };
        if let Some(reply) = done.reply {
            let _ = reply.send(Ok(told));
        }
        self.core.sent.lock().on_sent(done.room, receipt.seq, done.client_id);
        self.core.on_send_state(done.client_id, done.room, SendState::Sent { seq: receipt.seq });
        // The server does not deliver it to the device that sent it, so its place in the room is filled from here.
        let own = Message {
            room: done.room,
            seq: receipt.seq,
            sender: self.core.options.user.clone(),
            client_id: done.client_id,
            sent_at_ms: receipt.sent_at_ms,
            mentions: done.send.mentions,
            content: Content::Body(done.send.body),
            notify: false,
        };
        let space = self.core.events.space();
        self.inbox.on_message(own, space, Instant::now(), &mut self.scratch);
        self.core.events.put_messages(&mut self.scratch);
    }

    fn on_send_refused(&mut self, ordinal: u64, refused: &Refused) {
        let (after, reply, entry) = {
            let mut outbox = self.core.outbox.lock();
            let wait = wait_after(&SEND_RETRY, outbox.refusals(ordinal), refused.retry_after, rand::random());
            let after = outbox.refused(ordinal, refused, wait, Instant::now());
            let reply = if after == AfterRefusal::Failed { outbox.take_reply(ordinal) } else { None };
            (after, reply, outbox.entry(ordinal).map(|(room, id, send)| (room, id, send.clone())))
        };
        let Some((room, client_id, send)) = entry else { return };
        tracing::debug!(%room, %client_id, code = refused.code.name(), ?after, "a message was refused");
        let state = match after {
            AfterRefusal::Failed => {
                self.core.store.keep_send(ordinal, &send, Some(refused));
                SendState::Failed { reason: refused.clone() }
            }
            AfterRefusal::Again => SendState::Pending,
            AfterRefusal::Unknown => return,
        };
        self.core.on_send_state(client_id, room, state);
        if let Some(reply) = reply {
            let _ = reply.send(Err(refused.clone().into()));
        }
    }
}
