//! The connection ids of a server: recognised by whoever has its secret, and beginning like a mark.
//!
//! `1 random | 3 knock | 4 random | 4 check`. A filter must tell a client's second packet, which carries an id of ours, from
//! a stranger's first: the check does so without a table, and survives a restart. The knock (see
//! `buslane_shared::mark`) is what a filter in the kernel can compare. The check is no proof: whoever saw an id may show it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_lc_rs::cipher::{AES_128, EncryptingKey, UnboundCipherKey};
use aws_lc_rs::error::Unspecified;
use buslane_shared::mark::Knock;
use quinn::{ConnectionId, ConnectionIdGenerator};
use quinn_proto::InvalidCid;

use crate::clock;

const ID_BYTES: usize = 12;
const SIGNED_BYTES: usize = 8;

/// The knock with which new ids begin. Until one is set, or when there is none, random bytes stand in its place.
#[derive(Debug)]
pub(super) struct CurrentKnock(AtomicU32);

impl Default for CurrentKnock {
    fn default() -> Self {
        Self(AtomicU32::new(Self::NONE))
    }
}

impl CurrentKnock {
    const NONE: u32 = u32::MAX;

    pub(super) fn set(&self, knock: Option<Knock>) {
        let number = knock.map_or(Self::NONE, |[a, b, c]| u32::from_be_bytes([0, a, b, c]));
        self.0.store(number, Ordering::Relaxed);
    }

    fn load(&self) -> Option<Knock> {
        let number = self.0.load(Ordering::Relaxed);
        let [_, knock @ ..] = number.to_be_bytes();
        (number != Self::NONE).then_some(knock)
    }
}

/// Makes ids and recognises them. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(super) struct Ids {
    key: Arc<EncryptingKey>,
    pub(super) knock: Arc<CurrentKnock>,
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ids").field("knock", &self.knock).finish_non_exhaustive()
    }
}

impl Ids {
    pub(super) fn new(secret: &[u8; 16]) -> Result<Self, Unspecified> {
        let key = EncryptingKey::ecb(UnboundCipherKey::new(&AES_128, secret)?)?;
        Ok(Self { key: Arc::new(key), knock: Arc::default() })
    }

    /// Whether this id was made with this key.
    pub(super) fn is_own(&self, id: &[u8]) -> bool {
        let Some((signed, check)) = id.split_first_chunk::<SIGNED_BYTES>() else { return false };
        self.check(signed).is_some_and(|own| own == check)
    }

    /// AES as a keyed hash of one block: tens of nanoseconds.
    fn check(&self, signed: &[u8; SIGNED_BYTES]) -> Option<[u8; ID_BYTES - SIGNED_BYTES]> {
        let mut block = [0; 16];
        block.first_chunk_mut()?.clone_from(signed);
        self.key.encrypt(&mut block).ok()?;
        block.first_chunk().copied()
    }
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut signed: [u8; SIGNED_BYTES] = clock::random();
        if let (Some(knock), [_, a, b, c, ..]) = (self.knock.load(), &mut signed) {
            [*a, *b, *c] = knock;
        }
        let mut id = [0; ID_BYTES];
        let (head, tail) = id.split_at_mut(SIGNED_BYTES);
        head.copy_from_slice(&signed);
        tail.copy_from_slice(&self.check(&signed).unwrap_or_default());
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        if self.is_own(id) { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_recognised_by_their_key_only() {
        let (mut ours, theirs) = (Ids::new(&[1; 16]).unwrap(), Ids::new(&[2; 16]).unwrap());
        let after_a_restart = Ids::new(&[1; 16]).unwrap();
        let (one, two) = (ours.generate_cid(), ours.generate_cid());
        assert_ne!(one, two);
        assert!(after_a_restart.is_own(&one) && !theirs.is_own(&one));
        for at in 0..ID_BYTES {
            let mut bent = one.to_vec();
            bent[at] ^= 1;
            assert!(!ours.is_own(&bent), "{at}");
        }
        assert!(!ours.is_own(&one[..11]) && !ours.is_own(&[]) && !ours.is_own(&[0; 20]));
    }

    #[test]
    fn ids_begin_with_the_knock() {
        let mut ids = Ids::new(&[1; 16]).unwrap();
        ids.clone().knock.set(Some([7, 8, 9]));
        let id = ids.generate_cid();
        assert_eq!(id[1..4], [7, 8, 9]);
        assert!(ids.is_own(&id));
        ids.knock.set(None);
        assert_ne!(ids.generate_cid()[1..4], ids.generate_cid()[1..4]);
    }
}
