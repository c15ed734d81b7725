//! The real roles in one process, as `buslane up` runs them, with a defect between them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use buslane_backend::Service;
use buslane_chassis::api::Backend;
use buslane_chassis::feed::Feed;
use buslane_chassis::shutdown::Shutdown;
use buslane_chassis::tls::{Authority, Identity, install_provider};
use buslane_gateway::Gateway;
use buslane_gateway::config::Enrolment;
use buslane_loadtest::storm::stage::Target;
use buslane_session_manager::SessionManager;
use buslane_shared::wire::RoleKind;
use buslane_store::Engine;
use buslane_store::keywrap::FileKeyWrap;
use buslane_store::memory::MemoryEngine;
use buslane_store::sealing::Sealer;
use tempfile::TempDir;

use super::LIMIT;
use super::bent::{Bent, Defect};
use super::forgetful::Forgetful;

/// What stays when the roles stop.
pub struct Site {
    folder: TempDir,
    authority: Authority,
    disk: Arc<MemoryEngine>,
    forgets: bool,
    defect: Option<Defect>,
    /// Gate, front and wake.
    ports: [SocketAddr; 3],
}

/// The running roles.
pub struct Up {
    shutdown: Shutdown,
}

impl Site {
    pub fn new() -> Self {
        install_provider();
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::generate().unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority.certificate()).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        Self { folder, authority, disk: MemoryEngine::new(), forgets: false, defect: None, ports: [any; 3] }
    }

    /// Its store says that something is stored before it is.
    pub fn forgetful() -> Self {
        Self { forgets: true, ..Self::new() }
    }

    /// Something is wrong between the roles.
    pub fn bent(defect: Defect) -> Self {
        Self { defect: Some(defect), ..Self::new() }
    }

    pub fn target(&self) -> Target {
        Target { gate: self.ports[0].to_string(), ca: self.folder.path().join("ca.pem") }
    }

    /// Starts the roles after a crash, at the same ports, on what is on the disk.
    pub async fn up_again(&mut self) -> Up {
        self.disk = self.disk.reopen().unwrap();
        self.up().await
    }

    /// Starts the roles.
    pub async fn up(&mut self) -> Up {
        let shutdown = Shutdown::new();
        let pem = self.authority.issue("localhost", &["127.0.0.1".to_owned()]).unwrap();
        let identity = Identity::from_pem(&pem.certificate, &pem.key).unwrap();
        let engine: Arc<dyn Engine> =
            if self.forgets { Forgetful::over(self.disk.clone()) } else { self.disk.clone() };
        let keys = FileKeyWrap::open_or_create(&self.folder.path().join("kek.json")).unwrap();
        let sealer = Sealer::new(engine.clone(), Arc::new(keys));
        let config = buslane_backend::Config { limits: buslane_backend::Limits::off(), ..Default::default() };
        let service: Backend = Service::start(config, engine, sealer, &shutdown).await.unwrap();
        let backend = match self.defect {
            Some(defect) => Arc::new(Bent::around(service, defect)),
            None => service,
        };
        let [listen, front, wake] = self.ports;
        let feed = Feed::follow(backend.clone(), RoleKind::SessionManager, "m1", &shutdown);
        let mut config = buslane_session_manager::Config { front, wake, ..Default::default() };
        config.node = "m1".to_owned();
        config.front_workers = Some(1);
        config.times.drain_ms = 100;
        let manager = SessionManager::bind(config, &identity, backend.clone(), feed, &shutdown).unwrap();
        let feed = Feed::follow(backend.clone(), RoleKind::Gateway, "gate", &shutdown);
        let config = buslane_gateway::Config { listen, enrolment: Enrolment::Open, ..Default::default() };
        let gateway = Gateway::bind(config, &identity, backend, feed.clone(), &shutdown).unwrap();
        self.ports = [gateway.local_addr(), manager.front_addr(), manager.wake_addr()];
        shutdown.tracker().spawn(gateway.run());
        shutdown.tracker().spawn(manager.run());
        let known = async {
            while feed.nodes().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, known).await.expect("the gateway knows the session manager");
        Up { shutdown }
    }
}

impl Up {
    pub async fn stop(self) {
        self.shutdown.begin();
        assert!(self.shutdown.finish(LIMIT).await, "the roles stop in time");
    }
}
