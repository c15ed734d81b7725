//! Many at once, and some who read nothing.

use tokio::io::AsyncReadExt;

use super::*;

const PAGES: usize = 1_000;

impl World {
    /// Opens a stream and reads the beginning of its answer.
    async fn watch(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        let root = bearer(self.token.reveal());
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{root}\r\n\r\n", self.addr);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut begin = [0; 15];
        stream.read_exact(&mut begin).await.unwrap();
        assert_eq!(&begin, b"HTTP/1.1 200 OK");
        stream
    }
}

#[tokio::test]
async fn a_thousand_open_pages_keep_nobody_out() {
    let world = world().await;
    let mut pages = Vec::new();
    for _ in 0..PAGES {
        pages.push(world.watch("/v1/live").await);
    }
    until("all are open", || world.streams.load(Ordering::SeqCst) == PAGES).await;
    let me = world.send("GET", "/v1/me", &[&bearer(world.token.reveal())], "").await;
    assert_eq!((me.status, me.body.as_str()), (200, "root admin"));
    drop(pages);
    until("nothing is left of them", || world.streams.load(Ordering::SeqCst) == 0).await;
    world.end().await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_dropped() {
    let impatient = |mut bound: BoundAdmin| {
        bound.serving.stall_limit = Duration::from_millis(200);
        bound
    };
    let world = world_with(impatient).await;
    let idle = world.watch("/v1/flood").await;
    until("it is given up", || world.streams.load(Ordering::SeqCst) == 0).await;
    drop(idle);
    world.end().await;
}

#[tokio::test]
async fn a_reader_that_waits_for_news_is_not_dropped() {
    let impatient = |mut bound: BoundAdmin| {
        bound.serving.stall_limit = Duration::from_millis(1);
        bound
    };
    let world = world_with(impatient).await;
    let quiet = world.watch("/v1/live").await;
    // Meanwhile somebody else is given up: the limit has passed many times.
    let loud = world.watch("/v1/flood").await;
    until("the other one is given up", || world.streams.load(Ordering::SeqCst) == 1).await;
    drop((quiet, loud));
    world.end().await;
}

#[tokio::test]
async fn strangers_who_take_every_place_make_room_for_an_operator() {
    const PLACES: usize = 8;
    let small = |mut bound: BoundAdmin| {
        bound.serving.connections_max = PLACES;
        bound
    };
    let world = world_with(small).await;
    let page = world.watch("/v1/live").await;
    let mut strangers = Vec::new();
    for _ in 0..2 * PLACES {
        let mut stream = TcpStream::connect(world.addr).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut begin = [0; 15];
        stream.read_exact(&mut begin).await.unwrap();
        strangers.push(stream);
    }
    // Long before those who say nothing are closed for that.
    let me = bearer(world.token.reveal());
    let lines = [me.as_str()];
    let asking = world.send("GET", "/v1/me", &lines, "");
    let answer = tokio::time::timeout(Duration::from_secs(2), asking).await.expect("there is no place");
    assert_eq!(answer.status, 200);
    assert_eq!(world.streams.load(Ordering::SeqCst), 1, "who has shown a right stays");
    drop((page, strangers));
    world.end().await;
}
