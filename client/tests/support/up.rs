//! The real roles in one process, as `buslane up` runs them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use buslane_backend::Service;
use buslane_chassis::api::Backend;
use buslane_chassis::clock;
use buslane_chassis::feed::Feed;
use buslane_chassis::oversee::Overseer;
use buslane_chassis::shutdown::Shutdown;
use buslane_chassis::tls::{Authority, Identity};
use buslane_client::{CaSource, Options, Storage};
use buslane_gateway::Gateway;
use buslane_gateway::config::Enrolment;
use buslane_session_manager::SessionManager;
use buslane_shared::backoff::Policy;
use buslane_shared::overload::orders::{Kind, Order, Orders};
use buslane_shared::wire;
use buslane_store::fjall_engine::FjallEngine;
use buslane_store::keywrap::FileKeyWrap;
use buslane_store::sealing::Sealer;
use tokio::sync::watch;

use super::LIMIT;

/// Where the session manager says it is: an address of the loopback where a relay can listen on the same port.
pub const ADVERTISED: &str = "127.0.0.2";

/// What stays when the roles stop.
pub struct Site {
    folder: PathBuf,
    authority: Authority,
    ports: Option<[SocketAddr; 3]>,
    /// How fast a user may go: as fast as he can, unless a test says otherwise.
    pub limits: buslane_backend::Limits,
}

/// The running roles.
pub struct Up {
    pub gate: String,
    pub front: SocketAddr,
    pub wake: SocketAddr,
    pub service: Arc<Service>,
    pub overseer: Arc<dyn Overseer>,
    orders: watch::Sender<Arc<Orders>>,
    ca: String,
    shutdown: Shutdown,
}

impl Site {
    pub fn new(folder: &Path) -> Self {
        let limits = buslane_backend::Limits::off();
        Self { folder: folder.to_owned(), authority: Authority::generate().unwrap(), ports: None, limits }
    }

    /// Starts the roles: at free ports the first time, at the same ones afterwards.
    pub async fn up(&mut self, change: impl FnOnce(&mut buslane_session_manager::Config)) -> Up {
        let shutdown = Shutdown::new();
        let names = ["127.0.0.1".to_owned(), ADVERTISED.to_owned()];
        let pem = self.authority.issue("localhost", &names).unwrap();
        let identity = Identity::from_pem(&pem.certificate, &pem.key).unwrap();
        let engine = FjallEngine::open(&self.folder.join("store"), Default::default()).unwrap();
        let keys = FileKeyWrap::open_or_create(&self.folder.join("keys/kek.json")).unwrap();
        let sealer = Sealer::new(engine.clone(), Arc::new(keys));
        let config = buslane_backend::Config { limits: self.limits.clone(), ..Default::default() };
        let service = Service::start(config, engine, sealer, &shutdown).await.unwrap();
        let backend: Backend = service.clone();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let [listen, front, wake] = self.ports.unwrap_or([any; 3]);

        let feed = Feed::follow(backend.clone(), wire::RoleKind::SessionManager, "m1", &shutdown);
        let mut config = buslane_session_manager::Config { front, wake, ..Default::default() };
        config.node = "m1".to_owned();
        change(&mut config);
        let manager = SessionManager::bind(config, &identity, backend.clone(), feed, &shutdown).unwrap();
        let (orders, ordered) = watch::channel(Arc::new(Orders::default()));
        let manager = manager.obeying(ordered);
        let overseer = manager.overseer();

        let feed = Feed::follow(backend.clone(), wire::RoleKind::Gateway, "gate", &shutdown);
        let config = buslane_gateway::Config { listen, enrolment: Enrolment::Open, ..Default::default() };
        let gateway = Gateway::bind(config, &identity, backend, feed.clone(), &shutdown).unwrap();

        let (front, wake, gate) = (manager.front_addr(), manager.wake_addr(), gateway.local_addr());
        self.ports = Some([gate, front, wake]);
        shutdown.tracker().spawn(gateway.run());
        shutdown.tracker().spawn(manager.run());
        let known = async {
            while feed.nodes().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, known).await.expect("the gateway knows the session manager");
        Up {
            gate: gate.to_string(),
            front,
            wake,
            service,
            overseer,
            orders,
            ca: self.authority.certificate().to_owned(),
            shutdown,
        }
    }
}

impl Up {
    /// Orders a posture for the next minute.
    pub fn order(&self, kind: Kind) {
        let now_ms = clock::unix_ms();
        let order = Order {
            id: now_ms,
            kind,
            reason: "a test".to_owned(),
            author: "test".to_owned(),
            given_ms: now_ms,
            from_ms: now_ms,
            until_ms: now_ms + 60_000,
        };
        let mut orders = Orders::default();
        orders.give(order, now_ms);
        self.orders.send_replace(Arc::new(orders));
    }

    pub fn options(&self, user: &str) -> Options {
        let ca = CaSource::Pem(self.ca.clone().into_bytes());
        let mut options = Options::new(user.parse().unwrap(), &self.gate, ca, Storage::Memory);
        options.reconnect = Policy {
            base: Duration::from_millis(50),
            cap: Duration::from_millis(400),
            quick: Duration::from_millis(20),
            settle: Duration::from_millis(100),
        };
        options
    }

    pub fn options_in(&self, user: &str, folder: &Path) -> Options {
        Options { storage: Storage::Directory(folder.to_owned()), ..self.options(user) }
    }

    pub async fn stop(self) {
        self.shutdown.begin();
        assert!(self.shutdown.finish(LIMIT).await, "the roles stop in time");
    }
}
