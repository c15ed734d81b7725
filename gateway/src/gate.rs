//! What every request at the gate is answered with: the backend, the feed, the limits, the identity provider.
//!
//! Why it exists: the gateway has no state of its own beyond what these hold, and all of it can be lost without harm. It
//! must never learn anything about a user that a ticket or the backend does not carry.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use buslane_chassis::api::Backend;
use buslane_chassis::feed::Feed;
use buslane_chassis::oversee::Refusals;
use buslane_shared::id::UserId;
use buslane_shared::proof::EXPORTER_BYTES;
use buslane_shared::refusal::{Code, Refusal};

use crate::arrival::{Arrival, Spent};
use crate::config::{Config, Enrolment};
use crate::jwt::JwtCheck;
use crate::limits::{Buckets, Caller, too_often};
use crate::managers::Managers;
use crate::offenders::{Offenders, Standing};

/// The other end of one connection. Its address is validated: the handshake has ended.
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Who is charged for what he asks.
    pub caller: Caller,
    /// What he showed in his first packet.
    pub arrival: Arrival,
    /// What only the two ends of this connection know.
    pub exporter: [u8; EXPORTER_BYTES],
}

/// Everything that answers requests.
pub struct Gate {
    /// Who may enrol.
    pub enrolment: Enrolment,
    /// Life of a ticket.
    pub ticket_life_ms: u64,
    /// Registers devices.
    pub backend: Backend,
    /// Keys, session managers, revocations.
    pub feed: Arc<Feed>,
    /// Checks tokens of the identity provider, where one is configured.
    pub jwt: Option<JwtCheck>,
    /// Connections and requests of one address.
    pub by_address: Buckets<Caller>,
    /// Tickets of one user for the foreground, charged after the proof: nobody can use up the share of another.
    pub tickets_by_user: Buckets<UserId>,
    /// The same for the background.
    pub background_by_user: Buckets<UserId>,
    /// How often a user may say that somebody looks.
    pub claims_by_user: Buckets<UserId>,
    /// Enrolments tried under one name. Apart from the tickets, because here anybody can name anybody.
    pub enrols_by_name: Buckets<UserId>,
    /// Addresses that are held off.
    pub offenders: Offenders<Caller>,
    /// Passes and slots that were used here.
    pub spent: Spent,
    /// Passes that come with a ticket.
    pub passes_per_batch: u32,
    /// Devices that got no ticket lately, for operators.
    pub refusals: Arc<Refusals>,
    /// The session managers, and the slots that are given out for them.
    pub managers: Managers,
}

/// Why a request is not even read.
pub enum Unheard {
    /// With this answer.
    Refused(Refusal),
    /// Without an answer.
    Silenced,
}

impl Gate {
    /// A gate by these settings.
    pub fn new(config: &Config, backend: Backend, feed: Arc<Feed>, jwt: Option<JwtCheck>) -> Self {
        let limits = &config.limits;
        Self {
            enrolment: config.enrolment,
            ticket_life_ms: u64::from(config.ticket_life_s) * 1_000,
            backend,
            feed,
            jwt,
            by_address: Buckets::new(limits.address),
            tickets_by_user: Buckets::new(limits.user),
            background_by_user: Buckets::new(limits.user_background),
            claims_by_user: Buckets::new(limits.claims),
            enrols_by_name: Buckets::new(limits.enrol_name),
            offenders: Offenders::new(limits.failures, Duration::from_secs(limits.hold_s.into())),
            spent: Spent::default(),
            passes_per_batch: config.passes.batch,
            refusals: Arc::default(),
            managers: Managers::new(config.slots),
        }
    }

    /// A handshake has ended. What exceeds the address's rate is refused at its first request, with the time to return. It
    /// counts as an answer already, or somebody who opens connections and asks nothing would never meet silence, and could
    /// hold all places there are.
    pub fn on_connection(&self, caller: Caller, now: Instant) {
        if let Err(wait) = self.by_address.take(&caller) {
            self.offenders.on_excess(caller, wait, now);
            self.offenders.on_request(caller, now);
        }
    }

    /// Whether a request from this address is heard at all.
    pub fn admit(&self, caller: Caller, now: Instant) -> Result<(), Unheard> {
        let refused = |wait| Unheard::Refused(too_often("from this address", wait));
        match self.offenders.on_request(caller, now) {
            Standing::Silenced => return Err(Unheard::Silenced),
            Standing::Held(wait) => return Err(refused(wait)),
            Standing::Welcome => {}
        }
        self.by_address.take(&caller).map_err(|wait| {
            self.offenders.on_excess(caller, wait, now);
            refused(wait)
        })
    }

    /// A request was refused: is it what a guesser or a fuzzer would have sent?
    pub fn on_refused(&self, caller: Caller, code: Code, now: Instant) {
        let abnormal = matches!(
            code,
            Code::BadProof
                | Code::BadCode
                | Code::BadToken
                | Code::BadCredential
                | Code::Malformed
                | Code::TooLarge
        );
        if abnormal {
            self.offenders.on_failure(caller, now);
        }
    }

    /// Gives back the memory of what is over.
    pub fn sweep(&self, now: Instant) {
        self.by_address.sweep();
        self.tickets_by_user.sweep();
        self.background_by_user.sweep();
        self.claims_by_user.sweep();
        self.managers.sweep();
        self.enrols_by_name.sweep();
        self.offenders.sweep(now);
    }
}
