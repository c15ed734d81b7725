//! The seats of the node, as its tasks use them: taken at once, waited for, given back by themselves.
//!
//! Why it exists: [`Lanes`] decides and never waits; here is who waits. All of it stands under one lock that is held for a
//! fraction of a microsecond, never across an await, and while nobody is woken. It must only be used on threads of normal
//! priority: a thread that runs only when nothing else wants to would keep everybody waiting.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use buslane_shared::Nanos;
use buslane_shared::class::{Class, Protocol};
use buslane_shared::overload::lanes::{Job, JobKey, Lanes, Next, Offer, Seat, Why};
use buslane_shared::overload::settings::Settings;
use parking_lot::Mutex;

use super::Clock;

/// The lanes of the node, and who waits for a seat in them.
pub(crate) struct Seats {
    clock: Clock,
    inner: Mutex<Inner>,
}

struct Inner {
    lanes: Lanes,
    waiting: HashMap<JobKey, Arc<Waiter>>,
    next_key: u64,
}

/// What wants a seat.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Want {
    pub(crate) protocol: Protocol,
    pub(crate) class: Class,
    /// What it holds in memory while it waits.
    pub(crate) bytes: u32,
    /// When its result is of no use any more.
    pub(crate) deadline: Nanos,
}

/// What became of it.
pub(crate) enum Offered {
    /// Begin, and keep this for as long as it takes.
    Seated(Seated),
    /// It waits for its turn.
    Waits(Waiting),
    /// Not now.
    Refused(Why),
}

/// How a seat was got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It was free.
    AtOnce,
    /// It was waited for.
    AfterAWait,
}

impl Seats {
    pub(crate) fn new(settings: &Settings, clock: Clock) -> Arc<Self> {
        let inner = Inner { lanes: Lanes::new(settings), waiting: HashMap::new(), next_key: 0 };
        Arc::new(Self { clock, inner: Mutex::new(inner) })
    }

    /// Asks for a seat.
    pub(crate) fn offer(self: &Arc<Self>, want: Want) -> Offered {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        let key = JobKey(inner.next_key);
        inner.next_key += 1;
        let Want { protocol, class, bytes, deadline } = want;
        match inner.lanes.offer(Job { key, protocol, class, bytes, deadline }, now) {
            Offer::Seated(seat) => Offered::Seated(Seated::new(self, seat)),
            Offer::Refused(why) => Offered::Refused(why),
            Offer::Queued => {
                let waiter = Arc::new(Waiter::default());
                inner.waiting.insert(key, Arc::clone(&waiter));
                // Others may be in front of it for whom there is a seat.
                let woken = inner.dispatch(now);
                drop(inner);
                wake(woken);
                Offered::Waits(Waiting { seats: Arc::clone(self), key, class, waiter })
            }
        }
    }

    /// Waits for a seat. Given up by being dropped.
    pub(crate) async fn take(self: &Arc<Self>, want: Want) -> Result<(Seated, Taken), Why> {
        match self.offer(want) {
            Offered::Seated(seat) => Ok((seat, Taken::AtOnce)),
            Offered::Refused(why) => Err(why),
            Offered::Waits(mut waiting) => {
                let seat = std::future::poll_fn(|cx| waiting.poll(cx)).await?;
                Ok((seat, Taken::AfterAWait))
            }
        }
    }

    /// Looks at the lanes or changes them, and then sees to those who wait.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Lanes, Nanos) -> T) -> T {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        let result = f(&mut inner.lanes, now);
        let woken = inner.dispatch(now);
        drop(inner);
        wake(woken);
        result
    }

    /// Those who wait, for a test that counts them.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.inner.lock().waiting.len()
    }

    fn free(&self, seat: Seat) {
        self.with(|lanes, now| lanes.free(seat, now));
    }
}

impl Inner {
    /// Tells everybody whose turn it is, or who waits in vain; returns whom to wake when the lock is gone.
    fn dispatch(&mut self, now: Nanos) -> Vec<Waker> {
        let mut woken = Vec::new();
        while let Some(next) = self.lanes.next(now) {
            let (key, outcome) = match next {
                Next::Start(key, seat) => (key, Outcome::Start(seat)),
                Next::Drop(job, why) => (job.key, Outcome::Drop(why)),
            };
            // Whoever waits in the lanes is in the table.
            if let Some(waiter) = self.waiting.remove(&key) {
                woken.extend(waiter.decide(outcome));
            }
        }
        woken
    }
}

fn wake(woken: Vec<Waker>) {
    for waker in woken {
        waker.wake();
    }
}

/// A seat; it is free again when this is dropped.
pub(crate) struct Seated {
    seats: Arc<Seats>,
    seat: Option<Seat>,
}

impl Seated {
    fn new(seats: &Arc<Seats>, seat: Seat) -> Self {
        Self { seats: Arc::clone(seats), seat: Some(seat) }
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take() {
            self.seats.free(seat);
        }
    }
}

#[derive(Default)]
struct Waiter(Mutex<State>);

#[derive(Default)]
struct State {
    waker: Option<Waker>,
    outcome: Option<Outcome>,
}

enum Outcome {
    Start(Seat),
    Drop(Why),
}

impl Waiter {
    fn decide(&self, outcome: Outcome) -> Option<Waker> {
        let mut state = self.0.lock();
        state.outcome = Some(outcome);
        state.waker.take()
    }
}

/// A place in a lane's queue. Dropping it gives it up.
pub(crate) struct Waiting {
    seats: Arc<Seats>,
    key: JobKey,
    class: Class,
    waiter: Arc<Waiter>,
}

impl Waiting {
    /// Ready once, with a seat or the reason why there will be none.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<Seated, Why>> {
        let mut state = self.waiter.0.lock();
        match state.outcome.take() {
            Some(Outcome::Start(seat)) => Poll::Ready(Ok(Seated::new(&self.seats, seat))),
            Some(Outcome::Drop(why)) => Poll::Ready(Err(why)),
            None => {
                match &mut state.waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => state.waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut inner = self.seats.inner.lock();
        if inner.waiting.remove(&self.key).is_some() {
            inner.lanes.withdraw(self.key, self.class);
        }
        drop(inner);
        // Its turn came while it was given up.
        let outcome = self.waiter.0.lock().outcome.take();
        if let Some(Outcome::Start(seat)) = outcome {
            self.seats.free(seat);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(count: u32) -> Arc<Seats> {
        let mut settings = Settings::default();
        settings.lanes.seats = count;
        Seats::new(&settings, Clock::start())
    }

    fn want(class: Class) -> Want {
        Want { protocol: Protocol::MessageSend, class, bytes: 100, deadline: u64::MAX }
    }

    fn seat(offered: Offered) -> Seated {
        match offered {
            Offered::Seated(seat) => seat,
            Offered::Waits(_) => panic!("it waits"),
            Offered::Refused(why) => panic!("refused: {}", why.name()),
        }
    }

    fn in_use(seats: &Seats) -> u32 {
        seats.with(|lanes, _| lanes.in_use())
    }

    #[test]
    fn a_seat_comes_back_whatever_becomes_of_its_work() {
        let seats = seats(16);
        let taken: Vec<_> = (0..16).map(|_| seat(seats.offer(want(Class::Talk)))).collect();
        assert_eq!(in_use(&seats), 16);
        drop(taken);
        assert_eq!(in_use(&seats), 0);
    }

    #[tokio::test]
    async fn who_waits_is_told_when_a_seat_is_free() {
        let seats = seats(16);
        let mut taken: Vec<_> = (0..16).map(|_| seat(seats.offer(want(Class::Talk)))).collect();
        let waiting = tokio::spawn({
            let seats = Arc::clone(&seats);
            async move { seats.take(want(Class::Talk)).await.is_ok_and(|(_, how)| how == Taken::AfterAWait) }
        });
        while seats.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        taken.pop();
        assert!(waiting.await.unwrap());
        assert_eq!(in_use(&seats), 15, "it gave its seat back as well");
    }

    #[test]
    fn who_gives_up_leaves_nothing_behind() {
        let seats = seats(16);
        let mut taken: Vec<_> = (0..16).map(|_| seat(seats.offer(want(Class::Talk)))).collect();
        let Offered::Waits(first) = seats.offer(want(Class::Talk)) else { panic!("it must wait") };
        let Offered::Waits(second) = seats.offer(want(Class::Talk)) else { panic!("it must wait") };
        drop(first);
        assert_eq!(seats.waiting(), 1);
        // The seat is given to the second, who gives up without having looked.
        taken.pop();
        assert_eq!((seats.waiting(), in_use(&seats)), (0, 16));
        drop(second);
        assert_eq!(in_use(&seats), 15);
    }

    #[test]
    fn a_deadline_that_passes_is_said() {
        let seats = seats(16);
        let _taken: Vec<_> = (0..16).map(|_| seat(seats.offer(want(Class::Talk)))).collect();
        let deadline = seats.clock.now() + 3_000_000;
        let Offered::Waits(mut waiting) = seats.offer(Want { deadline, ..want(Class::Talk) }) else {
            panic!("it must wait")
        };
        while seats.waiting() > 0 {
            seats.with(|_, _| ());
        }
        let told = waiting.poll(&Context::from_waker(Waker::noop()));
        assert!(matches!(told, Poll::Ready(Err(Why::Stale))));
    }
}
