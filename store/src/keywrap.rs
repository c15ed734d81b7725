//! Wrapping of data keys: the one secret that is not in the store.
//!
//! The key file holds key-encryption keys (KEK), each with an id; the last one wraps, all of them unwrap. It lies outside
//! of the data folder, is readable by its owner only, and is the only thing besides the data that a backup must keep. A
//! key never appears in a log, an error or a `Debug` text.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::random;

/// Version of the form of a wrapped key.
const VERSION: u8 = 1;

/// Version of the key file.
const FILE_FORMAT: u32 = 1;

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// Keys that one file may hold. Each rotation adds one and, once everything is rewrapped, removes the others.
const KEYS_MAX: usize = 64;

/// Largest key file that is read.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Largest secret that is wrapped.
pub const WRAPPED_BYTES_MAX: usize = 64 * 1024;

/// Why a key was not wrapped or unwrapped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyWrapError {
    /// The key file does not hold the key that is needed.
    #[error("the key file has no key {id}; bring back the key file that belongs to this store")]
    UnknownKey {
        /// Id of the missing key.
        id: String,
    },
    /// The key has the right id and does not fit, or the wrapped bytes were altered.
    #[error(
        "key {id} does not open what it should; bring back the key file that belongs to this store, or restore a backup"
    )]
    DoesNotOpen {
        /// Id of the key.
        id: String,
    },
    /// The bytes are not a wrapped key.
    #[error("a wrapped key does not decode; restore a backup")]
    Malformed,
    /// The key file could not be written.
    #[error("the key file could not be changed: {0}")]
    File(String),
}

/// Wraps and unwraps secrets with a key that is kept elsewhere.
pub trait KeyWrap: Send + Sync + 'static {
    /// Wraps `clear` with the newest key. It only unwraps under the same `context`.
    fn wrap<'a>(&'a self, context: &'a [u8], clear: &'a [u8]) -> BoxFuture<'a, Result<Bytes, KeyWrapError>>;

    /// Unwraps what was wrapped with any key that is still held.
    fn unwrap<'a>(
        &'a self,
        context: &'a [u8],
        wrapped: &'a [u8],
    ) -> BoxFuture<'a, Result<Zeroizing<Vec<u8>>, KeyWrapError>>;

    /// The id of the newest key.
    fn newest(&self) -> String;

    /// Makes a new key that wraps from now on; the old ones still unwrap. Durable when it returns. Its id.
    fn rotate(&self) -> BoxFuture<'_, Result<String, KeyWrapError>>;

    /// Forgets every key but the newest. What they wrapped is lost: rewrap it first. The ids forgotten.
    fn retire(&self) -> BoxFuture<'_, Result<Vec<String>, KeyWrapError>>;
}

/// The id of the key that wrapped these bytes.
pub fn key_id(wrapped: &[u8]) -> Result<String, KeyWrapError> {
    split(wrapped).map(|(id, _, _)| id.to_owned()).ok_or(KeyWrapError::Malformed)
}

/// `1 version | 1 length | id | 12 nonce | ciphertext and tag`.
fn split(wrapped: &[u8]) -> Option<(&str, [u8; NONCE_LEN], &[u8])> {
    let (version, rest) = wrapped.split_first()?;
    let (id_bytes, rest) = rest.split_first()?;
    let (id, rest) = rest.split_at_checked(usize::from(*id_bytes))?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
    let id = std::str::from_utf8(id).ok()?;
    // The id is shown to people: nothing but what `make` gives out is let through.
    let plain = !id.is_empty() && id.bytes().all(|b| b.is_ascii_hexdigit());
    (*version == VERSION && plain).then_some((id, *nonce, sealed))
}

fn additional(context: &[u8], id: &str) -> Vec<u8> {
    [b"buslane key wrap\0", id.as_bytes(), b"\0", context].concat()
}

/// One key-encryption key as it stands in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    id: String,
    key: String,
}

impl Drop for StoredKey {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKeys {
    format: u32,
    keys: Vec<StoredKey>,
}

struct Kek {
    id: String,
    secret: Zeroizing<[u8; KEY_BYTES]>,
    key: LessSafeKey,
}

impl Kek {
    fn new(id: String, secret: Zeroizing<[u8; KEY_BYTES]>) -> Option<Self> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &secret[..]).ok()?);
        Some(Self { id, secret, key })
    }

    fn make() -> Result<Self, KeyWrapError> {
        let no_random = || KeyWrapError::File("the system gives no random bytes".into());
        let id = hex::encode(random::<8>().ok_or_else(no_random)?);
        let secret = Zeroizing::new(random::<KEY_BYTES>().ok_or_else(no_random)?);
        Self::new(id, secret).ok_or_else(no_random)
    }
}

/// The keys, oldest first. Never empty.
struct Ring(Vec<Kek>);

impl Ring {
    fn newest(&self) -> Option<&Kek> {
        self.0.last()
    }

    fn wrap(&self, context: &[u8], clear: &[u8]) -> Result<Bytes, KeyWrapError> {
        let kek = self.newest().ok_or(KeyWrapError::Malformed)?;
        let failed = || KeyWrapError::DoesNotOpen { id: kek.id.clone() };
        if clear.len() > WRAPPED_BYTES_MAX {
            return Err(KeyWrapError::Malformed);
        }
        let nonce = random::<NONCE_LEN>().ok_or_else(failed)?;
        let mut sealed = Zeroizing::new(clear.to_vec());
        let aad = Aad::from(additional(context, &kek.id));
        let tag = kek.key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed);
        let tag = tag.map_err(|_| failed())?;
        let mut out =
            BytesMut::with_capacity(2 + kek.id.len() + NONCE_LEN + sealed.len() + tag.as_ref().len());
        out.put_u8(VERSION);
        out.put_u8(kek.id.len() as u8); // 16 hexadecimal digits
        out.put_slice(kek.id.as_bytes());
        out.put_slice(&nonce);
        out.put_slice(&sealed);
        out.put_slice(tag.as_ref());
        Ok(out.freeze())
    }

    fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyWrapError> {
        let (id, nonce, sealed) = split(wrapped).ok_or(KeyWrapError::Malformed)?;
        let kek = self.0.iter().find(|k| k.id == id);
        let kek = kek.ok_or_else(|| KeyWrapError::UnknownKey { id: id.to_owned() })?;
        let mut clear = Zeroizing::new(sealed.to_vec());
        let aad = Aad::from(additional(context, id));
        let len = kek
            .key
            .open_in_place(Nonce::assume_unique_for_key(nonce), aad, &mut clear)
            .map_err(|_| KeyWrapError::DoesNotOpen { id: id.to_owned() })?
            .len();
        clear.truncate(len);
        Ok(clear)
    }

    fn encode(&self) -> StoredKeys {
        let stored = |k: &Kek| StoredKey { id: k.id.clone(), key: hex::encode(&k.secret[..]) };
        StoredKeys { format: FILE_FORMAT, keys: self.0.iter().map(stored).collect() }
    }

    fn decode(stored: &StoredKeys) -> Option<Self> {
        let parse = |stored: &StoredKey| {
            let mut secret = Zeroizing::new([0; KEY_BYTES]);
            hex::decode_to_slice(&stored.key, &mut secret[..]).ok()?;
            let plain = stored.id.len() <= 64 && stored.id.bytes().all(|b| b.is_ascii_hexdigit());
            (plain && !stored.id.is_empty()).then(|| Kek::new(stored.id.clone(), secret))?
        };
        let keys: Option<Vec<Kek>> = stored.keys.iter().map(parse).collect();
        keys.filter(|keys| !keys.is_empty() && keys.len() <= KEYS_MAX).map(Self)
    }
}

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is none.
    #[error(
        "there is no key file {0}; bring back the one that belongs to this store, its messages cannot be read without it"
    )]
    Missing(PathBuf),
    /// There already is one.
    #[error("the key file {0} exists already; it is never overwritten, choose another path")]
    Exists(PathBuf),
    /// Others can read it.
    #[error("the key file {path} may be read by others (mode {mode:o}); run: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not a key file.
    #[error("{path} is not a key file that this version reads: {reason}; bring back an intact copy")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong. Never holds any of its content.
        reason: String,
    },
    /// It cannot be read or written.
    #[error("the key file {path} cannot be used: {error}; check the path, its permissions and the disk")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Keys in a file of mode 0600.
pub struct FileKeyWrap {
    path: PathBuf,
    ring: RwLock<Ring>,
    /// One change of the file at a time.
    changing: tokio::sync::Mutex<()>,
}

impl FileKeyWrap {
    /// Opens a key file, or makes one where there is none. A store that was sealed with another file is noticed by
    /// [`crate::sealing::Sealer::check`].
    pub fn open_or_create(path: &Path) -> Result<Self, KeyFileError> {
        match Self::create(path) {
            Err(KeyFileError::Exists(_)) => Self::open(path),
            created => created,
        }
    }

    /// Makes a key file with one new key.
    pub fn create(path: &Path) -> Result<Self, KeyFileError> {
        let io = |error| KeyFileError::Io { path: path.to_owned(), error };
        if path.try_exists().map_err(io)? {
            return Err(KeyFileError::Exists(path.to_owned()));
        }
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(io)?;
        }
        let kek = Kek::make().map_err(|e| io(io::Error::other(e.to_string())))?;
        let ring = Ring(vec![kek]);
        write_file(path, &ring).map_err(io)?;
        Ok(Self::with(path, ring))
    }

    /// Opens a key file.
    pub fn open(path: &Path) -> Result<Self, KeyFileError> {
        let io = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => KeyFileError::Missing(path.to_owned()),
            _ => KeyFileError::Io { path: path.to_owned(), error },
        };
        let malformed =
            |reason: &str| KeyFileError::Malformed { path: path.to_owned(), reason: reason.into() };
        let file = File::open(path).map_err(io)?;
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = Zeroizing::new(Vec::new());
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(io)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(malformed("it is too large"));
        }
        let stored: StoredKeys = serde_json::from_slice(&text).map_err(|e| {
            malformed(&format!("line {}, column {} is not as expected", e.line(), e.column()))
        })?;
        if stored.format != FILE_FORMAT {
            return Err(malformed(&format!("it has format {}, known is {FILE_FORMAT}", stored.format)));
        }
        let ring = Ring::decode(&stored).ok_or_else(|| malformed("its keys do not decode"))?;
        Ok(Self::with(path, ring))
    }

    fn with(path: &Path, ring: Ring) -> Self {
        Self { path: path.to_owned(), ring: RwLock::new(ring), changing: tokio::sync::Mutex::new(()) }
    }

    /// Writes the keys that `change` makes of the present ones, durably, and uses them from then on.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&StoredKeys) -> Result<(StoredKeys, T), KeyWrapError> + Send,
    ) -> Result<T, KeyWrapError> {
        let _turn = self.changing.lock().await;
        let (stored, result) = change(&self.ring.read().encode())?;
        let ring =
            Ring::decode(&stored).ok_or_else(|| KeyWrapError::File("it would hold too many keys".into()))?;
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || write_file(&path, &ring).map(|()| ring)).await;
        let written = written.map_err(|e| KeyWrapError::File(e.to_string()))?;
        *self.ring.write() = written.map_err(|e| KeyWrapError::File(e.to_string()))?;
        Ok(result)
    }
}

impl KeyWrap for FileKeyWrap {
    fn wrap<'a>(&'a self, context: &'a [u8], clear: &'a [u8]) -> BoxFuture<'a, Result<Bytes, KeyWrapError>> {
        let result = self.ring.read().wrap(context, clear);
        Box::pin(std::future::ready(result))
    }

    fn unwrap<'a>(
        &'a self,
        context: &'a [u8],
        wrapped: &'a [u8],
    ) -> BoxFuture<'a, Result<Zeroizing<Vec<u8>>, KeyWrapError>> {
        let result = self.ring.read().unwrap(context, wrapped);
        Box::pin(std::future::ready(result))
    }

    fn newest(&self) -> String {
        self.ring.read().newest().map(|k| k.id.clone()).unwrap_or_default()
    }

    fn rotate(&self) -> BoxFuture<'_, Result<String, KeyWrapError>> {
        Box::pin(self.change(add_key))
    }

    fn retire(&self) -> BoxFuture<'_, Result<Vec<String>, KeyWrapError>> {
        Box::pin(self.change(keep_newest))
    }
}

fn add_key(stored: &StoredKeys) -> Result<(StoredKeys, String), KeyWrapError> {
    let mut ring = Ring::decode(stored).ok_or(KeyWrapError::Malformed)?;
    let kek = Kek::make()?;
    let id = kek.id.clone();
    ring.0.push(kek);
    Ok((ring.encode(), id))
}

fn keep_newest(stored: &StoredKeys) -> Result<(StoredKeys, Vec<String>), KeyWrapError> {
    let mut ring = Ring::decode(stored).ok_or(KeyWrapError::Malformed)?;
    let newest = ring.0.pop().ok_or(KeyWrapError::Malformed)?;
    let retired = ring.0.drain(..).map(|k| k.id).collect();
    Ok((Ring(vec![newest]).encode(), retired))
}

/// Replaces the file as a whole: written beside it, synced, renamed, and the folder synced.
fn write_file(path: &Path, ring: &Ring) -> io::Result<()> {
    let text = Zeroizing::new(serde_json::to_vec_pretty(&ring.encode())?);
    let mut beside = path.as_os_str().to_owned();
    beside.push(".partial");
    let beside = PathBuf::from(beside);
    match fs::remove_file(&beside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    crate::sync_parent(path)
}

/// Keys in memory: for tests, and for stores that nobody opens again.
pub struct MemoryKeyWrap(RwLock<Ring>);

impl MemoryKeyWrap {
    /// With one new key.
    pub fn new() -> Result<Self, KeyWrapError> {
        Ok(Self(RwLock::new(Ring(vec![Kek::make()?]))))
    }
}

impl KeyWrap for MemoryKeyWrap {
    fn wrap<'a>(&'a self, context: &'a [u8], clear: &'a [u8]) -> BoxFuture<'a, Result<Bytes, KeyWrapError>> {
        let result = self.0.read().wrap(context, clear);
        Box::pin(std::future::ready(result))
    }

    fn unwrap<'a>(
        &'a self,
        context: &'a [u8],
        wrapped: &'a [u8],
    ) -> BoxFuture<'a, Result<Zeroizing<Vec<u8>>, KeyWrapError>> {
        let result = self.0.read().unwrap(context, wrapped);
        Box::pin(std::future::ready(result))
    }

    fn newest(&self) -> String {
        self.0.read().newest().map(|k| k.id.clone()).unwrap_or_default()
    }

    fn rotate(&self) -> BoxFuture<'_, Result<String, KeyWrapError>> {
        let added = Kek::make().map(|kek| {
            let id = kek.id.clone();
            self.0.write().0.push(kek);
            id
        });
        Box::pin(std::future::ready(added))
    }

    fn retire(&self) -> BoxFuture<'_, Result<Vec<String>, KeyWrapError>> {
        let mut ring = self.0.write();
        let old = ring.0.len().saturating_sub(1);
        let retired = ring.0.drain(..old).map(|k| k.id).collect();
        Box::pin(std::future::ready(Ok(retired)))
    }
}

#[cfg(test)]
mod tests;
