//! A network between client and server: a UDP relay that delays, loses, reorders and swallows, by a seed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// What the network does to each datagram.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// Share of datagrams that are lost.
    pub loss: f64,
    /// Up to this long each datagram is held; later ones overtake it.
    pub jitter: Duration,
    /// Nothing gets through.
    pub blackhole: bool,
}

/// The relay. Ends when it is dropped.
pub struct Relay {
    address: SocketAddr,
    weather: Arc<Mutex<Weather>>,
    /// Where the datagrams of each client come out.
    exits: Arc<Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>>,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// At a free port, in front of `server`.
    pub async fn to(server: SocketAddr, seed: u64) -> Self {
        Self::between("127.0.0.1:0".parse().unwrap(), server, seed).await
    }

    /// At `here`, in front of `server`.
    pub async fn between(here: SocketAddr, server: SocketAddr, seed: u64) -> Self {
        let entry = Arc::new(UdpSocket::bind(here).await.unwrap());
        let address = entry.local_addr().unwrap();
        let weather = Arc::new(Mutex::new(Weather::default()));
        let exits = Arc::new(Mutex::new(HashMap::new()));
        let random = Arc::new(Mutex::new(StdRng::seed_from_u64(seed)));
        let mut tasks = JoinSet::new();
        tasks.spawn(forward(entry, server, exits.clone(), weather.clone(), random));
        Self { address, weather, exits, _tasks: tasks }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn set(&self, weather: Weather) {
        *self.weather.lock() = weather;
    }

    /// As a NAT that forgets: the server sees every client under a new address from now on.
    pub fn rebind(&self) {
        self.exits.lock().clear();
    }
}

type Random = Arc<Mutex<StdRng>>;

async fn forward(
    entry: Arc<UdpSocket>,
    server: SocketAddr,
    exits: Arc<Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>>,
    weather: Arc<Mutex<Weather>>,
    random: Random,
) {
    let mut buffer = vec![0; 2048];
    let mut tasks = JoinSet::new();
    loop {
        let Ok((len, client)) = entry.recv_from(&mut buffer).await else { continue };
        let known = exits.lock().get(&client).cloned();
        let exit = match known {
            Some(exit) => exit,
            None => {
                let exit = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                exits.lock().insert(client, exit.clone());
                tasks.spawn(back(exit.clone(), entry.clone(), client, weather.clone(), random.clone()));
                exit
            }
        };
        let Some(delay) = fate(&weather, &random) else { continue };
        let datagram = buffer[..len].to_vec();
        tasks.spawn(async move {
            tokio::time::sleep(delay).await;
            let _ = exit.send_to(&datagram, server).await;
        });
        while tasks.try_join_next().is_some() {}
    }
}

async fn back(
    exit: Arc<UdpSocket>,
    entry: Arc<UdpSocket>,
    client: SocketAddr,
    weather: Arc<Mutex<Weather>>,
    random: Random,
) {
    let mut buffer = vec![0; 2048];
    let mut tasks = JoinSet::new();
    loop {
        let Ok((len, _)) = exit.recv_from(&mut buffer).await else { continue };
        let Some(delay) = fate(&weather, &random) else { continue };
        let (entry, datagram) = (entry.clone(), buffer[..len].to_vec());
        tasks.spawn(async move {
            tokio::time::sleep(delay).await;
            let _ = entry.send_to(&datagram, client).await;
        });
        while tasks.try_join_next().is_some() {}
    }
}

/// How long a datagram is held; `None`: it is lost.
fn fate(weather: &Mutex<Weather>, random: &Mutex<StdRng>) -> Option<Duration> {
    let weather = *weather.lock();
    let mut random = random.lock();
    if weather.blackhole || random.random_bool(weather.loss) {
        return None;
    }
    Some(weather.jitter.mul_f64(random.random()))
}
