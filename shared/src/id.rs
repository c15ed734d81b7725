//! Names of things: users, devices, rooms, messages, sessions.
//!
//! Each is a type of its own, checked when it is made, so that a device is never passed where a room is meant and a name
//! from the network is never used before it was checked.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;

use crate::limits::USER_NAME_CHARS_MAX;

/// What was wrong with an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// A user name has other characters or another length than allowed.
    #[error(
        "a user name has 1 to {USER_NAME_CHARS_MAX} characters of a-z 0-9 . _ - @ + and begins with a letter or digit"
    )]
    UserName,
    /// A binary identifier has another length than its 16 bytes.
    #[error("a {what} has 16 bytes, this one has {len}")]
    Length {
        /// Which kind of identifier.
        what: &'static str,
        /// The length found.
        len: usize,
    },
    /// A text is not the UUID form of an identifier.
    #[error("a {what} is written as a UUID (8-4-4-4-12 hexadecimal digits)")]
    Text {
        /// Which kind of identifier.
        what: &'static str,
    },
}

/// A user's name: 1 to 64 characters of `a-z 0-9 . _ - @ +`, beginning with a letter or digit. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Arc<str>);

impl UserId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name is equal, ordered and hashed as its text, so a table of users is searched without making a name first.
impl Borrow<str> for UserId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserId {
    type Err = IdError;

    fn from_str(name: &str) -> Result<Self, IdError> {
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'@' | b'+');
        let first_ok = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if first_ok && name.len() <= USER_NAME_CHARS_MAX && name.bytes().all(allowed) {
            Ok(Self(name.into()))
        } else {
            Err(IdError::UserName)
        }
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! id16 {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 16]);

        impl $name {
            /// From its 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Its 16 bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// Its 16 bytes, as the wire schema wants them.
            pub fn to_wire(self) -> Bytes {
                Bytes::copy_from_slice(&self.0)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = IdError;

            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                <[u8; 16]>::try_from(bytes)
                    .map(Self)
                    .map_err(|_| IdError::Length { what: $what, len: bytes.len() })
            }
        }

        impl TryFrom<&Bytes> for $name {
            type Error = IdError;

            fn try_from(bytes: &Bytes) -> Result<Self, IdError> {
                Self::try_from(bytes.as_ref())
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                uuid::Uuid::parse_str(text)
                    .map(|u| Self(u.into_bytes()))
                    .map_err(|_| IdError::Text { what: $what })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id16! {
    /// A device of a user: the first 16 bytes of the SHA-256 of its public key, so nobody can choose another's.
    DeviceId, "device id"
}
id16! {
    /// A conversation. A direct room's is derived from the pair, a group's is derived from its creator and client id.
    RoomId, "room id"
}
id16! {
    /// The sender's name for a message (a UUIDv7), under which a send is idempotent.
    ClientId, "client id"
}
id16! {
    /// One session of one device, across its resumed connections.
    SessionId, "session id"
}

impl DeviceId {
    /// The id of the device that holds this public key.
    pub fn of_key(public_key: &[u8]) -> Self {
        Self(hash16(&[public_key]))
    }
}

impl RoomId {
    /// The room of two users: the same whoever asks.
    pub fn direct(a: &UserId, b: &UserId) -> Self {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        Self(uuid_v8(hash16(&[b"direct\0", low.as_str().as_bytes(), b"\0", high.as_str().as_bytes()])))
    }

    /// A group's room: the same request repeated makes the same room.
    pub fn group(creator: &UserId, client_id: ClientId) -> Self {
        Self(uuid_v8(hash16(&[b"group\0", creator.as_str().as_bytes(), b"\0", client_id.as_bytes()])))
    }

    /// The shard of the room, fixed for ever: the unit of ownership and of replicated writes.
    pub fn shard(&self) -> u8 {
        self.0[0]
    }
}

/// Marks 16 hashed bytes as a UUID of version 8 (RFC 9562, section 5.8): made by the application's own rule.
fn uuid_v8(bytes: [u8; 16]) -> [u8; 16] {
    uuid::Builder::from_custom_bytes(bytes).into_uuid().into_bytes()
}

fn hash16(parts: &[&[u8]]) -> [u8; 16] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 16];
    for (o, b) in out.iter_mut().zip(context.finish().as_ref()) {
        *o = *b;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_are_checked() {
        for good in ["a", "alice", "0x", "a.b_c-d@e+f", &"a".repeat(64)] {
            assert!(good.parse::<UserId>().is_ok(), "{good}");
        }
        for bad in ["", "Alice", ".a", "-a", "a b", "a\n", "é", "a/b", &"a".repeat(65)] {
            assert_eq!(bad.parse::<UserId>(), Err(IdError::UserName), "{bad}");
        }
    }

    #[test]
    fn a_pair_has_one_room_whoever_asks() {
        let (a, b, c): (UserId, UserId, UserId) =
            ("alice".parse().unwrap(), "bob".parse().unwrap(), "carol".parse().unwrap());
        assert_eq!(RoomId::direct(&a, &b), RoomId::direct(&b, &a));
        assert_ne!(RoomId::direct(&a, &b), RoomId::direct(&a, &c));
    }

    #[test]
    fn names_that_run_together_make_different_rooms() {
        let u = |s: &str| s.parse::<UserId>().unwrap();
        assert_ne!(RoomId::direct(&u("ab"), &u("c")), RoomId::direct(&u("a"), &u("bc")));
    }

    #[test]
    fn text_form_round_trips() {
        let id = RoomId::from_bytes([7; 16]);
        assert_eq!(id.to_string().parse::<RoomId>(), Ok(id));
        assert!("nonsense".parse::<RoomId>().is_err());
        assert!(RoomId::try_from(&[1u8, 2][..]).is_err());
    }
}
