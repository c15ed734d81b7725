//! The way of one probe: enter, hello, send, receive, each with its time.

use std::path::Path;
use std::time::Duration;

use buslane_chassis::clock;
use buslane_client::raw::{Session, Transport};
use buslane_client::{CaSource, Error};
use buslane_shared::id::{ClientId, IdError, RoomId, UserId};
use buslane_shared::refusal::Code;
use buslane_shared::wire::{self, answer, event, request::Op, server_frame};
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::Target;
use super::phone::Phone;
use crate::view::ProbeStep;

/// What a probe says.
const BODY: &[u8] = b"probe";

/// Characters of a node's name that are part of its users' names: all of it and the rest stay within the limit.
const NODE_CHARS_MAX: usize = 40;

/// Numbers of the requests of one session.
const SEND: u64 = 1;
const OPEN: u64 = 2;
const SEND_AGAIN: u64 = 3;

/// Two devices, and the way between them.
pub struct Walk {
    target: Target,
    transport: Option<Transport>,
    sender: Phone,
    receiver: Phone,
    room: RoomId,
}

/// The steps so far.
struct Steps {
    done: Vec<ProbeStep>,
    deadline: Instant,
    limit: Duration,
}

impl Steps {
    /// Takes one step; its result, if it went well.
    async fn take<T>(
        &mut self,
        step: &str,
        began: Instant,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Option<T> {
        let outcome = timeout_at(self.deadline, work).await;
        let (result, error) = match outcome {
            Ok(Ok(result)) => (Some(result), None),
            Ok(Err(error)) => (None, Some(error.to_string())),
            Err(_) => (None, Some(format!("it took longer than {} s in all", self.limit.as_secs()))),
        };
        let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.done.push(ProbeStep { step: step.to_owned(), took_us, error });
        result
    }
}

impl Walk {
    /// For the process of this name.
    pub fn new(node: &str, folder: &Path, target: Target) -> Result<Self, IdError> {
        let (from, to) = users(node)?;
        Ok(Self {
            room: RoomId::direct(&from, &to),
            sender: Phone::new(from, folder.join("sender")),
            receiver: Phone::new(to, folder.join("receiver")),
            transport: None,
            target,
        })
    }

    /// Goes all the way, or as far as it can within `limit`.
    pub async fn go(&mut self, limit: Duration) -> Vec<ProbeStep> {
        let deadline = Instant::now() + limit;
        let mut steps = Steps { done: Vec::with_capacity(4), deadline, limit };
        // What is missing is in the last step.
        let _ = self.walk(&mut steps).await;
        steps.done
    }

    async fn walk(&mut self, steps: &mut Steps) -> Option<()> {
        let limit = steps.limit;
        let began = Instant::now();
        let transport = self.transport();
        let (sender, receiver) = (&mut self.sender, &mut self.receiver);
        let entered = async {
            let transport = transport?;
            let enter = tokio::try_join!(
                sender.enter(&transport, &self.target, limit),
                receiver.enter(&transport, &self.target, limit)
            )?;
            Ok((transport, enter))
        };
        let (transport, (from, to)) = steps.take("enter", began, entered).await?;

        let began = Instant::now();
        let said = async { tokio::try_join!(from.open(&transport, limit), to.open(&transport, limit)) };
        let (mut sender, mut receiver) = steps.take("hello", began, said).await?;

        let (client_id, began) = (fresh_id(), Instant::now());
        let peer = self.receiver.user().clone();
        let sent = steps.take("send", began, send(&mut sender, self.room, &peer, client_id, limit)).await;
        if sent.is_some() {
            steps.take("receive", began, receive(&mut receiver, client_id)).await;
        }
        sender.close();
        receiver.close();
        Some(())
    }

    fn transport(&mut self) -> Result<Transport, Error> {
        if let Some(transport) = &self.transport {
            return Ok(transport.clone());
        }
        let transport = Transport::new(&CaSource::Pem(self.target.ca_pem.clone()))?;
        Ok(self.transport.insert(transport).clone())
    }
}

/// Puts a message into the room, which is opened where it is not there yet.
async fn send(
    session: &mut Session,
    room: RoomId,
    peer: &UserId,
    client_id: ClientId,
    limit: Duration,
) -> Result<(), Error> {
    match send_once(session, SEND, room, client_id, limit).await {
        Err(Error::Refused(refused)) if matches!(refused.code, Code::UnknownRoom | Code::NotAMember) => {
            let open = Op::OpenDirect(wire::OpenDirect { peer: peer.to_string() });
            session.request(OPEN, open, limit).await?;
            send_once(session, SEND_AGAIN, room, client_id, limit).await
        }
        sent => sent,
    }
}

async fn send_once(
    session: &mut Session,
    id: u64,
    room: RoomId,
    client_id: ClientId,
    limit: Duration,
) -> Result<(), Error> {
    let send = wire::Send {
        room: room.to_wire(),
        client_id: client_id.to_wire(),
        body: Bytes::from_static(BODY),
        ..Default::default()
    };
    match session.request(id, Op::Send(send), limit).await? {
        answer::Result::Receipt(_) => Ok(()),
        _ => Err(Error::Protocol { detail: "the answer to a message is no receipt".to_owned() }),
    }
}

/// Waits for the message.
async fn receive(session: &mut Session, client_id: ClientId) -> Result<(), Error> {
    let wanted = client_id.to_wire();
    while let Some(frame) = session.recv().await? {
        if let server_frame::Kind::Event(wire::Event { kind: Some(event::Kind::Delivery(heard)), .. }) = frame
            && heard.message.is_some_and(|message| message.client_id == wanted)
        {
            return Ok(());
        }
    }
    Err(Error::Unreachable { detail: "the session ended before the message came".to_owned() })
}

/// The two users of a process.
fn users(node: &str) -> Result<(UserId, UserId), IdError> {
    let plain = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' { c } else { '-' };
    let node: String = node.to_lowercase().chars().take(NODE_CHARS_MAX).map(plain).collect();
    Ok((format!("buslane-probe-{node}").parse()?, format!("buslane-probe-{node}-peer").parse()?))
}

/// A UUIDv7 (RFC 9562, section 5.7): the time, and random bits.
fn fresh_id() -> ClientId {
    let mut bytes: [u8; 16] = clock::random();
    let [_, _, ms @ ..] = clock::unix_ms().to_be_bytes();
    for (to, from) in bytes.iter_mut().zip(ms) {
        *to = from;
    }
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
    *version = (*version & 0x0f) | 0x70;
    *variant = (*variant & 0x3f) | 0x80;
    ClientId::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_of_any_node_have_valid_names() {
        let (from, to) = users("sm1").unwrap();
        assert_eq!((from.as_str(), to.as_str()), ("buslane-probe-sm1", "buslane-probe-sm1-peer"));
        for odd in ["", "Söul 1/2", &"x".repeat(200), "a\nb", "日本"] {
            let (from, to) = users(odd).unwrap();
            assert_ne!(from, to, "{odd:?}");
        }
    }

    #[test]
    fn an_id_is_a_uuid_of_version_7_and_of_now() {
        let id = fresh_id();
        let text = id.to_string();
        assert_eq!(text.as_bytes()[14], b'7', "{text}");
        assert!(matches!(text.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{text}");
        assert_ne!(id, fresh_id());
        let ms = u64::from_be_bytes([&[0, 0], &id.as_bytes()[..6]].concat().try_into().unwrap());
        assert!(clock::unix_ms() - ms < 10_000);
    }
}
