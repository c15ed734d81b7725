//! The app's requests: begun, carried over from the connection before, and given up.
//!
//! One that must not be done twice never goes on to another connection.

use buslane_shared::wire::client_frame;

use crate::core::{Call, Road};

use super::{Awaited, Connection, Purpose};

/// The app's requests without an answer on one connection: well under the server's limit, so that sends always have room.
pub(super) const CALLS_MAX: usize = 64;

impl Connection<'_> {
    pub(super) fn start_call(&mut self, call: Call) {
        if call.reply.is_closed() {
            return;
        }
        let call = match (&self.bulk, call.road) {
            (Some(lane), Road::Bulk) => match lane.put(call) {
                None => return,
                Some(call) => call,
            },
            _ => call,
        };
        self.calls_flying += 1;
        self.ask_server(call.op.clone(), Purpose::Call(call));
    }

    pub(super) fn restart_carried(&mut self) {
        while self.calls_flying < CALLS_MAX
            && self.leaving.is_none()
            && let Some(call) = self.carried.pop_front()
        {
            self.start_call(call);
        }
    }

    pub(super) fn cancel_dropped(&mut self) {
        let dropped = std::mem::take(&mut *self.core.dropped_calls.lock());
        for id in dropped {
            if matches!(self.table.get(&id), Some(Awaited { purpose: Purpose::Call(_), .. })) {
                self.table.remove(&id);
                self.calls_flying = self.calls_flying.saturating_sub(1);
                self.write(client_frame::Kind::Cancel(id));
            }
        }
    }
}
