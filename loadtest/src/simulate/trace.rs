//! Traces: the digest over every event of a run, and files of recorded calls that can be run again.
//!
//! A file holds what clients wanted and when, not what became of it: so any policy can be run against it. The first line
//! says how it was made (JSON), the others are one call each (CSV).

use std::io::{BufRead, Write};

use anyhow::Context;
use buslane_shared::class::{Class, Protocol};
use serde::{Deserialize, Serialize};

use super::job::{Call, Manner, Sender};

/// A hash that is fed with numbers (FNV-1a, 64 bits, a word at a time).
#[derive(Debug, Clone, Copy)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    /// Takes in numbers.
    pub fn add<const N: usize>(&mut self, numbers: [u64; N]) {
        for number in numbers {
            self.0 = (self.0 ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
        }
    }

    /// The hash so far.
    pub fn value(&self) -> u64 {
        self.0
    }
}

/// How the calls of a file were made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Format of the file.
    pub version: u32,
    /// The scenario, which also says what goes wrong and when.
    pub scenario: String,
    /// Of the calls, and of what clients draw afterwards.
    pub seed: u64,
    /// Size of the node.
    pub workers: u32,
    /// How many calls follow.
    pub calls: usize,
}

/// The format that is written.
pub const VERSION: u32 = 1;

/// A file holds no more calls than this: the largest scenario on the largest node has some millions.
const CALLS_MAX: usize = 50_000_000;

const COLUMNS: &str = "at_ns,cost_ns,user,protocol,class,sender,manner";

/// Writes a file.
pub fn write(out: &mut impl Write, header: &Header, calls: &[Call]) -> anyhow::Result<()> {
    writeln!(out, "{}", serde_json::to_string(header)?)?;
    writeln!(out, "{COLUMNS}")?;
    for call in calls {
        let Call { at, cost, user, protocol, class, sender, manner } = call;
        let (protocol, class) = (protocol.name(), class.name());
        writeln!(
            out,
            "{at},{cost},{user},{protocol},{class},{},{}",
            sender_name(*sender),
            manner_name(*manner)
        )?;
    }
    Ok(())
}

/// Reads a file, and refuses what this program did not write, with the line.
pub fn read(input: impl BufRead) -> anyhow::Result<(Header, Vec<Call>)> {
    let mut lines = input.lines();
    let first = lines.next().context("line 1: the file is empty")??;
    let header: Header =
        serde_json::from_str(&first).context("line 1: this is no trace of `simulate node`")?;
    anyhow::ensure!(header.version == VERSION, "line 1: version {} is not known here", header.version);
    anyhow::ensure!(header.calls <= CALLS_MAX, "line 1: {} calls are too many", header.calls);
    let columns = lines.next().context("line 2: it ends here")??;
    anyhow::ensure!(columns == COLUMNS, "line 2: the columns are not {COLUMNS}");
    let mut calls: Vec<Call> = Vec::new();
    for (number, line) in lines.enumerate() {
        let number = number + 3;
        anyhow::ensure!(calls.len() < header.calls, "line {number}: more calls than line 1 says");
        let call = parse(&line?).with_context(|| format!("line {number}"))?;
        anyhow::ensure!(
            calls.last().is_none_or(|c| c.at <= call.at),
            "line {number}: it is before the line above"
        );
        calls.push(call);
    }
    anyhow::ensure!(calls.len() == header.calls, "{} calls of {} are there", calls.len(), header.calls);
    Ok((header, calls))
}

fn parse(line: &str) -> anyhow::Result<Call> {
    let fields: Vec<&str> = line.split(',').collect();
    let [at, cost, user, protocol, class, sender, manner] = fields.as_slice() else {
        anyhow::bail!("it has {} fields, not 7", fields.len());
    };
    let wrong = anyhow::Error::msg::<String>;
    Ok(Call {
        at: at.parse().context("at_ns")?,
        cost: cost.parse().context("cost_ns")?,
        user: user.parse().context("user")?,
        protocol: protocol.parse::<Protocol>().map_err(wrong)?,
        class: class.parse::<Class>().map_err(wrong)?,
        sender: [Sender::Person, Sender::Phone, Sender::Liar]
            .into_iter()
            .find(|s| sender_name(*s) == *sender)
            .context("sender is person, phone or liar")?,
        manner: [Manner::Obedient, Manner::Naive]
            .into_iter()
            .find(|m| manner_name(*m) == *manner)
            .context("manner is obedient or naive")?,
    })
}

fn sender_name(sender: Sender) -> &'static str {
    match sender {
        Sender::Person => "person",
        Sender::Phone => "phone",
        Sender::Liar => "liar",
    }
}

fn manner_name(manner: Manner) -> &'static str {
    match manner {
        Manner::Obedient => "obedient",
        Manner::Naive => "naive",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(at: u64) -> Call {
        Call {
            at,
            cost: 5,
            user: 7,
            protocol: Protocol::Login,
            class: Class::Wake,
            sender: Sender::Liar,
            manner: Manner::Naive,
        }
    }

    fn header(calls: usize) -> Header {
        Header { version: VERSION, scenario: "calm".into(), seed: 3, workers: 32, calls }
    }

    fn written(header: &Header, calls: &[Call]) -> String {
        let mut out = Vec::new();
        write(&mut out, header, calls).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let calls = [call(1), call(1), call(9)];
        let text = written(&header(3), &calls);
        assert_eq!(read(text.as_bytes()).unwrap(), (header(3), calls.to_vec()));
    }

    #[test]
    fn what_is_no_trace_is_refused_with_its_line() {
        let complaint = |text: &str| format!("{:#}", read(text.as_bytes()).unwrap_err());
        let good = written(&header(2), &[call(1), call(9)]);
        assert!(complaint("").contains("line 1"));
        assert!(complaint("hello\n").contains("no trace"));
        assert!(complaint(&good.replace("\"version\":1", "\"version\":2")).contains("version 2"));
        assert!(complaint(&good.replace("at_ns", "at")).contains("line 2"));
        assert!(complaint(&good.replace("9,5,", "9,x,")).contains("line 4: cost_ns"));
        assert!(complaint(&good.replace("9,5,", "0,5,")).contains("line 4"));
        assert!(complaint(&good.replace("liar", "lair")).contains("line 3: sender"));
        assert!(complaint(&good.replace("login", "logon")).contains("logon"));
        assert!(complaint(&written(&header(3), &[call(1)])).contains("1 calls of 3"));
        assert!(complaint(&written(&header(1), &[call(1), call(2)])).contains("line 4"));
    }

    #[test]
    fn a_digest_depends_on_every_number_and_their_order() {
        let digest = |numbers: [u64; 3]| {
            let mut digest = Digest::default();
            digest.add(numbers);
            digest.value()
        };
        assert_ne!(digest([1, 2, 3]), digest([2, 1, 3]));
        assert_ne!(digest([1, 2, 3]), digest([1, 2, 4]));
    }
}
