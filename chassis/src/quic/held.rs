//! First packets that are kept until their time.
//!
//! Why it exists: whoever would be told to come back in a moment is in sooner, and costs less, when his packet waits here. It must never keep
//! more than [`HELD_MAX`], nor give one back before its time.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future as _;
use std::io::IoSliceMut;
use std::pin::Pin;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use quinn::udp::RecvMeta;
use tokio::time::{Instant, Sleep, sleep_until};

/// Packets that are kept at one port: 10 MB, the hellos of a second at 4,000 of them in two packets each.
pub(super) const HELD_MAX: usize = 8_192;

/// The longest packet that is kept: what a network carries in one piece.
const HELD_BYTES_MAX: usize = 1_500;

/// Those of one port.
#[derive(Default)]
pub(super) struct Held {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// By their times; of those for one time the first to come is the first.
    packets: BTreeMap<(Instant, u64), Packet>,
    /// How many were kept so far.
    kept: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

struct Packet {
    datagram: Box<[u8]>,
    meta: RecvMeta,
    came: Instant,
}

impl Held {
    /// Whether there is room for one more, of so many bytes.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        bytes <= HELD_BYTES_MAX && self.waiting.lock().packets.len() < HELD_MAX
    }

    /// Keeps a packet that came then, if there is room.
    pub(super) fn keep(&self, datagram: &[u8], meta: &RecvMeta, came: Instant, until: Instant) {
        let waiting = &mut *self.waiting.lock();
        if datagram.len() <= HELD_BYTES_MAX && waiting.packets.len() < HELD_MAX {
            waiting.kept += 1;
            let packet = Packet { datagram: datagram.into(), meta: *meta, came };
            waiting.packets.insert((until, waiting.kept), packet);
        }
    }

    /// Gives back those whose time has come, as if they came now, as many as there are buffers; answers when they came.
    pub(super) fn take(
        &self,
        now: Instant,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Vec<Instant> {
        let waiting = &mut *self.waiting.lock();
        let mut taken = Vec::new();
        for (buffer, meta) in bufs.iter_mut().zip(meta) {
            let due = waiting.packets.first_entry().filter(|first| first.key().0 <= now);
            let Some(packet) = due.map(|first| first.remove()) else { break };
            // One that no longer fits would be cut: the client sends it again.
            let stride = packet.datagram.len();
            let len = buffer.get_mut(..stride).map_or(0, |room| {
                room.copy_from_slice(&packet.datagram);
                stride
            });
            *meta = RecvMeta { len, stride, ..packet.meta };
            taken.push(packet.came);
        }
        taken
    }

    /// Ready when the time of one has come.
    pub(super) fn poll_due(&self, cx: &mut Context<'_>) -> Poll<()> {
        let waiting = &mut *self.waiting.lock();
        let Some(((due, _), _)) = waiting.packets.first_key_value() else {
            waiting.timer = None;
            return Poll::Pending;
        };
        let timer = waiting.timer.get_or_insert_with(|| Box::pin(sleep_until(*due)));
        if timer.deadline() != *due {
            timer.as_mut().reset(*due);
        }
        timer.as_mut().poll(cx)
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("packets", &self.waiting.lock().packets.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn meta(bytes: usize) -> RecvMeta {
        RecvMeta { addr: ([127, 0, 0, 1], 9).into(), len: 3 * bytes, stride: bytes, ecn: None, dst_ip: None }
    }

    /// The first bytes of those that are given back at this time.
    fn taken(held: &Held, now: Instant, room: usize) -> Vec<u8> {
        let (mut one, mut two) = (vec![0; room], vec![0; room]);
        let mut meta = [RecvMeta::default(); 2];
        let mut bufs = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
        let came = held.take(now, &mut bufs, &mut meta);
        let count = came.len();
        let firsts = bufs.iter().zip(&meta).take(count);
        firsts
            .filter(|(_, meta)| meta.len > 0)
            .map(|(buffer, meta)| {
                assert_eq!((meta.len, meta.stride, meta.addr.port()), (10, 10, 9));
                buffer[0]
            })
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_comes_back_at_its_time_and_those_of_one_time_in_their_order() {
        let (held, start) = (Held::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for (head, ms) in [(1, 30), (2, 10), (3, 10), (4, 10)] {
            held.keep(&[head; 10], &meta(10), start, at(ms));
        }
        let due = |ms| {
            let held = &held;
            async move {
                std::future::poll_fn(|cx| held.poll_due(cx)).await;
                assert_eq!(start.elapsed().as_millis(), ms);
            }
        };
        assert!(taken(&held, at(9), 10).is_empty());
        due(10).await;
        assert_eq!(taken(&held, at(10), 10), [2, 3], "there were two buffers");
        due(10).await;
        assert_eq!(taken(&held, at(10), 10), [4]);
        due(30).await;
        assert!(taken(&held, at(30), 9).is_empty(), "nothing is cut");
        assert!(std::future::poll_fn(|cx| Poll::Ready(held.poll_due(cx))).await.is_pending(), "nobody waits");
    }

    #[tokio::test]
    async fn no_more_are_kept_than_there_is_room_for() {
        let (held, now) = (Held::default(), Instant::now());
        for _ in 0..HELD_MAX {
            assert!(held.has_room(1_500) && !held.has_room(1_501));
            held.keep(&[0; 10], &meta(10), now, now);
        }
        assert!(!held.has_room(10));
        held.keep(&[1; 10], &meta(10), now, now);
        assert_eq!(held.waiting.lock().packets.len(), HELD_MAX);
        taken(&held, now, 10);
        assert!(held.has_room(10));
        held.keep(&[1; 1_501], &meta(10), now, now);
        assert_eq!(held.waiting.lock().packets.len(), HELD_MAX - 2, "there were two buffers");
    }
}
