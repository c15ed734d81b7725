//! The key file: what it refuses, that it survives rotation, and that nothing opens but in its own context.

use super::*;
use proptest::prelude::*;
use tempfile::tempdir;

async fn wrap(keys: &impl KeyWrap, clear: &[u8]) -> Bytes {
    keys.wrap(b"context", clear).await.unwrap()
}

#[tokio::test]
async fn a_secret_unwraps_in_its_context_only() {
    let keys = MemoryKeyWrap::new().unwrap();
    let wrapped = wrap(&keys, b"secret").await;
    assert_eq!(keys.unwrap(b"context", &wrapped).await.unwrap().as_slice(), b"secret");
    assert!(matches!(keys.unwrap(b"other", &wrapped).await, Err(KeyWrapError::DoesNotOpen { .. })));
}

#[tokio::test]
async fn the_file_survives_reopening_and_rotation() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("keys").join("kek.json");
    let keys = FileKeyWrap::open_or_create(&path).unwrap();
    let first = keys.newest();
    let old = wrap(&keys, b"old").await;
    let second = keys.rotate().await.unwrap();
    let new = wrap(&keys, b"new").await;
    assert_eq!((key_id(&old).unwrap(), key_id(&new).unwrap()), (first.clone(), second.clone()));

    let keys = FileKeyWrap::open_or_create(&path).unwrap();
    assert_eq!(keys.newest(), second);
    assert_eq!(keys.unwrap(b"context", &old).await.unwrap().as_slice(), b"old");
    assert_eq!(keys.retire().await.unwrap(), vec![first.clone()]);
    let keys = FileKeyWrap::open(&path).unwrap();
    assert_eq!(keys.unwrap(b"context", &old).await, Err(KeyWrapError::UnknownKey { id: first }));
    assert_eq!(keys.unwrap(b"context", &new).await.unwrap().as_slice(), b"new");
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("kek.json");
    FileKeyWrap::create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(FileKeyWrap::open(&path), Err(KeyFileError::Exposed { mode: 0o640, .. })));
}

#[test]
fn a_key_file_is_never_overwritten_and_never_invented() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("kek.json");
    assert!(matches!(FileKeyWrap::open(&path), Err(KeyFileError::Missing(_))));
    FileKeyWrap::create(&path).unwrap();
    assert!(matches!(FileKeyWrap::create(&path), Err(KeyFileError::Exists(_))));
}

#[test]
fn a_damaged_file_is_refused_without_telling_its_content() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("kek.json");
    FileKeyWrap::create(&path).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let secret = text.split('"').find(|part| part.len() == 64).unwrap().to_owned();
    for bad in [
        &text[..text.len() / 2],
        "",
        "{}",
        &text.replace(&secret, &secret[..62]),
        &text.replace("\"format\": 1", "\"format\": 2"),
    ] {
        fs::write(&path, bad).unwrap();
        let error = FileKeyWrap::open(&path).err().unwrap();
        assert!(matches!(error, KeyFileError::Malformed { .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains(&secret[..16]));
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_unwrap(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let ring = Ring(vec![Kek::make().unwrap()]);
        prop_assert!(ring.unwrap(b"context", &bytes).is_err());
    }

    #[test]
    fn one_flipped_bit_anywhere_is_noticed(at in 0usize..78, bit in 0u8..8) {
        let ring = Ring(vec![Kek::make().unwrap()]);
        let mut wrapped = ring.wrap(b"context", &[5; 32]).unwrap().to_vec();
        prop_assert_eq!(wrapped.len(), 78);
        wrapped[at] ^= 1 << bit;
        prop_assert!(ring.unwrap(b"context", &wrapped).is_err());
    }
}
