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

use crate::access::{Access, Failure, Key, Opened, has_slot};
use crate::connection::{Connection, End, Outcome, Terms};
use crate::core::{Call, Core, unix_ms};
use crate::error::{Error, millis};
use crate::gate::Credential;
use crate::inbox::Inbox;
use crate::options::{AppState, EnrolRight};
use crate::promotion::promote;
use crate::recovery::{Remedy, Stage, remedy};
use crate::session::Token;
use crate::state::{CloseReason, Happening};

/// Failed tries to resume at an unreachable manager, after which the ticket's other managers are tried.
const RESUME_TRIES: u32 = 3;

/// How long a server holds a session whose connection is lost, as the protocol says. The token is good for longer: it then
/// opens a new session without the gateway.
const RESUME_WINDOW: Duration = Duration::from_secs(30);

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

impl Resume {
    fn key(&self) -> Key {
        Key {
            address: self.address.clone(),
            token: Token::Resume { token: self.token.clone(), seen: self.seen },
            proof_key: self.proof_key.clone(),
            seen: self.seen,
        }
    }
}

/// The task behind a client.
pub(crate) struct Supervisor {
    core: Arc<Core>,
    calls: mpsc::Receiver<Call>,
    carried: VecDeque<Call>,
    inbox: Inbox,
    backoff: Backoff,
    access: Access,
    resume: Option<Resume>,
}

impl Supervisor {
    pub fn new(
        core: Arc<Core>,
        calls: mpsc::Receiver<Call>,
        inbox: Inbox,
        credential: Option<Credential>,
    ) -> Self {
        let backoff = Backoff::new(core.options.reconnect);
        let access = Access::new(core.clone(), credential);
        Self { core, calls, carried: VecDeque::new(), inbox, backoff, access, resume: None }
    }

    /// Runs until the client is closed, by the app or by a refusal that nothing heals.
    pub async fn run(mut self) {
        self.core.happen(Happening::Began);
        let mut attempt = 1;
        let reason = loop {
            let core = self.core.clone();
            let looked_at = self.is_looked_at();
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
            let wait = Wait { attempt, cause: failure.error, retry_after, looked_at };
            if !self.wait(wait).await {
                break CloseReason::ByApp;
            }
        };
        self.end(reason);
    }

    fn is_looked_at(&self) -> bool {
        *self.core.app_state.lock() == AppState::Foreground
    }

    /// Prepares what the next try needs; a reason if there is to be none.
    fn apply(&mut self, failure: &Failure) -> Option<CloseReason> {
        self.access.on_refused(&failure.error);
        match remedy(&failure.error, failure.stage) {
            Remedy::Wait => None,
            Remedy::NewTicket => {
                self.access.ticket = None;
                self.forget_session();
                None
            }
            Remedy::NewCredential => {
                self.access.ticket = None;
                self.forget_session();
                match (&self.core.options.enrol, &failure.error) {
                    // The app can always fetch a fresh token; a code or an open door serves once.
                    (EnrolRight::Token(_), _) => {
                        self.access.forget_credential();
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
    async fn wait(&mut self, wait: Wait) -> bool {
        let Wait { attempt, cause, retry_after, looked_at } = wait;
        let next_in = self.backoff.next_wait(retry_after, rand::random());
        tracing::debug!(attempt, ?next_in, %cause, "no session");
        self.core.happen(Happening::Failed { attempt, next_in, cause });
        // A hint from before this failure is no reason to skip its wait: all clients would come back at once.
        let _ = self.core.hurry.notified().now_or_never();
        let until = tokio::time::sleep(next_in);
        tokio::pin!(until);
        let mut lapsed = false;
        loop {
            // What was put off was what the phone did by itself. A person who opens the app does not wait for that.
            if !looked_at && self.is_looked_at() {
                return true;
            }
            let lapse = self.resume.as_ref().map(|r| r.held_until).filter(|_| !lapsed);
            let lapsing = async {
                match lapse {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut until => return true,
                () = self.core.hurry.notified() => if retry_after.is_none() {
                    return true;
                },
                () = self.core.shutdown.cancelled() => return false,
                () = lapsing => {
                    lapsed = true;
                    self.core.happen(Happening::Lapsed { now_ms: unix_ms() });
                }
            }
        }
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

    /// Runs a session until it ends; one that moves to the other port goes on there.
    async fn serve(&mut self, mut opened: Opened) -> End {
        loop {
            let (end, moved) = self.serve_one(opened).await;
            let (Some(moved), Some(resume), false) = (moved, &self.resume, end.for_good) else { return end };
            opened = match self.access.go_on(&resume.key(), moved).await {
                Ok(opened) => opened,
                Err(cause) => {
                    let retry_after = cause.retry_after();
                    return End { cause, retry_after, for_good: false };
                }
            };
        }
    }

    /// Runs a session on one connection. With the end comes a connection to the foreground port, if it moves there.
    async fn serve_one(&mut self, opened: Opened) -> (End, Option<quinn::Connection>) {
        let Opened { session, address, port, proof_key, app_state, seen } = opened;
        let welcome = &session.welcome;
        let session_id = SessionId::try_from(&welcome.session).unwrap_or(SessionId::from_bytes([0; 16]));
        let (resumed, resume, valid_ms) = (welcome.resumed, welcome.resume.clone(), welcome.resume_valid_ms);
        self.core.happen(Happening::Up { session: session_id, resumed, now_ms: unix_ms() });
        tracing::debug!(session = %session_id, resumed, ?port, "session is up");
        self.access.was_up = true;
        let began = Instant::now();
        let (reached, arrivals) = mpsc::channel(1);
        let connection = Connection::new(
            &self.core,
            &mut self.inbox,
            &mut self.calls,
            &mut self.carried,
            session,
            Terms { app_state, seen: if resumed { seen } else { 0 }, server: &address.server_name, arrivals },
        );
        let promoted = promote(&mut self.access, &self.core, port, &address, reached);
        let Outcome { end, seen, moved } = tokio::select! {
            outcome = connection.run() => outcome,
            never = promoted => match never {},
        };
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
        (end, moved)
    }

    // ---- getting in ----

    async fn open(&mut self) -> Result<Opened, Failure> {
        if let Some(opened) = self.open_by_resume().await? {
            return Ok(opened);
        }
        let held = self.access.ticket.as_ref().is_some_and(|t| t.until > Instant::now());
        if held {
            match self.open_by_ticket().await {
                // The ticket is not wanted there any more; a fresh one may be.
                Err(failure) if remedy(&failure.error, failure.stage) == Remedy::NewTicket => {
                    self.access.ticket = None
                }
                other => return other,
            }
        }
        self.access.fetch_ticket().await?;
        self.open_by_ticket().await
    }

    /// Continues the session, if there is one to continue. `None`: there is not, go on with the ticket.
    async fn open_by_resume(&mut self) -> Result<Option<Opened>, Failure> {
        let Some(resume) = &mut self.resume else { return Ok(None) };
        if resume.until <= Instant::now() || resume.tries >= RESUME_TRIES {
            self.forget_session();
            return Ok(None);
        }
        let key = resume.key();
        match self.access.knock(&key).await {
            Ok(opened) => Ok(Some(opened)),
            Err(error @ Error::Unreachable { .. }) => {
                resume.tries += 1;
                Err(Failure { error, stage: Stage::Session })
            }
            Err(error) => match remedy(&error, Stage::Session) {
                Remedy::NewTicket => {
                    self.forget_session();
                    Ok(None)
                }
                _ => Err(Failure { error, stage: Stage::Session }),
            },
        }
    }

    /// Tries the ticket's managers in turn.
    async fn open_by_ticket(&mut self) -> Result<Opened, Failure> {
        let Some(ticket) = &self.access.ticket else {
            return Err(Failure { error: Error::protocol("no ticket"), stage: Stage::Session });
        };
        let (token, proof_key) = (ticket.token.clone(), ticket.proof_key.clone());
        let mut last = Error::unreachable("the ticket names no session manager");
        for address in ticket.addresses.clone() {
            let (token, proof_key) = (Token::Ticket(token.clone()), proof_key.clone());
            match self.access.knock(&Key { address, token, proof_key, seen: 0 }).await {
                Ok(opened) => return Ok(opened),
                Err(error) => {
                    // Whoever was promised a place waits for it: elsewhere he would only be one more.
                    let next = matches!(remedy(&error, Stage::Session), Remedy::Wait) && !has_slot(&error);
                    last = error;
                    if !next {
                        break;
                    }
                }
            }
        }
        Err(Failure { error: last, stage: Stage::Session })
    }
}

/// What is waited for between two tries.
struct Wait {
    attempt: u32,
    cause: Error,
    retry_after: Option<Duration>,
    /// A person looked at the app when it failed.
    looked_at: bool,
}

fn for_good(cause: Error) -> CloseReason {
    match cause {
        Error::Closed => CloseReason::ByApp,
        Error::Refused(refused) => CloseReason::Refused(refused),
        other => CloseReason::Failed(other),
    }
}
