//! Phones by the thousand: enrolled, with a ticket, each able to open a session at any time.
//!
//! A phone here is what it holds (a key, a credential, a ticket, passes, a resume token: some 2 KiB) and nothing that runs. It
//! follows the protocol to the letter about *what* it shows *where*; *when* it tries is the business of its generator.
//!
//! It must never try again behind the back of its caller: each call is one try, and its result is counted.

mod book;
mod enrol;
mod gate;
mod session;

use std::time::{Duration, Instant};

use anyhow::Context;
use buslane_client::raw::{Identity, Session};
use buslane_shared::id::UserId;
use buslane_shared::wire;
use bytes::Bytes;

use self::book::{Book, Port};
pub use self::enrol::{addresses_for, enrol};
use self::gate::Gate;
use self::session::{Hello, Token};
use super::net::{Net, Turned};
use super::scenario::Side;

/// A ticket or token that ends within this is not used any more: it has to arrive in time.
const MARGIN: Duration = Duration::from_secs(5);

/// How long one try to open a session may take: as long as a client waits before it tries another address.
pub const TRY_LIMIT: Duration = Duration::from_secs(6);

/// A gateway that gave no foreground passes is asked for some again after this, at the earliest.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// A device of a user, and what it holds.
#[derive(Debug)]
pub struct Phone {
    /// Its user.
    pub user: UserId,
    identity: Identity,
    credential: Bytes,
    gate: Gate,
    ticket: Option<Ticket>,
    resume: Option<Resume>,
    book: Book,
    /// Last event of the session that was taken over.
    seen: u64,
    /// Where it comes from: a number of a source address.
    from: usize,
    /// Which of the ticket's session managers it tries.
    at: usize,
    /// The front port did not answer to the last pass that was shown there.
    front_is_silent: bool,
    /// When the gateway was last asked for passes for the front port, in vain.
    asked_in_vain: Option<Instant>,
}

/// The right to open a session.
#[derive(Debug)]
struct Ticket {
    bytes: Bytes,
    proof_key: Bytes,
    addresses: Vec<wire::Address>,
    until: Instant,
}

/// The right to continue one, at the session manager that gave it.
#[derive(Debug)]
struct Resume {
    token: Bytes,
    /// Of the ticket that opened the session.
    proof_key: Bytes,
    address: wire::Address,
    until: Instant,
}

impl Phone {
    /// One try to open a session: the front port with a fresh pass (foreground), or the wake port (background) with a pass, or
    /// with the slot whose time it is. Continues the session before, if there was one; asks the gateway first where ticket or
    /// pass are missing. Takes over what the welcome brings.
    pub async fn open(
        &mut self,
        net: &Net,
        side: Side,
        slot: Option<Bytes>,
        limit: Duration,
    ) -> Result<Session, Turned> {
        let end = Instant::now() + limit;
        let left = || end.saturating_duration_since(Instant::now());
        if !self.has_no_ticket(Instant::now()) && self.lacks_passes(side, Instant::now()) {
            // A gateway that gives none is no reason to stay out: the wake port is open without one.
            let _ = self.enter(net, side, None, left()).await;
        }
        let mut has_entered = false;
        loop {
            if self.has_no_ticket(Instant::now()) {
                self.enter(net, side, slot.clone(), left()).await?;
                has_entered = true;
            }
            match self.open_once(net, side, slot.clone(), left()).await {
                // The resume token is given up, then the ticket; not one that is new.
                Err(Turned::Refused { name, .. }) if !has_entered && self.gives_up_right(name) => {}
                opened => return opened.inspect_err(|turned| self.on_turned(turned)),
            }
        }
    }

    /// As [`Self::open`], and tries again for as long as `limit` when the server asks for patience or says nothing: for preparations,
    /// where nothing is measured.
    pub async fn open_patiently(
        &mut self,
        net: &Net,
        side: Side,
        limit: Duration,
    ) -> anyhow::Result<Session> {
        let end = Instant::now() + limit;
        let mut slot = None;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let turned = match self.open(net, side, slot.take(), left.min(TRY_LIMIT)).await {
                Ok(session) => return Ok(session),
                Err(turned) => turned,
            };
            let wait = turned.retry_after().unwrap_or(enrol::PAUSE);
            if Instant::now() + wait >= end {
                return Err(turned).with_context(|| format!("{} is not let in", self.user));
            }
            tokio::time::sleep(wait).await;
            if let Turned::PutOff { slot: given, .. } = turned {
                slot = given;
            }
        }
    }

    /// Asks the gateway for a new ticket and passes.
    pub async fn enter(
        &mut self,
        net: &Net,
        side: Side,
        slot: Option<Bytes>,
        limit: Duration,
    ) -> Result<(), Turned> {
        let now = Instant::now();
        let mark = slot
            .clone()
            .or_else(|| self.book.take(Port::Wake, now))
            .or_else(|| self.book.take(Port::Front, now));
        let asked = async {
            let connection = self.gate.connect(net, self.from, mark.as_deref(), limit).await?;
            let asked = gate::Asking { connection: &connection, side, slot };
            let ticket = asked.enter(&self.identity, &self.credential).await;
            gate::close(&connection);
            ticket
        };
        let ticket = tokio::time::timeout(limit, asked).await.unwrap_or(Err(Turned::Silence));
        if side == Side::Foreground {
            self.asked_in_vain = Some(now);
        }
        self.take_ticket(ticket?);
        Ok(())
    }

    /// Takes over passes of a welcome or a pong.
    pub fn take_passes(&mut self, passes: Option<&wire::Passes>) {
        let Some(passes) = passes else { return };
        self.book.take_in(passes, Instant::now());
        if self.book.has(Port::Front, Instant::now()) {
            self.front_is_silent = false;
            self.asked_in_vain = None;
        }
    }

    /// A pass that it will not show itself any more, for whichever port.
    pub fn take_pass(&mut self) -> Option<Bytes> {
        let now = Instant::now();
        self.book.take(Port::Front, now).or_else(|| self.book.take(Port::Wake, now))
    }

    /// Last event that was taken over: what a hello with a resume token names.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// So many events were taken over.
    pub fn set_seen(&mut self, no: u64) {
        self.seen = no;
    }

    /// The next session is a new one.
    pub fn forget_session(&mut self) {
        self.resume = None;
        self.seen = 0;
    }

    /// The next session needs a new ticket.
    pub fn forget_ticket(&mut self) {
        self.forget_session();
        self.ticket = None;
    }

    /// The session managers that its ticket names, in the order in which to try them.
    pub fn addresses(&self) -> &[wire::Address] {
        self.ticket.as_ref().map_or(&[], |ticket| &ticket.addresses)
    }

    async fn open_once(
        &mut self,
        net: &Net,
        side: Side,
        slot: Option<Bytes>,
        limit: Duration,
    ) -> Result<Session, Turned> {
        let now = Instant::now();
        let (port, pass) = self.way(side, now);
        let mark = slot.clone().or(pass);
        let ticket = self.ticket.as_ref().ok_or(Turned::Failed("no_ticket"))?;
        let address = ticket.address(self.at).ok_or(Turned::Failed("no_session_manager"))?;
        let resume = self.resume.as_ref().filter(|resume| now < resume.until && resume.address == *address);
        let (token, proof_key) = match resume {
            Some(Resume { token, proof_key, .. }) => {
                (Token::Resume { token: token.clone(), seen: self.seen }, proof_key)
            }
            None => (Token::Ticket(ticket.bytes.clone()), &ticket.proof_key),
        };
        let (proof_key, address) = (proof_key.clone(), address.clone());
        let hello = Hello { token, proof_key: proof_key.clone(), side, slot };
        let to = match port {
            Port::Front => &address.front,
            Port::Wake => &address.wake,
        };
        let door = session::Door { from: self.from, address: to, server_name: &address.server_name, mark };
        let opened = session::open(net, door, hello, limit).await;
        if port == Port::Front {
            self.front_is_silent = matches!(opened, Err(Turned::Silence));
        }
        let session = opened?;
        self.take_over(&session.welcome, proof_key, address);
        Ok(session)
    }

    /// Which port, and the pass to show there: the protocol's table.
    fn way(&mut self, side: Side, now: Instant) -> (Port, Option<Bytes>) {
        if side == Side::Foreground
            && !self.front_is_silent
            && let Some(pass) = self.book.take(Port::Front, now)
        {
            return (Port::Front, Some(pass));
        }
        (Port::Wake, self.book.take(Port::Wake, now))
    }

    /// Takes over what a welcome brings.
    fn take_over(&mut self, welcome: &wire::Welcome, proof_key: Bytes, address: wire::Address) {
        if !welcome.resumed {
            self.seen = 0;
        }
        let valid = Duration::from_millis(welcome.resume_valid_ms.into()).saturating_sub(MARGIN);
        let token = Bytes::copy_from_slice(&welcome.resume);
        self.resume = Some(Resume { token, proof_key, address, until: Instant::now() + valid });
        self.take_passes(welcome.passes.as_ref());
    }

    fn take_ticket(&mut self, ticket: wire::Ticket) {
        if !ticket.credential.is_empty() {
            self.credential = Bytes::copy_from_slice(&ticket.credential);
        }
        self.take_passes(ticket.passes.as_ref());
        self.at = 0;
        self.ticket = Some(Ticket::of(ticket, Instant::now()));
    }

    fn has_no_ticket(&self, now: Instant) -> bool {
        self.ticket.as_ref().is_none_or(|ticket| now >= ticket.until)
    }

    fn lacks_passes(&self, side: Side, now: Instant) -> bool {
        let asked_just_now = self.asked_in_vain.is_some_and(|at| now < at + ASK_AGAIN);
        side == Side::Foreground
            && !self.front_is_silent
            && !self.book.has(Port::Front, now)
            && !asked_just_now
    }

    /// After these refusals the next kind of right is tried at once. False: it was another one.
    fn gives_up_right(&mut self, refusal: &str) -> bool {
        let is_about_it = matches!(refusal, "bad_ticket" | "ticket_expired" | "bad_proof");
        if is_about_it && self.resume.is_some() {
            self.forget_session();
        } else if is_about_it {
            self.ticket = None;
        }
        is_about_it
    }

    /// Where the next try goes.
    fn on_turned(&mut self, turned: &Turned) {
        let goes_on = match turned {
            Turned::Silence => true,
            Turned::PutOff { slot, .. } => slot.is_none(),
            Turned::Refused { name, .. } => matches!(*name, "draining" | "unavailable"),
            Turned::Failed(_) => true,
        };
        if goes_on {
            let addresses = self.addresses().len().max(1);
            self.at = (self.at + 1) % addresses;
        }
    }
}

impl Ticket {
    /// Copied, because slices would hold on to whole network buffers.
    fn of(ticket: wire::Ticket, now: Instant) -> Self {
        let valid = Duration::from_millis(ticket.valid_ms.into()).saturating_sub(MARGIN);
        Self {
            bytes: Bytes::copy_from_slice(&ticket.ticket),
            proof_key: Bytes::copy_from_slice(&ticket.proof_key),
            addresses: ticket.addresses,
            until: now + valid,
        }
    }

    fn address(&self, at: usize) -> Option<&wire::Address> {
        self.addresses.get(at).or_else(|| self.addresses.first())
    }
}
