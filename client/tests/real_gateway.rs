//! The client at the real gateway and backend: who gets in, and what a client makes of it when nobody serves sessions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use buslane_backend::Service;
use buslane_chassis::api::{Backend, BackendApi};
use buslane_chassis::feed::Feed;
use buslane_chassis::shutdown::Shutdown;
use buslane_chassis::tls::{Authority, Identity};
use buslane_client::raw::{Entry, Gate, Right, Transport};
use buslane_client::{CaSource, Client, EnrolRight, Error, Options, State, Storage};
use buslane_gateway::Gateway;
use buslane_gateway::config::Enrolment;
use buslane_shared::backoff::Policy;
use buslane_shared::refusal::Code;
use buslane_shared::token::Purpose;
use buslane_shared::wire;
use buslane_store::keywrap::MemoryKeyWrap;
use buslane_store::memory::MemoryEngine;
use buslane_store::sealing::Sealer;
use tokio::sync::mpsc;

const LIMIT: Duration = Duration::from_secs(20);

struct Up {
    gate: String,
    ca: String,
    service: Arc<Service>,
    feed: Arc<Feed>,
    shutdown: Shutdown,
}

impl Up {
    async fn start() -> Self {
        let shutdown = Shutdown::new();
        let authority = Authority::generate().unwrap();
        let pem = authority.issue("localhost", &["127.0.0.1".to_owned()]).unwrap();
        let identity = Identity::from_pem(&pem.certificate, &pem.key).unwrap();
        let engine = MemoryEngine::new();
        let sealer = Sealer::new(engine.clone(), Arc::new(MemoryKeyWrap::new().unwrap()));
        let service =
            Service::start(buslane_backend::Config::default(), engine, sealer, &shutdown).await.unwrap();
        let backend: Backend = service.clone();
        let feed = Feed::follow(backend.clone(), wire::RoleKind::Gateway, "gate", &shutdown);
        assert!(feed.ready(LIMIT).await);
        let config = buslane_gateway::Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            enrolment: Enrolment::Open,
            ..Default::default()
        };
        let gateway = Gateway::bind(config, &identity, backend, feed.clone(), &shutdown).unwrap();
        let gate = gateway.local_addr().to_string();
        tokio::spawn(gateway.run());
        Self { gate, ca: authority.certificate().to_owned(), service, feed, shutdown }
    }

    fn ca(&self) -> CaSource {
        CaSource::Pem(self.ca.clone().into_bytes())
    }

    fn options(&self, user: &str) -> Options {
        let mut options = Options::new(user.parse().unwrap(), &self.gate, self.ca(), Storage::Memory);
        options.reconnect = Policy {
            base: Duration::from_millis(50),
            cap: Duration::from_millis(400),
            quick: Duration::from_millis(20),
            settle: Duration::from_secs(5),
        };
        options
    }

    async fn stop(self) {
        self.shutdown.begin();
        assert!(self.shutdown.finish(LIMIT).await);
    }
}

async fn until(client: &Client, wanted: impl FnMut(&State) -> bool) -> State {
    let mut state = client.state();
    tokio::time::timeout(LIMIT, state.wait_for(wanted)).await.expect("the state in time").unwrap().clone()
}

fn closed_by(code: Code) -> impl FnMut(&State) -> bool {
    move |state| matches!(state, State::Closed { reason } if reason.error().code() == code as u32)
}

#[tokio::test]
async fn a_device_enrols_and_its_ticket_names_the_managers() {
    let up = Up::start().await;
    let (link, reports) = mpsc::channel(4);
    let _deliveries = up.service.link(reports).await.unwrap();
    let node = wire::Node {
        name: "m1".into(),
        server_name: "localhost".into(),
        front: "127.0.0.1:1".into(),
        wake: "127.0.0.1:2".into(),
        weight: 1,
        ..Default::default()
    };
    link.send(wire::FromManager { kind: Some(wire::from_manager::Kind::Announce(node)) }).await.unwrap();
    let known = async {
        while up.feed.nodes().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, known).await.expect("the manager is known");

    let transport = Transport::new(&up.ca()).unwrap();
    let identity = buslane_client::raw::Identity::generate().unwrap();
    let gate = Gate::connect(&transport, &up.gate).await.unwrap();
    let user = "alice".parse().unwrap();
    let credential = gate.enrol(&identity, &user, "phone", Right::Open, LIMIT).await.unwrap();
    // An answer that was lost is asked for again.
    gate.enrol(&identity, &user, "phone", Right::Open, LIMIT).await.unwrap();
    let entry = Entry {
        credential: &credential.bytes,
        app_state: wire::AppState::Foreground,
        reason: wire::Reason::Opened,
        slot: Default::default(),
    };
    let ticket = gate.enter(&identity, entry.clone(), LIMIT).await.unwrap();
    assert_eq!(ticket.addresses[0].front, "127.0.0.1:1");
    assert!(ticket.valid_ms > 60_000);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let body: wire::TicketBody = up.feed.keys().open(Purpose::Ticket, &ticket.ticket, now).unwrap();
    assert_eq!((body.user.as_str(), body.proof_key), ("alice", ticket.proof_key));
    assert_eq!(body.device, identity.device().to_wire());
    // A credential is worth nothing in other hands.
    let thief = buslane_client::raw::Identity::generate().unwrap();
    let error = gate.enter(&thief, entry, LIMIT).await.unwrap_err();
    assert_eq!(error.name(), "bad_proof");
    gate.close();
    drop(link);
    up.stop().await;
}

#[tokio::test]
async fn without_a_session_manager_the_client_waits_and_says_why() {
    let up = Up::start().await;
    let alice = Client::open(up.options("alice")).await.unwrap();
    let state = until(&alice, |s| matches!(s, State::Connecting { attempt: 2.., .. })).await;
    let State::Connecting { cause: Some(Error::Refused(refused)), .. } = state else { panic!("{state:?}") };
    assert_eq!((refused.code, refused.retryable), (Code::Unavailable, true));
    let outgoing = alice.send(buslane_shared::id::RoomId::from_bytes([1; 16]), "kept").await.unwrap();
    alice.close().await;
    assert_eq!(outgoing.receipt().await, Err(Error::Closed));
    up.stop().await;
}

#[tokio::test]
async fn a_name_that_somebody_has_and_a_code_that_nobody_gave_close_the_client() {
    let up = Up::start().await;
    let alice = Client::open(up.options("alice")).await.unwrap();
    until(&alice, |s| matches!(s, State::Connecting { attempt: 2.., .. })).await;
    let other = Client::open(up.options("alice")).await.unwrap();
    until(&other, closed_by(Code::NameTaken)).await;
    let guess = Options { enrol: EnrolRight::Code("AAAA-BBBB-CCCC".to_owned()), ..up.options("alice") };
    let guess = Client::open(guess).await.unwrap();
    until(&guess, closed_by(Code::BadCode)).await;
    for client in [alice, other, guess] {
        client.close().await;
    }
    up.stop().await;
}

#[tokio::test]
async fn a_code_of_the_operator_lets_another_device_in() {
    let up = Up::start().await;
    let alice = Client::open(up.options("alice")).await.unwrap();
    until(&alice, |s| matches!(s, State::Connecting { attempt: 2.., .. })).await;
    let code = up.service.make_code(alice.user()).await.unwrap();
    let second = Options { enrol: EnrolRight::Code(code.code), ..up.options("alice") };
    let second = Client::open(second).await.unwrap();
    let state =
        until(&second, |s| matches!(s, State::Connecting { attempt: 2.., .. } | State::Closed { .. })).await;
    assert!(
        matches!(&state, State::Connecting { cause: Some(Error::Refused(r)), .. } if r.code == Code::Unavailable),
        "{state:?}"
    );
    alice.close().await;
    second.close().await;
    up.stop().await;
}
