//! A message on its way into the log, stage by stage. Each stage is a type that only the stage before it makes, so that
//! nothing is sealed that was not authorised and nothing is appended that was not sealed:
//!
//! [`Received`] (its form is right) → [`Authorised`] (its sender may) → [`Sequenced`] (it has a place) → [`Sealed`] (nobody
//! reads it) → `Pending` in the room until the store has it.
//!
//! Changes of a group's members are messages like all others: the same stages, the same log.

use buslane_chassis::api::Call;
use buslane_chassis::trace::Context;
use buslane_shared::UnixMs;
use buslane_shared::id::{ClientId, DeviceId, RoomId, UserId};
use buslane_shared::limits::{BODY_BYTES_MAX, USERS_PER_REQUEST_MAX};
use buslane_shared::membership::Event;
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::wire::{self, stored_body};
use buslane_store::record::{OpenRecord, RecordHeader};
use buslane_store::sealing::RoomKey;
use buslane_store::{Epoch, SealedRecord, StoreError};
use bytes::Bytes;
use prost::Message as _;

/// What somebody wants to change about a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    Create { title: String, members: Vec<UserId> },
    Invite(Vec<UserId>),
    Join,
    Leave,
    Kick(UserId),
}

/// What is to be written.
#[derive(Debug)]
pub(crate) enum What {
    /// `mentions` are sorted.
    Message {
        mentions: Vec<UserId>,
        body: Bytes,
    },
    Change(Ask),
}

/// A message whose form is right.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) room: RoomId,
    pub(crate) sender: UserId,
    pub(crate) device: DeviceId,
    pub(crate) client_id: ClientId,
    /// What has to be in the room first, of the same sender.
    pub(crate) after: Option<ClientId>,
    pub(crate) what: What,
    /// The span of who asks for it.
    pub(crate) parent: Context,
}

impl Received {
    /// Checks the form of a send.
    pub(crate) fn message(call: &Call, send: wire::Send) -> Result<Self, Refusal> {
        if send.body.len() > BODY_BYTES_MAX {
            let detail = format!(
                "a message has at most {BODY_BYTES_MAX} bytes, this one {}; shorten it",
                send.body.len()
            );
            return Err(Refusal::new(Code::TooLong, detail));
        }
        let mut mentions = parse_users("mentions", &send.mentions)?;
        mentions.sort_unstable();
        mentions.dedup();
        Ok(Self {
            room: parse_room(&send.room)?,
            sender: call.user.clone(),
            device: call.device,
            client_id: parse_client_id(&send.client_id)?,
            after: parse_after(&send.after)?,
            what: What::Message { mentions, body: send.body },
            parent: call.parent,
        })
    }
}

/// The room of a request.
pub(crate) fn parse_room(bytes: &Bytes) -> Result<RoomId, Refusal> {
    RoomId::try_from(bytes).map_err(|e| Refusal::field("room", e))
}

/// The client id of a request.
pub(crate) fn parse_client_id(bytes: &Bytes) -> Result<ClientId, Refusal> {
    ClientId::try_from(bytes).map_err(|e| Refusal::field("client_id", e))
}

/// What a send is to follow, where it says so.
fn parse_after(bytes: &Bytes) -> Result<Option<ClientId>, Refusal> {
    let id = (!bytes.is_empty()).then(|| ClientId::try_from(bytes));
    id.transpose().map_err(|e| Refusal::field("after", e))
}

/// One user name of a request.
pub(crate) fn parse_user(field: &'static str, name: &str) -> Result<UserId, Refusal> {
    name.parse().map_err(|e| Refusal::field(field, e))
}

/// User names of a request, few enough.
pub(crate) fn parse_users(field: &'static str, names: &[String]) -> Result<Vec<UserId>, Refusal> {
    if names.len() > USERS_PER_REQUEST_MAX {
        return Err(Refusal::field(field, format!("at most {USERS_PER_REQUEST_MAX} users at a time")));
    }
    names.iter().map(|name| parse_user(field, name)).collect()
}

/// A message whose sender may write it. Only a room makes one, under its lock.
pub(crate) struct Authorised {
    pub(crate) received: Received,
    /// The membership event, when it is one.
    pub(crate) event: Option<Event>,
}

impl Authorised {
    /// Gives the message its place. The place is only taken when it is sealed.
    pub(crate) fn sequence(self, seq: u64, sent_at_ms: UnixMs) -> Sequenced {
        let Received { room, sender, device, client_id, what, parent, .. } = self.received;
        let header = RecordHeader { room, seq, sender, client_id, sent_at_ms };
        let (mentions, content) = match (what, &self.event) {
            (What::Message { mentions, body }, _) => (mentions, Some(stored_body::Content::Body(body))),
            (What::Change(_), event) => {
                (Vec::new(), event.as_ref().map(|e| stored_body::Content::Membership(e.to_wire())))
            }
        };
        let names = mentions.iter().map(|m| m.as_str().to_owned()).collect();
        let body = wire::StoredBody { mentions: names, content };
        Sequenced { header, device, mentions, body, event: self.event, parent }
    }
}

/// A message with its place.
pub(crate) struct Sequenced {
    pub(crate) header: RecordHeader,
    /// The device that made it, and has it already.
    pub(crate) device: DeviceId,
    pub(crate) mentions: Vec<UserId>,
    body: wire::StoredBody,
    pub(crate) event: Option<Event>,
    /// The span of who asked for it.
    pub(crate) parent: Context,
}

impl Sequenced {
    /// Seals the message for its place.
    pub(crate) fn seal(self, key: &RoomKey, epoch: Epoch) -> Result<Sealed, StoreError> {
        let bytes = key.seal(epoch, &self.header, &self.body.encode_to_vec())?;
        let record = SealedRecord {
            room: self.header.room,
            seq: self.header.seq,
            sender: self.header.sender.clone(),
            client_id: self.header.client_id,
            bytes,
        };
        Ok(Sealed { sequenced: self, record, epoch })
    }

    /// The message as members see it.
    pub(crate) fn into_wire(self) -> wire::Message {
        to_wire(&self.header, self.body)
    }
}

/// A message that only lacks its commit.
pub(crate) struct Sealed {
    pub(crate) sequenced: Sequenced,
    pub(crate) record: SealedRecord,
    pub(crate) epoch: Epoch,
}

/// A stored record as members see it.
pub(crate) fn read(record: OpenRecord) -> Result<wire::Message, StoreError> {
    let body = wire::StoredBody::decode(record.clear).map_err(|_| {
        StoreError::Damaged(format!(
            "sequence {} of room {} does not decode",
            record.header.seq, record.header.room
        ))
    })?;
    Ok(to_wire(&record.header, body))
}

fn to_wire(header: &RecordHeader, body: wire::StoredBody) -> wire::Message {
    wire::Message {
        room: header.room.to_wire(),
        seq: header.seq,
        sender: header.sender.as_str().to_owned(),
        client_id: header.client_id.to_wire(),
        sent_at_ms: header.sent_at_ms,
        mentions: body.mentions,
        content: body.content.map(|content| match content {
            stored_body::Content::Body(body) => wire::message::Content::Body(body),
            stored_body::Content::Membership(change) => wire::message::Content::Membership(change),
        }),
    }
}
