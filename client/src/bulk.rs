//! A bulk stream: requests with large answers, beside the talk stream and behind it.

use std::collections::{HashMap, VecDeque};

use buslane_shared::frame::encode;
use buslane_shared::wire::{self, client_frame, server_frame};
use bytes::BytesMut;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::core::Call;
use crate::error::Error;
use crate::frames::FrameReader;
use crate::session::answered;

/// Requests that wait for the stream.
const WAITING_MAX: usize = 64;

/// Requests on the stream at a time: the next one is with the server when an answer leaves it.
const IN_FLIGHT: usize = 8;

/// Behind the talk stream.
const PRIORITY: i32 = -1;

/// A bulk stream and the task that runs it. The task ends with the connection or when the lane is closed.
#[derive(Debug)]
pub(crate) struct BulkLane {
    calls: mpsc::Sender<Call>,
    task: JoinHandle<Vec<Call>>,
}

impl BulkLane {
    /// A lane on `connection`. The stream is opened with the first request.
    pub fn open(connection: quinn::Connection) -> Self {
        let (calls, waiting) = mpsc::channel(WAITING_MAX);
        Self { calls, task: tokio::spawn(run(connection, waiting)) }
    }

    /// Hands over a request; it comes back when the lane is full.
    pub fn put(&self, call: Call) -> Option<Call> {
        match self.calls.try_send(call) {
            Ok(()) => None,
            Err(mpsc::error::TrySendError::Full(call) | mpsc::error::TrySendError::Closed(call)) => {
                Some(call)
            }
        }
    }

    /// Ends the lane of a closed connection. What has no answer comes back.
    pub async fn close(self) -> Vec<Call> {
        drop(self.calls);
        self.task.await.unwrap_or_default()
    }
}

async fn run(connection: quinn::Connection, mut waiting: mpsc::Receiver<Call>) -> Vec<Call> {
    let mut table = HashMap::new();
    if let Err(error) = serve(&connection, &mut waiting, &mut table).await {
        tracing::debug!(%error, "a bulk stream has ended");
    }
    waiting.close();
    let mut left: VecDeque<Call> = table.into_values().collect();
    while let Ok(call) = waiting.try_recv() {
        left.push_back(call);
    }
    left.into()
}

async fn serve(
    connection: &quinn::Connection,
    waiting: &mut mpsc::Receiver<Call>,
    table: &mut HashMap<u64, Call>,
) -> Result<(), Error> {
    let Some(first) = waiting.recv().await else { return Ok(()) };
    let mut next = Some(first);
    let (mut send, recv) = connection.open_bi().await?;
    let _ = send.set_priority(PRIORITY);
    let mut recv = FrameReader::new(recv);
    let mut out = BytesMut::new();
    loop {
        if let Some(call) = next.take()
            && !call.reply.is_closed()
        {
            let request =
                wire::Request { id: call.id, deadline_ms: call.deadline_ms, op: Some(call.op.clone()) };
            encode(&wire::ClientFrame { kind: Some(client_frame::Kind::Request(request)) }, &mut out);
            table.insert(call.id, call);
        }
        tokio::select! {
            call = waiting.recv(), if table.len() < IN_FLIGHT => match call {
                Some(call) => next = Some(call),
                None => return Ok(()),
            },
            written = send.write(&out), if !out.is_empty() => {
                let written = written.map_err(crate::session::write_error)?;
                bytes::Buf::advance(&mut out, written);
            }
            more = recv.fill() => {
                if !more? {
                    return Err(Error::unreachable("the server ended a bulk stream"));
                }
                while let Some(frame) = recv.ready::<wire::ServerFrame>()? {
                    if let Some(server_frame::Kind::Answer(answer)) = frame.kind
                        && let Some(call) = table.remove(&answer.id)
                    {
                        let _ = call.reply.send(answered(answer));
                    }
                }
            }
        }
    }
}
