//! A server in a few hundred lines: gate and session on one port, rooms in memory, every user a member of every room.
//! A test can make it refuse, forget, fall silent or break off at a chosen moment.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use buslane_shared::frame::{FrameDecoder, frame};
use buslane_shared::id::{DeviceId, RoomId};
use buslane_shared::limits::{ALPN_GATE, ALPN_SESSION};
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::wire::{
    self, answer, client_frame, event, gate_answer, gate_request, request::Op, server_frame,
};
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::mpsc;

/// What a send gets instead of a receipt.
pub enum SendFault {
    /// A refusal; nothing is stored.
    Refuse(Refusal),
    /// It is stored, and the connection breaks before the receipt.
    StoreAndBreak,
    /// Nothing at all.
    Ignore,
}

#[derive(Default)]
pub struct World {
    pub rooms: HashMap<RoomId, Vec<wire::Message>>,
    /// Lowest kept sequence of a room.
    pub first: HashMap<RoomId, u64>,
    sessions: HashMap<Bytes, Held>,
    tickets: HashMap<Bytes, (String, Bytes)>,
    pub known: HashMap<Bytes, (String, Bytes)>,
    pub send_faults: VecDeque<SendFault>,
    pub hello_refusals: VecDeque<Refusal>,
    pub gate_refusals: VecDeque<Refusal>,
    pub syncs_refused: usize,
    /// A room whose cursors may not be marked; a batch with it is refused whole.
    pub closed_room: Option<RoomId>,
    /// Nobody is let in.
    pub down: bool,
    /// Sessions are not continued.
    pub forgetful: bool,
    /// Requests for history and for codes get no answer.
    pub mute: bool,
    pub addresses: Vec<SocketAddr>,
    pub enrols: usize,
    pub enters: usize,
    pub hellos: Vec<wire::Hello>,
    pub requests: Vec<Op>,
    pub cancels: Vec<u64>,
    pub resume_valid_ms: u32,
    /// What a ticket brings, as often as there is something here; `None`: a server that knows no passes.
    pub passes: Option<VecDeque<wire::Passes>>,
    /// What the next welcomes bring.
    pub welcome_passes: VecDeque<wire::Passes>,
    /// What the next welcomes advise.
    pub advice: Option<wire::Advice>,
    /// Connections to session managers: whether to the background port, and the first connection id.
    pub arrivals: Vec<(Door, Bytes)>,
    /// The same of the gateway.
    pub gate_arrivals: Vec<Bytes>,
    pub entries: Vec<wire::Enter>,
    /// The foreground port says nothing.
    pub front_is_silent: bool,
    wake: Option<SocketAddr>,
    next: u64,
}

/// A port of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The gate and the foreground.
    Front,
    Wake,
}

/// A session, connected or not.
struct Held {
    user: String,
    device: Bytes,
    events: Vec<wire::Event>,
    no: u64,
    out: Option<mpsc::UnboundedSender<server_frame::Kind>>,
    connection: quinn::Connection,
}

impl World {
    fn token(&mut self, kind: u8) -> Bytes {
        self.next += 1;
        let mut token = vec![kind; 16];
        token[..8].copy_from_slice(&self.next.to_be_bytes());
        token.into()
    }

    fn deliver(&mut self, kind: event::Kind, except_device: &Bytes) {
        for held in self.sessions.values_mut().filter(|h| h.device != *except_device) {
            held.no += 1;
            let event = wire::Event { no: held.no, kind: Some(kind.clone()) };
            held.events.push(event.clone());
            if let Some(out) = &held.out {
                let _ = out.send(server_frame::Kind::Event(event));
            }
        }
    }

    /// Stores a message and delivers it to everybody but `device`.
    fn append(&mut self, sender: &str, device: &Bytes, send: &wire::Send) -> wire::Receipt {
        let room = RoomId::try_from(&send.room).unwrap();
        let log = self.rooms.entry(room).or_default();
        if let Some(old) = log.iter().find(|m| m.sender == sender && m.client_id == send.client_id) {
            return wire::Receipt {
                room: room.to_wire(),
                seq: old.seq,
                sent_at_ms: old.sent_at_ms,
                duplicate: true,
            };
        }
        let message = wire::Message {
            room: room.to_wire(),
            seq: log.len() as u64 + 1,
            sender: sender.to_owned(),
            client_id: send.client_id.clone(),
            sent_at_ms: 1,
            mentions: send.mentions.clone(),
            content: Some(wire::message::Content::Body(send.body.clone())),
        };
        log.push(message.clone());
        let receipt =
            wire::Receipt { room: room.to_wire(), seq: message.seq, sent_at_ms: 1, duplicate: false };
        let delivery = wire::Delivery { message: Some(message), notify: true };
        self.deliver(event::Kind::Delivery(delivery), device);
        receipt
    }

    fn info(&self, room: RoomId) -> wire::RoomInfo {
        wire::RoomInfo {
            room: room.to_wire(),
            kind: wire::RoomKind::Direct.into(),
            head: self.rooms.get(&room).map_or(0, |log| log.len() as u64),
            first: self.first.get(&room).copied().unwrap_or(1),
            role: wire::Role::Member.into(),
            ..Default::default()
        }
    }

    fn batch(&self, room: &Bytes, after: u64, limit: usize) -> wire::Batch {
        let id = RoomId::try_from(room).unwrap();
        let first = self.first.get(&id).copied().unwrap_or(1);
        let log = self.rooms.get(&id).map_or(&[][..], Vec::as_slice);
        let messages: Vec<_> =
            log.iter().filter(|m| m.seq > after && m.seq >= first).take(limit).cloned().collect();
        let head = log.len() as u64;
        let more = messages.last().is_some_and(|m| m.seq < head);
        wire::Batch { room: room.clone(), messages, head, first, more }
    }

    fn answer(&mut self, user: &str, op: &Op) -> answer::Result {
        match op {
            Op::Ping(_) => answer::Result::Pong(wire::Pong::default()),
            Op::OpenDirect(o) => {
                let room = RoomId::direct(&user.parse().unwrap(), &o.peer.parse().unwrap());
                self.rooms.entry(room).or_default();
                answer::Result::Room(self.info(room))
            }
            Op::DescribeRoom(o) => answer::Result::Room(self.info(RoomId::try_from(&o.room).unwrap())),
            Op::ListRooms(_) => {
                let mut rooms: Vec<_> = self.rooms.keys().map(|r| self.info(*r)).collect();
                rooms.sort_by(|a, b| a.room.cmp(&b.room));
                answer::Result::Rooms(wire::RoomList { rooms, more: false })
            }
            Op::Mark(mark)
                if mark.cursors.iter().any(|c| self.closed_room.is_some_and(|r| c.room == r.to_wire())) =>
            {
                answer::Result::Refusal(Refusal::of(Code::NotAMember).into())
            }
            Op::Sync(_) if self.syncs_refused > 0 => {
                self.syncs_refused -= 1;
                answer::Result::Refusal(Refusal::of(Code::Busy).retry_after_ms(20).into())
            }
            Op::Sync(o) => answer::Result::Batch(self.batch(&o.room, o.after, o.limit as usize)),
            Op::History(o) => answer::Result::Batch(self.batch(&o.room, 0, o.limit as usize)),
            Op::MakeCode(_) => answer::Result::Code(wire::EnrolCode { code: "code".into(), valid_ms: 1 }),
            _ => answer::Result::Done(wire::Done {}),
        }
    }
}

/// The server and its world.
pub struct Server {
    endpoint: quinn::Endpoint,
    wake: quinn::Endpoint,
    address: SocketAddr,
    ca: Vec<u8>,
    pub world: Arc<Mutex<World>>,
}

impl Server {
    pub fn start() -> Self {
        let made =
            rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        tls.alpn_protocols = vec![ALPN_GATE.to_vec(), ALPN_SESSION.to_vec()];
        let tls = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(tls));
        let bind = || quinn::Endpoint::server(config.clone(), "127.0.0.1:0".parse().unwrap()).unwrap();
        let (endpoint, wake) = (bind(), bind());
        let address = endpoint.local_addr().unwrap();
        let world = World {
            addresses: vec![address],
            wake: Some(wake.local_addr().unwrap()),
            resume_valid_ms: 60_000,
            ..World::default()
        };
        let ca = made.cert.pem().into_bytes();
        let server = Self { endpoint, wake, address, ca, world: Arc::new(Mutex::new(world)) };
        server.listen(server.endpoint.clone(), Door::Front);
        server.listen(server.wake.clone(), Door::Wake);
        server
    }

    fn listen(&self, endpoint: quinn::Endpoint, door: Door) {
        let world = self.world.clone();
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let world = world.clone();
                let mark = Bytes::copy_from_slice(&incoming.orig_dst_cid());
                if world.lock().down {
                    incoming.ignore();
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(connection) = incoming.await else { return };
                    let data = connection.handshake_data().unwrap();
                    let data = data.downcast::<quinn::crypto::rustls::HandshakeData>().unwrap();
                    if data.protocol.as_deref() == Some(ALPN_GATE) {
                        world.lock().gate_arrivals.push(mark);
                        gate(connection, world).await;
                    } else {
                        world.lock().arrivals.push((door, mark));
                        session(connection, world, door).await;
                    }
                });
            }
        });
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn socket_address(&self) -> SocketAddr {
        self.address
    }

    pub fn ca(&self) -> Vec<u8> {
        self.ca.clone()
    }

    /// Breaks every connection, as a process that dies.
    pub fn break_connections(&self) {
        let connections: Vec<_> = self.world.lock().sessions.values().map(|h| h.connection.clone()).collect();
        for connection in connections {
            connection.close(0u32.into(), b"");
        }
    }

    /// Closes the connections of a user with this code, without a word.
    pub fn close(&self, user: &str, code: Code) {
        for held in self.world.lock().sessions.values().filter(|h| h.user == user) {
            held.connection.close((code as u32).into(), b"");
        }
    }

    /// Dies: connections and sessions are gone, nothing is answered. What was stored stays.
    pub fn stop(&self) {
        self.world.lock().down = true;
        self.break_connections();
        self.world.lock().sessions.clear();
    }

    /// Lives again.
    pub fn start_again(&self) {
        self.world.lock().down = false;
    }

    /// A message of somebody else; `lose`: without a hint to anybody.
    pub fn say(&self, room: RoomId, sender: &str, text: &str, lose: bool) {
        let mut world = self.world.lock();
        world.next += 1;
        let client_id = Bytes::copy_from_slice(&u128::from(world.next).to_be_bytes());
        let send = wire::Send {
            room: room.to_wire(),
            client_id,
            body: Bytes::copy_from_slice(text.as_bytes()),
            ..Default::default()
        };
        if lose {
            let sessions = std::mem::take(&mut world.sessions);
            world.append(sender, &Bytes::new(), &send);
            world.sessions = sessions;
        } else {
            world.append(sender, &Bytes::new(), &send);
        }
    }

    /// An event to every session.
    pub fn tell(&self, kind: event::Kind) {
        self.world.lock().deliver(kind, &Bytes::new());
    }

    /// A frame to every session of a user.
    pub fn frame(&self, user: &str, kind: &server_frame::Kind) {
        for held in self.world.lock().sessions.values().filter(|h| h.user == user) {
            if let Some(out) = &held.out {
                let _ = out.send(kind.clone());
            }
        }
    }

    /// The bodies of a room, as texts.
    pub fn log(&self, room: RoomId) -> Vec<String> {
        let world = self.world.lock();
        let text = |m: &wire::Message| match &m.content {
            Some(wire::message::Content::Body(body)) => String::from_utf8(body.to_vec()).unwrap(),
            _ => String::new(),
        };
        world.rooms.get(&room).map_or_else(Vec::new, |log| log.iter().map(text).collect())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.endpoint.close(0u32.into(), b"");
        self.wake.close(0u32.into(), b"");
    }
}

async fn gate(connection: quinn::Connection, world: Arc<Mutex<World>>) {
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        let Ok(bytes) = recv.read_to_end(64 * 1024).await else { return };
        let request = wire::GateRequest::decode(&bytes[4..]).unwrap();
        let result = {
            let mut world = world.lock();
            let refusal = world.gate_refusals.pop_front();
            match (refusal, request.op.unwrap()) {
                (Some(refusal), _) => gate_answer::Result::Refusal(refusal.into()),
                (None, gate_request::Op::Enrol(enrol)) => {
                    world.enrols += 1;
                    let device = DeviceId::of_key(&enrol.device_key).to_wire();
                    let credential = world.token(b'c');
                    world.known.insert(credential.clone(), (enrol.user.clone(), device.clone()));
                    gate_answer::Result::Enrolled(wire::Enrolled {
                        user: enrol.user,
                        device,
                        credential,
                        credential_expires_ms: u64::MAX,
                    })
                }
                (None, gate_request::Op::Enter(enter)) => {
                    world.enters += 1;
                    world.entries.push(enter.clone());
                    let passes = world.passes.as_mut().map(|left| left.pop_front().unwrap_or_default());
                    match world.known.get(&enter.credential).cloned() {
                        None => gate_answer::Result::Refusal(Refusal::of(Code::BadCredential).into()),
                        Some(who) => {
                            let ticket = world.token(b't');
                            world.tickets.insert(ticket.clone(), who);
                            let address = |a: &SocketAddr| wire::Address {
                                server_name: "localhost".into(),
                                front: a.to_string(),
                                wake: world.wake.unwrap_or(*a).to_string(),
                            };
                            gate_answer::Result::Ticket(wire::Ticket {
                                ticket,
                                proof_key: Bytes::from_static(&[7; 32]),
                                valid_ms: 3_600_000,
                                addresses: world.addresses.iter().map(address).collect(),
                                passes,
                                ..Default::default()
                            })
                        }
                    }
                }
            }
        };
        let _ = send.write_all(&frame(&wire::GateAnswer { result: Some(result) })).await;
        let _ = send.finish();
    }
}

async fn session(connection: quinn::Connection, world: Arc<Mutex<World>>, door: Door) {
    if door == Door::Front && world.lock().front_is_silent {
        // As good as silence, and sooner over: the connection is not refused, it is lost.
        connection.close(0u32.into(), b"");
        return;
    }
    let Ok((send, mut recv)) = connection.accept_bi().await else { return };
    let mut decoder = FrameDecoder::new(64 * 1024);
    let hello = loop {
        match decoder.next_message::<wire::ClientFrame>().unwrap() {
            Some(wire::ClientFrame { kind: Some(client_frame::Kind::Hello(hello)) }) => break hello,
            Some(_) => return,
            None => match recv.read_chunk(64 * 1024, true).await {
                Ok(Some(chunk)) => decoder.push(&chunk.bytes),
                _ => return,
            },
        }
    };
    let (out, frames) = mpsc::unbounded_channel();
    tokio::spawn(write(send, frames, connection.clone()));
    let Some((id, user, device)) = begin(&world, hello, &out, &connection) else { return };
    let bulk = connection.clone();
    let (bulk_world, bulk_user) = (world.clone(), user.clone());
    tokio::spawn(async move {
        while let Ok((send, recv)) = bulk.accept_bi().await {
            let (out, frames) = mpsc::unbounded_channel();
            tokio::spawn(write(send, frames, bulk.clone()));
            let (world, user) = (bulk_world.clone(), bulk_user.clone());
            let (connection, decoder) = (bulk.clone(), FrameDecoder::new(64 * 1024));
            tokio::spawn(serve(recv, decoder, out, world, user, Bytes::new(), connection));
        }
    });
    serve(recv, decoder, out.clone(), world.clone(), user, device, connection).await;
    let mut world = world.lock();
    if let Some(held) = world.sessions.get_mut(&id)
        && held.out.as_ref().is_some_and(|o| o.same_channel(&out))
    {
        held.out = None;
    }
}

/// The session of a hello; its welcome is on its way.
fn begin(
    world: &Mutex<World>,
    hello: wire::Hello,
    out: &mpsc::UnboundedSender<server_frame::Kind>,
    connection: &quinn::Connection,
) -> Option<(Bytes, String, Bytes)> {
    let mut world = world.lock();
    world.hellos.push(hello.clone());
    let refused = world.hello_refusals.pop_front();
    let refuse = |refusal: Refusal| {
        let _ = out.send(server_frame::Kind::Refusal(refusal.into()));
        None
    };
    if let Some(refusal) = refused {
        return refuse(refusal);
    }
    let (user, device, held) = match hello.token {
        Some(wire::hello::Token::Ticket(ticket)) => match world.tickets.get(&ticket).cloned() {
            Some((user, device)) => (user, device, None),
            None => return refuse(Refusal::of(Code::BadTicket)),
        },
        Some(wire::hello::Token::Resume(token)) => match world.sessions.remove(&token) {
            Some(held) => (held.user.clone(), held.device.clone(), Some((token, held))),
            None => return refuse(Refusal::of(Code::BadTicket)),
        },
        None => return refuse(Refusal::of(Code::Malformed)),
    };
    world.sessions.retain(|_, h| h.device != device);
    let forgetful = world.forgetful;
    let (id, mut held) = match held.filter(|_| !forgetful) {
        Some(kept) => kept,
        None => {
            let (user, device) = (user.clone(), device.clone());
            let held =
                Held { user, device, events: Vec::new(), no: 0, out: None, connection: connection.clone() };
            (world.token(b's'), held)
        }
    };
    let resumed = held.no > 0 || hello.seen > 0;
    held.out = Some(out.clone());
    held.connection = connection.clone();
    let welcome = wire::Welcome {
        session: id.clone(),
        resumed: resumed && !forgetful,
        resume: id.clone(),
        resume_valid_ms: world.resume_valid_ms,
        ping_interval_ms: 30_000,
        idle_limit_ms: 90_000,
        limits: Some(wire::Limits {
            frame_bytes: 65_536,
            body_bytes: 16_384,
            in_flight: 256,
            bulk_streams: 3,
        }),
        user: user.clone(),
        device: device.clone(),
        advice: world.advice.clone(),
        passes: world.welcome_passes.pop_front(),
        ..Default::default()
    };
    let _ = out.send(server_frame::Kind::Welcome(welcome));
    for event in held.events.iter().filter(|e| e.no > hello.seen) {
        let _ = out.send(server_frame::Kind::Event(event.clone()));
    }
    world.sessions.insert(id.clone(), held);
    Some((id, user, device))
}

async fn serve(
    mut recv: quinn::RecvStream,
    mut decoder: FrameDecoder,
    out: mpsc::UnboundedSender<server_frame::Kind>,
    world: Arc<Mutex<World>>,
    user: String,
    device: Bytes,
    connection: quinn::Connection,
) {
    loop {
        while let Some(frame) = decoder.next_message::<wire::ClientFrame>().unwrap() {
            match frame.kind {
                Some(client_frame::Kind::Request(request)) => {
                    let result = on_request(&world, &user, &device, request.op.unwrap(), &connection);
                    if let Some(result) = result {
                        let answer = wire::Answer { id: request.id, result: Some(result) };
                        let _ = out.send(server_frame::Kind::Answer(answer));
                    }
                }
                Some(client_frame::Kind::Cancel(id)) => world.lock().cancels.push(id),
                _ => {}
            }
        }
        match recv.read_chunk(64 * 1024, true).await {
            Ok(Some(chunk)) => decoder.push(&chunk.bytes),
            _ => return,
        }
    }
}

fn on_request(
    world: &Mutex<World>,
    user: &str,
    device: &Bytes,
    op: Op,
    connection: &quinn::Connection,
) -> Option<answer::Result> {
    let mut world = world.lock();
    let result = match &op {
        Op::Send(send) => match world.send_faults.pop_front() {
            Some(SendFault::Refuse(refusal)) => Some(answer::Result::Refusal(refusal.into())),
            Some(SendFault::Ignore) => None,
            Some(SendFault::StoreAndBreak) => {
                world.append(user, device, send);
                connection.close(0u32.into(), b"");
                None
            }
            None => Some(answer::Result::Receipt(world.append(user, device, send))),
        },
        Op::History(_) | Op::MakeCode(_) if world.mute => None,
        op => Some(world.answer(user, op)),
    };
    if !matches!(op, Op::Send(_)) {
        world.requests.push(op);
    }
    result
}

async fn write(
    mut send: quinn::SendStream,
    mut frames: mpsc::UnboundedReceiver<server_frame::Kind>,
    connection: quinn::Connection,
) {
    while let Some(kind) = frames.recv().await {
        let code = match &kind {
            server_frame::Kind::Refusal(r) => Some(r.code),
            server_frame::Kind::GoAway(g) if g.within_ms == 0 => Some(g.code),
            _ => None,
        };
        let mut bytes = frame(&wire::ServerFrame { kind: Some(kind) }).to_vec();
        // Everything that is there goes out at once.
        while bytes.len() < 64 * 1024
            && code.is_none()
            && let Ok(kind) = frames.try_recv()
        {
            bytes.extend_from_slice(&frame(&wire::ServerFrame { kind: Some(kind) }));
        }
        if send.write_all(&bytes).await.is_err() {
            return;
        }
        if let Some(code) = code {
            let _ = send.finish();
            // The frame is given the chance to arrive before the close.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(1), send.stopped()).await;
            connection.close((code as u32).into(), b"");
        }
    }
}
