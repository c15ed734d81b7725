//! A client made of nothing but a QUIC connection and frames, so that it can also do what a good client never does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use buslane_chassis::tls::roots_from_pem;
use buslane_shared::frame::{FrameDecoder, frame};
use buslane_shared::id::DeviceId;
use buslane_shared::limits::SERVER_FRAME_BYTES_MAX;
use buslane_shared::mark::MarkBytes;
use buslane_shared::proof::{SESSION_EXPORTER, session_proof};
use buslane_shared::refusal::Code;
use buslane_shared::wire::{
    self, answer::Result as Outcome, client_frame, hello::Token, request::Op, server_frame,
};
use bytes::Bytes;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Connection, ConnectionError, ConnectionId, Endpoint, RecvStream, SendStream,
    TransportConfig, VarInt,
};
use tokio::time::timeout;

use crate::stand::{PATIENCE, Stand};

/// One bidirectional stream, as frames.
pub struct Line {
    pub send: SendStream,
    pub recv: RecvStream,
    decoder: FrameDecoder,
}

impl Line {
    pub fn new((send, recv): (SendStream, RecvStream)) -> Self {
        Self { send, recv, decoder: FrameDecoder::new(SERVER_FRAME_BYTES_MAX) }
    }

    pub async fn say(&mut self, kind: client_frame::Kind) {
        self.send.write_all(&frame(&wire::ClientFrame { kind: Some(kind) })).await.unwrap();
    }

    pub async fn ask(&mut self, id: u64, op: Op) {
        self.ask_within(id, 0, op).await;
    }

    pub async fn ask_within(&mut self, id: u64, deadline_ms: u32, op: Op) {
        let request = wire::Request { id, deadline_ms, op: Some(op) };
        self.say(client_frame::Kind::Request(request)).await;
    }

    /// The next frame; `None`: the stream or the connection has ended.
    pub async fn hear(&mut self) -> Option<server_frame::Kind> {
        let hearing = async {
            loop {
                if let Some(frame) = self.decoder.next_message::<wire::ServerFrame>().unwrap() {
                    return frame.kind;
                }
                let chunk = self.recv.read_chunk(64 * 1024, true).await.ok()??;
                self.decoder.push(&chunk.bytes);
            }
        };
        timeout(PATIENCE, hearing).await.expect("a frame in time")
    }

    pub async fn answer(&mut self) -> wire::Answer {
        match self.hear().await {
            Some(server_frame::Kind::Answer(answer)) => answer,
            other => panic!("not an answer: {other:?}"),
        }
    }

    pub async fn event(&mut self) -> wire::Event {
        match self.hear().await {
            Some(server_frame::Kind::Event(event)) => event,
            other => panic!("not an event: {other:?}"),
        }
    }

    pub async fn go_away(&mut self) -> wire::GoAway {
        loop {
            match self.hear().await {
                Some(server_frame::Kind::GoAway(go_away)) => return go_away,
                Some(_) => {}
                None => panic!("the end came without a word"),
            }
        }
    }
}

/// A phone: an endpoint of its own, and what it needs for a hello.
pub struct Phone {
    endpoint: Endpoint,
    config: ClientConfig,
    pub device: DeviceId,
    pub ticket: Bytes,
    pub proof_key: Bytes,
}

/// A phone with a session.
pub struct Live {
    pub connection: Connection,
    pub line: Line,
    pub welcome: wire::Welcome,
}

pub fn client_config(ca: &str, alpn: &[u8], window: Option<u32>) -> ClientConfig {
    let roots = roots_from_pem(ca).unwrap();
    let mut tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let mut transport = TransportConfig::default();
    if let Some(window) = window {
        transport.stream_receive_window(VarInt::from_u32(window));
    }
    config.transport_config(Arc::new(transport));
    config
}

/// The same, with the first connection id chosen.
pub fn showing(mut config: ClientConfig, mark: MarkBytes) -> ClientConfig {
    config.initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&mark)));
    config
}

impl Phone {
    pub fn new(stand: &Stand, user: &str, device: u8) -> Self {
        Self::tuned(stand, user, device, None)
    }

    /// One that lets the server send only `window` bytes ahead of what it reads.
    pub fn tuned(stand: &Stand, user: &str, device: u8, window: Option<u32>) -> Self {
        let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let (ticket, proof_key) = stand.ticket(user, device);
        let config = client_config(&stand.ca, b"buslane/1", window);
        Self { endpoint, config, device: DeviceId::from_bytes([device; 16]), ticket, proof_key }
    }

    /// A connection to the front port, with a fresh pass.
    pub async fn connect(&self, stand: &Stand) -> Connection {
        self.connect_to(stand.front, stand.pass()).await
    }

    /// A connection whose first packet shows these bytes.
    pub async fn connect_to(&self, addr: SocketAddr, mark: MarkBytes) -> Connection {
        timeout(PATIENCE, self.attempt(addr, mark)).await.expect("a handshake in time").unwrap()
    }

    /// What comes of such a connection.
    pub async fn attempt(&self, addr: SocketAddr, mark: MarkBytes) -> Result<Connection, ConnectionError> {
        self.endpoint.connect_with(showing(self.config.clone(), mark), addr, "localhost").unwrap().await
    }

    pub fn proof(&self, connection: &Connection) -> Bytes {
        let mut exporter = [0; 32];
        connection.export_keying_material(&mut exporter, SESSION_EXPORTER, b"").unwrap();
        Bytes::copy_from_slice(&session_proof(&self.proof_key, &exporter))
    }

    pub fn hello(&self, connection: &Connection, token: Token, seen: u64) -> wire::Hello {
        wire::Hello {
            version: 1,
            token: Some(token),
            proof: self.proof(connection),
            app_state: wire::AppState::Foreground.into(),
            reason: wire::Reason::Opened.into(),
            seen,
            agent: "test".into(),
            ..Default::default()
        }
    }

    /// Opens a connection and says this hello.
    pub async fn greet(&self, stand: &Stand, token: Token, seen: u64) -> (Connection, Line) {
        let connection = self.connect(stand).await;
        let mut line = Line::new(connection.open_bi().await.unwrap());
        line.say(client_frame::Kind::Hello(self.hello(&connection, token, seen))).await;
        (connection, line)
    }

    async fn live(&self, stand: &Stand, token: Token, seen: u64) -> Live {
        let (connection, mut line) = self.greet(stand, token, seen).await;
        match line.hear().await {
            Some(server_frame::Kind::Welcome(welcome)) => Live { connection, line, welcome },
            other => panic!("not welcome: {other:?}"),
        }
    }

    /// A session by ticket.
    pub async fn login(&self, stand: &Stand) -> Live {
        self.live(stand, Token::Ticket(self.ticket.clone()), 0).await
    }

    /// A session by resume token.
    pub async fn resume(&self, stand: &Stand, token: Bytes, seen: u64) -> Live {
        self.live(stand, Token::Resume(token), seen).await
    }
}

impl Live {
    /// Says what the app does, and waits until it is known.
    pub async fn app_state(&mut self, state: wire::AppState) {
        let set = Op::SetAppState(wire::SetAppState { state: state.into() });
        assert!(matches!(self.request(u64::MAX, set).await, Outcome::Done(_)));
    }

    /// Asks and waits for the answer; events before it are skipped.
    pub async fn request(&mut self, id: u64, op: Op) -> Outcome {
        self.line.ask(id, op).await;
        loop {
            match self.line.hear().await {
                Some(server_frame::Kind::Answer(answer)) if answer.id == id => return answer.result.unwrap(),
                Some(_) => {}
                None => panic!("no answer: {:?}", self.connection.close_reason()),
            }
        }
    }

    pub async fn ping(&mut self) {
        let pong = self.request(u64::MAX, Op::Ping(wire::Ping {})).await;
        assert!(matches!(pong, Outcome::Pong(_)), "{pong:?}");
    }

    /// Loses the connection as a phone in a tunnel does, but so that the server knows at once.
    pub fn lose(self) {
        self.connection.close(VarInt::from_u32(0), b"");
    }
}

/// The code with which the server closes.
pub async fn closed(connection: &Connection) -> Code {
    match timeout(PATIENCE, connection.closed()).await.expect("a close in time") {
        ConnectionError::ApplicationClosed(close) => {
            Code::try_from(i32::try_from(close.error_code.into_inner()).unwrap()).unwrap()
        }
        other => panic!("closed otherwise: {other:?}"),
    }
}

/// The code of a refused request.
pub fn refused(outcome: Outcome) -> wire::Refusal {
    match outcome {
        Outcome::Refusal(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

pub fn send(text: &'static [u8]) -> Op {
    Op::Send(wire::Send { body: Bytes::from_static(text), ..Default::default() })
}

/// Nothing comes for a while. Only for what must *not* happen.
pub async fn quiet(line: &mut Line, time: Duration) {
    let mut byte = [0; 1];
    let heard = timeout(time, line.recv.read(&mut byte)).await;
    assert!(heard.is_err(), "heard {heard:?}");
}
