//! Clients that end their handshake and say nothing.

use std::rc::Rc;
use std::time::Instant;

use buslane_client::raw::Protocol;
use tokio::time::sleep_until;

use super::{Counts, Door, HOLD};
use crate::storm::net::{Net, Turned};
use crate::storm::raw::initial::Speaks;

/// One client after the other in the place `n`, until the task ends.
pub async fn again_and_again(door: Door, n: usize, net: Rc<Net>, from: Instant, counts: Rc<Counts>) {
    let protocol = match door.goal.speaks {
        Speaks::Gate => Protocol::Gate,
        Speaks::Session => Protocol::Session,
    };
    let address = door.goal.addr.to_string();
    sleep_until(from.into()).await;
    loop {
        let began = Instant::now();
        counts.on_opened();
        match net.connect(n, protocol, &address, &door.server_name, None, HOLD).await {
            Ok(connection) => {
                counts.on_held();
                connection.closed().await;
                counts.on_given_up();
            }
            Err(Turned::PutOff { .. } | Turned::Refused { .. }) => counts.on_turned_away(),
            Err(Turned::Silence | Turned::Failed(_)) => {}
        }
        // Whoever is sent away early is not a flood.
        sleep_until((began + HOLD).into()).await;
    }
}
