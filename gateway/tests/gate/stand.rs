//! What the tests stand on: a backend that registers devices in memory, a gateway with the real feed, and a client that is
//! as raw as a test needs it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use buslane_chassis::api::{Backend, BackendApi, Call};
use buslane_chassis::feed::Feed;
use buslane_chassis::oversee::Refusals;
use buslane_chassis::shutdown::Shutdown;
use buslane_chassis::tls::{Authority, Identity, install_provider, roots_from_pem};
use buslane_chassis::{clock, quic};
use buslane_gateway::{Config, Gateway};
use buslane_shared::frame::{FrameDecoder, frame};
use buslane_shared::id::DeviceId;
use buslane_shared::limits::{ALPN_GATE, PROTOCOL_VERSION};
use buslane_shared::proof::{EXPORTER_BYTES, GATE_EXPORTER, gate_statement};
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::token::KeyRing;
use buslane_shared::wire;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint};
use tokio::sync::mpsc;
use tokio::time::timeout;

pub const HOUR_MS: u64 = 3_600_000;

/// Longest wait for anything that must happen. Long, because two cores run many tests at once.
pub const LIMIT: Duration = Duration::from_secs(20);

/// After this long nobody will answer a first packet any more.
pub const SILENCE: Duration = Duration::from_millis(400);

/// The one-time code that `alice` has.
pub const ALICES_CODE: &str = "alice-code";

/// A backend in memory: open enrolment for new names, one code for alice, tokens as the gateway vouches.
#[derive(Default)]
pub struct TestBackend {
    feed: Mutex<wire::FeedUpdate>,
    followers: Mutex<Vec<mpsc::Sender<wire::FeedUpdate>>>,
    names: Mutex<HashMap<String, u64>>,
    /// What gateways asked for.
    pub asked: Mutex<Vec<wire::EnrolDevice>>,
    /// When set, enrolments are answered with this.
    pub refuse: Mutex<Option<Refusal>>,
    /// When set, enrolments are never answered.
    pub stall: Mutex<bool>,
}

impl TestBackend {
    /// Changes what the feed says and tells all who follow it.
    pub fn feed(&self, change: impl FnOnce(&mut wire::FeedUpdate)) {
        let mut feed = self.feed.lock();
        change(&mut feed);
        self.followers.lock().retain(|follower| follower.try_send(feed.clone()).is_ok());
    }

    pub fn ring(&self) -> KeyRing {
        KeyRing::new(&self.feed.lock().keys.clone().unwrap())
    }

    fn enrolled(&self, request: &wire::EnrolDevice) -> Result<wire::EnrolledDevice, Refusal> {
        use wire::enrol_device::Right;
        if let Some(refusal) = self.refuse.lock().clone() {
            return Err(refusal);
        }
        let mut names = self.names.lock();
        let life_ms = match request.right.as_ref().unwrap() {
            Right::Code(code) if code == ALICES_CODE && request.user == "alice" => 30 * 24 * HOUR_MS,
            Right::Code(_) if names.contains_key(&request.user) => return Err(Refusal::of(Code::BadCode)),
            Right::Code(_) => {
                return Err(Refusal::new(Code::UnknownUser, "a detail that only an insider may see"));
            }
            Right::Open(_) if names.contains_key(&request.user) => return Err(Refusal::of(Code::NameTaken)),
            Right::Open(_) => 30 * 24 * HOUR_MS,
            Right::VouchedS(life_s) => u64::from(*life_s) * 1_000,
        };
        let now_ms = clock::unix_ms();
        names.insert(request.user.clone(), now_ms);
        Ok(wire::EnrolledDevice {
            device: DeviceId::of_key(&request.device_key).to_wire(),
            enrolled_at_ms: now_ms,
            expires_ms: now_ms + life_ms,
        })
    }
}

impl BackendApi for TestBackend {
    fn relay(&self, _: Call, _: wire::Request) -> BoxFuture<'_, wire::Answer> {
        panic!("a gateway relays nothing")
    }

    fn enrol(&self, request: wire::EnrolDevice) -> BoxFuture<'_, Result<wire::EnrolledDevice, Refusal>> {
        async move {
            self.asked.lock().push(request.clone());
            if *self.stall.lock() {
                std::future::pending::<()>().await;
            }
            self.enrolled(&request)
        }
        .boxed()
    }

    fn feed(&self, _: wire::FeedRequest) -> BoxFuture<'_, Result<mpsc::Receiver<wire::FeedUpdate>, Refusal>> {
        let (sender, receiver) = mpsc::channel(16);
        sender.try_send(self.feed.lock().clone()).unwrap();
        self.followers.lock().push(sender);
        async move { Ok(receiver) }.boxed()
    }

    fn link(
        &self,
        _: mpsc::Receiver<wire::FromManager>,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<wire::ToManager>, Refusal>> {
        panic!("a gateway has no link")
    }
}

pub fn key(id: u32, secret: u8) -> wire::TokenKey {
    let now_ms = clock::unix_ms();
    wire::TokenKey {
        id,
        secret: vec![secret; 32].into(),
        not_before_ms: now_ms - HOUR_MS,
        expires_ms: now_ms + 60 * 24 * HOUR_MS,
    }
}

pub fn node(name: &str) -> wire::Node {
    wire::Node {
        name: name.to_owned(),
        server_name: format!("{name}.example"),
        front: format!("{name}.example:7401"),
        wake: format!("{name}.example:7402"),
        weight: 1,
        draining: false,
        sessions: 0,
    }
}

/// A running gateway and everything around it.
pub struct Stand {
    pub backend: Arc<TestBackend>,
    pub feed: Arc<Feed>,
    pub address: SocketAddr,
    pub shutdown: Shutdown,
    pub refusals: Arc<Refusals>,
    roots: Arc<rustls::RootCertStore>,
}

impl Stand {
    /// A gateway with open enrolment, two session managers and one key.
    pub async fn open() -> Self {
        Self::with(Config { enrolment: buslane_gateway::config::Enrolment::Open, ..Config::default() }).await
    }

    pub async fn with(config: Config) -> Self {
        let backend = Arc::new(TestBackend::default());
        backend.feed(|feed| {
            feed.keys = Some(wire::KeySet { keys: vec![key(1, 7)] });
            feed.nodes = Some(wire::NodeSet { nodes: vec![node("m1"), node("m2")] });
        });
        let stand = Self::on(config, backend).await;
        assert!(stand.feed.ready(LIMIT).await);
        stand
    }

    pub async fn on(config: Config, backend: Arc<TestBackend>) -> Self {
        install_provider();
        let authority = Authority::generate().unwrap();
        let pem = authority.issue("localhost", &["127.0.0.1".to_owned()]).unwrap();
        let identity = Identity::from_pem(&pem.certificate, &pem.key).unwrap();
        let shutdown = Shutdown::new();
        let shared: Backend = backend.clone();
        let feed = Feed::follow(shared.clone(), wire::RoleKind::Gateway, "g1", &shutdown);
        // All of 127/8 is local, so that a test can come from several addresses.
        let config = Config { listen: (Ipv4Addr::UNSPECIFIED, 0).into(), ..config };
        let gateway = Gateway::bind(config, &identity, shared, feed.clone(), &shutdown).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, gateway.local_addr().port()));
        let refusals = gateway.refusals();
        shutdown.tracker().spawn(gateway.run());
        let roots = Arc::new(roots_from_pem(authority.certificate()).unwrap());
        Self { backend, feed, address, shutdown, refusals, roots }
    }

    /// Changes the feed and waits until the gateway has seen it.
    pub async fn feed(&self, change: impl FnOnce(&mut wire::FeedUpdate)) {
        let mut freshness = self.feed.freshness();
        let before = freshness.borrow_and_update().updates;
        self.backend.feed(change);
        timeout(LIMIT, freshness.wait_for(|f| f.updates > before)).await.unwrap().unwrap();
    }

    pub fn endpoint(&self, from: Ipv4Addr) -> Endpoint {
        self.endpoint_with(from, ALPN_GATE, quinn::TransportConfig::default())
    }

    pub fn endpoint_with(&self, from: Ipv4Addr, alpn: &[u8], transport: quinn::TransportConfig) -> Endpoint {
        let mut endpoint = Endpoint::client((IpAddr::V4(from), 0).into()).unwrap();
        endpoint.set_default_client_config(self.client_config(alpn, transport));
        endpoint
    }

    fn client_config(&self, alpn: &[u8], transport: quinn::TransportConfig) -> quinn::ClientConfig {
        let mut tls =
            rustls::ClientConfig::builder().with_root_certificates(self.roots.clone()).with_no_client_auth();
        tls.alpn_protocols = vec![alpn.to_vec()];
        let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        config.transport_config(Arc::new(transport));
        config
    }

    pub async fn connect(&self) -> Client {
        self.connect_from(Ipv4Addr::LOCALHOST).await
    }

    pub async fn connect_from(&self, from: Ipv4Addr) -> Client {
        self.connect_by(self.endpoint(from)).await
    }

    /// Shows a mark in the first packet. `None`: nobody answers.
    pub async fn connect_with(&self, mark: &[u8]) -> Option<Client> {
        let endpoint = self.endpoint(Ipv4Addr::LOCALHOST);
        let mut config = self.client_config(ALPN_GATE, quinn::TransportConfig::default());
        let id = quinn::ConnectionId::new(mark);
        config.initial_dst_cid_provider(Arc::new(move || id));
        let connecting = endpoint.connect_with(config, self.address, "localhost").unwrap();
        let connection = timeout(SILENCE, connecting).await.ok()?.unwrap();
        Some(Client { connection, _endpoint: endpoint })
    }

    pub async fn connect_by(&self, endpoint: Endpoint) -> Client {
        let connection = timeout(LIMIT, endpoint.connect(self.address, "localhost").unwrap());
        Client { connection: connection.await.unwrap().unwrap(), _endpoint: endpoint }
    }

    /// Enrols a new device under `user`, openly.
    pub async fn enrol(&self, user: &str) -> Device {
        let mut device = Device::new(user);
        let client = self.connect().await;
        let enrolled = client.enrol(&device, wire::enrol::Right::Open(true)).await.unwrap();
        device.credential = enrolled.credential;
        device
    }

    /// Stops the gateway; everything it started must end.
    pub async fn finish(self) {
        assert!(self.shutdown.finish(LIMIT).await, "something was left running");
    }
}

/// A phone.
pub struct Device {
    pub user: String,
    pub pair: Ed25519KeyPair,
    pub credential: bytes::Bytes,
}

impl Device {
    pub fn new(user: &str) -> Self {
        Self {
            user: user.to_owned(),
            pair: Ed25519KeyPair::generate().unwrap(),
            credential: bytes::Bytes::new(),
        }
    }

    pub fn key(&self) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(self.pair.public_key().as_ref())
    }

    pub fn id(&self) -> DeviceId {
        DeviceId::of_key(self.pair.public_key().as_ref())
    }

    pub fn sign(&self, exporter: &[u8; EXPORTER_BYTES]) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(self.pair.sign(&gate_statement(exporter)).as_ref())
    }
}

/// One connection to the gate.
pub struct Client {
    pub connection: Connection,
    _endpoint: Endpoint,
}

impl Client {
    pub fn exporter(&self) -> [u8; EXPORTER_BYTES] {
        quic::exporter(&self.connection, GATE_EXPORTER).unwrap()
    }

    pub fn enrolment(&self, device: &Device, right: wire::enrol::Right) -> wire::Enrol {
        wire::Enrol {
            user: device.user.clone(),
            device_key: device.key(),
            device_name: "a phone".to_owned(),
            proof: device.sign(&self.exporter()),
            right: Some(right),
        }
    }

    pub fn entry(&self, device: &Device) -> wire::Enter {
        wire::Enter {
            credential: device.credential.clone(),
            proof: device.sign(&self.exporter()),
            app_state: wire::AppState::Foreground.into(),
            reason: wire::Reason::Opened.into(),
            ..Default::default()
        }
    }

    pub async fn enrol(
        &self,
        device: &Device,
        right: wire::enrol::Right,
    ) -> Result<wire::Enrolled, wire::Refusal> {
        self.enrol_as(self.enrolment(device, right)).await
    }

    pub async fn enrol_as(&self, enrol: wire::Enrol) -> Result<wire::Enrolled, wire::Refusal> {
        match self.ask(wire::gate_request::Op::Enrol(enrol)).await {
            wire::gate_answer::Result::Enrolled(enrolled) => Ok(enrolled),
            wire::gate_answer::Result::Refusal(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    pub async fn enter(&self, device: &Device) -> Result<wire::Ticket, wire::Refusal> {
        self.enter_as(self.entry(device)).await
    }

    pub async fn enter_as(&self, enter: wire::Enter) -> Result<wire::Ticket, wire::Refusal> {
        match self.ask(wire::gate_request::Op::Enter(enter)).await {
            wire::gate_answer::Result::Ticket(ticket) => Ok(ticket),
            wire::gate_answer::Result::Refusal(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    async fn ask(&self, op: wire::gate_request::Op) -> wire::gate_answer::Result {
        let request = wire::GateRequest { version: PROTOCOL_VERSION, deadline_ms: 0, op: Some(op) };
        self.exchange(&frame(&request)).await.expect("an answer")
    }

    /// Sends these bytes on a stream of their own, ends it, and reads the one answer. `None`: there was none.
    pub async fn exchange(&self, bytes: &[u8]) -> Option<wire::gate_answer::Result> {
        let (mut send, recv) = timeout(LIMIT, self.connection.open_bi()).await.ok()?.ok()?;
        send.write_all(bytes).await.ok()?;
        send.finish().ok()?;
        answer(recv).await
    }

    /// The code with which the gateway closes the connection.
    pub async fn closed_with(&self) -> Code {
        match timeout(LIMIT, self.connection.closed()).await.expect("the connection stays open") {
            quinn::ConnectionError::ApplicationClosed(close) => {
                Code::try_from(i32::try_from(close.error_code.into_inner()).unwrap()).unwrap()
            }
            other => panic!("{other}"),
        }
    }
}

/// Reads the one answer of a stream to its end.
pub async fn answer(mut recv: quinn::RecvStream) -> Option<wire::gate_answer::Result> {
    let bytes = timeout(LIMIT, recv.read_to_end(64 * 1024)).await.expect("an answer in time").ok()?;
    let mut decoder = FrameDecoder::new(64 * 1024);
    decoder.push(&bytes);
    let answer: wire::GateAnswer = decoder.next_message().unwrap()?;
    assert!(!decoder.is_mid_frame(), "one answer, and nothing behind it");
    answer.result
}

/// The refusal in an answer.
pub fn refusal(answer: Option<wire::gate_answer::Result>) -> wire::Refusal {
    match answer {
        Some(wire::gate_answer::Result::Refusal(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}
