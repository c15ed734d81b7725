//! One request: read one frame, decide, answer with one frame.
//!
//! Why it exists: whatever a peer does on a stream (nothing, a byte at a time, nonsense), it ends within limits and with
//! a typed answer where an answer is possible. It must never hold more than one frame of the size allowed here.

use std::time::Duration;

use buslane_chassis::clock;
use buslane_chassis::trace::{Context, Kind, Span};
use buslane_shared::frame::{FrameDecoder, FrameError, frame};
use buslane_shared::limits::{DEADLINE_MS_DEFAULT, FRAME_BYTES_MAX_BEFORE_HELLO};
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::wire;
use quinn::{RecvStream, SendStream, VarInt};
use tokio::time::{Instant, timeout, timeout_at};

use crate::enrol::enrol;
use crate::enter::enter;
use crate::gate::{Gate, Peer, Unheard};

/// Longest time from the beginning of a stream to its answer. A phone sends its request in one packet; the rest is the
/// backend's fsync, which takes milliseconds.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// Longest time in which a peer takes an answer over and ends its side, before the stream is reset: a lost packet or two on
/// a bad mobile network.
const FAREWELL_LIMIT: Duration = Duration::from_secs(5);

/// What happens to the connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It goes on.
    Open,
    /// It is closed with this code.
    Close(Code),
}

/// What came on a stream.
enum Heard {
    /// A request.
    Request(wire::GateRequest),
    /// Somebody who comes too often; what he sent is not read.
    TooOften(Refusal),
    /// Bytes that make no sense: the refusal is sent, and the connection is closed.
    Broken(Refusal),
    /// Somebody who was told often enough that he comes too often.
    Silenced,
    /// Nothing more: the peer has gone or has reset the stream.
    Gone,
}

type Decided = Result<wire::gate_answer::Result, Refusal>;

/// Serves the request on one stream.
pub async fn serve(gate: &Gate, peer: &Peer, mut send: SendStream, mut recv: RecvStream) -> After {
    let began = Instant::now();
    let mut span = Span::default();
    let (op, result, after) = match hear(gate, peer, &mut recv, began).await {
        Heard::Request(request) => {
            span = Span::root(name(&request), Kind::Server).since(began);
            (name(&request), decide(gate, peer, &request, began, span.context()).await, After::Open)
        }
        Heard::TooOften(refusal) => ("none", Err(refusal), After::Open),
        Heard::Broken(refusal) => {
            let code = refusal.code;
            ("none", Err(refusal), After::Close(code))
        }
        Heard::Silenced => return After::Close(Code::RateLimited),
        Heard::Gone => return After::Open,
    };
    observe(gate, peer, op, began, &result);
    end(span, op, &result);
    let farewell = async {
        send_answer(&mut send, result).await;
        if after == After::Open {
            // The peer may end its side after it has the answer; dropping the stream now would reset it under its hands.
            let _ = recv.read_to_end(FRAME_BYTES_MAX_BEFORE_HELLO).await;
        }
    };
    if timeout(FAREWELL_LIMIT, farewell).await.is_err() {
        // Dropping a stream only ends it, and its bytes would be kept for a peer that does not read them. After the answer
        // was taken over this does nothing.
        let _ = send.reset(VarInt::from_u32(Code::SlowReader as u32));
    }
    after
}

async fn hear(gate: &Gate, peer: &Peer, recv: &mut RecvStream, began: Instant) -> Heard {
    match gate.admit(peer.caller, began.into_std()) {
        Ok(()) => {}
        Err(Unheard::Silenced) => return Heard::Silenced,
        Err(Unheard::Refused(refusal)) => return Heard::TooOften(refusal),
    }
    timeout_at(began + REQUEST_LIMIT, read(recv))
        .await
        .unwrap_or_else(|_| Heard::Broken(Refusal::of(Code::Timeout)))
}

/// The name of a request in metrics and logs.
fn name(request: &wire::GateRequest) -> &'static str {
    match request.op {
        Some(wire::gate_request::Op::Enter(_)) => "enter",
        Some(wire::gate_request::Op::Enrol(_)) => "enrol",
        None => "none",
    }
}

async fn decide(
    gate: &Gate,
    peer: &Peer,
    request: &wire::GateRequest,
    began: Instant,
    parent: Context,
) -> Decided {
    if request.version == 0 {
        return Err(Refusal::new(
            Code::BadVersion,
            "version 0 does not exist; set the version of the protocol",
        ));
    }
    let wanted_ms = if request.deadline_ms == 0 { DEADLINE_MS_DEFAULT } else { request.deadline_ms };
    let deadline = began + REQUEST_LIMIT.min(Duration::from_millis(wanted_ms.into()));
    match &request.op {
        Some(wire::gate_request::Op::Enter(request)) => {
            enter(gate, peer, request, clock::unix_ms(), parent).map(wire::gate_answer::Result::Ticket)
        }
        Some(wire::gate_request::Op::Enrol(request)) => {
            match timeout_at(deadline, Box::pin(parent.scope(enrol(gate, peer, request)))).await {
                Ok(enrolled) => enrolled.map(wire::gate_answer::Result::Enrolled),
                // The backend may have registered the device; enrolling the same key again is harmless.
                Err(_) => Err(Refusal::of(Code::Deadline).maybe_applied()),
            }
        }
        None => Err(Refusal::of(Code::Unsupported)),
    }
}

/// Reads the one frame of a stream.
async fn read(recv: &mut RecvStream) -> Heard {
    let mut decoder = FrameDecoder::new(FRAME_BYTES_MAX_BEFORE_HELLO);
    loop {
        match decoder.next_message() {
            Ok(Some(_)) if decoder.is_mid_frame() => {
                return broken(Code::Malformed, "one frame is one request; open another stream for the next");
            }
            Ok(Some(request)) => return Heard::Request(request),
            Ok(None) => {}
            Err(error @ FrameError::TooLarge { .. }) => return broken(Code::TooLarge, error),
            Err(error @ FrameError::Malformed(_)) => return broken(Code::Malformed, error),
        }
        match recv.read_chunk(FRAME_BYTES_MAX_BEFORE_HELLO, true).await {
            Ok(Some(chunk)) => decoder.push(&chunk.bytes),
            Ok(None) => return broken(Code::Malformed, "the stream ended before its frame did"),
            Err(_) => return Heard::Gone,
        }
    }
}

fn broken(code: Code, detail: impl std::fmt::Display) -> Heard {
    Heard::Broken(Refusal::new(code, detail.to_string()))
}

/// Counts the outcome, and notices who behaves abnormally.
fn observe(gate: &Gate, peer: &Peer, op: &'static str, began: Instant, result: &Decided) {
    metrics::histogram!("buslane_gateway_request_seconds", "op" => op).record(began.elapsed());
    match result {
        Ok(_) => metrics::counter!("buslane_gateway_granted_total", "op" => op).increment(1),
        Err(refusal) => {
            let code = refusal.code;
            metrics::counter!("buslane_gateway_refusals_total", "op" => op, "code" => code.name())
                .increment(1);
            tracing::debug!(address = %peer.address, op, code = code.name(), "refused");
            gate.on_refused(peer.caller, code, Instant::now().into_std());
        }
    }
}

/// Says in a trace what became of a request. Those for tickets that are put off are what a storm has most of.
fn end(mut span: Span, op: &'static str, result: &Decided) {
    span.note("buslane.role", "gateway");
    span.note("network.transport", "quic");
    match result {
        Ok(_) => {
            span.note("buslane.decision", "admitted");
            span.settle();
        }
        Err(refusal) if op == "enter" && matches!(refusal.code, Code::Busy | Code::RateLimited) => {
            span.note("buslane.decision", if refusal.busy.is_some() { "deferred" } else { "refused" });
            span.turn_away(refusal.code.name());
        }
        Err(refusal) => span.fail(refusal.code.name()),
    }
}

/// Sends the answer, ends our side, and waits until the peer has taken it over: closing the connection before would throw
/// it away. Errors mean that the peer has gone, and then there is nothing to wait for.
async fn send_answer(send: &mut SendStream, result: Decided) {
    let result = result.unwrap_or_else(|refusal| wire::gate_answer::Result::Refusal(refusal.into()));
    let bytes = frame(&wire::GateAnswer { result: Some(result) });
    if send.write_all(&bytes).await.is_ok() && send.finish().is_ok() {
        let _ = send.stopped().await;
    }
}
