//! Whether there is room for one more session, once it is known whose it is.
//!
//! Why it exists: the first packet was judged by what it showed; here some turn out to ask for more than that, and some bring
//! their slot with the hello. Whoever is looked at goes through the valve like a request. Whoever comes by himself goes on if
//! he had a session or a slot; in an emergency all others get a slot. It must never defer anybody twice who returned in his time.

use buslane_chassis::clock;
use buslane_shared::class::{Class, Protocol};
use buslane_shared::mark::{Kind, Lane, MARK_BYTES, Mark, MarkError, NodeTag, Use, Used};
use buslane_shared::overload::level::Level;
use buslane_shared::overload::logins::Verdict;
use buslane_shared::overload::posture;
use buslane_shared::overload::settings::Policy;
use buslane_shared::refusal::{Busy, Code, Refusal};
use buslane_shared::slots::Asker;
use buslane_shared::wire;
use buslane_shared::{Nanos, UnixMs};
use bytes::Bytes;
use metrics::counter;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::hello::Verified;
use crate::load::{Decision, Ranked};
use crate::node::Port;

/// Slots remembered as used, for each eleven minutes.
const USED_MAX: usize = 1 << 20;

/// A phone that wakes by itself may wait for a slot this long, and no longer while there is room.
const FAR_AHEAD: Nanos = 5_000_000_000;

/// When the ledger is full nobody knows when there will be room.
const LATER_MS: std::ops::RangeInclusive<u32> = 60_000..=300_000;

/// Why there is no session.
#[derive(Debug)]
pub(crate) enum Turned {
    /// For this reason.
    Refused(Refusal),
    /// There is no room for one that the phone opens by itself: it gets a slot, see [`defer`].
    Deferred(Level),
}

impl From<Refusal> for Turned {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Slots that were used, however they were shown.
pub(crate) struct UsedSlots(Mutex<Used>);

impl Default for UsedSlots {
    fn default() -> Self {
        Self(Mutex::new(Used::new(USED_MAX)))
    }
}

impl UsedSlots {
    fn take(&self, slot: &Mark, now_ms: UnixMs) -> Use {
        // However it was shown, and whichever of those that were given for one time.
        self.0.lock().take(slot.promise(), now_ms)
    }
}

/// Whether this hello may have its session.
pub(crate) fn check(
    port: &Port,
    hello: &wire::Hello,
    verified: &Verified,
    mark: Option<Mark>,
) -> Result<(), Turned> {
    match port.lane() {
        Lane::Front => at_front(port, verified),
        Lane::Wake => at_wake(port, hello, verified, mark),
    }
}

fn protocol(verified: &Verified) -> Protocol {
    if verified.resume.is_some() { Protocol::Resume } else { Protocol::Login }
}

fn at_front(port: &Port, verified: &Verified) -> Result<(), Turned> {
    let (load, protocol) = (&port.node.load, protocol(verified));
    let Ranked { class, level, admitted } =
        load.rank_login(protocol, verified.app_state, verified.user.as_str());
    let is_off = is_off(port, protocol, class);
    if is_off && admitted {
        load.census.on(protocol, class, Decision::Level);
    }
    if is_off || !admitted {
        return Err(load.busy(class, level).into());
    }
    load.census.on(protocol, class, Decision::Admitted);
    Ok(())
}

fn at_wake(port: &Port, hello: &wire::Hello, verified: &Verified, mark: Option<Mark>) -> Result<(), Turned> {
    let (load, protocol) = (&port.node.load, protocol(verified));
    let has_slot = match mark.filter(|mark| mark.kind == Kind::Slot) {
        Some(slot) => use_up(port, &slot)?,
        None if hello.slot.is_empty() => false,
        None => shown_in_hello(port, &hello.slot)?,
    };
    // What comes to this port is what a phone does by itself, whatever the app says of itself. Whether there is room was
    // decided on its first packet; who showed a mark there has been let in.
    let class = load.knobs().classes.of(protocol, wire::AppState::Background);
    if is_off(port, protocol, class) && !has_slot && mark.is_none() && !is_promised_far_ahead(port) {
        load.census.on(protocol, class, Decision::Level);
        return Err(Turned::Deferred(load.level(class, verified.user.as_str())));
    }
    load.census.on(protocol, class, Decision::Admitted);
    Ok(())
}

/// Whether a slot that is given now lies so far ahead that there will be no storm any more. There was room at the door for
/// whoever has got this far; to send him away for that long would leave it empty, and those who do not listen would fill the
/// ledger with promises that nobody takes.
fn is_promised_far_ahead(port: &Port) -> bool {
    port.node.load.gate.ledger_length(Instant::now()) > FAR_AHEAD
}

/// Whether the posture itself lets nobody in who comes like this.
fn is_off(port: &Port, protocol: Protocol, class: Class) -> bool {
    let load = &port.node.load;
    let knobs = load.knobs();
    knobs.settings.policy == Policy::Buslane
        && !knobs.is_dry_run(class)
        && posture::refuses(load.stances.get().posture, protocol, class)
}

/// Somebody returns with the slot that he was given. False: he is too late, and has none.
fn shown_in_hello(port: &Port, slot: &Bytes) -> Result<bool, Turned> {
    let (node, now_ms) = (&port.node, clock::unix_ms());
    let tag = NodeTag::of(&node.config.node);
    match node.feed.keys().marks().read_at(slot, tag, now_ms) {
        Ok(mark) if mark.kind == Kind::Slot => use_up(port, &mark),
        Ok(_) => Err(bad("pass")),
        Err(MarkError::Late) => {
            count("late");
            Ok(false)
        }
        Err(MarkError::Early { wait_ms }) => {
            count("early");
            let wait_ms = u32::try_from(wait_ms).unwrap_or(u32::MAX);
            let class = Class::Wake;
            let level = node.load.level(class, "");
            let posture = node.load.stances.get().posture;
            let busy = Busy { class, level: level.number(), posture, slot: slot.clone() };
            Err(Refusal::busy(busy, wait_ms).into())
        }
        Err(error) => Err(bad(error.name())),
    }
}

fn use_up(port: &Port, slot: &Mark) -> Result<bool, Turned> {
    match port.node.slots.take(slot, clock::unix_ms()) {
        Use::First => {
            // Asked for again before its time, it would otherwise be told again.
            port.node.load.gate.on_slot(slot.asker(), Instant::now());
            count("used");
            Ok(true)
        }
        used => Err(bad(used.name())),
    }
}

fn bad(how: &'static str) -> Turned {
    count(how);
    Refusal::of(Code::BadSlot).into()
}

fn count(how: &'static str) {
    counter!("buslane_session_manager_slots_total", "how" => how).increment(1);
}

/// The refusal of somebody at the wake port, with his slot. For threads of that port.
pub(crate) fn defer(port: &Port, level: Level, asker: Option<Asker>) -> Refusal {
    let (node, now, now_ms) = (&port.node, Instant::now(), clock::unix_ms());
    let (slot, wait_ms) = match node.load.gate.defer(asker, now) {
        Verdict::Defer(grant) => {
            let at = node.load.gate.nanos(now);
            let tag = NodeTag::of(&node.config.node);
            let at_ms = grant.at_ms(at, now_ms);
            let random = u32::from_le_bytes(clock::random());
            let mark = Mark::slot_for(Class::Wake, tag, at_ms, &grant, asker, random);
            (node.feed.keys().marks().make(&mark, now_ms), grant.wait_ms(at))
        }
        Verdict::Admit | Verdict::Hold(_) | Verdict::Wait | Verdict::Later | Verdict::Silence => {
            (None, rand::random_range(LATER_MS))
        }
    };
    count(if slot.is_some() { "given" } else { "none_left" });
    let slot = slot.map(|mark: [u8; MARK_BYTES]| Bytes::copy_from_slice(&mark)).unwrap_or_default();
    let posture = node.load.stances.get().posture;
    Refusal::busy(Busy { class: Class::Wake, level: level.number(), posture, slot }, wait_ms)
}
