//! A simulated phone: a device with a key of its own that enrols, enters and opens sessions step by step.
//!
//! It does nothing by itself (no reconnect, no outbox), so that what is measured is exactly what was asked for.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use buslane_client::gate::{Entry, Gate, Right};
use buslane_client::identity::Identity;
use buslane_client::options::CaSource;
use buslane_client::session::{Door, Hello, Session, Token};
use buslane_client::transport::Transport;
use buslane_shared::id::UserId;
use buslane_shared::wire;

use crate::server::Ready;

/// Generous: what is slow is measured, what hangs is an error.
const STEP_LIMIT: Duration = Duration::from_secs(20);

/// A device that holds a ticket.
pub struct Phone {
    /// Its user.
    pub user: UserId,
    ticket: wire::Ticket,
}

impl Phone {
    /// Enrols a new user on a server with open enrolment, and asks for a ticket.
    pub async fn enrol(transport: &Transport, ready: &Ready, user: &str) -> anyhow::Result<Self> {
        let user: UserId = user.parse()?;
        let identity = Identity::generate()?;
        let gate = Gate::connect(transport, &ready.gate).await?;
        let credential = gate.enrol(&identity, &user, "loadtest", Right::Open, STEP_LIMIT).await?;
        let entry = Entry {
            credential: &credential.bytes,
            app_state: wire::AppState::Foreground,
            reason: wire::Reason::Opened,
            slot: Default::default(),
        };
        let ticket = gate.enter(&identity, entry, STEP_LIMIT).await?;
        gate.close();
        Ok(Self { user, ticket })
    }

    /// Opens a session on the foreground port, with the first pass of the ticket: once.
    pub async fn open(&self, transport: &Transport) -> anyhow::Result<Session> {
        let address = self.ticket.addresses.first().context("the ticket names no session manager")?;
        let door = Door {
            address: &address.front,
            server_name: &address.server_name,
            mark: self.ticket.passes.as_ref().and_then(|passes| passes.marks.first().cloned()),
            hello: Hello {
                token: Token::Ticket(self.ticket.ticket.clone()),
                proof_key: &self.ticket.proof_key,
                app_state: wire::AppState::Foreground,
                reason: wire::Reason::Opened,
                slot: Default::default(),
            },
            limit: STEP_LIMIT,
        };
        Ok(Session::open(transport, door).await?)
    }

    /// Bytes of the ticket: what a bare server is sent for comparison.
    pub fn ticket_bytes(&self) -> usize {
        self.ticket.ticket.len()
    }
}

/// A way to servers of the authority in this file.
pub fn transport(ca: &Path) -> anyhow::Result<Transport> {
    Ok(Transport::new(&CaSource::File(ca.to_owned()))?)
}

/// Enrols `count` new users, a few at a time.
pub async fn enrol_many(
    transport: &Transport,
    ready: &Ready,
    prefix: &str,
    count: usize,
) -> anyhow::Result<Vec<Phone>> {
    use futures_util::{StreamExt, TryStreamExt, stream};
    let enrol = |n: usize| async move { Phone::enrol(transport, ready, &format!("{prefix}{n}")).await };
    stream::iter(0..count).map(enrol).buffered(16).try_collect().await
}
