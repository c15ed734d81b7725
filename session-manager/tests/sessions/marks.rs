//! Passes and slots, as the ports take them: the first packet decides.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use buslane_chassis::clock::unix_ms;
use buslane_chassis::telemetry::install_metrics;
use buslane_shared::class::Class;
use buslane_shared::mark::{MARK_BYTES, Mark, MarkBytes, NodeTag};
use buslane_shared::put_off::PutOff;
use buslane_shared::slots::Asker;
use buslane_shared::token::KeyRing;
use buslane_shared::wire;
use quinn::{Connection, ConnectionError, TransportErrorCode};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::phone::Phone;
use crate::stand::{NODE, PATIENCE, Stand, config, until};

/// The number of first packets at a port that showed such a mark.
fn shown(port: &str, mark: &str) -> u64 {
    metric(&format!("buslane_session_manager_marks_total{{port=\"{port}\",mark=\"{mark}\"}} "))
}

fn metric(line: &str) -> u64 {
    static RENDER: OnceLock<Box<dyn Fn() -> String + Send + Sync>> = OnceLock::new();
    let render = RENDER.get_or_init(|| {
        let handle = install_metrics().unwrap();
        Box::new(move || handle.render())
    });
    let text = render();
    text.lines().find_map(|l| l.strip_prefix(line)).map_or(0, |n| n.parse().unwrap())
}

type Attempt = JoinHandle<Result<Connection, ConnectionError>>;

/// Tries to connect, for as long as a client would.
fn attempt(stand: &Stand, addr: SocketAddr, mark: MarkBytes) -> Attempt {
    let phone = Phone::new(stand, "mallory", 9);
    tokio::spawn(async move { phone.attempt(addr, mark).await })
}

fn mark_of(class: Class, from_ms: u64) -> Mark {
    Mark { from_ms, until_ms: from_ms + 300_000, ..Mark::pass(class, from_ms, from_ms as u32) }
}

/// A ring with the same key number and another secret: another system's.
fn foreign_ring() -> KeyRing {
    let secret = vec![1; 32].into();
    let key = wire::TokenKey { id: 1, secret, not_before_ms: 0, expires_ms: u64::MAX };
    KeyRing::new(&wire::KeySet { keys: vec![key] })
}

#[tokio::test]
async fn the_front_port_answers_nobody_without_a_valid_pass() {
    assert_eq!(shown("front", "pass"), 0);
    let stand = Stand::start().await;
    let now_ms = unix_ms();
    let mut forged = stand.pass();
    forged[10] ^= 1;
    let slot = |node| Mark::slot(Class::Look, NodeTag::of(node), now_ms, 10_000, 5);
    let bad = [
        ("forged", forged),
        ("knock", foreign_ring().marks().make(&mark_of(Class::Look, now_ms), now_ms).unwrap()),
        ("expired", stand.mark(&mark_of(Class::Look, now_ms - 400_000))),
        ("early", stand.mark(&mark_of(Class::Look, now_ms + 100_000))),
        ("wrong_lane", stand.mark(&mark_of(Class::Wake, now_ms))),
        ("foreign", stand.mark(&slot("elsewhere"))),
        ("malformed", [0xff; 20]),
    ];
    let mut attempts = Vec::new();
    for (name, mark) in bad {
        let before = shown("front", name);
        attempts.push((name, attempt(&stand, stand.front, mark)));
        until(name, || shown("front", name) > before).await;
    }
    let phone = Phone::new(&stand, "alice", 1);
    let good = stand.pass();
    let first = phone.attempt(stand.front, good).await.unwrap();
    phone.login(&stand).await.ping().await;
    attempts.push(("replayed", attempt(&stand, stand.front, good)));
    until("a pass serves once", || shown("front", "replayed") > 0).await;
    phone.attempt(stand.front, stand.mark(&slot(NODE))).await.unwrap();
    for (name, attempt) in attempts {
        assert!(!attempt.is_finished(), "{name} was answered");
        attempt.abort();
    }
    drop(first);
    stand.stop().await;
}

/// A first packet of somebody who shows nothing.
#[cfg(target_os = "linux")]
async fn stranger(addr: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&first_packet(&[0; 8]), addr).await.unwrap();
}

/// A first packet with this connection id, and nothing that could be decrypted.
fn first_packet(id: &[u8]) -> [u8; 1_200] {
    let mut packet = [0; 1_200];
    packet[..5].copy_from_slice(&[0xc0, 0, 0, 0, 1]);
    packet[5] = id.len() as u8;
    packet[6..6 + id.len()].copy_from_slice(id);
    packet
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_kernel_keeps_out_who_does_not_knock_and_nobody_else() {
    let _ = shown("front", "none");
    let mut config = config();
    config.times.hello_limit_ms = 500;
    let stand = Stand::with(config).await;
    let phone = Phone::new(&stand, "alice", 1);
    let kept_out = async {
        loop {
            let before = shown("front", "none");
            stranger(stand.front).await;
            // What came before the login was looked at before it.
            phone.login(&stand).await.ping().await;
            if shown("front", "none") == before {
                return;
            }
        }
    };
    timeout(PATIENCE, kept_out).await.expect("the process sees strangers no more");
    // The knock of now is heard, whatever else is wrong with the mark.
    let before = shown("front", "forged");
    let mut forged = stand.pass();
    forged[10] ^= 1;
    let forger = attempt(&stand, stand.front, forged);
    until("a forger who knocks is heard", || shown("front", "forged") > before).await;
    forger.abort();
    stand.stop().await;
}

fn wake_pass(stand: &Stand) -> MarkBytes {
    stand.mark(&Mark::pass(Class::Wake, unix_ms(), rand::random()))
}

/// A full port says when to come back; the slot serves then, here, and once.
#[tokio::test]
async fn a_full_wake_port_gives_slots() {
    let _ = shown("wake", "slot");
    let mut config = config();
    config.overload.background.logins_per_s_max = 1;
    let stand = Stand::with(config).await;
    let first = Phone::new(&stand, "alice", 1);
    let _first = first.attempt(stand.wake, *b"nobody in particular").await.unwrap();
    // So far away that it is too early now, whatever the tolerance (a second).
    let said = loop {
        let said = put_off(&stand).await;
        if said.retry_after_ms > 2_000 {
            break said;
        }
    };
    assert!(said.retry_after_ms < 4_000, "a second or so behind the one before: {said:?}");
    let (slot, heard) = (said.slot.unwrap(), tokio::time::Instant::now());

    let early = attempt(&stand, stand.wake, slot);
    until("too early", || shown("wake", "early") > 0).await;
    early.abort();
    let elsewhere = Mark::slot(Class::Wake, NodeTag::of("elsewhere"), unix_ms(), 10_000, 5);
    let elsewhere = attempt(&stand, stand.wake, stand.mark(&elsewhere));
    until("at another node", || shown("wake", "foreign") > 0).await;
    elsewhere.abort();

    tokio::time::sleep_until(heard + Duration::from_millis(said.retry_after_ms.into())).await;
    let connection = Phone::new(&stand, "bob", 2).attempt(stand.wake, slot).await.unwrap();
    connection.close(0u8.into(), b"");
    let before = shown("wake", "replayed");
    let mut again = Vec::new();
    let used_up = async {
        // While the server remembers the connection, the stack drops what comes with its id.
        while shown("wake", "replayed") == before {
            again.push(attempt(&stand, stand.wake, slot));
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, used_up).await.expect("a slot serves once");
    for attempt in again {
        assert!(!attempt.is_finished());
        attempt.abort();
    }
    stand.stop().await;
}

/// With every pass of one device the node tells the same time, and another one to another device.
#[tokio::test]
async fn who_asks_again_is_told_the_same_time() {
    let mut config = config();
    config.overload.background.logins_per_s_max = 1;
    let stand = Stand::with(config).await;
    put_off(&stand).await;
    let phone = Phone::new(&stand, "bob", 2);
    let told = async |asker, n| {
        let pass = Mark::pass(Class::Wake, unix_ms(), Mark::nonce(Asker::from_bits(asker), n));
        match phone.attempt(stand.wake, stand.mark(&pass)).await {
            Err(ConnectionError::ConnectionClosed(close)) => {
                Some(unix_ms() + u64::from(PutOff::parse(&close.reason).unwrap().retry_after_ms))
            }
            // One a second finds the port free.
            Ok(_) => None,
            other => panic!("{other:?}"),
        }
    };
    // Ten that are a second apart, so that the one that is looked at is not near.
    for asker in 0..10 {
        told(asker, 0).await;
    }
    let three = async {
        for asker in (100..).step_by(2) {
            let (first, other) = (told(asker, 0).await, told(asker + 1, 0).await);
            if let (Some(first), Some(other), Some(again)) = (first, other, told(asker, 1).await) {
                return (first, other, again);
            }
        }
        unreachable!("there is always another asker")
    };
    let (first, other, again) = timeout(PATIENCE, three).await.expect("three in one second");
    assert!(again.abs_diff(first) <= 300, "{first} {again}: a quarter of a second, and the way");
    assert!(other > first + 700, "{first} {other}");
    stand.stop().await;
}

/// Whoever has not long to wait for his slot is let in then, and does not come twice.
#[tokio::test]
async fn who_has_not_long_to_wait_is_held() {
    let held = || metric("buslane_session_manager_held_total{port=\"wake\"} ");
    let before = held();
    let mut config = config();
    config.overload.background.logins_per_s_max = 10;
    config.overload.background.hold_ms_max = 400;
    let stand = Stand::with(config).await;
    let coming = async {
        for n in 0.. {
            let phone = Phone::new(&stand, "bob", 2);
            let pass = Mark::pass(Class::Wake, unix_ms(), Mark::nonce(Asker::from_bits(n), 0));
            phone
                .attempt(stand.wake, stand.mark(&pass))
                .await
                .expect("he is let in, and not told to come again");
            if held() > before {
                break;
            }
        }
    };
    timeout(PATIENCE, coming).await.expect("one is held");
    stand.stop().await;
}

/// What a phone with a pass is told at the full port.
async fn put_off(stand: &Stand) -> PutOff {
    let attempting = async {
        loop {
            match Phone::new(stand, "bob", 2).attempt(stand.wake, wake_pass(stand)).await {
                Err(ConnectionError::ConnectionClosed(close)) => {
                    assert_eq!(close.error_code, TransportErrorCode::CONNECTION_REFUSED);
                    return PutOff::parse(&close.reason).unwrap();
                }
                // The moment of calm that everybody is granted.
                Ok(_) => sleep(Duration::ZERO).await,
                Err(other) => panic!("{other:?}"),
            }
        }
    };
    timeout(PATIENCE, attempting).await.expect("it fills up")
}

/// Whoever comes in his slot while every place is taken is told to wait; where that was lost on the way, his next packet may come when the
/// slot itself is late.
#[tokio::test]
async fn who_has_not_heard_that_he_is_to_wait_keeps_his_promise() {
    let turned_away = |how: &str| {
        metric(&format!("buslane_session_manager_turned_away_total{{port=\"wake\",how=\"{how}\"}} "))
    };
    let _ = turned_away("wait");
    let mut config = config();
    config.bounds.handshakes_max = 1;
    config.times.hello_limit_ms = 30_000;
    let stand = Stand::with(config).await;
    let _holds_the_place =
        Phone::new(&stand, "alice", 1).attempt(stand.wake, wake_pass(&stand)).await.unwrap();

    const TOLERANCE_MS: u32 = 100;
    let slot = stand.mark(&Mark::slot(Class::Wake, NodeTag::of(NODE), unix_ms(), TOLERANCE_MS, 5));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let before = turned_away("wait");
    socket.send_to(&first_packet(&slot), stand.wake).await.unwrap();
    until("he is told to wait", || turned_away("wait") == before + 1).await;
    let waits_on = async {
        while shown("wake", "late") == 0 {
            sleep(Duration::from_millis(50)).await;
            socket.send_to(&first_packet(&slot), stand.wake).await.unwrap();
        }
    };
    timeout(PATIENCE, waits_on).await.expect("the slot is late after a while");
    until("it is none of his doing", || turned_away("wait") > before + 1).await;
    let mut close = [0; 2_048];
    let answer = timeout(PATIENCE, socket.recv(&mut close)).await.expect("he was answered").unwrap();
    assert!(answer > MARK_BYTES);
    stand.stop().await;
}

/// A storm at the wake port is not felt at the front port, because its threads run only when no other wants to.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_threads_of_the_wake_port_run_last() {
    const SCHED_OTHER: &str = "0";
    const SCHED_IDLE: &str = "5";
    let stand = Stand::start().await;
    until("both ports have their threads", || {
        policies("buslane-front").contains(&SCHED_OTHER.to_owned())
            && policies("buslane-wake").contains(&SCHED_IDLE.to_owned())
    })
    .await;
    assert!(!policies("buslane-front").contains(&SCHED_IDLE.to_owned()));
    stand.stop().await;
}

/// The scheduling policies of this process's threads with this name: field 41 of `/proc/.../stat` (proc(5)).
#[cfg(target_os = "linux")]
fn policies(name: &str) -> Vec<String> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    let of_name = stats.filter(|stat| stat.contains(&format!("({name})")));
    // The name is field 2, and may hold blanks; fields are counted from behind it.
    of_name.filter_map(|stat| stat.rsplit_once(") ")?.1.split(' ').nth(38).map(str::to_owned)).collect()
}
