//! Marks at hand for the first packets of coming connections. Pure and bounded; `now` is an argument.
//!
//! A pass opens one connection: a second packet with the same one is taken for a replay, so whoever takes a pass from here has
//! used it, whatever becomes of the try. It must never hand out one that has expired: on the foreground port that is silence.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use buslane_shared::mark::MARK_BYTES;
use buslane_shared::wire;
use bytes::Bytes;

use crate::error::millis;
use crate::way::Port;

/// Passes kept for each port: two batches of a generous server.
const KEPT_MAX: usize = 32;

/// A pass is not used any more when it expires within this: its packet has to arrive in time.
const MARGIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Kept {
    mark: Bytes,
    until: Instant,
    /// Who gave it to a session, by the name in the certificate; `None`: a gateway.
    given_by: Option<String>,
}

/// The marks at hand.
#[derive(Default)]
pub(crate) struct PassBook {
    front: VecDeque<Kept>,
    wake: VecDeque<Kept>,
    known: bool,
}

/// A pass serves whoever has it, so none is shown.
impl std::fmt::Debug for PassBook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (front, wake) = (self.front.len(), self.wake.len());
        f.debug_struct("PassBook").field("front", &front).field("wake", &wake).finish_non_exhaustive()
    }
}

impl PassBook {
    /// Takes a batch in; the oldest passes give way. `given_by` is the session manager that gave it, if it was one. True: there
    /// is now one for the foreground port.
    pub fn take_in(&mut self, passes: &wire::Passes, given_by: Option<&str>, now: Instant) -> bool {
        self.known = true;
        let Some(valid) = millis(passes.valid_ms).and_then(|valid| valid.checked_sub(MARGIN)) else {
            return false;
        };
        let mut for_front = false;
        for mark in passes.marks.iter().filter(|mark| mark.len() == MARK_BYTES) {
            let port = port_of(mark);
            for_front |= port == Port::Front;
            // Copied, because a slice would hold on to the whole network buffer.
            let mark = Bytes::copy_from_slice(mark);
            let kept = self.of(port);
            if kept.len() >= KEPT_MAX {
                kept.pop_front();
            }
            kept.push_back(Kept { mark, until: now + valid, given_by: given_by.map(str::to_owned) });
        }
        for_front
    }

    /// A fresh pass for a port of `server` (`None`: for a gateway). It is used from here on.
    pub fn take(&mut self, port: Port, server: Option<&str>, now: Instant) -> Option<Bytes> {
        let kept = self.of(port);
        kept.retain(|pass| now < pass.until);
        // First what was given there: it says that a session goes on. Of these the newest: it is sure to last for the
        // whole handshake. (All others serve as well.)
        let at = kept.iter().rposition(|pass| pass.given_by.as_deref() == server);
        kept.remove(at.unwrap_or(kept.len().saturating_sub(1))).map(|pass| pass.mark)
    }

    /// Whether there is a fresh pass for a port.
    pub fn has(&self, port: Port, now: Instant) -> bool {
        let kept = match port {
            Port::Front => &self.front,
            Port::Wake => &self.wake,
        };
        kept.iter().any(|pass| now < pass.until)
    }

    /// Whether the system gives out passes at all: one of an older release does not, and does not ask for any.
    pub fn is_known(&self) -> bool {
        self.known
    }

    fn of(&mut self, port: Port) -> &mut VecDeque<Kept> {
        match port {
            Port::Front => &mut self.front,
            Port::Wake => &mut self.wake,
        }
    }
}

/// The port that a mark is for: the upper two bits say it.
fn port_of(mark: &[u8]) -> Port {
    match mark.first().map(|head| head >> 6) {
        Some(0) => Port::Front,
        _ => Port::Wake,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn mark(port: Port, n: u8) -> Bytes {
        let mut mark = vec![n; MARK_BYTES];
        mark[0] = match port {
            Port::Front => 0x05,
            Port::Wake => 0x45,
        };
        mark.into()
    }

    fn batch(marks: Vec<Bytes>, valid: Duration) -> wire::Passes {
        wire::Passes { marks, valid_ms: valid.as_millis() as u32 }
    }

    /// What the servers make is what this reads.
    #[test]
    fn a_mark_says_its_port() {
        use buslane_shared::class::Class;
        use buslane_shared::mark::Mark;
        use buslane_shared::token::KeyRing;
        let key = wire::TokenKey {
            id: 0xffff_ffff,
            secret: vec![7; 32].into(),
            not_before_ms: 0,
            expires_ms: 1 << 40,
        };
        let ring = KeyRing::new(&wire::KeySet { keys: vec![key] });
        for (class, port) in [(Class::Look, Port::Front), (Class::Wake, Port::Wake)] {
            let mark = ring.marks().make(&Mark::pass(class, 1_000, 9), 1_000).unwrap();
            assert_eq!(port_of(&mark), port);
        }
    }

    #[test]
    fn a_pass_is_given_once_and_for_its_port() {
        let now = Instant::now();
        let mut book = PassBook::default();
        assert!(!book.is_known());
        let (one, two) = (mark(Port::Front, 1), mark(Port::Wake, 2));
        assert!(book.take_in(&batch(vec![one.clone(), two.clone()], MINUTE), None, now));
        assert!(book.is_known() && book.has(Port::Front, now));
        assert_eq!(book.take(Port::Front, Some("m1"), now), Some(one));
        assert_eq!(book.take(Port::Front, Some("m1"), now), None);
        assert_eq!(book.take(Port::Wake, None, now), Some(two));
        assert!(!book.take_in(&batch(vec![mark(Port::Wake, 3)], MINUTE), None, now));
    }

    #[test]
    fn what_a_session_was_given_is_used_first_where_it_was_given_and_serves_elsewhere() {
        let now = Instant::now();
        let mut book = PassBook::default();
        book.take_in(&batch(vec![mark(Port::Front, 1), mark(Port::Front, 2)], MINUTE), Some("m1"), now);
        book.take_in(&batch(vec![mark(Port::Front, 3), mark(Port::Front, 4)], MINUTE), None, now);
        assert_eq!(book.take(Port::Front, Some("m1"), now), Some(mark(Port::Front, 2)));
        assert_eq!(book.take(Port::Front, None, now), Some(mark(Port::Front, 4)));
        assert_eq!(book.take(Port::Front, Some("m2"), now), Some(mark(Port::Front, 3)));
        assert_eq!(book.take(Port::Front, Some("m2"), now), Some(mark(Port::Front, 1)));
        assert_eq!(book.take(Port::Front, Some("m1"), now), None);
    }

    #[test]
    fn an_expired_pass_is_not_used_and_neither_is_one_that_expires_on_its_way() {
        let now = Instant::now();
        let mut book = PassBook::default();
        book.take_in(&batch(vec![mark(Port::Front, 1)], MINUTE), None, now);
        assert!(book.has(Port::Front, now + MINUTE - MARGIN - Duration::from_millis(1)));
        assert!(!book.has(Port::Front, now + MINUTE - MARGIN));
        assert_eq!(book.take(Port::Front, None, now + MINUTE - MARGIN), None);
        book.take_in(&batch(vec![mark(Port::Front, 1)], MARGIN), None, now);
        assert_eq!(book.take(Port::Front, None, now), None);
    }

    #[test]
    fn what_is_no_mark_is_left_and_the_book_does_not_grow() {
        let now = Instant::now();
        let mut book = PassBook::default();
        book.take_in(&batch(vec![Bytes::from_static(b"short"), vec![0; 21].into()], MINUTE), None, now);
        assert!(!book.has(Port::Front, now) && !book.has(Port::Wake, now));
        for n in 0..10 {
            book.take_in(&batch(vec![mark(Port::Front, n); 16], MINUTE), None, now);
        }
        assert_eq!(book.front.len(), KEPT_MAX);
        assert!(format!("{book:?}").contains("front: 32"));
    }
}
