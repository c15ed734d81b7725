//! Sealed tokens: tickets, resume tokens and credentials.
//!
//! A token is AES-256-GCM over a protobuf body, under a key that gateways, session managers and the backend share and
//! that is replaced with an overlap: `1 version | 4 key id | 12 nonce | ciphertext | 16 tag`. The purpose is the
//! additional data, so a credential never opens as a ticket. Whoever holds the ring can check a token alone, in about a
//! microsecond, and nobody else can read it or make one. (Why not signatures: docs/decisions/0002-sealed-tickets.md.)

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use zeroize::Zeroizing;

use crate::mark::MarkKeys;
use crate::{UnixMs, wire};

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 1 + 4 + NONCE_LEN;

/// Largest token: a ticket with the longest name and eight session managers.
pub const TOKEN_BYTES_MAX: usize = 1024;

/// What a token is for. A token opens for its own purpose only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Proves an enrolment to a gateway.
    Credential,
    /// Opens a session at a session manager.
    Ticket,
    /// Continues a session at a session manager.
    Resume,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Credential => b"buslane credential v1",
            Self::Ticket => b"buslane ticket v1",
            Self::Resume => b"buslane resume v1",
        }
    }
}

/// A token's clear content, which ends at a time.
pub trait Body: Message + Default {
    /// Unix milliseconds after which the token is worth nothing.
    fn expires_ms(&self) -> UnixMs;
}

impl Body for wire::CredentialBody {
    fn expires_ms(&self) -> UnixMs {
        self.expires_ms
    }
}

impl Body for wire::TicketBody {
    fn expires_ms(&self) -> UnixMs {
        self.expires_ms
    }
}

impl Body for wire::ResumeBody {
    fn expires_ms(&self) -> UnixMs {
        self.expires_ms
    }
}

/// Why a token was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of this version, or of another length than any token.
    #[error("it is not a token")]
    Malformed,
    /// The key is not in the ring: another system's, or so old that its key is gone.
    #[error("its key is unknown here")]
    UnknownKey,
    /// It was altered, or made for another purpose.
    #[error("it does not open")]
    Forged,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// There is no key to seal with at this time.
    #[error("no key is valid now")]
    NoKey,
}

/// One key of a ring.
struct RingKey {
    id: u32,
    not_before_ms: UnixMs,
    expires_ms: UnixMs,
    key: LessSafeKey,
}

/// The keys that are valid around now: the newest one seals, all of them open.
#[derive(Default)]
pub struct KeyRing {
    keys: Vec<RingKey>,
    marks: MarkKeys,
}

impl KeyRing {
    /// A ring of these keys; keys of a wrong length are left out (the schema's owner made them).
    pub fn new(set: &wire::KeySet) -> Self {
        let mut keys: Vec<RingKey> = set
            .keys
            .iter()
            .filter_map(|k| {
                let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &k.secret).ok()?);
                Some(RingKey { id: k.id, not_before_ms: k.not_before_ms, expires_ms: k.expires_ms, key })
            })
            .collect();
        keys.sort_by_key(|k| k.not_before_ms);
        Self { keys, marks: MarkKeys::new(set) }
    }

    /// The keys of marks, derived from the same secrets.
    pub fn marks(&self) -> &MarkKeys {
        &self.marks
    }

    /// True when nothing can be sealed or opened.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Seals `body`. `nonce` is 12 fresh random bytes.
    pub fn seal<B: Body>(
        &self,
        purpose: Purpose,
        body: &B,
        nonce: [u8; NONCE_LEN],
        now_ms: UnixMs,
    ) -> Result<Bytes, TokenError> {
        let newest = self.keys.iter().rev().find(|k| k.not_before_ms <= now_ms && now_ms < k.expires_ms);
        let key = newest.ok_or(TokenError::NoKey)?;
        let mut clear = Zeroizing::new(body.encode_to_vec());
        let tag = key
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(purpose.label()),
                &mut clear,
            )
            .map_err(|_| TokenError::NoKey)?;
        let mut out = BytesMut::with_capacity(HEADER_BYTES + clear.len() + tag.as_ref().len());
        out.put_u8(VERSION);
        out.put_u32(key.id);
        out.put_slice(&nonce);
        out.put_slice(&clear);
        out.put_slice(tag.as_ref());
        Ok(out.freeze())
    }

    /// Opens `token` for `purpose`.
    pub fn open<B: Body>(&self, purpose: Purpose, token: &[u8], now_ms: UnixMs) -> Result<B, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let (header, sealed) = token.split_first_chunk::<HEADER_BYTES>().ok_or(TokenError::Malformed)?;
        let [version, k0, k1, k2, k3, nonce @ ..] = *header;
        if version != VERSION {
            return Err(TokenError::Malformed);
        }
        let id = u32::from_be_bytes([k0, k1, k2, k3]);
        let key = self.keys.iter().find(|k| k.id == id && now_ms < k.expires_ms);
        let key = key.ok_or(TokenError::UnknownKey)?;
        let mut clear = Zeroizing::new(sealed.to_vec());
        let clear = key
            .key
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(purpose.label()), &mut clear)
            .map_err(|_| TokenError::Forged)?;
        let body = B::decode(&*clear).map_err(|_| TokenError::Forged)?;
        if now_ms >= body.expires_ms() { Err(TokenError::Expired) } else { Ok(body) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(id: u32, not_before_ms: u64, expires_ms: u64) -> wire::TokenKey {
        wire::TokenKey { id, secret: vec![id as u8; 32].into(), not_before_ms, expires_ms }
    }

    fn ring(keys: Vec<wire::TokenKey>) -> KeyRing {
        KeyRing::new(&wire::KeySet { keys })
    }

    fn ticket(expires_ms: u64) -> wire::TicketBody {
        wire::TicketBody { user: "alice".into(), expires_ms, ..Default::default() }
    }

    #[test]
    fn a_token_opens_for_its_purpose_until_it_expires() {
        let ring = ring(vec![key(1, 0, 100)]);
        let token = ring.seal(Purpose::Ticket, &ticket(50), [9; 12], 10).unwrap();
        assert_eq!(ring.open::<wire::TicketBody>(Purpose::Ticket, &token, 49), Ok(ticket(50)));
        assert_eq!(ring.open::<wire::TicketBody>(Purpose::Ticket, &token, 50), Err(TokenError::Expired));
        assert_eq!(ring.open::<wire::TicketBody>(Purpose::Resume, &token, 49), Err(TokenError::Forged));
    }

    #[test]
    fn rotation_overlaps() {
        let old = ring(vec![key(1, 0, 100)]);
        let token = old.seal(Purpose::Ticket, &ticket(90), [1; 12], 10).unwrap();
        let both = ring(vec![key(2, 50, 200), key(1, 0, 100)]);
        assert!(both.open::<wire::TicketBody>(Purpose::Ticket, &token, 60).is_ok());
        let newer = both.seal(Purpose::Ticket, &ticket(150), [2; 12], 60).unwrap();
        assert_eq!(old.open::<wire::TicketBody>(Purpose::Ticket, &newer, 60), Err(TokenError::UnknownKey));
        assert_eq!(both.open::<wire::TicketBody>(Purpose::Ticket, &token, 100), Err(TokenError::UnknownKey));
    }

    #[test]
    fn a_key_that_is_not_yet_valid_does_not_seal() {
        let ring = ring(vec![key(1, 50, 100)]);
        assert_eq!(ring.seal(Purpose::Ticket, &ticket(90), [1; 12], 10), Err(TokenError::NoKey));
    }

    proptest! {
        #[test]
        fn one_flipped_bit_anywhere_is_refused(at in 0usize..40, bit in 0u8..8) {
            let ring = ring(vec![key(1, 0, 100)]);
            let mut token = ring.seal(Purpose::Ticket, &ticket(50), [9; 12], 10).unwrap().to_vec();
            let at = at % token.len();
            token[at] ^= 1 << bit;
            prop_assert!(ring.open::<wire::TicketBody>(Purpose::Ticket, &token, 20).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_open(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let ring = ring(vec![key(1, 0, 100)]);
            prop_assert!(ring.open::<wire::TicketBody>(Purpose::Ticket, &bytes, 20).is_err());
        }
    }
}
