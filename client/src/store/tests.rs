//! The state on the device: kept over restarts, refused when it is somebody else's, in use, or damaged.

use super::*;

fn send(n: u8) -> wire::Send {
    wire::Send {
        room: Bytes::copy_from_slice(&[1; 16]),
        client_id: Bytes::copy_from_slice(&[n; 16]),
        body: Bytes::from_static(b"hello"),
        mentions: vec!["bob".into()],
        ..Default::default()
    }
}

fn open_at(folder: &Path) -> Result<(Store, Kept), Error> {
    Store::open(folder, "alice", Keep::Everything)
}

fn stored(store: &Store, ordinal: u64, n: u8) {
    let (tell, told) = std::sync::mpsc::channel();
    store.on_stored(Arc::new(move |ordinals, outcome| tell.send((ordinals.to_vec(), outcome)).unwrap()));
    assert!(store.keep_new_send(ordinal, &send(n)).unwrap());
    assert_eq!(told.recv_timeout(std::time::Duration::from_secs(10)).unwrap(), (vec![ordinal], Ok(())));
}

#[test]
fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let room = RoomId::from_bytes([1; 16]);
    {
        let (store, kept) = open_at(folder.path()).unwrap();
        assert!(kept.outbox.is_empty() && kept.credential.is_none() && !kept.seen_rooms);
        stored(&store, 1, 1);
        stored(&store, 2, 2);
        stored(&store, 3, 3);
        store.forget_send(2);
        store.keep_send(3, &send(3), Some(&Refused { maybe_applied: true, ..Refused::of(Code::Busy) }));
        store.keep_cursor(room, 7);
        store.keep_cursor(room, 5);
        store.keep_credential(&Credential { bytes: Bytes::from_static(b"sealed"), expires_ms: 9 });
        store.keep_seen_rooms();
        store.close();
        store.close();
    }
    let (_store, kept) = open_at(folder.path()).unwrap();
    let credential = kept.credential.unwrap();
    assert_eq!((credential.bytes.as_ref(), credential.expires_ms), (&b"sealed"[..], 9));
    assert!(kept.seen_rooms);
    assert_eq!(kept.cursors, HashMap::from([(room, 7)]));
    assert_eq!(kept.outbox.iter().map(|k| k.ordinal).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(kept.outbox[0].send, send(1));
    let failure = kept.outbox[1].failure.clone().unwrap();
    assert_eq!((failure.code, failure.maybe_applied, failure.retryable), (Code::Busy, true, true));
}

#[test]
fn identity_only_keeps_the_credential_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    {
        let (store, _) = Store::open(folder.path(), "alice", Keep::Identity).unwrap();
        assert!(!store.keep_new_send(1, &send(1)).unwrap());
        store.keep_cursor(RoomId::from_bytes([1; 16]), 3);
        store.keep_credential(&Credential { bytes: Bytes::from_static(b"sealed"), expires_ms: 9 });
        store.close();
    }
    let (_store, kept) = open_at(folder.path()).unwrap();
    assert!(kept.credential.is_some() && kept.outbox.is_empty() && kept.cursors.is_empty());
}

#[test]
fn a_folder_in_use_and_a_folder_of_another_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open_at(folder.path()).unwrap();
    assert_eq!(open_at(folder.path()).err().unwrap().name(), "state_in_use");
    store.close();
    drop(store);
    let error = Store::open(folder.path(), "bob", Keep::Everything).err().unwrap();
    assert_eq!(error.name(), "state_of_another");
    assert!(error.to_string().contains("alice"));
}

#[test]
fn a_damaged_file_is_reported_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    std::fs::write(&path, b"this is no database, however long one looks at it").unwrap();
    assert_eq!(open_at(folder.path()).err().unwrap().name(), "state_damaged");
    assert!(std::fs::read(&path).unwrap().starts_with(b"this is no database"));
}

#[test]
fn a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    {
        let (store, _) = open_at(folder.path()).unwrap();
        store.disk.as_ref().unwrap().push(Change::Meta { key: "format", bytes: 2u64.to_be_bytes().to_vec() });
        store.close();
    }
    let error = open_at(folder.path()).err().unwrap();
    assert_eq!(error.name(), "state_unusable");
    assert!(error.to_string().contains("newer version"));
}
