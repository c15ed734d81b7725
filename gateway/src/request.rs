//! One request: read one frame, decide, answer with one frame.
//!
//! Why it exists: whatever a peer does on a stream (nothing, a byte at a time, nonsense), it ends within limits and with
//! a typed answer where an answer is possible. It must never hold more than one frame of the size allowed here.

use std::time::Duration;

use buslane_chassis::clock;
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

/// Serves the request on one stream.
pub async fn serve(gate: &Gate, peer: &Peer, mut send: SendStream, mut recv: RecvStream) -> After {
    let began = Instant::now();
    let mut op = "none";
    let (result, after) = match answer(gate, peer, &mut recv, began, &mut op).await {
        Ok(result) => (result, After::Open),
        Err(Unanswered::Gone) => return After::Open,
        Err(Unanswered::Silenced) => return After::Close(Code::RateLimited),
        Err(Unanswered::Broken(refusal)) => {
            let code = refusal.code;
            (Err(refusal), After::Close(code))
        }
    };
    observe(gate, peer, op, began, &result);
    let farewell = async {
        send_answer(&mut send, result).await;
        if after == After::Open {
            // The peer may end its side after it has the answer; dropping the stream now would reset it under its hands.
            let _ = recv.read_chunk(1, true).await;
        }
    };
    if timeout(FAREWELL_LIMIT, farewell).await.is_err() {
        // Dropping a stream only ends it, and its bytes would be kept for a peer that does not read them. After the answer
        // was taken over this does nothing.
        let _ = send.reset(VarInt::from_u32(Code::SlowReader as u32));
    }
    after
}

type Decided = Result<wire::gate_answer::Result, Refusal>;

/// Why a request gets no ordinary answer.
enum Unanswered {
    /// The peer has gone or has reset the stream.
    Gone,
    /// The address is held off and was told so often enough.
    Silenced,
    /// Its bytes make no sense: the refusal is sent, and the connection is closed.
    Broken(Refusal),
}

async fn answer(
    gate: &Gate,
    peer: &Peer,
    recv: &mut RecvStream,
    began: Instant,
    op: &mut &'static str,
) -> Result<Decided, Unanswered> {
    match gate.admit(peer.key, began.into_std()) {
        Ok(()) => {}
        Err(Unheard::Silenced) => return Err(Unanswered::Silenced),
        Err(Unheard::Refused(refusal)) => return Ok(Err(refusal)),
    }
    let request = match timeout_at(began + REQUEST_LIMIT, read(recv)).await {
        Ok(request) => request?,
        Err(_) => return Err(Unanswered::Broken(Refusal::of(Code::Timeout))),
    };
    if request.version == 0 {
        return Ok(Err(Refusal::new(
            Code::BadVersion,
            "version 0 does not exist; set the version of the protocol",
        )));
    }
    let wanted_ms = if request.deadline_ms == 0 { DEADLINE_MS_DEFAULT } else { request.deadline_ms };
    let deadline = began + REQUEST_LIMIT.min(Duration::from_millis(wanted_ms.into()));
    Ok(match &request.op {
        Some(wire::gate_request::Op::Enter(request)) => {
            *op = "enter";
            enter(gate, peer, request, clock::unix_ms()).map(wire::gate_answer::Result::Ticket)
        }
        Some(wire::gate_request::Op::Enrol(request)) => {
            *op = "enrol";
            match timeout_at(deadline, Box::pin(enrol(gate, peer, request))).await {
                Ok(enrolled) => enrolled.map(wire::gate_answer::Result::Enrolled),
                // The backend may have registered the device; enrolling the same key again is harmless.
                Err(_) => Err(Refusal::of(Code::Deadline).maybe_applied()),
            }
        }
        None => Err(Refusal::of(Code::Unsupported)),
    })
}

/// Reads the one frame of a stream.
async fn read(recv: &mut RecvStream) -> Result<wire::GateRequest, Unanswered> {
    let mut decoder = FrameDecoder::new(FRAME_BYTES_MAX_BEFORE_HELLO);
    loop {
        match decoder.next_message() {
            Ok(Some(_)) if decoder.is_mid_frame() => {
                return Err(broken(
                    Code::Malformed,
                    "one frame is one request; open another stream for the next",
                ));
            }
            Ok(Some(request)) => return Ok(request),
            Ok(None) => {}
            Err(error @ FrameError::TooLarge { .. }) => return Err(broken(Code::TooLarge, error)),
            Err(error @ FrameError::Malformed(_)) => return Err(broken(Code::Malformed, error)),
        }
        match recv.read_chunk(FRAME_BYTES_MAX_BEFORE_HELLO, true).await {
            Ok(Some(chunk)) => decoder.push(&chunk.bytes),
            Ok(None) => return Err(broken(Code::Malformed, "the stream ended before its frame did")),
            Err(_) => return Err(Unanswered::Gone),
        }
    }
}

fn broken(code: Code, detail: impl std::fmt::Display) -> Unanswered {
    Unanswered::Broken(Refusal::new(code, detail.to_string()))
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
            gate.on_refused(peer.key, code, Instant::now().into_std());
        }
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
