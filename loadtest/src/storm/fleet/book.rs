//! Passes at hand. Pure and bounded; `now` is an argument.
//!
//! It must never give a pass twice: the server takes the second one for a replay.

use std::time::{Duration, Instant};

use buslane_shared::mark::{MARK_BYTES, MarkBytes};
use buslane_shared::wire;
use bytes::Bytes;

/// Passes kept for each port: two batches of a gateway.
const KEPT_MAX: usize = 12;

/// A pass is not used any more when it expires within this.
const MARGIN: Duration = Duration::from_secs(5);

/// A port of a session manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// For what a person looks at.
    Front,
    /// For what phones do by themselves.
    Wake,
}

/// The passes of one phone.
#[derive(Debug, Default)]
pub struct Book {
    front: Vec<Pass>,
    wake: Vec<Pass>,
}

#[derive(Debug, Clone, Copy)]
struct Pass {
    mark: MarkBytes,
    until: Instant,
}

impl Book {
    /// Takes a batch in; the oldest give way.
    pub fn take_in(&mut self, passes: &wire::Passes, now: Instant) {
        let valid = Duration::from_millis(passes.valid_ms.into()).saturating_sub(MARGIN);
        for mark in &passes.marks {
            let Ok(mark) = <[u8; MARK_BYTES]>::try_from(mark.as_ref()) else { continue };
            let kept = self.of(port_of(&mark));
            if kept.len() >= KEPT_MAX {
                kept.remove(0);
            }
            kept.push(Pass { mark, until: now + valid });
        }
    }

    /// A fresh pass for a port, the newest. It is used from here on.
    pub fn take(&mut self, port: Port, now: Instant) -> Option<Bytes> {
        let kept = self.of(port);
        kept.retain(|pass| now < pass.until);
        kept.pop().map(|pass| Bytes::copy_from_slice(&pass.mark))
    }

    /// Whether there is one.
    pub fn has(&self, port: Port, now: Instant) -> bool {
        let kept = match port {
            Port::Front => &self.front,
            Port::Wake => &self.wake,
        };
        kept.iter().any(|pass| now < pass.until)
    }

    fn of(&mut self, port: Port) -> &mut Vec<Pass> {
        match port {
            Port::Front => &mut self.front,
            Port::Wake => &mut self.wake,
        }
    }
}

/// The upper two bits of the first byte say it.
fn port_of(mark: &MarkBytes) -> Port {
    if mark.first().is_some_and(|head| head >> 6 == 0) { Port::Front } else { Port::Wake }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_given_once_in_its_time_and_for_its_port() {
        let now = Instant::now();
        let marks = vec![vec![0x05; 20].into(), vec![0x45; 20].into(), vec![0x05; 3].into()];
        let mut book = Book::default();
        book.take_in(&wire::Passes { marks: marks.clone(), valid_ms: 60_000 }, now);
        let late = now + Duration::from_secs(56);
        assert!(book.has(Port::Front, now) && book.has(Port::Wake, now) && !book.has(Port::Front, late));
        assert_eq!(book.take(Port::Front, now), Some(Bytes::from_static(&[0x05; 20])));
        assert_eq!(book.take(Port::Front, now), None);
        assert_eq!(book.take(Port::Wake, late), None);
        for _ in 0..40 {
            book.take_in(&wire::Passes { marks: marks.clone(), valid_ms: 60_000 }, now);
        }
        assert_eq!((book.front.len(), book.wake.len()), (KEPT_MAX, KEPT_MAX));
    }
}
