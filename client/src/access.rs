//! Getting in: the credential, the ticket, passes and slots, and one try at a session manager or a gateway with what is at hand.
//!
//! Which port is taken and what is shown there is decided in `way.rs`; here it is done. It must never use a pass twice, and
//! never go to a gateway while what is at hand suffices.

use std::sync::Arc;
use std::time::{Duration, Instant};

use buslane_shared::refusal::Code;
use buslane_shared::wire;
use bytes::Bytes;

use crate::core::Core;
use crate::error::Error;
use crate::gate::{Credential, Entry, Gate, Right};
use crate::options::{AppState, EnrolRight};
use crate::recovery::{Remedy, Stage, remedy};
use crate::session::{Door, Hello, Session, Token};
use crate::slot::Slot;
use crate::transport::Protocol;
use crate::way::{Facts, Port, Show, Way, choose};

/// How long a handshake and a hello may take. Longer than a slow network, shorter than a person's patience.
const DOOR_LIMIT: Duration = Duration::from_secs(6);

/// How long the gateway may take for one request.
const GATE_LIMIT: Duration = Duration::from_secs(10);

/// A gateway that gave no pass, or did not answer, is not asked for one again before this: the other port serves meanwhile.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// A ticket in hand.
pub(crate) struct Ticket {
    pub token: Bytes,
    pub proof_key: Bytes,
    pub until: Instant,
    pub addresses: Vec<wire::Address>,
}

/// A failure and where it happened.
pub(crate) struct Failure {
    pub error: Error,
    pub stage: Stage,
}

impl Failure {
    fn at(stage: Stage) -> impl Fn(Error) -> Self {
        move |error| Self { error, stage }
    }
}

/// An open session and where it is.
pub(crate) struct Opened {
    pub session: Session,
    pub address: wire::Address,
    pub port: Port,
    pub proof_key: Bytes,
    pub app_state: AppState,
    pub seen: u64,
}

/// How to be let in at one session manager.
#[derive(Clone)]
pub(crate) struct Key {
    pub address: wire::Address,
    pub token: Token,
    pub proof_key: Bytes,
    pub seen: u64,
}

/// What gets a client in.
pub(crate) struct Access {
    core: Arc<Core>,
    credential: Option<Credential>,
    pub ticket: Option<Ticket>,
    slot: Option<Slot>,
    /// The foreground port was silent to the last pass that was shown there.
    front_is_silent: bool,
    /// When a gateway was last asked for an app that somebody looks at.
    asked_at: Option<Instant>,
    /// There was a session before.
    pub was_up: bool,
}

impl Access {
    pub fn new(core: Arc<Core>, credential: Option<Credential>) -> Self {
        Self {
            core,
            credential,
            ticket: None,
            slot: None,
            front_is_silent: false,
            asked_at: None,
            was_up: false,
        }
    }

    /// The enrolment is not valid any more.
    pub fn forget_credential(&mut self) {
        self.credential = None;
    }

    /// A try was refused: keeps the slot that came with it, or lets go of one that is worth nothing.
    pub fn on_refused(&mut self, error: &Error) {
        let now = Instant::now();
        if let Error::Refused(refused) = error {
            match Slot::of(refused, now) {
                Some(slot) => self.slot = Some(slot),
                None if refused.code == Code::BadSlot => self.slot = None,
                None => {}
            }
        }
        self.slot = self.slot.take().filter(|slot| !slot.is_over(now));
    }

    /// One try at one session manager. A gateway is asked for passes first where they are needed.
    pub async fn knock(&mut self, key: &Key) -> Result<Opened, Error> {
        loop {
            let app_state = *self.core.app_state.lock();
            match choose(self.facts(app_state)) {
                Way::Go(port, show) => return self.go(key, app_state, port, show).await,
                Way::AskForPasses => self.ask_for_passes().await?,
            }
        }
    }

    fn may_ask(&self, now: Instant) -> bool {
        self.asked_at.is_none_or(|at| now >= at + ASK_AGAIN_AFTER)
    }

    fn facts(&self, app_state: AppState) -> Facts {
        let now = Instant::now();
        let passes = self.core.passes.lock();
        let has = |port| passes.has(port, now);
        Facts {
            looked_at: app_state == AppState::Foreground,
            passes_known: passes.is_known(),
            front_pass: has(Port::Front),
            wake_pass: has(Port::Wake),
            slot: self.slot.as_ref().is_some_and(|slot| slot.due(now).is_some()),
            may_ask: self.may_ask(now),
            front_is_silent: self.front_is_silent,
        }
    }

    async fn go(&mut self, key: &Key, app_state: AppState, port: Port, show: Show) -> Result<Opened, Error> {
        let now = Instant::now();
        let slot = self.slot.take_if(|_| show == Show::Slot).and_then(|slot| slot.due(now));
        let mark = match show {
            Show::Nothing => None,
            Show::Pass => self.core.passes.lock().take(port, Some(&key.address.server_name), now),
            Show::Slot => slot.clone(),
        };
        let door = Door {
            address: match port {
                Port::Front => &key.address.front,
                Port::Wake => &key.address.wake,
            },
            server_name: &key.address.server_name,
            mark,
            hello: self.hello(key, app_state, slot.unwrap_or_default()),
            limit: DOOR_LIMIT,
        };
        let opened = Session::open(&self.core.transport, door).await;
        let silent = matches!(opened, Err(Error::Unreachable { .. }));
        self.front_is_silent = port == Port::Front && show == Show::Pass && silent;
        let session = opened?;
        let (address, proof_key) = (key.address.clone(), key.proof_key.clone());
        Ok(Opened { session, address, port, proof_key, app_state, seen: key.seen })
    }

    /// Goes on with a session over a connection to the foreground port that is there already.
    pub async fn go_on(&self, key: &Key, connection: quinn::Connection) -> Result<Opened, Error> {
        let app_state = *self.core.app_state.lock();
        let hello = self.hello(key, app_state, Bytes::new());
        let session = Session::greet(connection, hello, DOOR_LIMIT).await?;
        let (address, proof_key) = (key.address.clone(), key.proof_key.clone());
        Ok(Opened { session, address, port: Port::Front, proof_key, app_state, seen: key.seen })
    }

    /// A connection to the foreground port, for a session that is on the other one: nothing is said on it yet. `None`: there
    /// is no pass to be had.
    pub async fn reach_front(&mut self, address: &wire::Address) -> Result<Option<quinn::Connection>, Error> {
        let at_hand =
            |core: &Core| core.passes.lock().take(Port::Front, Some(&address.server_name), Instant::now());
        let mut mark = at_hand(&self.core);
        if mark.is_none() && self.may_ask(Instant::now()) {
            self.fetch_ticket().await.map_err(|failure| failure.error)?;
            mark = at_hand(&self.core);
        }
        let Some(mark) = mark else { return Ok(None) };
        let transport = self.core.transport.clone();
        let connecting =
            transport.connect_with_mark(Protocol::Session, &address.front, &address.server_name, Some(&mark));
        connecting.await.map(Some)
    }

    fn hello<'a>(&self, key: &'a Key, app_state: AppState, slot: Bytes) -> Hello<'a> {
        Hello {
            token: key.token.clone(),
            proof_key: &key.proof_key,
            app_state: app_state.into(),
            reason: self.why(app_state),
            slot,
        }
    }

    fn why(&self, app_state: AppState) -> wire::Reason {
        match app_state {
            _ if self.was_up => wire::Reason::Reconnecting,
            AppState::Foreground => wire::Reason::Opened,
            AppState::Background => wire::Reason::Woken,
        }
    }

    // ---- the gateway ----

    /// Asks for passes; a gateway that is away or busy gives none, and the way without is taken.
    async fn ask_for_passes(&mut self) -> Result<(), Error> {
        match self.fetch_ticket().await {
            Err(failure) if remedy(&failure.error, failure.stage) != Remedy::Wait => Err(failure.error),
            Err(failure) => {
                tracing::debug!(error = %failure.error, "no passes");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Asks the gateways in turn for a ticket, and keeps it.
    pub async fn fetch_ticket(&mut self) -> Result<(), Failure> {
        if *self.core.app_state.lock() == AppState::Foreground {
            self.asked_at = Some(Instant::now());
        }
        let gates = self.core.options.gates.clone();
        let mut last = Failure { error: Error::unreachable("no gateway is named"), stage: Stage::Enter };
        for address in gates {
            match self.fetch_ticket_at(&address).await {
                Ok(ticket) => {
                    self.ticket = Some(ticket);
                    return Ok(());
                }
                Err(failure) => {
                    // What one gateway refuses for good, all do; and what it names a slot for is not asked elsewhere.
                    let next =
                        remedy(&failure.error, failure.stage) == Remedy::Wait && !has_slot(&failure.error);
                    last = failure;
                    if !next {
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    async fn fetch_ticket_at(&mut self, address: &str) -> Result<Ticket, Failure> {
        let core = self.core.clone();
        let app_state = *core.app_state.lock();
        let slot = self.slot_for_gate(app_state);
        let mark = slot.clone().or_else(|| self.pass_for_gate(app_state));
        let gate = Gate::connect_with_mark(&core.transport, address, mark.as_deref())
            .await
            .map_err(Failure::at(Stage::Enter))?;
        let credential = match &self.credential {
            Some(credential) => credential.bytes.clone(),
            None => {
                let credential = self.enrol(&gate).await.map_err(Failure::at(Stage::Enrol))?;
                self.core.store.keep_credential(&credential);
                let bytes = credential.bytes.clone();
                self.credential = Some(credential);
                bytes
            }
        };
        let entry = Entry {
            credential: &credential,
            app_state: app_state.into(),
            reason: self.why(app_state),
            slot: slot.unwrap_or_default(),
        };
        let granted =
            gate.enter(&core.identity, entry, GATE_LIMIT).await.map_err(Failure::at(Stage::Enter))?;
        gate.close();
        let now = Instant::now();
        if let Some(passes) = &granted.passes {
            core.passes.lock().take_in(passes, None, now);
        }
        if !granted.credential.is_empty() {
            let renewed = Credential { bytes: granted.credential, expires_ms: granted.credential_expires_ms };
            self.core.store.keep_credential(&renewed);
            self.credential = Some(renewed);
        }
        Ok(Ticket {
            token: granted.ticket,
            proof_key: granted.proof_key,
            until: now + Duration::from_millis(u64::from(granted.valid_ms)),
            addresses: granted.addresses,
        })
    }

    /// The slot, if its time is now. It is kept: the session manager behind the gateway wants to see it too.
    fn slot_for_gate(&self, app_state: AppState) -> Option<Bytes> {
        let slot = self.slot.as_ref().filter(|_| app_state == AppState::Background)?;
        slot.due(Instant::now())
    }

    fn pass_for_gate(&self, app_state: AppState) -> Option<Bytes> {
        let port = match app_state {
            AppState::Foreground => Port::Front,
            AppState::Background => Port::Wake,
        };
        self.core.passes.lock().take(port, None, Instant::now())
    }

    async fn enrol(&self, gate: &Gate) -> Result<Credential, Error> {
        let core = &self.core;
        let right = match &core.options.enrol {
            EnrolRight::Enrolled => return Err(Error::NotEnrolled),
            EnrolRight::Open => Right::Open,
            EnrolRight::Code(code) => Right::Code(code.clone()),
            EnrolRight::Token(provider) => {
                let token = provider.token().await;
                Right::Jwt(token.map_err(|detail| Error::NoToken { detail })?)
            }
        };
        gate.enrol(&core.identity, &core.options.user, &core.options.device_name, right, GATE_LIMIT).await
    }
}

/// Whether a refusal promises a place: then its time is waited for, and nobody else is asked meanwhile.
pub(crate) fn has_slot(error: &Error) -> bool {
    matches!(error, Error::Refused(refused) if refused.busy.as_ref().is_some_and(|busy| busy.has_slot()))
}
