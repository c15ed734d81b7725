//! From the first packet to the welcome: handshake, talk stream, hello, session. Everything within one limit.
//!
//! Why it exists: until the ticket is verified a peer is a stranger, and gets one stream, a small window and little time.
//! The path is written in order, on one screen: shake hands, hear the hello, verify it, see whether there is room, open the
//! session, welcome. It must never wait for another part of the system: keys and revocations are here already.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use buslane_chassis::trace::{Context, Kind, Lead, Span};
use buslane_chassis::{clock, quic};
use buslane_shared::class::{Class, Protocol};
use buslane_shared::id::{DeviceId, SessionId, UserId};
use buslane_shared::limits::{
    BODY_BYTES_MAX, BULK_STREAMS_MAX, FRAME_BYTES_MAX, FRAME_BYTES_MAX_BEFORE_HELLO, IN_FLIGHT_MAX,
};
use buslane_shared::mark::{Lane, Mark};
use buslane_shared::proof::{EXPORTER_BYTES, SESSION_EXPORTER};
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::slots::Asker;
use buslane_shared::token::Purpose;
use buslane_shared::wire::{self, client_frame, server_frame};
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use quinn::{Connection, Incoming, SendStream};
use tokio::time::{Instant, timeout_at};

use crate::door::Handshake;
use crate::goodbye;
use crate::hello::{self, Facts, Rejected, Verified};
use crate::load::outcome::Outcome;
use crate::load::passes;
use crate::node::Port;
use crate::outbound::Outbound;
use crate::presence::{Hold, Told};
use crate::room::{self, Turned, defer};
use crate::session::Session;
use crate::table::Opened;
use crate::talk::{Broken, Heard, Talk};

/// Serves one connection from its first packet to its end.
pub(crate) async fn run(port: Arc<Port>, incoming: Incoming, handshake: Handshake) {
    // Boxed, so that an idle session does not carry the memory of its handshake.
    let Some((connection, session)) = Box::pin(establish(&port, incoming, &handshake)).await else { return };
    drop(handshake);
    if AssertUnwindSafe(session.run()).catch_unwind().await.is_err() {
        port.meters.panics.increment(1);
        tracing::error!("a session's task panicked; its connection is closed and the client comes back");
        goodbye::close(&connection, Code::Internal);
    }
}

async fn establish(
    port: &Arc<Port>,
    incoming: Incoming,
    handshake: &Handshake,
) -> Option<(Connection, Session)> {
    let began = Instant::now();
    let _counted = port.desk.is_some().then(|| InFlight::new(port));
    let deadline = began + port.node.config.times.hello_limit();
    let connection = timeout_at(deadline, incoming.accept().ok()?).await.ok()?.ok()?;
    let deadline = deadline.min(Instant::now() + handshake.patience(port.node.config.times.hello_limit()));
    let (send, recv) = match timeout_at(deadline, connection.accept_bi()).await {
        Ok(stream) => stream.ok()?,
        Err(_) => {
            port.meters.on_refusal("hello", Code::Timeout);
            goodbye::close(&connection, Code::Timeout);
            return None;
        }
    };
    let mut talk = Talk::new(recv, FRAME_BYTES_MAX_BEFORE_HELLO);
    let accepted = match timeout_at(deadline, hear_hello(&mut talk)).await {
        Ok(Ok(hello)) => accept(port, &connection, hello, handshake.mark, began).await,
        Ok(Err(refusal)) => Err(refusal?),
        Err(_) => Err(Refusal::new(Code::Timeout, "the hello was not complete in time")),
    };
    match accepted {
        Ok((hello, opened, lead)) => {
            port.node.tuning.trust(&connection);
            talk.trust();
            let mut out = Outbound::new(send);
            out.put(&wire::ServerFrame { kind: Some(welcome(port, &hello, &opened)) });
            let session = Session::new(port, connection.clone(), opened.hold, talk, out, lead);
            Some((connection, session))
        }
        Err(refusal) => {
            port.meters.on_refusal("hello", refusal.code);
            refuse(&connection, send, refusal, handshake).await;
            None
        }
    }
}

/// The first frame, which must be a hello. `Err(None)`: the client is gone.
async fn hear_hello(talk: &mut Talk) -> Result<wire::Hello, Option<Refusal>> {
    match talk.next().await {
        Ok(Heard::Frame(wire::ClientFrame { kind: Some(client_frame::Kind::Hello(hello)) }, _)) => Ok(hello),
        Ok(Heard::Frame(..) | Heard::End) => Err(Some(Refusal::of(Code::HelloRequired))),
        Err(broken) => Err(refusal(&broken)),
    }
}

fn refusal(broken: &Broken) -> Option<Refusal> {
    broken.code().map(|code| Refusal::new(code, broken.to_string()))
}

/// Verifies the hello and opens the session, where requests of this port run.
async fn accept(
    port: &Arc<Port>,
    connection: &Connection,
    hello: wire::Hello,
    mark: Option<Mark>,
    began: Instant,
) -> Result<(Verified, Opened, Lead), Refusal> {
    let exporter = quic::exporter(connection, SESSION_EXPORTER).ok_or(Refusal::of(Code::Internal))?;
    let (protocol, class) = asks_for(port, &hello);
    let tally = &port.node.load.tally;
    tally.on_offered(protocol, class);
    let outcome = match &port.desk {
        None => open(port, &exporter, &hello, mark),
        Some(desk) => {
            let port = Arc::clone(port);
            let opened = desk.run(async move { open(&port, &exporter, &hello, mark) }).await;
            opened.unwrap_or(Err(Denied::of_nobody(Refusal::of(Code::Internal))))
        }
    };
    match outcome {
        Ok((hello, opened)) => {
            tally.on_ended(protocol, class, Outcome::Served);
            let parent = hello.parent;
            Ok((hello, opened, trace_login(port, parent, protocol, class, began)))
        }
        Err(denied) => {
            let Denied { turned, who } = *denied;
            let refusal = match turned {
                Turned::Refused(refusal) => refusal,
                Turned::Deferred(level) => {
                    let asker = who.as_ref().map(|(_, device)| Asker::of(*device));
                    defer(port, level, asker)
                }
            };
            trace_denial(port, &refusal, protocol, class, began);
            let who = who.as_ref().map(|(user, device)| (user, *device));
            port.on_hello_refused(protocol, class, &refusal, who);
            Err(refusal)
        }
    }
}

/// What is said of a login that has come to its session; what follows at once belongs to it.
fn trace_login(port: &Port, parent: Context, protocol: Protocol, class: Class, began: Instant) -> Lead {
    let name = protocol.name();
    let span = if parent.is_traced() {
        Span::child(parent, name, Kind::Server)
    } else {
        Span::root(name, Kind::Server)
    };
    let mut span = span.since(began);
    note_login(&mut span, port, class);
    span.note("buslane.decision", "admitted");
    span.settle();
    Lead::of(&span)
}

/// What is said of one that has not. Those that find no room are what a storm has most of.
fn trace_denial(port: &Port, refusal: &Refusal, protocol: Protocol, class: Class, began: Instant) {
    let (name, finds_no_room) = (protocol.name(), matches!(refusal.code, Code::Busy | Code::RateLimited));
    let span = if finds_no_room { Span::refused(name, Kind::Server) } else { Span::root(name, Kind::Server) };
    let mut span = span.since(began);
    note_login(&mut span, port, class);
    if finds_no_room {
        span.turn_away(refusal.code.name());
    } else {
        span.fail(refusal.code.name());
    }
}

fn note_login(span: &mut Span, port: &Port, class: Class) {
    span.note("buslane.role", "session-manager");
    span.note("network.transport", "quic");
    let lane = match port.lane() {
        Lane::Front => "front",
        Lane::Wake => "wake",
    };
    span.note("buslane.port", lane);
    span.note("buslane.class", class.name());
}

/// What a hello asks for, before it is known whether it is true. At the wake port it is background, whatever the app says.
fn asks_for(port: &Port, hello: &wire::Hello) -> (Protocol, Class) {
    let protocol = match hello.token {
        Some(wire::hello::Token::Resume(_)) => Protocol::Resume,
        Some(wire::hello::Token::Ticket(_)) | None => Protocol::Login,
    };
    let app_state = match port.lane() {
        Lane::Front => hello.app_state(),
        Lane::Wake => wire::AppState::Background,
    };
    (protocol, port.node.load.knobs().classes.of(protocol, app_state))
}

/// Why there is no session, and for whom.
struct Denied {
    turned: Turned,
    who: Option<(UserId, DeviceId)>,
}

impl Denied {
    fn of_nobody(refusal: Refusal) -> Box<Self> {
        Box::new(Self { turned: refusal.into(), who: None })
    }
}

impl From<Box<Rejected>> for Box<Denied> {
    fn from(rejected: Box<Rejected>) -> Self {
        let Rejected { refusal, who } = *rejected;
        Self::new(Denied { turned: refusal.into(), who })
    }
}

fn open(
    port: &Port,
    exporter: &[u8; EXPORTER_BYTES],
    hello: &wire::Hello,
    mark: Option<Mark>,
) -> Result<(Verified, Opened), Box<Denied>> {
    let node = &port.node;
    let facts = Facts {
        keys: &node.feed.keys(),
        node: &node.config.node,
        now_ms: clock::unix_ms(),
        exporter,
        is_revoked: &|device, issued_at_ms| node.feed.is_revoked(device, issued_at_ms),
    };
    let verified = hello::verify(hello, &facts)?;
    match give_session(port, hello, &verified, mark) {
        Ok(opened) => Ok((verified, opened)),
        Err(turned) => Err(Box::new(Denied { turned, who: Some((verified.user, verified.device)) })),
    }
}

fn give_session(
    port: &Port,
    hello: &wire::Hello,
    verified: &Verified,
    mark: Option<Mark>,
) -> Result<Opened, Turned> {
    let node = &port.node;
    room::check(port, hello, verified, mark)?;
    let opened = node.table.open(verified, SessionId::from_bytes(clock::random()))?;
    opened.hold.presence.set_lane(port.lane());
    // A revocation that came between the two would have found no session.
    if node.feed.is_revoked(&verified.device, verified.issued_at_ms) {
        node.table.revoke(&verified.user, verified.device, verified.issued_at_ms);
        return Err(Refusal::of(Code::Revoked).into());
    }
    match (&verified.resume, opened.resumed) {
        (None, _) => port.meters.logins.increment(1),
        (Some(_), true) => port.meters.resumes.increment(1),
        (Some(_), false) => port.meters.resumes_with_loss.increment(1),
    }
    if port.lane() == Lane::Wake {
        node.load.gate.on_opened();
    }
    Ok(opened)
}

fn welcome(port: &Port, hello: &Verified, opened: &Opened) -> server_frame::Kind {
    let now_ms = clock::unix_ms();
    let (node, presence) = (&port.node, &opened.hold.presence);
    let advice = node.load.advice(presence.app_state());
    let word = Told::of(advice.posture());
    opened.hold.on_welcome(word, || Told::of(node.load.posture()) == word);
    let class = node.load.knobs().classes.of(Protocol::Resume, presence.app_state());
    let passes = passes::make(&node.feed, &node.config.node, class, Asker::of(presence.device), now_ms);
    presence.on_passes(now_ms);
    let valid_ms = u32::try_from(hello.expires_ms.saturating_sub(now_ms)).unwrap_or(u32::MAX);
    let resume = resume_token(port, hello, &opened.hold, now_ms);
    server_frame::Kind::Welcome(wire::Welcome {
        session: opened.hold.presence.session.to_wire(),
        resumed: opened.resumed,
        resume_valid_ms: if resume.is_empty() { 0 } else { valid_ms },
        resume,
        ping_interval_ms: advice.ping_interval_ms,
        idle_limit_ms: advice.idle_limit_ms,
        posture: advice.posture,
        now_ms,
        limits: Some(wire::Limits {
            frame_bytes: FRAME_BYTES_MAX as u32,
            body_bytes: BODY_BYTES_MAX as u32,
            in_flight: IN_FLIGHT_MAX as u32,
            bulk_streams: BULK_STREAMS_MAX,
        }),
        user: hello.user.as_str().to_owned(),
        device: hello.device.to_wire(),
        advice: Some(advice),
        passes,
    })
}

/// The right to continue this session here. Empty when no key seals now; the client then uses its ticket.
fn resume_token(port: &Port, hello: &Verified, hold: &Hold, now_ms: u64) -> Bytes {
    let body = wire::ResumeBody {
        user: hello.user.as_str().to_owned(),
        device: hello.device.to_wire(),
        proof_key: hello.proof_key.clone(),
        session: hold.presence.session.to_wire(),
        expires_ms: hello.expires_ms,
        node: port.node.config.node.clone(),
        issued_at_ms: hello.issued_at_ms,
    };
    port.node.feed.keys().seal(Purpose::Resume, &body, clock::random(), now_ms).unwrap_or_default()
}

/// A login at the wake port that is under way.
struct InFlight<'a>(&'a Port);

impl<'a> InFlight<'a> {
    fn new(port: &'a Port) -> Self {
        port.node.load.logins.fetch_add(1, Ordering::Relaxed);
        Self(port)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.node.load.logins.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells a stranger why not. Where places are short, the close code has to do, unless there is a slot to be told: it was
/// promised.
async fn refuse(connection: &Connection, send: SendStream, refusal: Refusal, handshake: &Handshake) {
    let code = refusal.code;
    let has_slot = refusal.busy.as_ref().is_some_and(|busy| !busy.slot.is_empty());
    if handshake.is_pressed() && !has_slot {
        return goodbye::close(connection, code);
    }
    let last = wire::ServerFrame { kind: Some(server_frame::Kind::Refusal(refusal.into())) };
    goodbye::say(connection, send, BytesMut::new(), &last, code).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::Presence;

    /// Bytes of the future that an async function with three arguments makes.
    fn bytes_of<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// What half a million idle sessions multiply: the task and the entry in the table. The buffers are gone when idle.
    #[test]
    fn an_idle_session_is_small() {
        let (task, entry) = (bytes_of(run), size_of::<Presence>());
        assert!(task <= 3 * 1024, "the task of a session has {task} bytes");
        assert!(entry <= 320, "a session in the table has {entry} bytes");
    }
}
