use std::net::UdpSocket;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use quinn::{
    Connecting, Connection, ConnectionError, ConnectionId, Endpoint, Runtime, TokioRuntime,
    TransportErrorCode,
};

use super::*;
use crate::quic::tests::{ANY, client, client_config, identity, session};
use crate::quic::{Hearing, Knocks, screened_endpoint};
use crate::tls::Authority;
use buslane_shared::limits::ALPN_SESSION;

/// Lets those in whose id begins with one of these bytes, and counts everybody.
#[derive(Debug, Default)]
struct Table {
    through: Vec<u8>,
    put_off: Option<PutOff>,
    /// Everybody is held for this time before.
    hold: Option<Duration>,
    asked: AtomicU32,
}

impl Screen for Table {
    fn judge(&self, first: &FirstPacket<'_>) -> Passage {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if let Some(hold) = self.hold.filter(|_| first.held_since.is_none()) {
            return Passage::Hold(Instant::now() + hold);
        }
        match (first.id.first(), self.put_off) {
            (Some(head), _) if self.through.contains(head) => Passage::Through,
            (_, Some(put_off)) => Passage::PutOff(put_off),
            _ => Passage::Drop,
        }
    }
}

struct World {
    server: Endpoint,
    knocks: Knocks,
    client: Endpoint,
    authority: Authority,
    screen: Arc<Table>,
}

impl World {
    fn new(through: &[u8], put_off: Option<PutOff>) -> Self {
        Self::with(Table { through: through.to_vec(), put_off, ..Table::default() })
    }

    fn with(screen: Table) -> Self {
        let screen = Arc::new(screen);
        let authority = Authority::generate().unwrap();
        let (server, knocks) = screened_endpoint(
            ANY.parse().unwrap(),
            &identity(&authority),
            ALPN_SESSION,
            session(),
            screen.clone(),
        )
        .unwrap();
        Self { server, knocks, client: client(&authority), authority, screen }
    }

    async fn dial(&self, id: [u8; 20]) -> Result<Connection, ConnectionError> {
        self.connecting(id).await
    }

    fn connecting(&self, id: [u8; 20]) -> Connecting {
        let mut config = client_config(&self.authority, &[ALPN_SESSION]);
        config.initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&id)));
        let addr = self.server.local_addr().unwrap();
        self.client.connect_with(config, addr, "localhost").unwrap()
    }

    async fn accept(&self) -> Result<Connection, ConnectionError> {
        self.server.accept().await.unwrap().await
    }
}

#[tokio::test]
async fn who_may_pass_gets_a_connection_on_which_data_flows() {
    let world = World::new(&[7], None);
    let (server, client) = tokio::join!(world.accept(), world.dial([7; 20]));
    let (server, client) = (server.unwrap(), client.unwrap());
    let (mut send, mut recv) = client.open_bi().await.unwrap();
    send.write_all(&[5; 10_000]).await.unwrap();
    send.finish().unwrap();
    let (mut answer, mut heard) = server.accept_bi().await.unwrap();
    assert_eq!(heard.read_to_end(20_000).await.unwrap(), [5; 10_000]);
    answer.write_all(b"yes").await.unwrap();
    answer.finish().unwrap();
    assert_eq!(recv.read_to_end(10).await.unwrap(), b"yes");
}

#[tokio::test]
async fn who_is_dropped_hears_nothing_and_the_stack_never_sees_him() {
    let world = World::new(&[7], None);
    let refused = world.connecting([9; 20]);
    while world.screen.asked.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    // The one who may pass comes later and is the first whom the stack sees.
    let (incoming, _client) = tokio::select! {
        incoming = world.server.accept() => (incoming.unwrap(), refused),
        never = world.dial([7; 20]) => panic!("{never:?}"),
    };
    assert_eq!(incoming.orig_dst_cid().as_ref(), [7; 20]);
}

#[tokio::test]
async fn who_is_put_off_is_told_when_to_come_back() {
    let said = PutOff { retry_after_ms: 1_500, slot: Some([9; 20]) };
    let world = World::new(&[], Some(said));
    let Err(ConnectionError::ConnectionClosed(close)) = world.dial([7; 20]).await else { panic!() };
    assert_eq!(close.error_code, TransportErrorCode::CONNECTION_REFUSED);
    assert_eq!(PutOff::parse(&close.reason), Some(said));
    assert_eq!(world.server.open_connections(), 0);
}

#[tokio::test]
async fn who_is_held_comes_in_at_his_time_without_coming_again() {
    let hold = Duration::from_millis(120);
    let world = World::with(Table { through: vec![7], hold: Some(hold), ..Table::default() });
    let begun = Instant::now();
    let (server, client) = tokio::join!(world.accept(), world.dial([7; 20]));
    let (_server, client) = (server.unwrap(), client.unwrap());
    assert!(begun.elapsed() >= hold, "{:?}", begun.elapsed());
    assert_eq!(client.stats().path.lost_packets, 0, "nothing was sent twice");
    // Each packet of his hello is asked for when it comes and when its time has come.
    let asked = world.screen.asked.load(Ordering::Relaxed);
    assert!([2, 4].contains(&asked), "{asked}: his hello is one packet or two");
}

#[tokio::test]
async fn who_was_held_may_be_put_off_all_the_same() {
    let said = PutOff { retry_after_ms: 1_500, slot: Some([9; 20]) };
    let hold = Some(Duration::from_millis(1));
    let world = World::with(Table { put_off: Some(said), hold, ..Table::default() });
    let Err(ConnectionError::ConnectionClosed(close)) = world.dial([7; 20]).await else { panic!() };
    assert_eq!(PutOff::parse(&close.reason), Some(said));
}

#[tokio::test]
async fn a_retry_and_a_knock_are_heard() {
    let world = World::new(&[7], None);
    let knock = [1, 2, 3];
    world.knocks.announce(Some(knock));
    world.knocks.hear(&Hearing { knocks: vec![knock], known: 1.0, strangers: 0.0 }).unwrap();
    let id = [&[7][..], &knock, &[0; 16]].concat();
    let accept = async {
        let first = world.server.accept().await.unwrap();
        first.retry().unwrap();
        let second = world.server.accept().await.unwrap();
        assert!(second.remote_address_validated());
        (second.orig_dst_cid(), second.await.unwrap())
    };
    let ((shown, _server), client) = tokio::join!(accept, world.dial(*id.first_chunk().unwrap()));
    client.unwrap();
    assert_eq!(shown.as_ref(), id, "the mark is known after a retry as well");
}

/// A socket on which packets can be sifted without a stack.
async fn screened(through: &[u8]) -> Screened {
    let socket = UdpSocket::bind(ANY).unwrap();
    socket.set_nonblocking(true).unwrap();
    Screened {
        socket: TokioRuntime.wrap_udp_socket(socket).unwrap(),
        ids: Ids::new(&[1; 16]).unwrap(),
        screen: Arc::new(Table { through: through.to_vec(), ..Table::default() }),
        heard: Arc::default(),
        held: Held::default(),
    }
}

fn initial(head: u8, bytes: usize) -> Vec<u8> {
    let mut packet = vec![head; bytes];
    packet[..6].copy_from_slice(&[0xc0, 0, 0, 0, 1, 20]);
    packet[26] = 0;
    packet
}

#[tokio::test]
async fn of_packets_that_arrive_together_only_some_are_dropped() {
    let screened = screened(&[7, 8]).await;
    let short = vec![0x40; 1_200];
    let mut handshake = initial(7, 1_200);
    handshake[0] = 0xe0;
    let all = [
        initial(1, 1_200),
        initial(7, 1_200),
        initial(2, 1_200),
        handshake,
        short.clone(),
        initial(8, 1_200),
    ]
    .concat();
    let mut buffer = [all, vec![0x40; 30]].concat();
    let mut meta = RecvMeta { len: buffer.len(), stride: 1_200, ..RecvMeta::default() };
    screened.sift(&mut buffer, &mut meta, None);
    let kept = [initial(7, 1_200), short, initial(8, 1_200), vec![0x40; 30]].concat();
    assert_eq!(buffer[..meta.len], kept);
}

#[tokio::test]
async fn what_cannot_begin_a_connection_is_dropped_unasked() {
    let screened = screened(&[7]).await;
    let mut own = initial(0, 100);
    let id = quinn::ConnectionIdGenerator::generate_cid(&mut screened.ids.clone());
    own[5] = id.len() as u8;
    own[6..6 + id.len()].copy_from_slice(&id);
    own[6 + id.len()] = 0;
    let mut negotiation = initial(7, 1_200);
    negotiation[4] = 0;
    for (packet, kept) in [
        (initial(7, 1_199), false),
        (vec![0xc0; 5], false),
        (negotiation, false),
        (own, true),
        (vec![], false),
    ] {
        let (mut buffer, len) = (packet, 0);
        let mut meta = RecvMeta { len: buffer.len().max(len), stride: 1_200, ..RecvMeta::default() };
        screened.sift(&mut buffer, &mut meta, None);
        assert_eq!(meta.len > 0, kept, "{:?}", &buffer.get(..10));
    }
}
