//! How keys of the store's tables are written: one place, so that no two things ever share a key.
//!
//! User names hold no NUL, so `user NUL` is the prefix of one user's keys and of nobody else's.

use buslane_shared::id::{DeviceId, RoomId, UserId};
use bytes::{BufMut, Bytes, BytesMut};

/// The key of a user in `Users`.
pub(crate) fn user(user: &UserId) -> Bytes {
    Bytes::copy_from_slice(user.as_str().as_bytes())
}

/// The prefix of one user's keys in `Devices` and `UserRooms`.
pub(crate) fn user_prefix(user: &UserId) -> Bytes {
    key(&[user.as_str().as_bytes(), b"\0"])
}

/// A device in `Devices`.
pub(crate) fn device(user: &UserId, device: DeviceId) -> Bytes {
    key(&[user.as_str().as_bytes(), b"\0", device.as_bytes()])
}

/// A room in a user's list, `UserRooms`.
pub(crate) fn user_room(user: &UserId, room: RoomId) -> Bytes {
    key(&[user.as_str().as_bytes(), b"\0", room.as_bytes()])
}

/// A user's cursor in `Cursors`; all of a room begin with the room.
pub(crate) fn cursor(room: RoomId, user: &UserId) -> Bytes {
    key(&[room.as_bytes(), user.as_str().as_bytes(), b"\0"])
}

/// A device's cursor in `Cursors`.
pub(crate) fn device_cursor(room: RoomId, user: &UserId, device: DeviceId) -> Bytes {
    key(&[room.as_bytes(), user.as_str().as_bytes(), b"\0", device.as_bytes()])
}

/// The prefix of a room's notification settings in `Settings`.
pub(crate) fn notify_prefix(room: RoomId) -> Bytes {
    key(&[b"n", room.as_bytes()])
}

/// A user's notification settings of a room in `Settings`.
pub(crate) fn notify(room: RoomId, user: &UserId) -> Bytes {
    key(&[b"n", room.as_bytes(), user.as_str().as_bytes()])
}

/// The prefix of everybody whom a user blocks in `Settings`.
pub(crate) fn block_prefix(by: &UserId) -> Bytes {
    key(&[b"b", by.as_str().as_bytes(), b"\0"])
}

/// One whom a user blocks in `Settings`.
pub(crate) fn block(by: &UserId, whom: &UserId) -> Bytes {
    key(&[b"b", by.as_str().as_bytes(), b"\0", whom.as_str().as_bytes()])
}

/// The prefix of enrolment codes in `System`.
pub(crate) const CODES: &[u8] = b"code/";

/// The prefix of revocations in `System`.
pub(crate) const REVOCATIONS: &[u8] = b"revoked/";

/// An enrolment code in `System`, under its hash.
pub(crate) fn code(hash: &[u8; 32]) -> Bytes {
    key(&[CODES, hash])
}

/// A revocation in `System`.
pub(crate) fn revocation(user: &UserId, device: DeviceId) -> Bytes {
    key(&[REVOCATIONS, user.as_str().as_bytes(), b"\0", device.as_bytes()])
}

/// The user and the bytes behind him, of a key `prefix | user NUL | rest`.
pub(crate) fn split_user<'a>(key: &'a [u8], prefix: &[u8]) -> Option<(UserId, &'a [u8])> {
    let key = key.strip_prefix(prefix)?;
    let end = key.iter().position(|b| *b == 0)?;
    let (name, rest) = key.split_at_checked(end)?;
    let user = std::str::from_utf8(name).ok()?.parse().ok()?;
    Some((user, rest.get(1..)?))
}

fn key(parts: &[&[u8]]) -> Bytes {
    let mut out = BytesMut::with_capacity(parts.iter().map(|p| p.len()).sum());
    for part in parts {
        out.put_slice(part);
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_users_keys_are_not_anothers() {
        let (ann, anna): (UserId, UserId) = ("ann".parse().unwrap(), "anna".parse().unwrap());
        let room = RoomId::from_bytes([3; 16]);
        assert!(user_room(&ann, room).starts_with(&user_prefix(&ann)));
        assert!(!user_room(&anna, room).starts_with(&user_prefix(&ann)));
        assert!(!block(&anna, &ann).starts_with(&block_prefix(&ann)));
    }

    #[test]
    fn a_key_is_taken_apart_again() {
        let ann: UserId = "ann".parse().unwrap();
        let device = DeviceId::from_bytes([0; 16]);
        assert_eq!(split_user(&revocation(&ann, device), REVOCATIONS), Some((ann, &[0u8; 16][..])));
        assert_eq!(split_user(b"revoked/ann", REVOCATIONS), None);
        assert_eq!(split_user(b"else/ann\0", REVOCATIONS), None);
    }
}
