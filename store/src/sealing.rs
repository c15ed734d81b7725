//! Sealing of records: a data key for each room, itself wrapped by a key that is not in the store.
//!
//! Key-encryption key → data key of a room and epoch (32 random bytes, wrapped, in [`Table::Keys`]) → record. Rotating the
//! key-encryption key rewraps data keys and touches no record. Removing a wrapped data key makes every record of its
//! epoch unreadable for ever. No key ever leaves this module in the clear, and none is logged.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use buslane_shared::id::RoomId;
use bytes::{BufMut, Bytes};
use futures_util::future::join_all;
use parking_lot::{Mutex, RwLock};
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use crate::boundary::{Engine, Epoch, Mutation, StoreError, StoredRecord, Table, Versioned};
pub use crate::keywrap::{FileKeyWrap, KeyFileError, KeyWrap, KeyWrapError, MemoryKeyWrap};
use crate::record::{self, CONTENT_BYTES_MAX};
pub use crate::record::{KeyEpoch, OpenRecord, RecordHeader};
use crate::space::damaged;

/// Rooms whose data keys are kept ready: about 1 KiB each. Keys that somebody holds stay beyond it, so that there never
/// are two of a room.
const ROOM_KEYS_MAX: usize = 32 * 1024;

/// Data keys of one room. Each was asked for by an operator.
const KEY_EPOCHS_MAX: usize = 1024;

/// Wrapped keys that are rewrapped at a time: they share one durable write.
const REWRAP_PAGE: usize = 256;

/// Bytes of a data key.
const DATA_KEY_BYTES: usize = 32;

/// First byte of the keys of [`Table::Keys`]: a data key of a room.
const ROOM_TAG: u8 = b'r';

/// First byte of the keys of [`Table::Keys`]: a secret with a name.
const SECRET_TAG: u8 = b's';

/// The secret that tells whether a key file belongs to a store.
const CHECK_NAME: &str = "check";
const CHECK_CLEAR: &[u8] = b"buslane";

/// Why keys cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys do not fit the store.
    #[error(transparent)]
    Key(#[from] KeyWrapError),
}

impl From<SealError> for StoreError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Store(error) => error,
            SealError::Key(error) => damaged(error.to_string()),
        }
    }
}

/// What was done by a rewrap so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RewrapProgress {
    /// Wrapped keys looked at.
    pub seen: u64,
    /// Wrapped keys that now are under the newest key.
    pub rewrapped: u64,
}

/// Gives out the data keys of rooms. Cheap to clone.
#[derive(Clone)]
pub struct Sealer(Arc<Inner>);

struct Inner {
    engine: Arc<dyn Engine>,
    wrap: Arc<dyn KeyWrap>,
    rooms: Mutex<Rooms>,
    checked: OnceCell<()>,
}

/// The keys that are ready.
struct Rooms {
    keys: HashMap<RoomId, Arc<RoomKey>>,
    /// When there are this many, those that nobody holds are dropped.
    prune_at: usize,
}

impl Rooms {
    fn find(&self, room: RoomId) -> Option<Arc<RoomKey>> {
        self.keys.get(&room).map(Arc::clone)
    }

    /// The key that is there, or else this one.
    fn keep(&mut self, key: RoomKey) -> Arc<RoomKey> {
        if self.keys.len() >= self.prune_at {
            self.keys.retain(|_, key| Arc::strong_count(key) > 1);
            // Where most are held, looking through all of them again is put off until there are twice as many.
            self.prune_at = ROOM_KEYS_MAX.max(self.keys.len() * 2);
        }
        Arc::clone(self.keys.entry(key.room).or_insert_with(|| Arc::new(key)))
    }
}

impl Sealer {
    /// A sealer over this engine, with the keys behind `wrap`. Call [`Sealer::check`] before anything is served.
    pub fn new(engine: Arc<dyn Engine>, wrap: Arc<dyn KeyWrap>) -> Self {
        let rooms = Mutex::new(Rooms { keys: HashMap::new(), prune_at: ROOM_KEYS_MAX });
        Self(Arc::new(Inner { engine, wrap, rooms, checked: OnceCell::new() }))
    }

    /// Whether the keys belong to this store. A new store is bound to them by this. (Every other method does this first,
    /// if nobody has.)
    pub async fn check(&self) -> Result<(), SealError> {
        let check = async {
            let key = secret_key(CHECK_NAME);
            if let Some(stored) = self.0.engine.get(Table::Keys, &key)? {
                return self.unwrap(&key, &stored).await.map(|_| ());
            }
            // A store that has keys and no check value has lost it: whatever its first key says is the truth.
            if let Some((key, stored)) = self.0.engine.scan(Table::Keys, b"", None, 1)?.first() {
                self.unwrap(key, stored).await?;
            }
            let wrapped = self.0.wrap.wrap(&key, CHECK_CLEAR).await?;
            match self.0.engine.compare_and_set(Table::Keys, key.clone(), None, wrapped).await {
                Err(StoreError::Conflict) | Ok(_) => Ok(()),
                Err(e) => Err(e.into()),
            }
        };
        self.0.checked.get_or_try_init(|| check).await.copied()
    }

    /// The key of a room: loaded, or made and stored durably.
    pub async fn room_key(&self, room: RoomId) -> Result<Arc<RoomKey>, StoreError> {
        if let Some(key) = self.0.rooms.lock().find(room) {
            return Ok(key);
        }
        self.check().await?;
        let mut epochs = self.load(room).await?;
        if epochs.is_empty() {
            self.make(room, KeyEpoch(1)).await?;
            epochs = self.load(room).await?;
        }
        let last = Mutex::new((Epoch(0), 0));
        Ok(self.0.rooms.lock().keep(RoomKey { room, epochs: RwLock::new(epochs), last }))
    }

    /// Makes a new data key for a room, which seals from now on. Older records still open.
    pub async fn renew(&self, room: RoomId) -> Result<KeyEpoch, StoreError> {
        let key = self.room_key(room).await?;
        let newest = key.epochs.read().last().map_or(KeyEpoch(0), |(epoch, _)| *epoch);
        let next = newest.0.checked_add(1).map(KeyEpoch);
        let next = next.filter(|_| key.epochs.read().len() < KEY_EPOCHS_MAX);
        let next = next.ok_or_else(|| damaged(format!("room {room} has no more epochs of data keys")))?;
        self.make(room, next).await?;
        *key.epochs.write() = self.load(room).await?;
        Ok(next)
    }

    /// Removes the data keys of a room below `below`: what they sealed can never be read again, here or in any copy of
    /// this store that is made from now on. The newest key is always kept. How many were removed.
    pub async fn shred(&self, room: RoomId, below: KeyEpoch) -> Result<usize, StoreError> {
        let key = self.room_key(room).await?;
        let newest = key.epochs.read().last().map_or(KeyEpoch(0), |(epoch, _)| *epoch);
        let doomed = |epoch: KeyEpoch| epoch < below && epoch < newest;
        let removed: Vec<KeyEpoch> =
            key.epochs.read().iter().map(|(epoch, _)| *epoch).filter(|epoch| doomed(*epoch)).collect();
        let delete =
            |epoch: &KeyEpoch| Mutation::Delete { table: Table::Keys, key: data_key_key(room, *epoch) };
        self.0.engine.write(removed.iter().map(delete).collect()).await?;
        key.epochs.write().retain(|(epoch, _)| !doomed(*epoch));
        Ok(removed.len())
    }

    /// Stores a secret under a name, wrapped; an earlier one is replaced.
    pub async fn put_secret(&self, name: &str, clear: &[u8]) -> Result<(), SealError> {
        self.check().await?;
        let key = secret_key(name);
        let value = self.0.wrap.wrap(&key, clear).await?;
        Ok(self.0.engine.write(vec![Mutation::Put { table: Table::Keys, key, value }]).await?)
    }

    /// The secret under a name.
    pub async fn secret(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SealError> {
        self.check().await?;
        let key = secret_key(name);
        match self.0.engine.get(Table::Keys, &key)? {
            None => Ok(None),
            Some(stored) => self.unwrap(&key, &stored).await.map(Some),
        }
    }

    /// Makes a new key-encryption key and rewraps everything with it. The old ones still unwrap (older backups need
    /// them) until [`KeyWrap::retire`]. If it is interrupted, [`Sealer::rewrap`] finishes it. The id of the new key.
    pub async fn rotate(&self, progress: impl FnMut(RewrapProgress) + Send) -> Result<String, SealError> {
        self.check().await?;
        let id = self.0.wrap.rotate().await?;
        self.rewrap(progress).await?;
        Ok(id)
    }

    /// Wraps everything that is not under the newest key with it. May be interrupted and begun again at any time.
    pub async fn rewrap(
        &self,
        mut progress: impl FnMut(RewrapProgress) + Send,
    ) -> Result<RewrapProgress, SealError> {
        let mut done = RewrapProgress::default();
        loop {
            let before = done.rewrapped;
            let mut after: Option<Bytes> = None;
            loop {
                let page = self.0.engine.scan(Table::Keys, b"", after.as_deref(), REWRAP_PAGE)?;
                let Some((last, _)) = page.last() else { break };
                after = Some(last.clone());
                done.seen += page.len() as u64;
                for rewrapped in
                    join_all(page.into_iter().map(|(key, stored)| self.rewrap_one(key, stored))).await
                {
                    done.rewrapped += u64::from(rewrapped?);
                }
                progress(done);
            }
            if done.rewrapped == before {
                return Ok(done);
            }
            // Once more: a key that somebody changed in the meantime was left alone.
        }
    }

    /// True when it was rewrapped (or somebody else has changed it).
    async fn rewrap_one(&self, key: Bytes, stored: Versioned) -> Result<bool, SealError> {
        if crate::keywrap::key_id(&stored.value)? == self.0.wrap.newest() {
            return Ok(false);
        }
        let clear = self.unwrap(&key, &stored).await?;
        let wrapped = self.0.wrap.wrap(&key, &clear).await?;
        match self.0.engine.compare_and_set(Table::Keys, key, Some(stored.revision), wrapped).await {
            Ok(_) | Err(StoreError::Conflict) => Ok(true),
            Err(e) => Err(e.into()),
        }
    }

    /// Where a value lies is the context under which it is wrapped, so it does not unwrap in another place.
    async fn unwrap(&self, key: &[u8], stored: &Versioned) -> Result<Zeroizing<Vec<u8>>, SealError> {
        Ok(self.0.wrap.unwrap(key, &stored.value).await?)
    }

    async fn make(&self, room: RoomId, epoch: KeyEpoch) -> Result<(), SealError> {
        let no_random = || damaged("the system gives no random bytes");
        let secret = Zeroizing::new(crate::random::<DATA_KEY_BYTES>().ok_or_else(no_random)?);
        let key = data_key_key(room, epoch);
        let wrapped = self.0.wrap.wrap(&key, &secret[..]).await?;
        match self.0.engine.compare_and_set(Table::Keys, key, None, wrapped).await {
            // Somebody else was faster: theirs is as good.
            Ok(_) | Err(StoreError::Conflict) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// All data keys of a room, oldest first.
    async fn load(&self, room: RoomId) -> Result<Vec<(KeyEpoch, LessSafeKey)>, SealError> {
        let prefix = room_prefix(room);
        let mut epochs = Vec::new();
        for (key, stored) in self.0.engine.scan(Table::Keys, &prefix, None, KEY_EPOCHS_MAX)? {
            let epoch = key.strip_prefix(&prefix[..]).and_then(|rest| <[u8; 4]>::try_from(rest).ok());
            let epoch = epoch.ok_or_else(|| damaged("the name of a data key does not decode"))?;
            let secret = self.unwrap(&key, &stored).await?;
            let cipher = UnboundKey::new(&AES_256_GCM, &secret).map_err(|_| KeyWrapError::Malformed)?;
            epochs.push((KeyEpoch(u32::from_be_bytes(epoch)), LessSafeKey::new(cipher)));
        }
        Ok(epochs)
    }
}

fn room_prefix(room: RoomId) -> Vec<u8> {
    [&[ROOM_TAG], &room.as_bytes()[..]].concat()
}

fn data_key_key(room: RoomId, epoch: KeyEpoch) -> Bytes {
    [&room_prefix(room)[..], &epoch.0.to_be_bytes()].concat().into()
}

fn secret_key(name: &str) -> Bytes {
    [&[SECRET_TAG], name.as_bytes()].concat().into()
}

/// Seals and opens the records of one room. There is one of each room at a time.
pub struct RoomKey {
    room: RoomId,
    epochs: RwLock<Vec<(KeyEpoch, LessSafeKey)>>,
    /// The last writer and sequence that were sealed: neither is ever used again.
    last: Mutex<(Epoch, u64)>,
}

impl RoomKey {
    /// Seals `clear` as the record that `header` says, for the owner with the epoch `fence`. A sequence is sealed once in
    /// an epoch; an owner whose append failed acquires its shard anew before it goes on, and is told so
    /// ([`StoreError::Fenced`]) if it does not.
    pub fn seal(&self, fence: Epoch, header: &RecordHeader, clear: &[u8]) -> Result<Bytes, StoreError> {
        if header.room != self.room {
            return Err(StoreError::Unfit("a record is sealed with the key of its own room"));
        }
        if clear.len() > CONTENT_BYTES_MAX {
            return Err(StoreError::Unfit("the content of a record has at most 64 KiB"));
        }
        self.take_nonce(fence, header.seq)?;
        let epochs = self.epochs.read();
        let (epoch, key) =
            epochs.last().ok_or_else(|| damaged(format!("room {} has no data key", self.room)))?;
        let mut out = record::encode_header(*epoch, fence, header, clear.len());
        let aad = Aad::from(record::additional(self.room, &out));
        let mut content = out.split_off(out.len());
        content.put_slice(clear);
        let nonce = Nonce::assume_unique_for_key(record::nonce(fence, header.seq));
        let tag = key.seal_in_place_separate_tag(nonce, aad, &mut content);
        let tag = tag.map_err(|_| damaged("a record could not be sealed"))?;
        content.put_slice(tag.as_ref());
        out.unsplit(content);
        Ok(out.freeze())
    }

    fn take_nonce(&self, fence: Epoch, seq: u64) -> Result<(), StoreError> {
        let mut last = self.last.lock();
        if (fence, seq) <= *last {
            tracing::warn!(room = %self.room, seq, "a sequence was to be sealed twice in one epoch; its owner starts anew");
            return Err(StoreError::Fenced);
        }
        *last = (fence, seq);
        Ok(())
    }

    /// Opens a record that was read from this room.
    pub fn open(&self, room: RoomId, stored: &StoredRecord) -> Result<OpenRecord, StoreError> {
        let parts = record::decode(room, &stored.bytes)?;
        let broken = |why: &str| damaged(format!("sequence {} of room {room}: {why}", stored.seq));
        if room != self.room || parts.header.seq != stored.seq {
            return Err(broken("it lies in another place than it was sealed for"));
        }
        let epochs = self.epochs.read();
        let key = epochs.iter().find(|(epoch, _)| *epoch == parts.key_epoch);
        let (_, key) = key.ok_or_else(|| broken("its data key is gone"))?;
        let mut clear = parts.sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(record::nonce(parts.writer, stored.seq));
        let aad = Aad::from(record::additional(room, parts.header_bytes));
        let len = key.open_in_place(nonce, aad, &mut clear).map_err(|_| broken("its seal is broken"))?.len();
        clear.truncate(len);
        Ok(OpenRecord { header: parts.header, clear: clear.into() })
    }
}

#[cfg(test)]
mod tests;
