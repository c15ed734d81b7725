//! Marks: the 20 bytes that a client shows as the first connection id of a connection, before anything else is known of it.
//!
//! A **pass** says in which class its holder comes, a **slot** when it was told to come back. A server reads either from
//! the first packet, before it derives a key, in a fraction of a microsecond and without memory of the client. `1 lane and
//! key | 3 knock | 16 one AES-128 block`; only the first four bytes are alike in two marks of one time, so nobody on the path can tell
//! which connections belong together. The knock is the same for all marks of five minutes: a filter in the kernel can
//! compare it. The block's redundancy (20 zero bits, and a window of time that must include now: 2^-40 by chance, for
//! whoever knows the knock) stands in for a signature. A mark buys priority and never replaces a ticket.

use aws_lc_rs::cipher::{AES_128, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use zeroize::Zeroizing;

use crate::class::Class;
use crate::slots::{Asker, Grant};
use crate::{UnixMs, wire};

pub use used::{Use, Used};

mod used;

/// Length of a mark: the longest connection id of QUIC version 1.
pub const MARK_BYTES: usize = 20;

/// Where the knock lies in a mark, and in the connection ids of a server that has a filter.
pub const KNOCK_AT: usize = 1;

/// How long a knock is shown. It is accepted one such time longer, and one earlier because clocks differ.
pub const KNOCK_PERIOD_MS: u64 = 300_000;

/// How long a pass is valid. Not longer than a knock, so that a valid pass always has an accepted knock.
pub const PASS_LIFE_MS: u64 = KNOCK_PERIOD_MS;

/// No mark is valid longer than this, by its form.
pub const LIFE_MS_MAX: u64 = u16::MAX as u64 * LIFE_UNIT_MS;

/// How far the clocks of those who make passes and those who read them may differ. (A slot has its own tolerance.)
const CLOCK_SKEW_MS: u64 = 30_000;

const LIFE_UNIT_MS: u64 = 10;
const BLOCK_BYTES: usize = 16;
const FROM_BITS: u32 = 40;
const KEY_BITS: u8 = 0x3f;

/// The bytes of a mark.
pub type MarkBytes = [u8; MARK_BYTES];

/// The bytes that all marks of a time have in common.
pub type Knock = [u8; 3];

/// What a mark is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Come in this class, anywhere.
    Pass,
    /// Come back to this node, in this time.
    Slot,
}

/// A port of a session manager; it shows in the first byte of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Foreground.
    Front,
    /// Background.
    Wake,
}

impl Lane {
    /// The lane that serves this class.
    pub fn of(class: Class) -> Self {
        if class.is_foreground() { Self::Front } else { Self::Wake }
    }
}

/// A node, as marks name it: 16 bits of a hash of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeTag(u16);

impl NodeTag {
    /// The tag of a node, never that of "any node".
    pub fn of(name: &str) -> Self {
        // FNV-1a: a tag tells nodes apart, it keeps nothing secret.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        Self(((hash ^ (hash >> 32)) as u16).max(1))
    }
}

/// What a mark says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Pass or slot.
    pub kind: Kind,
    /// The class in which its holder is served.
    pub class: Class,
    /// The node of a slot, or of the session that was given a pass; none: any node.
    pub node: Option<NodeTag>,
    /// When it begins to be valid.
    pub from_ms: UnixMs,
    /// When it ends, in steps of 10 ms, at most [`LIFE_MS_MAX`] later.
    pub until_ms: UnixMs,
    /// Bits that tell it from others; those of a pass say who was given it ([`Mark::nonce`]).
    pub nonce: u32,
}

impl Mark {
    /// The nonce of a pass of this asker, the `n`th of those that are made at a time: so a server knows who asks again, and nobody else
    /// does.
    pub fn nonce(asker: Asker, n: u8) -> u32 {
        asker.bits() << (u32::BITS - Asker::BITS) | u32::from(n)
    }

    /// A slot at `at_ms` for what was promised, to this asker where he is known; it is as good around the time that is told as around the one
    /// that was promised. Two for one promise have other bytes: their windows end at different times. `random` are uniform bits.
    pub fn slot_for(
        class: Class,
        node: NodeTag,
        at_ms: UnixMs,
        grant: &Grant,
        asker: Option<Asker>,
        random: u32,
    ) -> Self {
        let nonce = asker.map_or(random, |asker| Self::nonce(asker, grant.number));
        let slot = Self::slot(class, node, at_ms, grant.tolerance_ms(), nonce);
        let later_ms = grant.told.saturating_sub(grant.at) / 1_000_000;
        let until_ms = slot.until_ms.saturating_add(later_ms);
        Self { until_ms: until_ms.saturating_add(u64::from(random % 16) * LIFE_UNIT_MS), ..slot }
    }

    /// The same slot, for somebody who came in its time and has to wait for a place: it is good until this time at least. Its bytes are
    /// always others, and it is for the same promise.
    pub fn kept(&self, until_ms: UnixMs, random: u32) -> Self {
        let until_ms = self.until_ms.max(until_ms);
        Self { until_ms: until_ms.saturating_add(u64::from(1 + random % 16) * LIFE_UNIT_MS), ..*self }
    }

    /// Who shows it. (Of a slot whose asker was not known these are any bits.)
    pub fn asker(&self) -> Asker {
        Asker::from_bits(self.nonce >> (u32::BITS - Asker::BITS))
    }

    /// What all slots have in common that were given for one promise, however often it was asked for: they are good for one login. (They
    /// begin within a millisecond or two, so two of them may lie on either side of one of these steps of eight seconds.)
    pub fn promise(&self) -> u64 {
        u64::from(self.nonce) << 32 | (self.from_ms >> 13) & u64::from(u32::MAX)
    }

    /// A pass that is valid from now on.
    pub fn pass(class: Class, now_ms: UnixMs, nonce: u32) -> Self {
        Self {
            kind: Kind::Pass,
            class,
            node: None,
            from_ms: now_ms,
            until_ms: now_ms.saturating_add(PASS_LIFE_MS),
            nonce,
        }
    }

    /// A pass that a session is given for its own next connection: it says that its holder goes on here, and does not come
    /// anew.
    pub fn going_on(class: Class, node: NodeTag, now_ms: UnixMs, nonce: u32) -> Self {
        Self { node: Some(node), ..Self::pass(class, now_ms, nonce) }
    }

    /// A slot at `at_ms`, give or take the tolerance.
    pub fn slot(class: Class, node: NodeTag, at_ms: UnixMs, tolerance_ms: u32, nonce: u32) -> Self {
        Self {
            kind: Kind::Slot,
            class,
            node: Some(node),
            from_ms: at_ms.saturating_sub(tolerance_ms.into()),
            until_ms: at_ms.saturating_add(tolerance_ms.into()),
            nonce,
        }
    }

    /// The port that it is for.
    pub fn lane(&self) -> Lane {
        Lane::of(self.class)
    }

    fn pack(&self) -> [u8; BLOCK_BYTES] {
        let kind = match self.kind {
            Kind::Pass => 0,
            Kind::Slot => 1,
        };
        let [_, _, _, f0, f1, f2, f3, f4] = self.from_ms.to_be_bytes();
        let life = self.until_ms.saturating_sub(self.from_ms) / LIFE_UNIT_MS;
        let [l0, l1] = u16::try_from(life).unwrap_or(u16::MAX).to_be_bytes();
        let [n0, n1, n2, n3] = self.nonce.to_be_bytes();
        let [t0, t1] = self.node.map_or(0, |node| node.0).to_be_bytes();
        [kind << 3 | self.class as u8, f0, f1, f2, f3, f4, l0, l1, n0, n1, n2, n3, t0, t1, 0, 0]
    }

    /// The opposite of [`Mark::pack`]; `now_ms` gives the upper bits of the time. `None`: it was never packed.
    fn unpack(block: [u8; BLOCK_BYTES], now_ms: UnixMs) -> Option<Self> {
        let [what, f0, f1, f2, f3, f4, l0, l1, n0, n1, n2, n3, t0, t1, 0, 0] = block else { return None };
        let (kind, tag) = match (what >> 3, u16::from_be_bytes([t0, t1])) {
            (0, tag) => (Kind::Pass, Some(tag).filter(|tag| *tag != 0).map(NodeTag)),
            (1, tag) if tag != 0 => (Kind::Slot, Some(NodeTag(tag))),
            _ => return None,
        };
        let from_ms = near(u64::from_be_bytes([0, 0, 0, f0, f1, f2, f3, f4]), now_ms);
        let life_ms = u64::from(u16::from_be_bytes([l0, l1])) * LIFE_UNIT_MS;
        Some(Self {
            kind,
            class: Class::of_number(u32::from(what & 0b111)),
            node: tag,
            from_ms,
            until_ms: from_ms.saturating_add(life_ms),
            nonce: u32::from_be_bytes([n0, n1, n2, n3]),
        })
    }

    fn check(self, now_ms: UnixMs) -> Result<Self, MarkError> {
        let early_ms = self.from_ms.saturating_sub(now_ms);
        match self.kind {
            Kind::Slot if early_ms > 0 => Err(MarkError::Early { wait_ms: early_ms }),
            Kind::Pass if early_ms > CLOCK_SKEW_MS => Err(MarkError::Early { wait_ms: early_ms }),
            Kind::Slot if now_ms >= self.until_ms => Err(MarkError::Late),
            Kind::Pass if now_ms >= self.until_ms => Err(MarkError::Expired),
            Kind::Slot | Kind::Pass => Ok(self),
        }
    }
}

/// The time nearest to `now` whose lower bits are these: a mark carries 40 of them, 34 years.
fn near(low: u64, now_ms: UnixMs) -> UnixMs {
    let ahead = low.wrapping_sub(now_ms) << (u64::BITS - FROM_BITS);
    let ahead = (ahead as i64) >> (u64::BITS - FROM_BITS);
    now_ms.saturating_add_signed(ahead)
}

/// Why bytes are not taken as a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MarkError {
    /// Not of the form of a mark.
    #[error("it is not a mark")]
    Malformed,
    /// Its key is not in the ring.
    #[error("its key is unknown here")]
    UnknownKey,
    /// It is not a mark, and was not made from one of this time either.
    #[error("its knock is not of this time")]
    Knock,
    /// It was altered, or made without the key.
    #[error("it does not open")]
    Forged,
    /// The time of a pass is over.
    #[error("the pass has expired")]
    Expired,
    /// The time of a slot is over.
    #[error("it is too late for the slot")]
    Late,
    /// Its time has not come.
    #[error("it is {wait_ms} ms too early")]
    Early {
        /// Until its time comes.
        wait_ms: u64,
    },
    /// It is a slot of another node.
    #[error("it is a slot of another node")]
    Foreign,
}

impl MarkError {
    /// Its stable name: metric label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown_key",
            Self::Knock => "knock",
            Self::Forged => "forged",
            Self::Expired => "expired",
            Self::Late => "late",
            Self::Early { .. } => "early",
            Self::Foreign => "foreign",
        }
    }
}

/// What tells one mark from all others of its keys, for [`Used`]. The marks of one key differ in it but for a chance of
/// 2^-64 for each pair (passes that one device is given twice in one millisecond: of 4 %), and it is as good as random to whoever has no key.
pub fn identity(mark: &MarkBytes) -> u64 {
    let [_, _, _, _, id @ .., _, _, _, _, _, _, _, _] = *mark;
    u64::from_be_bytes(id)
}

struct MarkKey {
    id: u8,
    not_before_ms: UnixMs,
    expires_ms: UnixMs,
    seal: EncryptingKey,
    open: DecryptingKey,
    knock: EncryptingKey,
}

/// The keys of marks: derived from those of tokens, valid as long as they.
#[derive(Default)]
pub struct MarkKeys {
    /// Oldest first.
    keys: Vec<MarkKey>,
}

impl MarkKeys {
    /// Keys derived from these; those of a wrong length are left out.
    pub(crate) fn new(set: &wire::KeySet) -> Self {
        let mut keys: Vec<MarkKey> = set.keys.iter().filter_map(MarkKey::derive).collect();
        keys.sort_by_key(|k| k.not_before_ms);
        Self { keys }
    }

    /// The bytes of a mark. `None`: no key is valid now.
    pub fn make(&self, mark: &Mark, now_ms: UnixMs) -> Option<MarkBytes> {
        let key = self.newest(now_ms)?;
        let lane = match mark.lane() {
            Lane::Front => 0,
            Lane::Wake => 1 << 6,
        };
        // A mark knocks as is usual when it begins: a slot has the knock of its own time.
        let [k0, k1, k2] = key.knock(period(mark.from_ms))?;
        let mut out = [0; MARK_BYTES];
        let (head, block) = out.split_first_chunk_mut::<4>()?;
        *head = [lane | key.id, k0, k1, k2];
        block.copy_from_slice(&mark.pack());
        key.seal.encrypt(block).ok()?;
        Some(out)
    }

    /// Reads a mark that is valid now.
    pub fn read(&self, bytes: &[u8], now_ms: UnixMs) -> Result<Mark, MarkError> {
        self.open(bytes, now_ms)?.check(now_ms)
    }

    /// Reads a mark that is valid now and at this node. A pass that another node gave to a session is a pass here.
    pub fn read_at(&self, bytes: &[u8], node: NodeTag, now_ms: UnixMs) -> Result<Mark, MarkError> {
        let mark = self.open(bytes, now_ms)?;
        match mark.kind {
            Kind::Slot if mark.node != Some(node) => Err(MarkError::Foreign),
            Kind::Slot => mark.check(now_ms),
            // Whoever had a session elsewhere comes anew.
            Kind::Pass => Mark { node: mark.node.filter(|of| *of == node), ..mark }.check(now_ms),
        }
    }

    /// The knock with which connection ids begin now. `None`: no key is valid.
    pub fn knock(&self, now_ms: UnixMs) -> Option<Knock> {
        self.newest(now_ms)?.knock(period(now_ms))
    }

    /// Every knock with which a mark that is valid now, or will be within a period, may begin: at most nine. For filters that
    /// can do no more than compare.
    pub fn knocks(&self, now_ms: UnixMs) -> Vec<Knock> {
        let soon_ms = now_ms.saturating_add(KNOCK_PERIOD_MS);
        let of_now = |key: &&MarkKey| key.not_before_ms <= soon_ms && now_ms < key.expires_ms;
        // The key that is about to be used, the one in use, and the one before.
        let keys = self.keys.iter().rev().filter(of_now).take(3);
        let near = period(now_ms).saturating_sub(1)..=period(now_ms).saturating_add(1);
        let mut knocks: Vec<Knock> =
            keys.flat_map(|key| near.clone().filter_map(|period| key.knock(period))).collect();
        knocks.sort_unstable();
        knocks.dedup();
        knocks
    }

    fn open(&self, bytes: &[u8], now_ms: UnixMs) -> Result<Mark, MarkError> {
        let mark: &MarkBytes = bytes.try_into().map_err(|_| MarkError::Malformed)?;
        let [head, k0, k1, k2, block @ ..] = *mark;
        let lane = match head >> 6 {
            0 => Lane::Front,
            1 => Lane::Wake,
            _ => return Err(MarkError::Malformed),
        };
        let is_key = |key: &&MarkKey| key.id == head & KEY_BITS && now_ms < key.expires_ms;
        let key = self.keys.iter().rev().find(is_key).ok_or(MarkError::UnknownKey)?;
        let shown = [k0, k1, k2];
        let opened = key.open(block).and_then(|clear| Mark::unpack(clear, now_ms));
        match opened.filter(|mark| mark.lane() == lane) {
            Some(mark) if key.knock(period(mark.from_ms)) == Some(shown) => Ok(mark),
            _ if key.is_knock(shown, now_ms) => Err(MarkError::Forged),
            _ => Err(MarkError::Knock),
        }
    }

    fn newest(&self, now_ms: UnixMs) -> Option<&MarkKey> {
        self.keys.iter().rev().find(|k| k.not_before_ms <= now_ms && now_ms < k.expires_ms)
    }
}

impl MarkKey {
    fn derive(token: &wire::TokenKey) -> Option<Self> {
        if token.secret.len() != 32 {
            return None;
        }
        let seal = derived(&token.secret, b"buslane mark v1")?;
        let knock = derived(&token.secret, b"buslane knock v1")?;
        let key = |bytes: &[u8; BLOCK_BYTES]| UnboundCipherKey::new(&AES_128, bytes).ok();
        Some(Self {
            id: token.id as u8 & KEY_BITS,
            not_before_ms: token.not_before_ms,
            expires_ms: token.expires_ms,
            seal: EncryptingKey::ecb(key(&seal)?).ok()?,
            open: DecryptingKey::ecb(key(&seal)?).ok()?,
            knock: EncryptingKey::ecb(key(&knock)?).ok()?,
        })
    }

    fn open(&self, mut block: [u8; BLOCK_BYTES]) -> Option<[u8; BLOCK_BYTES]> {
        self.open.decrypt(&mut block, DecryptionContext::None).ok()?;
        Some(block)
    }

    fn knock(&self, period: u64) -> Option<Knock> {
        let mut block = [0; BLOCK_BYTES];
        block.first_chunk_mut::<8>()?.copy_from_slice(&period.to_be_bytes());
        self.knock.encrypt(&mut block).ok()?;
        block.first_chunk().copied()
    }

    fn is_knock(&self, shown: Knock, now_ms: UnixMs) -> bool {
        let now = period(now_ms);
        (now.saturating_sub(1)..=now.saturating_add(1)).any(|period| self.knock(period) == Some(shown))
    }
}

fn period(at_ms: UnixMs) -> u64 {
    at_ms / KNOCK_PERIOD_MS
}

struct BlockKey;

impl KeyType for BlockKey {
    fn len(&self) -> usize {
        BLOCK_BYTES
    }
}

fn derived(secret: &[u8], purpose: &[u8]) -> Option<Zeroizing<[u8; BLOCK_BYTES]>> {
    let mut out = Zeroizing::new([0; BLOCK_BYTES]);
    let extracted = Salt::new(HKDF_SHA256, b"buslane").extract(secret);
    extracted.expand(&[purpose], BlockKey).ok()?.fill(&mut *out).ok()?;
    Some(out)
}

#[cfg(test)]
mod tests;
