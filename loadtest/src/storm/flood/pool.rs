//! The packets of a flood, made before it.
//!
//! Making one costs some microseconds, sending one as many: a flood that made its packets on the way would be half as large.

use buslane_shared::mark::{KNOCK_AT, Knock, Lane, MARK_BYTES};
use rustix::net::SocketAddrAny;

use crate::simulate::random::Random;
use crate::storm::raw::Goal;
use crate::storm::raw::initial::{Beginner, Hello, OWN_ID_BYTES, PACKET_BYTES, random_bytes, random_id};
use crate::storm::scenario::Shown;

/// ClientHellos for each port: making one costs ten times what a packet does.
const HELLOS: usize = 32;

/// Packets that are handed to the kernel in one call.
pub const BATCH_MAX: usize = 64;

/// Bits of the first byte of a pass that name its key; the others name its lane.
const KEY_BITS: u8 = 0x3f;
const WAKE_BIT: u8 = 0x40;

/// What the passes of a time have in common.
#[derive(Debug, Clone, Copy)]
pub struct Imitated {
    /// First byte of one.
    pub head: u8,
    /// What a filter in the kernel looks at.
    pub knock: Knock,
}

impl Imitated {
    /// An id that looks like a pass for this lane to whoever does not open it.
    fn forge(&self, lane: Lane, random: &mut Random) -> Vec<u8> {
        let lane = match lane {
            Lane::Front => 0,
            Lane::Wake => WAKE_BIT,
        };
        let mut id = vec![self.head & KEY_BITS | lane];
        id.extend(self.knock);
        let rest = MARK_BYTES - KNOCK_AT - self.knock.len();
        id.extend(random_bytes(random, rest));
        id
    }
}

/// What the packets are to be.
pub struct Plan<'a> {
    /// Where they go, in turns.
    pub goals: &'a [Goal],
    /// What they show.
    pub show: Shown,
    /// What a pass looks like; without it all ids are random.
    pub imitated: Option<Imitated>,
    /// Of the ids.
    pub seed: u64,
}

/// A packet and where it goes.
pub struct Packet {
    /// The datagram.
    pub bytes: [u8; PACKET_BYTES],
    /// Its destination.
    pub to: SocketAddrAny,
}

/// Packets that are sent round and round.
pub struct Pool {
    packets: Vec<Packet>,
    next: usize,
}

impl Pool {
    /// Makes `count` packets.
    pub fn make(plan: &Plan<'_>, server_name: &str, count: usize) -> anyhow::Result<Self> {
        let mut random = Random::new(plan.seed, 1);
        let mut hellos = Vec::new();
        for goal in plan.goals {
            hellos.push(begin(&Beginner::new(goal.speaks, server_name)?, &mut random)?);
        }
        let mut packets = Vec::with_capacity(count);
        let turns = plan.goals.iter().zip(&hellos).cycle();
        for (n, (goal, hellos)) in turns.take(count).enumerate() {
            let round = n / plan.goals.len().max(1);
            let id = match (plan.show, &plan.imitated) {
                (Shown::ForgedPass, Some(imitated)) => imitated.forge(goal.lane, &mut random),
                (Shown::Mixed, Some(imitated)) if round % 2 == 1 => imitated.forge(goal.lane, &mut random),
                _ => random_id(&mut random),
            };
            let Some(hello) = hellos.get(round % HELLOS) else { continue };
            packets.push(Packet { bytes: hello.packet(&id)?, to: goal.addr.into() });
        }
        anyhow::ensure!(!packets.is_empty(), "a flood needs at least one packet and one port");
        Ok(Self { packets, next: 0 })
    }

    /// The next packets, at most so many and at most [`BATCH_MAX`].
    pub fn next_batch(&self, count: usize) -> &[Packet] {
        let left = self.packets.get(self.next..).unwrap_or_default();
        left.get(..count.min(BATCH_MAX)).unwrap_or(left)
    }

    /// So many of them were sent.
    pub fn advance(&mut self, sent: usize) {
        self.next += sent;
        if self.next >= self.packets.len() {
            self.next = 0;
        }
    }
}

fn begin(beginner: &Beginner, random: &mut Random) -> anyhow::Result<Vec<Hello>> {
    (0..HELLOS)
        .map(|_| {
            let own_id: [u8; OWN_ID_BYTES] = random.bits().to_be_bytes();
            beginner.begin(own_id)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm::raw::goals;
    use crate::storm::scenario::Port;
    use crate::storm::stage::Ports;

    /// The first id of a datagram.
    fn id(packet: &Packet) -> &[u8] {
        &packet.bytes[6..6 + usize::from(packet.bytes[5])]
    }

    fn ports() -> Ports {
        let at = |port: u16| ([127, 0, 0, 1], port).into();
        Ports { gate: at(1), front: at(2), wake: at(3) }
    }

    #[test]
    fn ports_come_in_turns_and_forged_passes_look_right() {
        let goals = goals(&ports(), Port::All);
        let imitated = Some(Imitated { head: 0x45, knock: [7, 8, 9] });
        for (show, forged) in [
            (Shown::Random, [false, false]),
            (Shown::ForgedPass, [true, true]),
            (Shown::Mixed, [false, true]),
        ] {
            let plan = Plan { goals: &goals, show, imitated, seed: 5 };
            let pool = Pool::make(&plan, "localhost", 12).unwrap();
            assert_eq!(pool.packets.len(), 12);
            for (n, packet) in pool.packets.iter().enumerate() {
                let goal = goals[n % 3];
                assert!(packet.to == SocketAddrAny::from(goal.addr));
                let head = if goal.lane == Lane::Wake { 0x45 } else { 0x05 };
                let is_forged = id(packet).len() == 20 && id(packet)[..4] == [head, 7, 8, 9];
                assert_eq!(is_forged, forged[n / 3 % 2], "{show:?} {n}");
            }
        }
    }

    #[test]
    fn packets_come_round() {
        let goals = goals(&ports(), Port::Wake);
        let plan = Plan { goals: &goals, show: Shown::Random, imitated: None, seed: 5 };
        let mut pool = Pool::make(&plan, "127.0.0.1", BATCH_MAX + 3).unwrap();
        assert_eq!(pool.next_batch(usize::MAX).len(), BATCH_MAX);
        assert_eq!(pool.next_batch(2).len(), 2);
        pool.advance(BATCH_MAX);
        assert_eq!(pool.next_batch(usize::MAX).len(), 3);
        pool.advance(3);
        assert_eq!(id(&pool.next_batch(1)[0]), id(&pool.packets[0]));
        let ids: std::collections::HashSet<&[u8]> = pool.packets.iter().map(id).collect();
        assert_eq!(ids.len(), BATCH_MAX + 3);
        assert!(Pool::make(&Plan { goals: &[], ..plan }, "localhost", 1).is_err());
    }
}
