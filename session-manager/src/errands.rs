//! Requests of one talk stream, wherever they run: in the session's own task, or at the desk.
//!
//! Why it exists: a session of the wake port must not touch what foreground needs, and yet its requests are begun in the order in
//! which it asked, as anywhere. So one task at the desk does for it what the others do for themselves, and lives as long as
//! anything is under way. It must never hold more for a session than the session may have under way.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::desk::{Desk, Gone};
use crate::flights::{Flights, IN_FLIGHT_BYTES_MAX, Landed};
use crate::node::Node;
use crate::request::Relay;

/// A timer that is not set stands this far away.
const FAR: Duration = Duration::from_secs(3_600);

/// Requests of one talk stream, wherever they run.
pub(crate) enum Work {
    /// In the session's own task.
    Here(Flights),
    /// At the desk.
    There(Errands),
}

impl Work {
    pub(crate) fn new(node: &Arc<Node>, desk: Option<&Desk>) -> Self {
        match desk {
            None => Self::Here(Flights::new(node)),
            Some(desk) => Self::There(Errands::new(node, desk)),
        }
    }

    /// Begins a request, or lets it wait; what comes back at once is refused.
    pub(crate) fn begin(&mut self, relay: Box<Relay>) -> Option<Landed> {
        match self {
            Self::Here(flights) => flights.begin(relay),
            Self::There(errands) => {
                errands.begin(relay);
                None
            }
        }
    }

    /// The client no longer wants an answer. What comes back at once is its refusal; from the desk it follows.
    pub(crate) fn cancel(&mut self, id: u64) -> Option<Landed> {
        match self {
            Self::Here(flights) => flights.cancel(id),
            Self::There(errands) => {
                errands.send(Errand::Cancel(id));
                None
            }
        }
    }

    /// Gives up whatever is over its deadline. The desk does so by itself.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Landed> {
        match self {
            Self::Here(flights) => flights.expire(now),
            Self::There(_) => Vec::new(),
        }
    }

    /// When to call [`Work::expire`].
    pub(crate) fn earliest(&self) -> Option<Instant> {
        match self {
            Self::Here(flights) => flights.earliest(),
            Self::There(_) => None,
        }
    }

    /// Lets the requests go on.
    pub(crate) fn advance(&mut self, cx: &mut Context<'_>) -> Result<(), Gone> {
        match self {
            Self::Here(flights) => {
                flights.advance(cx);
                Ok(())
            }
            Self::There(errands) => errands.advance(cx),
        }
    }

    /// The next answer that is there.
    pub(crate) fn take_landed(&mut self) -> Option<Landed> {
        match self {
            Self::Here(flights) => flights.take_landed(),
            Self::There(errands) => errands.take_landed(),
        }
    }

    /// No more may be begun now.
    pub(crate) fn is_heavy(&self) -> bool {
        match self {
            Self::Here(flights) => flights.is_heavy(),
            Self::There(errands) => errands.weight >= IN_FLIGHT_BYTES_MAX,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Here(flights) => flights.is_empty(),
            Self::There(errands) => errands.under_way == 0,
        }
    }

    /// Nothing is under way: an idle session keeps nothing at the desk.
    pub(crate) fn rest(&mut self) {
        if let Self::There(errands) = self
            && errands.under_way == 0
        {
            errands.open = None;
            errands.landed = VecDeque::new();
        }
    }

    /// Gives back memory that a burst has left.
    pub(crate) fn shrink(&mut self) {
        if let Self::Here(flights) = self {
            flights.shrink();
        }
    }
}

/// What a session asks of the desk.
enum Errand {
    Begin(Box<Relay>),
    Cancel(u64),
}

/// Both ends of the way to the desk. Neither queue has a bound of its own: a session stops reading when what it has under way
/// is too heavy, and each request has one answer.
struct Counter {
    to: mpsc::UnboundedSender<Errand>,
    from: mpsc::UnboundedReceiver<Landed>,
}

/// Requests of one session at the desk. Its task there lives as long as any is under way.
pub(crate) struct Errands {
    node: Arc<Node>,
    desk: Desk,
    open: Option<Counter>,
    landed: VecDeque<Landed>,
    under_way: usize,
    weight: usize,
}

impl Errands {
    fn new(node: &Arc<Node>, desk: &Desk) -> Self {
        Self {
            node: Arc::clone(node),
            desk: desk.clone(),
            open: None,
            landed: VecDeque::new(),
            under_way: 0,
            weight: 0,
        }
    }

    fn begin(&mut self, relay: Box<Relay>) {
        self.under_way += 1;
        self.weight += relay.weight;
        if self.open.is_none() {
            let (to, errands) = mpsc::unbounded_channel();
            let (landed, from) = mpsc::unbounded_channel();
            let clerk = Clerk {
                flights: Flights::new(&self.node),
                errands,
                landed,
                timer: Box::pin(sleep_until(Instant::now() + FAR)),
            };
            // It ends with its queues, which this owns.
            self.desk.spawn(clerk.run());
            self.open = Some(Counter { to, from });
        }
        self.send(Errand::Begin(relay));
    }

    fn send(&self, errand: Errand) {
        if let Some(counter) = &self.open {
            // An error means that the task there is gone; the next look finds that out.
            let _ = counter.to.send(errand);
        }
    }

    fn advance(&mut self, cx: &mut Context<'_>) -> Result<(), Gone> {
        let Some(counter) = &mut self.open else { return Ok(()) };
        while let Poll::Ready(landed) = counter.from.poll_recv(cx) {
            self.landed.push_back(landed.ok_or(Gone)?);
        }
        Ok(())
    }

    fn take_landed(&mut self) -> Option<Landed> {
        let landed = self.landed.pop_front()?;
        self.under_way -= 1;
        self.weight -= landed.weight;
        Some(landed)
    }
}

/// The desk's side of one session.
struct Clerk {
    flights: Flights,
    errands: mpsc::UnboundedReceiver<Errand>,
    landed: mpsc::UnboundedSender<Landed>,
    timer: Pin<Box<Sleep>>,
}

impl Clerk {
    /// Serves until the session lets go.
    async fn run(mut self) {
        // As in the session's own task: the budget of the runtime must not come between the requests.
        tokio::task::unconstrained(poll_fn(|cx| self.poll(cx))).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            while let Poll::Ready(errand) = self.errands.poll_recv(cx) {
                let refused = match errand {
                    None => return Poll::Ready(()),
                    Some(Errand::Begin(relay)) => self.flights.begin(relay),
                    Some(Errand::Cancel(id)) => self.flights.cancel(id),
                };
                self.land(refused);
            }
            let late = self.flights.expire(Instant::now());
            self.land(late);
            self.flights.advance(cx);
            while let Some(landed) = self.flights.take_landed() {
                self.land(Some(landed));
            }
            let due = self.flights.earliest().unwrap_or_else(|| Instant::now() + FAR);
            self.timer.as_mut().reset(due);
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn land(&self, landed: impl IntoIterator<Item = Landed>) {
        for landed in landed {
            // An error means that the session is gone, and this ends too.
            let _ = self.landed.send(landed);
        }
    }
}
