//! Keeps a session up: gets in, runs it, judges why it ended, waits as long as it must, and gets in again.
//!
//! The resume token comes first, then the ticket, then the gateway: each step is dearer for the servers than the one
//! before. Whatever a server says about time is obeyed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use buslane_shared::backoff::Backoff;
use buslane_shared::id::SessionId;
use buslane_shared::wire;
use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::mpsc;

use crate::connection::{Connection, End};
use crate::core::{Call, Core, unix_ms};
use crate::error::{Error, millis};
use crate::gate::{Credential, Gate, Right};
use crate::inbox::Inbox;
use crate::options::{AppState, EnrolRight};
use crate::recovery::{Remedy, Stage, remedy};
use crate::session::{Door, Session, Token};
use crate::state::{CloseReason, Happening};

/// How long a handshake and a hello may take. Longer than a slow network, shorter than a person's patience.
const DOOR_LIMIT: Duration = Duration::from_secs(6);

/// How long the gateway may take for one request.
const GATE_LIMIT: Duration = Duration::from_secs(10);

/// Failed tries to resume at an unreachable manager, after which the ticket's other managers are tried.
const RESUME_TRIES: u32 = 3;

/// How long a server holds a session whose connection is lost, as the protocol says. The token is good for longer: it then
/// opens a new session without the gateway.
const RESUME_WINDOW: Duration = Duration::from_secs(30);

/// A ticket in hand.
struct Ticket {
    token: Bytes,
    proof_key: Bytes,
    until: Instant,
    addresses: Vec<wire::Address>,
}

/// A session that the server may still hold.
struct Resume {
    token: Bytes,
    proof_key: Bytes,
    seen: u64,
    /// The token is good until then.
    until: Instant,
    /// The session is held until then.
    held_until: Instant,
    address: wire::Address,
    tries: u32,
}

/// A failure and where it happened.
struct Failure {
    error: Error,
    stage: Stage,
}

impl Failure {
    fn at(stage: Stage) -> impl Fn(Error) -> Self {
        move |error| Self { error, stage }
    }
}

/// An open session and what is needed to continue it.
struct Opened {
    session: Session,
    address: wire::Address,
    proof_key: Bytes,
    app_state: AppState,
    seen: u64,
}

/// The task behind a client.
pub(crate) struct Supervisor {
    core: Arc<Core>,
    calls: mpsc::Receiver<Call>,
    carried: VecDeque<Call>,
    inbox: Inbox,
    backoff: Backoff,
    credential: Option<Credential>,
    ticket: Option<Ticket>,
    resume: Option<Resume>,
    was_up: bool,
}

impl Supervisor {
    pub fn new(
        core: Arc<Core>,
        calls: mpsc::Receiver<Call>,
        inbox: Inbox,
        credential: Option<Credential>,
    ) -> Self {
        let backoff = Backoff::new(core.options.reconnect);
        Self {
            core,
            calls,
            carried: VecDeque::new(),
            inbox,
            backoff,
            credential,
            ticket: None,
            resume: None,
            was_up: false,
        }
    }

    /// Runs until the client is closed, by the app or by a refusal that nothing heals.
    pub async fn run(mut self) {
        self.core.happen(Happening::Began);
        let mut attempt = 1;
        let reason = loop {
            let core = self.core.clone();
            let tried = tokio::select! {
                tried = Box::pin(self.open()) => tried,
                () = core.shutdown.cancelled() => break CloseReason::ByApp,
            };
            let (failure, retry_after) = match tried {
                Ok(opened) => {
                    attempt = 0;
                    let end = Box::pin(self.serve(opened)).await;
                    if end.for_good {
                        break for_good(end.cause);
                    }
                    (Failure { error: end.cause, stage: Stage::Session }, end.retry_after)
                }
                Err(failure) => {
                    let retry_after = failure.error.retry_after();
                    (failure, retry_after)
                }
            };
            if let Some(reason) = self.apply(&failure) {
                break reason;
            }
            attempt += 1;
            if !self.wait(attempt, failure.error, retry_after).await {
                break CloseReason::ByApp;
            }
        };
        self.end(reason);
    }

    /// Prepares what the next try needs; a reason if there is to be none.
    fn apply(&mut self, failure: &Failure) -> Option<CloseReason> {
        match remedy(&failure.error, failure.stage) {
            Remedy::Wait => None,
            Remedy::NewTicket => {
                self.ticket = None;
                self.forget_session();
                None
            }
            Remedy::NewCredential => {
                self.ticket = None;
                self.forget_session();
                match (&self.core.options.enrol, &failure.error) {
                    // The app can always fetch a fresh token; a code or an open door serves once.
                    (EnrolRight::Token(_), _) => {
                        self.credential = None;
                        None
                    }
                    (_, Error::Refused(refused)) => Some(CloseReason::Refused(refused.clone())),
                    (_, other) => Some(CloseReason::Failed(other.clone())),
                }
            }
            Remedy::GiveUp(reason) => Some(reason),
        }
    }

    /// Waits for the next try; false: the client is being closed.
    async fn wait(&mut self, attempt: u32, cause: Error, retry_after: Option<Duration>) -> bool {
        let next_in = self.backoff.next_wait(retry_after, rand::random());
        tracing::debug!(attempt, ?next_in, %cause, "no session");
        self.core.happen(Happening::Failed { attempt, next_in, cause });
        // A hint from before this failure is no reason to skip its wait: all clients would come back at once.
        let _ = self.core.hurry.notified().now_or_never();
        let until = tokio::time::sleep(next_in);
        tokio::pin!(until);
        let mut lapsed = false;
        loop {
            let lapse = self.resume.as_ref().map(|r| r.held_until).filter(|_| !lapsed);
            let lapsing = async {
                match lapse {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut until => break,
                () = self.core.hurry.notified(), if retry_after.is_none() => break,
                () = self.core.shutdown.cancelled() => return false,
                () = lapsing => {
                    lapsed = true;
                    self.core.happen(Happening::Lapsed { now_ms: unix_ms() });
                }
            }
        }
        true
    }

    /// The server no longer holds the session, or is not asked to any more.
    fn forget_session(&mut self) {
        self.resume = None;
        self.core.happen(Happening::Lapsed { now_ms: unix_ms() });
    }

    fn end(mut self, reason: CloseReason) {
        tracing::debug!(?reason, "the client is closed");
        let error = reason.error();
        self.core.happen(Happening::Ended(reason));
        self.calls.close();
        while let Ok(call) = self.calls.try_recv() {
            let _ = call.reply.send(Err(error.clone()));
        }
        for call in self.carried.drain(..) {
            let _ = call.reply.send(Err(error.clone()));
        }
        self.core.outbox.lock().fail_waits(&error);
        self.core.events.close();
    }

    // ---- a session ----

    async fn serve(&mut self, opened: Opened) -> End {
        let Opened { session, address, proof_key, app_state, seen } = opened;
        let welcome = &session.welcome;
        let session_id = SessionId::try_from(&welcome.session).unwrap_or(SessionId::from_bytes([0; 16]));
        let (resumed, resume, valid_ms) = (welcome.resumed, welcome.resume.clone(), welcome.resume_valid_ms);
        self.core.happen(Happening::Up { session: session_id, resumed, now_ms: unix_ms() });
        tracing::debug!(session = %session_id, resumed, "session is up");
        self.was_up = true;
        let began = Instant::now();
        let connection = Connection::new(
            &self.core,
            &mut self.inbox,
            &mut self.calls,
            &mut self.carried,
            session,
            app_state,
            if resumed { seen } else { 0 },
        );
        let (end, seen) = connection.run().await;
        self.backoff.on_session_end(began.elapsed());
        self.resume = millis(valid_ms).filter(|_| !resume.is_empty()).map(|valid| Resume {
            token: resume,
            proof_key,
            seen,
            until: began + valid,
            held_until: Instant::now() + valid.min(RESUME_WINDOW),
            address,
            tries: 0,
        });
        end
    }

    // ---- getting in ----

    async fn open(&mut self) -> Result<Opened, Failure> {
        if let Some(opened) = self.open_by_resume().await? {
            return Ok(opened);
        }
        let held = self.ticket.as_ref().is_some_and(|t| t.until > Instant::now());
        if held {
            match self.open_by_ticket().await {
                // The ticket is not wanted there any more; a fresh one may be.
                Err(failure) if remedy(&failure.error, failure.stage) == Remedy::NewTicket => {
                    self.ticket = None
                }
                other => return other,
            }
        }
        let ticket = self.fetch_ticket().await?;
        self.ticket = Some(ticket);
        self.open_by_ticket().await
    }

    /// Continues the session, if there is one to continue. `None`: there is not, go on with the ticket.
    async fn open_by_resume(&mut self) -> Result<Option<Opened>, Failure> {
        let Some(resume) = &mut self.resume else { return Ok(None) };
        if resume.until <= Instant::now() || resume.tries >= RESUME_TRIES {
            self.forget_session();
            return Ok(None);
        }
        resume.tries += 1;
        let token = Token::Resume { token: resume.token.clone(), seen: resume.seen };
        let (address, proof_key, seen) = (resume.address.clone(), resume.proof_key.clone(), resume.seen);
        match self.knock(&address, token, &proof_key, seen).await {
            Ok(opened) => Ok(Some(opened)),
            Err(error) => match remedy(&error, Stage::Session) {
                Remedy::NewTicket => {
                    self.forget_session();
                    Ok(None)
                }
                _ => Err(Failure { error, stage: Stage::Session }),
            },
        }
    }

    async fn open_by_ticket(&mut self) -> Result<Opened, Failure> {
        let Some(ticket) = &self.ticket else {
            return Err(Failure { error: Error::protocol("no ticket"), stage: Stage::Session });
        };
        let (token, proof_key) = (ticket.token.clone(), ticket.proof_key.clone());
        let mut last = Error::unreachable("the ticket names no session manager");
        for address in ticket.addresses.clone() {
            match self.knock(&address, Token::Ticket(token.clone()), &proof_key, 0).await {
                Ok(opened) => return Ok(opened),
                Err(error) => {
                    let next = matches!(remedy(&error, Stage::Session), Remedy::Wait);
                    last = error;
                    if !next {
                        break;
                    }
                }
            }
        }
        Err(Failure { error: last, stage: Stage::Session })
    }

    async fn knock(
        &self,
        address: &wire::Address,
        token: Token,
        proof_key: &Bytes,
        seen: u64,
    ) -> Result<Opened, Error> {
        let app_state = *self.core.app_state.lock();
        let port = match app_state {
            AppState::Foreground => &address.front,
            AppState::Background => &address.wake,
        };
        let door = Door {
            address: port,
            server_name: &address.server_name,
            token,
            proof_key,
            app_state: app_state.into(),
            reason: self.why(app_state),
            limit: DOOR_LIMIT,
        };
        let session = Session::open(&self.core.transport, door).await?;
        Ok(Opened { session, address: address.clone(), proof_key: proof_key.clone(), app_state, seen })
    }

    fn why(&self, app_state: AppState) -> wire::Reason {
        match app_state {
            _ if self.was_up => wire::Reason::Reconnecting,
            AppState::Foreground => wire::Reason::Opened,
            AppState::Background => wire::Reason::Woken,
        }
    }

    // ---- the gateway ----

    /// Asks the gateways in turn for a ticket.
    async fn fetch_ticket(&mut self) -> Result<Ticket, Failure> {
        let gates = self.core.options.gates.clone();
        let mut last = Failure { error: Error::unreachable("no gateway is named"), stage: Stage::Enter };
        for address in gates {
            match self.fetch_ticket_at(&address).await {
                Ok(ticket) => return Ok(ticket),
                Err(failure) => {
                    // What one gateway refuses for good, all do.
                    let next = remedy(&failure.error, failure.stage) == Remedy::Wait;
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
        let gate = Gate::connect(&core.transport, address).await.map_err(Failure::at(Stage::Enter))?;
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
        let app_state = *core.app_state.lock();
        let asked =
            gate.enter(&core.identity, &credential, app_state.into(), self.why(app_state), GATE_LIMIT);
        let granted = asked.await.map_err(Failure::at(Stage::Enter))?;
        gate.close();
        if !granted.credential.is_empty() {
            let renewed = Credential { bytes: granted.credential, expires_ms: granted.credential_expires_ms };
            self.core.store.keep_credential(&renewed);
            self.credential = Some(renewed);
        }
        Ok(Ticket {
            token: granted.ticket,
            proof_key: granted.proof_key,
            until: Instant::now() + Duration::from_millis(u64::from(granted.valid_ms)),
            addresses: granted.addresses,
        })
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

fn for_good(cause: Error) -> CloseReason {
    match cause {
        Error::Closed => CloseReason::ByApp,
        Error::Refused(refused) => CloseReason::Refused(refused),
        other => CloseReason::Failed(other),
    }
}
