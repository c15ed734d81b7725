//! What a load of sends came to: the counts, the time from send to receipt, and a file with a line for each receipt.
//!
//! It exists so that somebody else can check the promise: every line of the file must be found in the room's log, once,
//! under its number. A line is on its way to the disk before the next receipt is waited for, and there is never a line
//! without a receipt.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest;
use buslane_shared::id::{ClientId, RoomId};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::failure::{Exit, Failure};

/// Longest time that the histogram tells apart, in microseconds; what takes longer counts as this.
const ACK_US_MAX: u64 = 3_600_000_000;

/// The counts of a load.
#[derive(Debug)]
pub struct Ledger {
    sent: u64,
    acked: u64,
    failed: u64,
    unknown: u64,
    ack_us: Histogram<u64>,
    acks: Option<AckFile>,
}

/// The summary, as it is printed with `--json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Messages handed over for sending.
    pub sent: u64,
    /// With a receipt.
    pub acked: u64,
    /// Certainly not stored.
    pub failed: u64,
    /// Nobody knows.
    pub unknown: u64,
    /// Seconds from the first send to the last outcome.
    pub elapsed_s: f64,
    /// Receipts a second.
    pub msgs_per_s: f64,
    /// From send to receipt.
    pub ack_ms: AckMs,
}

/// Quantiles in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AckMs {
    /// Half of them were faster.
    pub p50: f64,
    /// 99 of 100 were faster.
    pub p99: f64,
    /// 999 of 1000 were faster.
    pub p999: f64,
}

/// One line of the file of receipts.
#[derive(Serialize)]
struct AckLine<'a> {
    client_id: String,
    room: String,
    seq: u64,
    sha256: &'a str,
}

impl Ledger {
    /// An empty ledger that writes receipts to `acks`, if it is given.
    pub fn new(acks: Option<&Path>) -> Result<Self, Failure> {
        let ack_us = Histogram::new_with_max(ACK_US_MAX, 3)
            .map_err(|e| Failure::new(Exit::Refused, "internal", format!("no histogram: {e}")))?;
        let acks = acks.map(AckFile::create).transpose()?;
        Ok(Self { sent: 0, acked: 0, failed: 0, unknown: 0, ack_us, acks })
    }

    /// A message was handed over.
    pub fn on_sent(&mut self) {
        self.sent += 1;
    }

    /// A receipt arrived `took` after the send.
    pub fn on_receipt(
        &mut self,
        client_id: ClientId,
        room: RoomId,
        seq: u64,
        sha256: &Sha256,
        took: Duration,
    ) -> Result<(), Failure> {
        self.acked += 1;
        let took_us = u64::try_from(took.as_micros()).unwrap_or(ACK_US_MAX);
        self.ack_us.saturating_record(took_us.clamp(1, ACK_US_MAX));
        match &mut self.acks {
            Some(file) => file.write(&AckLine {
                client_id: client_id.to_string(),
                room: room.to_string(),
                seq,
                sha256: &sha256.to_hex(),
            }),
            None => Ok(()),
        }
    }

    /// A message was certainly not stored.
    pub fn on_failed(&mut self) {
        self.failed += 1;
    }

    /// What became of a message is unknown.
    pub fn on_unknown(&mut self) {
        self.unknown += 1;
    }

    /// Hands the lines over to the system: called whenever no further receipt is waiting.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.acks.as_mut().map_or(Ok(()), AckFile::flush)
    }

    /// Messages without an outcome.
    pub fn open(&self) -> u64 {
        self.sent.saturating_sub(self.acked + self.failed + self.unknown)
    }

    /// The summary; what has no outcome by now is unknown.
    pub fn summary(&self, elapsed: Duration) -> Summary {
        let elapsed_s = elapsed.as_secs_f64();
        let ms = |quantile: f64| round3(self.ack_us.value_at_quantile(quantile) as f64 / 1000.0);
        Summary {
            sent: self.sent,
            acked: self.acked,
            failed: self.failed,
            unknown: self.unknown + self.open(),
            elapsed_s: round3(elapsed_s),
            msgs_per_s: if elapsed_s > 0.0 { (self.acked as f64 / elapsed_s).round() } else { 0.0 },
            ack_ms: AckMs { p50: ms(0.5), p99: ms(0.99), p999: ms(0.999) },
        }
    }
}

impl Summary {
    /// Whether every message has a receipt.
    pub fn complete(&self) -> bool {
        self.acked == self.sent
    }
}

/// The digest of a message body.
#[derive(Debug, Clone, Copy)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// Of these bytes.
    pub fn of(body: &[u8]) -> Self {
        let mut out = [0; 32];
        for (o, b) in out.iter_mut().zip(digest::digest(&digest::SHA256, body).as_ref()) {
            *o = *b;
        }
        Self(out)
    }

    fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

#[derive(Debug)]
struct AckFile {
    path: PathBuf,
    file: BufWriter<File>,
}

impl AckFile {
    fn create(path: &Path) -> Result<Self, Failure> {
        match File::create(path) {
            Ok(file) => Ok(Self { path: path.to_owned(), file: BufWriter::new(file) }),
            Err(e) => {
                Err(Failure::usage(format!("cannot write the file of receipts {}: {e}", path.display())))
            }
        }
    }

    fn write(&mut self, line: &AckLine<'_>) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.file, line)
            .map_err(std::io::Error::from)
            .and_then(|()| self.file.write_all(b"\n"))
            .map_err(|e| broken(&self.path, &e))
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.file.flush().map_err(|e| broken(&self.path, &e))
    }
}

fn broken(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Refused, "acks_file", format!("cannot write receipts to {}: {error}", path.display()))
}

fn round3(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> (ClientId, RoomId) {
        (ClientId::from_bytes([1; 16]), RoomId::from_bytes([2; 16]))
    }

    #[test]
    fn the_summary_counts_what_has_no_outcome_as_unknown() {
        let mut ledger = Ledger::new(None).unwrap();
        let (client_id, room) = id();
        for _ in 0..4 {
            ledger.on_sent();
        }
        ledger.on_receipt(client_id, room, 1, &Sha256::of(b"x"), Duration::from_millis(2)).unwrap();
        ledger.on_failed();
        let summary = ledger.summary(Duration::from_secs(1));
        assert_eq!((summary.sent, summary.acked, summary.failed, summary.unknown), (4, 1, 1, 2));
        assert!((summary.ack_ms.p50 - 2.0).abs() < 0.01, "{summary:?}");
        assert!(!summary.complete());
    }

    #[test]
    fn the_json_form_has_the_promised_keys() {
        let value = serde_json::to_value(Ledger::new(None).unwrap().summary(Duration::ZERO)).unwrap();
        let keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        for key in ["sent", "acked", "failed", "unknown", "elapsed_s", "msgs_per_s", "ack_ms"] {
            assert!(keys.iter().any(|k| k == key), "{key}");
        }
        assert!(value["ack_ms"]["p999"].is_number());
    }

    #[test]
    fn each_receipt_is_a_line_that_others_can_check() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acks.jsonl");
        let mut ledger = Ledger::new(Some(&path)).unwrap();
        let (client_id, room) = id();
        ledger.on_sent();
        ledger.on_receipt(client_id, room, 7, &Sha256::of(b"abc"), Duration::from_millis(1)).unwrap();
        ledger.flush().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(line["seq"], 7);
        assert_eq!(line["room"], room.to_string());
        assert_eq!(line["client_id"], client_id.to_string());
        assert_eq!(line["sha256"], "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_noticed_before_anything_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Ledger::new(Some(dir.path())).unwrap_err().exit_code(), 2);
    }
}
