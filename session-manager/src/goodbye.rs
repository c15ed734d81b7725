//! The end of a connection: what the client is told, and the time it has to hear it.
//!
//! Why it exists: closing a QUIC connection throws away what is still on its way, so the last frame has to arrive first,
//! within a limit, because a peer that is refused must not be able to stay. It must never wait longer than that.

use std::time::Duration;

use buslane_shared::frame;
use buslane_shared::refusal::Code;
use bytes::BytesMut;
use prost::Message;
use quinn::{Connection, SendStream, VarInt};
use tokio::time::timeout;

/// Time for the last frame to arrive: a device that lost its right is silent within a second, whatever it does.
const ARRIVAL_LIMIT: Duration = Duration::from_millis(600);

/// Time for the client to read the last frame after it has arrived, before the close overtakes it. A client that has read
/// it closes by itself, which ends the wait.
const READ_LIMIT: Duration = Duration::from_millis(200);

/// Time for a client that ends its session to take its last answers: three round trips of the worst mobile network.
const LEAVE_LIMIT: Duration = Duration::from_secs(3);

/// Sends what is left and one last frame, then closes with `code`.
pub(crate) async fn say<M: Message>(
    connection: &Connection,
    mut send: SendStream,
    mut left: BytesMut,
    last: &M,
    code: Code,
) {
    frame::encode(last, &mut left);
    let arrives = async {
        send.write_all(&left).await.ok()?;
        send.finish().ok()?;
        // Done when every byte was acknowledged.
        send.stopped().await.ok()
    };
    if let Ok(Some(None)) = timeout(ARRIVAL_LIMIT, arrives).await {
        // An error means that the client still listens.
        let _ = timeout(READ_LIMIT, connection.closed()).await;
    }
    close(connection, code);
}

/// Sends what is left to a client that has finished its side, and waits until it closes: its last answers, those on bulk
/// streams too, would be thrown away by a close of ours.
pub(crate) async fn see_off(connection: &Connection, mut send: SendStream, left: BytesMut) {
    let leaves = async {
        // Errors mean that the client has gone.
        if send.write_all(&left).await.is_ok() && send.finish().is_ok() {
            connection.closed().await;
        }
    };
    let _ = timeout(LEAVE_LIMIT, leaves).await;
    close(connection, Code::ClosedByClient);
}

/// Closes at once.
pub(crate) fn close(connection: &Connection, code: Code) {
    connection.close(number(code), code.name().as_bytes());
}

/// A refusal's number as QUIC carries it.
pub(crate) fn number(code: Code) -> VarInt {
    VarInt::from_u32(code as u32)
}
