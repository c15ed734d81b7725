//! What the API answers: the one shape that the page, `ctl`, `top` and other processes read.
//!
//! Why it exists: whoever reads these answers is built apart from whoever writes them. Fields are added, never renamed; every
//! time is in milliseconds, of the Unix epoch where it is a point; every rate is per second. Nothing here is computed.

use std::collections::BTreeMap;

use buslane_shared::UnixMs;
use serde::{Deserialize, Serialize};

/// How sure one can be of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It works.
    Up,
    /// It works, and something about it is not as it should be.
    Warning,
    /// It is out of service on purpose: draining, a planned order.
    Maintenance,
    /// Nothing was heard of it lately. Never shown as if it worked; becomes `Down` after a while.
    Unknown,
    /// It does not work.
    Down,
}

/// One second (or a longer span) of one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// End of the span.
    pub at_ms: UnixMs,
    /// How long it is.
    pub span_ms: u32,
    /// "normal", "guard", "emergency" or "recovery"; the most severe of the span.
    pub posture: String,
    /// What is measured, whatever is ordered.
    pub measured: String,
    /// The order that is obeyed.
    pub order: Option<u64>,
    /// First admission level that is refused, 0 to 1024; 1024: none.
    pub level: u16,
    /// Always eight, C0 to C7.
    pub classes: Vec<ClassSample>,
    /// Logins.
    pub logins: LoginSample,
    /// Messages sent by clients and taken, per second.
    pub messages_per_s: f64,
    /// The usual of this hour, when enough is known, and how unusual the present is.
    pub messages_trend: Option<Trend>,
    /// Processors that the process uses; 1.0 is one of them.
    pub processors: f64,
    /// Resident memory of the process, bytes.
    pub resident_bytes: u64,
    /// Sessions at the front port.
    pub sessions_front: u64,
    /// Sessions at the wake port.
    pub sessions_wake: u64,
}

/// One class in a span.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ClassSample {
    /// "C0" to "C7".
    pub class: String,
    /// Asked for, per second.
    pub offered_per_s: f64,
    /// Done, per second.
    pub served_per_s: f64,
    /// Told to come back at a time of their own (a slot), per second.
    pub deferred_per_s: f64,
    /// Refused otherwise, per second.
    pub refused_per_s: f64,
    /// Jobs that wait for a seat.
    pub waiting: u32,
    /// Median latency of what was done, microseconds; none where nothing was done.
    pub p50_us: Option<u64>,
    /// 99th percentile of the same.
    pub p99_us: Option<u64>,
}

/// Logins in a span.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LoginSample {
    /// Asked for, per second, at both ports.
    pub offered_per_s: f64,
    /// Let in, per second.
    pub served_per_s: f64,
    /// Told to come back at a time of their own, per second.
    pub deferred_per_s: f64,
    /// What the node takes of background, per second.
    pub background_per_s: f64,
    /// Milliseconds until the first free slot.
    pub ledger_ms: u32,
    /// The usual of this hour, when enough is known.
    pub trend: Option<Trend>,
}

/// How the present compares with what is usual at this time of the week.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// What is usual, per second.
    pub usual_per_s: f64,
    /// How much it usually differs from that, per second (a robust standard deviation).
    pub spread_per_s: f64,
    /// How many spreads the present is away; beyond 4 it is called unusual.
    pub score: f64,
    /// Where the usual comes from: "hour_of_week", "hour_of_day" or "last_hours".
    pub basis: Basis,
}

/// Where a usual value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The same hour of earlier weeks.
    HourOfWeek,
    /// The same hour of earlier days.
    HourOfDay,
    /// The hours before this one.
    LastHours,
}

/// `GET /v1/traffic?span=10m|3h|24h&node=NAME`: a stretch of time, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrafficView {
    /// Which node.
    pub node: String,
    /// Resolution.
    pub step_ms: u32,
    /// Oldest first. Where the node was not asked there is a gap.
    pub samples: Vec<Sample>,
    /// What happened in that time: posture changes, orders, reloads, deploys.
    pub happenings: Vec<crate::happening::Happening>,
    /// The clock of who answers.
    pub now_ms: UnixMs,
}

/// One process of the system, as this one sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub node: String,
    /// "up", "gateway", "session-manager" or "backend".
    pub role: String,
    /// Its admin address, where it is configured or it is this one.
    pub admin: Option<String>,
    /// Whether it is this process.
    pub here: bool,
    /// How it is.
    pub state: State,
    /// Why, in words, unless it is up.
    pub why: Option<String>,
    /// Since it was heard of last.
    pub age_ms: Option<u64>,
    /// How far its clock is from ours, where it was asked directly.
    pub clock_skew_ms: Option<i64>,
    /// Its posture, where it controls load and was heard of.
    pub posture: Option<String>,
    /// The signal behind it, in words: "logins_offered 5.2, limit 1.5".
    pub cause: Option<String>,
    /// The order that it obeys.
    pub order: Option<u64>,
    /// Its admission level.
    pub level: Option<u16>,
    /// Sessions that it holds.
    pub sessions: Option<u64>,
    /// Whether it drains.
    pub draining: bool,
    /// Its version.
    pub version: Option<String>,
    /// When it started.
    pub started_ms: Option<UnixMs>,
    /// What it says that it lacks, by the name of the readiness check: `{"store": "the disk is full"}`.
    #[serde(default)]
    pub lacks: BTreeMap<String, String>,
}

/// `GET /v1/status`: everything that can fail, what depends on what, and what is wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// The worst of all that matters.
    pub state: State,
    /// In a sentence for people: "All is well.", "The store does not answer; messages fail, sessions go on."
    pub summary: String,
    /// What can fail.
    pub components: Vec<Component>,
    /// What is wrong: one for each cause.
    pub alerts: Vec<Alert>,
    /// The last probe from outside.
    pub probe: Option<ProbeView>,
    /// The clock of who answers.
    pub now_ms: UnixMs,
}

/// Something that can fail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Component {
    /// Stable: "store", "backend", "gateway", "session-manager:sm1", "probe", "audit", "clock", "certificates".
    pub id: String,
    /// For people.
    pub title: String,
    /// On which node, where it is of one.
    pub node: Option<String>,
    /// How it is.
    pub state: State,
    /// Why, unless it is up.
    pub why: Option<String>,
    /// Since when it is so.
    pub since_ms: UnixMs,
    /// Since it was looked at last.
    pub age_ms: Option<u64>,
    /// Components that it needs.
    pub needs: Vec<String>,
    /// The component that it suffers from, where it is not to blame itself.
    pub affected_by: Option<String>,
}

/// Something that is wrong: the cause, not each of its effects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Stable while it lasts: service and symptom, "store/down", "session-manager:sm1/emergency", "logins/unusual".
    pub key: String,
    /// How bad.
    pub severity: Severity,
    /// In a sentence.
    pub title: String,
    /// What was measured against what.
    pub why: String,
    /// Since when.
    pub since_ms: UnixMs,
    /// Components that suffer from it.
    pub affects: Vec<String>,
    /// The section of docs/operations.md that says what to do, "#the-store-does-not-answer".
    pub runbook: String,
    /// Whether people are called: an unusual trend alone calls nobody.
    pub pages: bool,
}

/// How bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nobody notices.
    Low,
    /// Some notice.
    Medium,
    /// Many notice.
    High,
    /// Everybody notices.
    Critical,
}

/// A client of our own that went through the whole system from outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeView {
    /// When it began.
    pub at_ms: UnixMs,
    /// Whether all steps went well.
    pub ok: bool,
    /// Each in order: "enter", "hello", "send", "receive".
    pub steps: Vec<ProbeStep>,
}

/// A step of a probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeStep {
    /// "enter", "hello", "send" or "receive".
    pub step: String,
    /// How long it took.
    pub took_us: u64,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// `GET /v1/incidents` (newest first, without timelines) and `GET /v1/incidents/{no}` (with).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IncidentView {
    /// Its number.
    pub no: u64,
    /// In a sentence.
    pub title: String,
    /// What it is about: the alert key that opened it, or "manual".
    pub key: String,
    /// Who opened it; "buslane" for itself.
    pub opened_by: String,
    /// How bad; rises by itself when recovery takes longer than expected.
    pub severity: Severity,
    /// 1 to 3; 1 calls everybody.
    pub grade: u8,
    /// Where it stands.
    pub state: IncidentState,
    /// When it was opened.
    pub opened_ms: UnixMs,
    /// When its cause was gone.
    pub recovered_ms: Option<UnixMs>,
    /// When somebody (or the rules) called it resolved.
    pub resolved_ms: Option<UnixMs>,
    /// By when recovery is expected; later it is escalated.
    pub expected_ms: UnixMs,
    /// Who has said that he sees to it.
    pub acknowledged_by: Option<String>,
    /// Until when nobody is told about it.
    pub silenced_until_ms: Option<UnixMs>,
    /// What was measured against what when it was opened; empty where a person opened it.
    #[serde(default)]
    pub why: String,
    /// Components that suffered from it when it was opened.
    #[serde(default)]
    pub affects: Vec<String>,
    /// The section of docs/operations.md that says what to do, "#the-store-does-not-answer"; empty where a person opened it.
    #[serde(default)]
    pub runbook: String,
    /// The process that tells people about it, where that is another one that sees the same.
    #[serde(default)]
    pub told_by: Option<ToldBy>,
    /// How many entries its timeline has.
    pub entries: usize,
    /// What happened, oldest first; only where one incident was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timeline: Vec<Entry>,
}

/// Who tells people about an incident that several processes see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldBy {
    /// The process.
    pub node: String,
    /// The number of the incident there.
    pub no: u64,
}

/// Where an incident stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentState {
    /// Found by a rule.
    Detected,
    /// Said to be one by a person, or by the rules after a while.
    Declared,
    /// Somebody sees to it.
    Handling,
    /// Over.
    Resolved,
    /// Its story was read and closed.
    Reviewed,
}

/// One line of a timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When it happened.
    pub at_ms: UnixMs,
    /// Who: a person, or "buslane".
    pub author: String,
    /// "opened", "posture", "order", "reload", "mark", "alert", "escalated", "severity", "acknowledged", "silenced", "note",
    /// "state", "drain", "process", or "damaged" where a line of the file cannot be read.
    pub kind: String,
    /// In words.
    pub text: String,
}

/// `GET /v1/users/{user}`: where a user is, and why the user was refused lately. Asked of every node that is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserView {
    /// Who.
    pub user: String,
    /// Live sessions.
    pub sessions: Vec<UserSession>,
    /// Refusals that are remembered, newest first.
    pub refusals: Vec<UserRefusal>,
    /// Logins that nodes have turned away lately, whoever they were: most of them had not said it.
    #[serde(default)]
    pub nameless: Vec<Nameless>,
    /// Nodes that were asked and did not answer.
    pub silent: Vec<String>,
    /// The clock of who answers.
    pub now_ms: UnixMs,
}

/// Logins that a node has turned away lately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nameless {
    /// The node.
    pub node: String,
    /// Over how long: ten minutes, or since it started.
    pub span_ms: u64,
    /// How many, by reason: "deferred" (told when to come back), "silence" (no answer to the first packet) and others.
    pub reasons: BTreeMap<String, u64>,
}

/// A live session of a user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserSession {
    /// The node that holds it.
    pub node: String,
    /// The device, hexadecimal.
    pub device: String,
    /// "front" or "wake".
    pub port: String,
    /// "foreground" or "background".
    pub app_state: String,
    /// Whether there is a connection now; otherwise it waits to be resumed.
    pub connected: bool,
    /// Since when.
    pub since_ms: UnixMs,
    /// The last few requests, newest first.
    pub last: Vec<UserRequest>,
}

/// A request, without its content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserRequest {
    /// When it came.
    pub at_ms: UnixMs,
    /// Its protocol.
    pub protocol: String,
    /// The class that it was believed to be of.
    pub class: String,
    /// "admitted" or the name of what refused it.
    pub outcome: String,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserRefusal {
    /// When.
    pub at_ms: UnixMs,
    /// The node that refused.
    pub node: String,
    /// The device, hexadecimal, where it was known.
    pub device: Option<String>,
    /// What was refused: "enter", "hello", or a protocol.
    pub what: String,
    /// Name of the refusal's code.
    pub code: String,
    /// Class, where it has one.
    pub class: Option<String>,
    /// The level of the request, where it was ranked.
    pub level: Option<u16>,
    /// The first level that was refused at that time.
    pub cut: Option<u16>,
    /// The posture at that time.
    pub posture: String,
    /// When it may come back, if it was told.
    pub retry_at_ms: Option<UnixMs>,
    /// When its slot begins, if it was given one.
    pub slot_at_ms: Option<UnixMs>,
    /// In a sentence for people.
    pub sentence: String,
}

/// `GET /v1/drain` and the answer to `POST /v1/drain`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrainView {
    /// Which node.
    pub node: String,
    /// Whether it drains.
    pub draining: bool,
    /// Sessions when the drain began.
    pub from_sessions: u64,
    /// Sessions that are left.
    pub sessions: u64,
    /// Sessions that are asked to leave, per second.
    pub rate_per_s: Option<f64>,
    /// Expected end at this rate.
    pub eta_ms: Option<u64>,
}

/// `GET /v1/drills`: a storm on purpose, as it reports itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillView {
    /// When it began, RFC 3339.
    pub began: String,
    /// Which scenario.
    pub scenario: String,
    /// Gateway of a system that ran already; absent: on a server that was started for it.
    #[serde(default)]
    pub against: Option<String>,
    /// Factor on the load.
    pub scale: f64,
    /// What was expected to hold.
    pub hypothesis: String,
    /// Whether it did.
    pub verdict: String,
    /// Messages of people that arrived in time in the storm, of all of them.
    pub fg_success: Option<f64>,
    /// How long they took, 99th percentile.
    pub fg_p99_ms: Option<f64>,
    /// From the beginning of the storm to EMERGENCY.
    pub enter_ms: Option<f64>,
    /// From its end to NORMAL.
    pub exit_s: Option<f64>,
    /// Messages that were lost.
    pub lost: Option<u64>,
}
