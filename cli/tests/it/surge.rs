//! A login storm on a real `up`, by real clients: it sees the storm by itself, keeps the conversation going, tells everybody when
//! to come, lets them in at their times, and goes back to normal, while nobody touches anything.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use buslane_client::raw::Transport;
use buslane_client::{AppState, CaSource, Client, FirstLogin, Options, State, Storage};
use buslane_shared::id::RoomId;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::time::MissedTickBehavior;

use crate::support::{Home, Server, until};

/// Phones that come back at once. At ten logins a second they are 15 s of work.
const PHONES: usize = 150;

/// A node that takes ten background logins a second, and changes its posture faster than anybody would want in earnest.
/// How late this machine's timers are, and how busy its processors with the phones of this test, says nothing about the node, so it is
/// not looked at. (Whether the second was why people were refused once on a slow machine was not seen: the test names what was decided.)
const SETTINGS: &str = r#"
[gateway]
enrolment = "open"
[gateway.limits]
address = { burst = 20_000, per_minute = 600_000 }
enrol_name = { burst = 60, per_minute = 60 }
user = { burst = 600, per_minute = 600 }
[session_manager.times]
drain_ms = 500
[session_manager.overload.background]
logins_per_s_max = 10
slot_tolerance_ms = 5_000
[session_manager.overload.posture]
dwell_ms = 2_000
calm_ms = 500
ledger_ms = 1_000
reopen_percent_per_s = 50
[session_manager.overload.thresholds]
logins_min = 2
lateness_ms = { guard = 5_000.0, hard = 10_000.0 }
foreground_wait_ms = { guard = 5_000.0, hard = 10_000.0 }
sojourn_ms = { guard = 5_000.0, hard = 10_000.0 }
resources = { guard = 5.0, hard = 10.0 }
dependency = { guard = 0.001, hard = 0.0005 }
"#;

struct Phones {
    runtime: Runtime,
    transport: Transport,
    gate: String,
    ca: CaSource,
}

impl Phones {
    fn new(server: &Server) -> Self {
        let ca = CaSource::File(server.address("ca").into());
        let runtime = Runtime::new().unwrap();
        let transport = runtime.block_on(async { Transport::new(&ca).unwrap() });
        Self { runtime, transport, gate: server.address("gate").to_owned(), ca }
    }

    fn open(&self, user: &str, app_state: AppState) -> Client {
        let options = Options {
            app_state,
            first_login: FirstLogin::FromNow,
            ..Options::new(user.parse().unwrap(), &self.gate, self.ca.clone(), Storage::Memory)
        };
        self.runtime.block_on(Client::open_on(options, self.transport.clone())).unwrap()
    }
}

fn posture(home: &Home) -> Value {
    home.json(&["ctl", "posture"]).remove(0)
}

/// The sum of a metric over all series that have these labels.
fn metric(server: &Server, name: &str, labels: &[&str]) -> f64 {
    let (_, page) = server.page("/metrics");
    let wanted = |line: &&str| line.starts_with(name) && labels.iter().all(|label| line.contains(label));
    page.lines().filter(wanted).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// What was decided of this class, but for what was served.
fn refusals(server: &Server, class: &str) -> String {
    let (_, page) = server.page("/metrics");
    let wanted = |line: &&str| {
        line.starts_with("buslane_session_manager_decisions_total")
            && line.contains(class)
            && !line.ends_with(" 0")
    };
    page.lines().filter(wanted).collect::<Vec<_>>().join("\n")
}

fn is_up(client: &Client) -> bool {
    matches!(*client.state().borrow(), State::Connected { .. })
}

#[test]
fn a_login_storm_is_ridden_out_without_an_operator() {
    let home = Home::new();
    let server = Server::up(&home);
    let phones = Phones::new(&server);
    let woken: Vec<Client> =
        (0..PHONES).map(|n| phones.open(&format!("phone{n}"), AppState::Background)).collect();
    let (alice, bob) = (phones.open("alice", AppState::Foreground), phones.open("bob", AppState::Foreground));
    let in_now = || woken.iter().filter(|c| is_up(c)).count();
    until("everybody to be in", || (in_now() == PHONES && is_up(&alice) && is_up(&bob)).then_some(()));

    // The ground shakes: the node goes down, and everybody wants to come back at once.
    let addresses = server.addresses();
    server.stop();
    fs::write(home.data().join("config.toml"), SETTINGS).unwrap();
    let server = Server::up_with(&home, &addresses.each_ref().map(String::as_str));
    // However long that took, and however patient they have become meanwhile, they try now.
    phones.runtime.block_on(async {
        for phone in woken.iter().chain([&alice, &bob]) {
            phone.fetch_pending(Duration::ZERO).await;
        }
    });
    // What has happened, not what holds: it may be over before anybody looks.
    let has_come = |to: &str| {
        let labels = [&*format!("to=\"{to}\""), "source=\"measured\""];
        metric(&server, "buslane_session_manager_posture_changes_total", &labels) > 0.0
    };
    until("the emergency", || has_come("emergency").then_some(()));
    let at_first = in_now();
    assert!(at_first < PHONES, "a storm that is over at once is none");
    until("the people to be back", || (is_up(&alice) && is_up(&bob)).then_some(()));
    let room = phones.runtime.block_on(alice.room_direct(bob.user())).unwrap().id;
    // A conversation that goes on through all of it. Every message must have its receipt, and no session may break.
    let over = Arc::new(AtomicBool::new(false));
    let talk = phones.runtime.spawn(talk(alice.clone(), room, Arc::clone(&over)));

    until("background to go on, or the end of the emergency", || {
        (in_now() > at_first || has_come("recovery")).then_some(())
    });
    assert!(in_now() > at_first, "nobody was let in in the emergency");
    until("every phone to be in again", || (in_now() == PHONES).then_some(()));
    until("the way back", || (posture(&home)["posture"] == "normal").then_some(()));

    over.store(true, Ordering::Relaxed);
    phones.runtime.block_on(talk).unwrap();
    assert!(is_up(&bob));
    assert!(woken.iter().all(is_up), "whoever came in stayed");
    // They came in their slots, and nobody in the foreground was refused for lack of room.
    let slots = metric(&server, "buslane_session_manager_marks_total", &["mark=\"slot\""]);
    assert!(slots > 20.0, "{slots} came in their slots");
    let decisions = |labels: &[&str]| metric(&server, "buslane_session_manager_decisions_total", labels);
    for class in ["class=\"C0\"", "class=\"C1\"", "class=\"C2\"", "class=\"C3\""] {
        let served =
            decisions(&[class, "decision=\"admitted\""]) + decisions(&[class, "decision=\"waited\""]);
        assert_eq!(decisions(&[class]), served, "{class} was refused:\n{}", refusals(&server, class));
    }
    let changes = metric(&server, "buslane_session_manager_posture_changes_total", &["source=\"measured\""]);
    assert!((2.0..=5.0).contains(&changes), "{changes} changes of the posture");
    server.stop();
}

/// Says something four times a second, as a quick person does, twenty times at least.
async fn talk(alice: Client, room: RoomId, over: Arc<AtomicBool>) {
    let mut state = alice.state();
    state.mark_unchanged();
    let mut sent = 0;
    // Nothing is waited for here: it is the pace of a conversation.
    let mut pace = tokio::time::interval(Duration::from_millis(250));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !over.load(Ordering::Relaxed) || sent < 20 {
        pace.tick().await;
        alice.send(room, format!("message {sent}")).await.unwrap().receipt().await.unwrap();
        sent += 1;
        let broke = state.has_changed().unwrap();
        assert!(!broke, "alice's session broke: {:?}", *state.borrow_and_update());
    }
}
