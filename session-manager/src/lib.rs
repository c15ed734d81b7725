//! The session manager: keeps the connections of devices.
//!
//! The path of a connection, in the order of the files: `ports` holds the two sockets and their threads, `screen` looks
//! at every first packet (`gate`: is there room for background?), `door` decides whether a handshake is spent on it,
//! `login` goes from the handshake to the welcome (`hello` verifies, `room` sees whether there is any), `session` is the life
//! of a connection (`talk` reads, `request` ranks one request, `flights` holds those without an answer, `outbound` writes,
//! `bulk` serves further streams), `goodbye` ends it. What sessions of the wake port share with others is done at the
//! `desk`, where `errands` take it.
//!
//! Beside it: `load` is who goes first, `news` tells sessions what is asked of them, `verdict` writes down what became of what they
//! asked for (`trail`: the last of it), `drain` empties the node; `table` knows which sessions are here,
//! `presence` is one of them with its mailbox, `link` exchanges sessions and deliveries with the backend, `courier` delivers to
//! those that nobody looks at, `revocations` ends what lost its right.
//!
//! Why it exists as a role of its own: connections are many, long and cheap; messages are few, short and dear. It must
//! never need another role to accept a ticket, never hold more for a client than its bounds, and never drop a live
//! session to save work.

mod bulk;
pub mod config;
mod courier;
mod desk;
mod door;
mod drain;
mod errands;
mod event;
mod flights;
mod gate;
mod goodbye;
mod hello;
mod link;
mod load;
mod login;
mod meters;
mod news;
mod node;
mod outbound;
mod ports;
mod presence;
pub mod registry;
mod request;
mod revocations;
mod room;
mod screen;
mod session;
mod table;
mod talk;
mod trail;
mod verdict;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use buslane_chassis::api::Backend;
use buslane_chassis::clock;
use buslane_chassis::feed::{Feed, Revocation};
use buslane_chassis::oversee::Overseer;
use buslane_chassis::quic::{EndpointError, Tuning};
use buslane_chassis::shutdown::Shutdown;
use buslane_chassis::tls::Identity;
use buslane_shared::limits::BULK_STREAMS_MAX;
use buslane_shared::mark::Lane;
use buslane_shared::overload::orders::Orders;
use buslane_shared::overload::settings::{Complaint, Settings};
use buslane_shared::wire;
use futures_util::future::BoxFuture;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use config::Config;

use courier::Backlog;
use desk::Room;
use door::Door;
use drain::Drain;
use gate::Gate;
use link::{Link, Reports};
use load::Load;
use load::lateness::Lateness;
use load::overseer::Oversight;
use load::pulse::Pulse;
use meters::Meters;
use node::{Connected, Node, Port};
use ports::Listener;
use room::UsedSlots;
use screen::Watch;
use table::{Queues, Table};

/// Threads of the wake port: what they do beside QUIC is done at the desk.
const WAKE_THREADS: usize = 1;

/// Why a session manager did not come up.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A port or the certificate cannot be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The system gives no threads.
    #[error("cannot start threads: {0}; check the limits of this user")]
    Threads(io::Error),
    /// The system does not say which address was bound.
    #[error("the address of a socket is unknown: {0}")]
    Address(io::Error),
    /// Settings that were not checked.
    #[error("overload.{0}")]
    Overload(#[from] Complaint),
}

/// A session manager that listens and does not answer yet.
pub struct SessionManager {
    node: Arc<Node>,
    front: Listener,
    wake: Listener,
    desk: Room,
    queues: Queues,
    revocations: broadcast::Receiver<Revocation>,
    orders: watch::Receiver<Arc<Orders>>,
    shutdown: Shutdown,
}

/// Changes the settings of a running session manager. All of overload control can be changed; what else there is was used when
/// the ports were bound.
#[derive(Clone)]
pub struct Tuner(Arc<Node>);

impl Tuner {
    /// The settings of overload control that hold now.
    pub fn overload(&self) -> Settings {
        self.0.load.knobs().settings.clone()
    }

    /// Takes over others. Who has a seat keeps it, what was learnt stays.
    pub fn set_overload(&self, settings: Settings) -> Result<(), Complaint> {
        self.0.load.reconfigure(settings)
    }
}

impl SessionManager {
    /// Binds both ports and starts their threads.
    pub fn bind(
        config: Config,
        identity: &Identity,
        backend: Backend,
        feed: Arc<Feed>,
        shutdown: &Shutdown,
    ) -> Result<Self, BindError> {
        let tuning = Tuning::session(config.times.quic_idle_timeout(), BULK_STREAMS_MAX);
        let gate = Arc::new(Gate::new(&config.overload));
        let load = Load::new(&config, &gate)?;
        let watch = |lane| Watch::new(lane, &feed, &config, &load);
        let threads = config.front_threads();
        let front = Listener::bind(watch(Lane::Front), threads, config.front, identity, tuning)?;
        let wake = Listener::bind(watch(Lane::Wake), WAKE_THREADS, config.wake, identity, tuning)?;
        let (table, queues) = Table::new(&config.bounds, config.times.resume_window());
        let revocations = feed.revocations();
        let desk = Room::open(config.front_threads())?;
        let node = Arc::new(Node {
            config,
            backend,
            feed,
            table: Arc::new(table),
            tuning,
            backlog: Arc::new(Backlog::new(&load.tally)),
            load,
            slots: UsedSlots::default(),
            drain: Drain::default(),
            refusals: Arc::default(),
            connected: Connected::default(),
            started_ms: clock::unix_ms(),
        });
        let (_, orders) = watch::channel(Arc::new(Orders::default()));
        Ok(Self { node, front, wake, desk, queues, revocations, orders, shutdown: shutdown.clone() })
    }

    /// Obeys these orders. Without them it obeys none.
    #[must_use]
    pub fn obeying(self, orders: watch::Receiver<Arc<Orders>>) -> Self {
        Self { orders, ..self }
    }

    /// For an operator's questions about load.
    pub fn overseer(&self) -> Arc<dyn Overseer> {
        Arc::new(Oversight(Arc::clone(&self.node)))
    }

    /// For settings that are changed while it runs.
    pub fn tuner(&self) -> Tuner {
        Tuner(Arc::clone(&self.node))
    }

    /// Address of the front port; with port 0 configured, the port that the system chose.
    pub fn front_addr(&self) -> SocketAddr {
        self.front.addr
    }

    /// Address of the wake port; with port 0 configured, the port that the system chose.
    pub fn wake_addr(&self) -> SocketAddr {
        self.wake.addr
    }

    /// Serves until the shutdown begins, then asks every client to leave, and ends.
    pub async fn run(self) {
        let over = CancellationToken::new();
        let _over = over.clone().drop_guard();
        let announcement = self.announcement();
        let Self { node, front, wake, desk, queues, revocations, orders, shutdown } = self;
        let (background, sessions) = (TaskTracker::new(), TaskTracker::new());
        let (reports, load) = watch::channel(wire::Load::default());
        let reported = Reports { load, orders: orders.clone() };
        let link = Link::new(Arc::clone(&node), announcement, queues.changes, reported);
        let lateness = Lateness::new(node.config.front_threads());
        for probe in lateness.probes() {
            front.spawn(until(&over, probe));
        }
        let pulse = Pulse::new(&node, orders, reports, lateness);
        let desk_work: [BoxFuture<'static, ()>; 3] = [
            Box::pin(drain::run(Arc::clone(&node))),
            Box::pin(Arc::clone(&node.backlog).run(Arc::clone(&node))),
            Box::pin(news::run(Arc::clone(&node))),
        ];
        for task in desk_work {
            desk.desk().spawn(until(&over, task));
        }
        let work: [BoxFuture<'static, ()>; 4] = [
            Box::pin(pulse.run()),
            Box::pin(link.run()),
            Box::pin(queues.waiting.run(Arc::clone(&node.table))),
            Box::pin(revocations::run(Arc::clone(&node), revocations)),
        ];
        for task in work {
            background.spawn(until(&over, task));
        }
        for (name, listener, desk) in [("front", &front, None), ("wake", &wake, Some(desk.desk()))] {
            let port = Arc::new(Port { node: Arc::clone(&node), meters: Meters::new(name), desk });
            let (endpoint, watch) = (listener.endpoint.clone(), listener.watch.clone());
            let tasks = sessions.clone();
            let door = Door { endpoint, watch, port, tasks };
            let open = OpenDoor { port: name, shutdown: shutdown.clone() };
            listener.spawn(async move {
                let _open = open;
                door.run().await;
            });
        }
        tracing::info!(front = %front.addr, wake = %wake.addr, "the session manager answers");
        shutdown.token().cancelled().await;
        drain::stop(&node, &sessions).await;
        tokio::join!(front.end(), wake.end());
        desk.close().await;
        over.cancel();
        background.close();
        background.wait().await;
        tracing::info!("the session manager has stopped");
    }

    /// What clients and the rest of the system are told about this node.
    fn announcement(&self) -> wire::Node {
        let config = &self.node.config;
        let advertised = |addr: SocketAddr| match &config.advertise {
            // An address of IPv6 needs its brackets.
            Some(host) => match host.parse() {
                Ok(ip) => SocketAddr::new(ip, addr.port()).to_string(),
                Err(_) => format!("{host}:{}", addr.port()),
            },
            None => addr.to_string(),
        };
        wire::Node {
            name: config.node.clone(),
            server_name: config.server_name.clone(),
            front: advertised(self.front.addr),
            wake: advertised(self.wake.addr),
            weight: config.weight,
            draining: false,
            sessions: 0,
        }
    }
}

/// Runs a task until then.
fn until<T: Future<Output = ()>>(over: &CancellationToken, task: T) -> impl Future<Output = ()> + use<T> {
    let over = over.clone();
    async move {
        over.run_until_cancelled(task).await;
    }
}
/// Lives as long as the door of a port. Without one a node takes nobody, and looks alive: whatever ends a door before the process, a
/// panic or the loss of its socket, ends the process, so that whoever watches over it starts it anew.
struct OpenDoor {
    port: &'static str,
    shutdown: Shutdown,
}

impl Drop for OpenDoor {
    fn drop(&mut self) {
        if !self.shutdown.token().is_cancelled() {
            let port = self.port;
            tracing::error!(
                port,
                "the door of a port has failed: the process ends, start it again and report the lines above"
            );
            self.shutdown.begin();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_door_that_is_gone_before_the_process_ends_it() {
        for fault in [false, true] {
            let shutdown = Shutdown::new();
            let open = OpenDoor { port: "front", shutdown: shutdown.clone() };
            let door = tokio::spawn(async move {
                let _open = open;
                assert!(!fault, "a fault of the program");
            });
            assert_eq!(door.await.is_err(), fault);
            assert!(shutdown.token().is_cancelled());
        }
    }
}
