//! What one driver thread has seen: counts by second and latencies by phase, for each stream. Threads keep their own and
//! they are merged at the end, so measuring never makes one thread wait for another.
//!
//! Everything counts where it was *due*, not where it happened to be sent or answered: a server that stops does not make the
//! figures of the time in which it stood still disappear.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use buslane_shared::class::Class;
use serde::{Deserialize, Serialize};

use super::live::Live;
use super::timing::{Phase, Timing};
use crate::latency::Latencies;

/// A kind of traffic that is counted by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// A message of an established conversation, from when it was due until the other phone has it.
    Talk,
    /// The receipt of such a message.
    Receipt,
    /// A person who opens the app: from when it was due to the welcome, all tries together.
    LookLogin,
    /// A phone that wakes by itself: from when it was due to the welcome, all tries and waits together.
    WakeLogin,
    /// A message of the crowd, from when it was due to its receipt.
    Crowd,
    /// A request that a person of the crowd waits for (history, list of rooms).
    Look,
    /// What a phone that woke by itself fetches.
    CatchUp,
    /// A message or request of a client that claims that somebody looks, more often than anybody could.
    Liar,
}

/// Whoever looks at an app that shows nothing for so long does something else: the limit of attention in Nielsen's "Usability
/// Engineering", 1993.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

impl Stream {
    /// How many there are.
    pub const COUNT: usize = 8;

    /// All of them, the most important first.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Talk,
        Self::Receipt,
        Self::LookLogin,
        Self::Crowd,
        Self::Look,
        Self::WakeLogin,
        Self::CatchUp,
        Self::Liar,
    ];

    /// Its place in tables.
    pub fn index(self) -> usize {
        self as usize
    }

    /// As in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Talk => "talk",
            Self::Receipt => "receipt",
            Self::LookLogin => "look-login",
            Self::WakeLogin => "wake-login",
            Self::Crowd => "crowd",
            Self::Look => "look",
            Self::CatchUp => "catch-up",
            Self::Liar => "liar",
        }
    }

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Talk => "conversations: sent until received",
            Self::Receipt => "conversations: sent until stored",
            Self::LookLogin => "people who open the app",
            Self::WakeLogin => "phones that wake by themselves",
            Self::Crowd => "messages of the crowd",
            Self::Look => "what people of the crowd look at",
            Self::CatchUp => "what phones fetch by themselves",
            Self::Liar => "clients that claim too much",
        }
    }

    /// What takes longer is too late; `None`: nobody waits for it, or the scenario says how long somebody does.
    pub fn limit(self) -> Option<Duration> {
        match self {
            Self::LookLogin | Self::Look => Some(LOOK_LIMIT),
            Self::Talk | Self::Receipt | Self::WakeLogin | Self::Crowd | Self::CatchUp | Self::Liar => None,
        }
    }

    /// The class that the server is expected to give it.
    pub fn class(self) -> Class {
        match self {
            Self::Talk | Self::Receipt | Self::Crowd => Class::Talk,
            Self::LookLogin | Self::Look => Class::Look,
            Self::WakeLogin | Self::CatchUp | Self::Liar => Class::Wake,
        }
    }

    /// The name of the protocol at the server.
    pub fn protocol(self) -> &'static str {
        match self {
            Self::Talk => "delivery",
            Self::Receipt | Self::Crowd | Self::Liar => "message.send",
            Self::LookLogin | Self::WakeLogin => "login",
            Self::Look => "message.history",
            Self::CatchUp => "message.sync",
        }
    }
}

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Served; how long it took from when it was due.
    Done(Duration),
    /// Served, but after its time: it counts as failed, and its latency as one of all.
    Late(Duration),
    /// Not served by the end, so long after it was due: it counts as failed, and this as its latency.
    Never(Duration),
    /// Told to come back in a slot. One try may be put off and a later one served: this counts tries.
    PutOff,
    /// Refused without a slot, and why: the name of the refusal.
    Refused(&'static str),
    /// No answer, and why.
    Failed(&'static str),
}

impl Outcome {
    /// The same with the stream's own limit.
    fn within(self, limit: Option<Duration>) -> Self {
        match self {
            Self::Done(latency) if limit.is_some_and(|limit| latency > limit) => Self::Late(latency),
            other => other,
        }
    }
}

/// Counts of one stream in one second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Due.
    pub offered: u64,
    /// Served in the end, and in time.
    pub done: u64,
    /// Served after its time; counted in `failed` as well.
    #[serde(default)]
    pub late: u64,
    /// Tries that were put off with a slot.
    pub put_off: u64,
    /// Tries that were refused without one.
    pub refused: u64,
    /// Without an answer in time. Of those who try again this counts tries.
    pub failed: u64,
}

impl Counts {
    /// What was due and never served: nobody knows how long it would have taken.
    pub fn never(&self) -> u64 {
        self.offered.saturating_sub(self.done + self.late)
    }

    /// Adds other ones.
    pub fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.done += other.done;
        self.late += other.late;
        self.put_off += other.put_off;
        self.refused += other.refused;
        self.failed += other.failed;
    }
}

/// One stream in one second of the run.
#[derive(Debug, Clone, Default)]
pub struct Slice {
    /// By when things were due.
    pub due: Counts,
    /// Served, by when they were served: for pictures of what the server did.
    pub served: u64,
    /// Refused or put off, by when.
    pub turned_away: u64,
    /// Of what was due in this second and served.
    pub latencies: Option<Latencies>,
}

/// Everything of one stream.
#[derive(Debug, Clone, Default)]
pub struct Track {
    /// By seconds of the run.
    pub slices: Vec<Slice>,
    /// By phase.
    pub latencies: BTreeMap<Phase, Latencies>,
    /// Refusals and failures by name and phase.
    pub reasons: BTreeMap<(Phase, &'static str), u64>,
}

/// What one thread has seen.
#[derive(Debug)]
pub struct Tally {
    timing: Timing,
    live: Arc<Live>,
    tracks: BTreeMap<Stream, Track>,
}

impl Tally {
    /// Nothing so far.
    pub fn new(timing: Timing, live: Arc<Live>) -> Self {
        Self { timing, live, tracks: BTreeMap::new() }
    }

    /// When the phases are.
    pub fn timing(&self) -> &Timing {
        &self.timing
    }

    /// Something of this stream was due at `due`.
    pub fn on_offered(&mut self, stream: Stream, due: Instant) {
        self.live.on_offered(stream);
        self.slice(stream, due).due.offered += 1;
    }

    /// What was due at `due` has ended (or one try of it has), at `now`.
    pub fn on_outcome(&mut self, stream: Stream, due: Instant, now: Instant, outcome: Outcome) {
        let outcome = outcome.within(stream.limit());
        self.live.on_outcome(stream, &outcome);
        let phase = self.timing.phase(due);
        match outcome {
            Outcome::Done(latency) => {
                self.slice(stream, now).served += 1;
                self.slice(stream, due).due.done += 1;
                self.on_latency(stream, due, latency);
            }
            Outcome::Late(latency) => {
                self.slice(stream, now).served += 1;
                let counts = &mut self.slice(stream, due).due;
                counts.late += 1;
                counts.failed += 1;
                self.on_latency(stream, due, latency);
                *self.track(stream).reasons.entry((phase, "late")).or_default() += 1;
            }
            Outcome::Never(latency) => {
                self.slice(stream, due).due.failed += 1;
                self.on_latency(stream, due, latency);
                *self.track(stream).reasons.entry((phase, "never")).or_default() += 1;
            }
            Outcome::PutOff => {
                self.slice(stream, now).turned_away += 1;
                self.slice(stream, due).due.put_off += 1;
            }
            Outcome::Refused(why) => {
                self.slice(stream, now).turned_away += 1;
                self.slice(stream, due).due.refused += 1;
                *self.track(stream).reasons.entry((phase, why)).or_default() += 1;
            }
            Outcome::Failed(why) => {
                self.slice(stream, due).due.failed += 1;
                *self.track(stream).reasons.entry((phase, why)).or_default() += 1;
            }
        }
    }

    fn on_latency(&mut self, stream: Stream, due: Instant, latency: Duration) {
        let phase = self.timing.phase(due);
        self.slice(stream, due).latencies.get_or_insert_default().record(latency);
        self.track(stream).latencies.entry(phase).or_default().record(latency);
    }

    /// Adds what another thread has seen.
    pub fn merge(&mut self, other: Self) {
        for (stream, theirs) in other.tracks {
            let ours = self.track(stream);
            for (slice, other) in ours.slices.iter_mut().zip(&theirs.slices) {
                slice.due.add(&other.due);
                slice.served += other.served;
                slice.turned_away += other.turned_away;
                if let Some(latencies) = &other.latencies {
                    slice.latencies.get_or_insert_default().merge(latencies);
                }
            }
            for (phase, latencies) in &theirs.latencies {
                ours.latencies.entry(*phase).or_default().merge(latencies);
            }
            for (reason, count) in theirs.reasons {
                *ours.reasons.entry(reason).or_default() += count;
            }
        }
    }

    /// What was seen of each stream.
    pub fn tracks(&self) -> &BTreeMap<Stream, Track> {
        &self.tracks
    }

    /// Counts of a stream in a phase, by when things were due.
    pub fn counts(&self, stream: Stream, phase: Phase) -> Counts {
        let mut sum = Counts::default();
        let Some(track) = self.tracks.get(&stream) else { return sum };
        for (second, slice) in track.slices.iter().enumerate() {
            let begin = self.timing.begin() + Duration::from_secs(second as u64);
            if self.timing.phase(begin) == phase {
                sum.add(&slice.due);
            }
        }
        sum
    }

    /// Latencies of a stream in a phase, by when things were due.
    pub fn latencies(&self, stream: Stream, phase: Phase) -> Option<&Latencies> {
        self.tracks.get(&stream)?.latencies.get(&phase)
    }

    fn track(&mut self, stream: Stream) -> &mut Track {
        let seconds = self.timing.seconds();
        self.tracks
            .entry(stream)
            .or_insert_with(|| Track { slices: vec![Slice::default(); seconds], ..Track::default() })
    }

    fn slice(&mut self, stream: Stream, at: Instant) -> &mut Slice {
        let second = self.timing.second(at);
        let slices = &mut self.track(stream).slices;
        if second >= slices.len() {
            // A run of no length has one second.
            slices.resize(second + 1, Slice::default());
        }
        #[allow(clippy::indexing_slicing, reason = "made long enough on the line before")]
        &mut slices[second]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_count_where_they_were_due() {
        let s = Duration::from_secs;
        let timing = Timing::new(Instant::now(), s(2), s(2), s(2));
        let live = Arc::new(Live::default());
        let mut tally = Tally::new(timing, live.clone());
        let (due, late) = (timing.at(-0.5), timing.at(0.7));
        tally.on_offered(Stream::Talk, due);
        tally.on_outcome(Stream::Talk, due, late, Outcome::Done(late - due));
        tally.on_offered(Stream::Talk, late);
        tally.on_outcome(Stream::Talk, late, late, Outcome::Refused("busy"));
        let mut all = Tally::new(timing, live.clone());
        all.merge(tally);
        let quiet = all.counts(Stream::Talk, Phase::Quiet);
        assert_eq!((quiet.offered, quiet.done), (1, 1));
        let storm = all.counts(Stream::Talk, Phase::Storm);
        assert_eq!((storm.offered, storm.done, storm.refused), (1, 0, 1));
        let p99 = all.latencies(Stream::Talk, Phase::Quiet).unwrap().percentiles().p99;
        assert!((1_199.0..1_201.5).contains(&p99), "{p99}");
        assert!(all.latencies(Stream::Talk, Phase::Storm).is_none());
        assert_eq!(all.tracks()[&Stream::Talk].slices[2].served, 1);
        assert_eq!(live.counts(Stream::Talk).refused, 1);
    }

    #[test]
    fn who_waits_too_long_was_served_late_and_who_is_never_served_has_no_latency() {
        let s = Duration::from_secs;
        let mut tally = Tally::new(Timing::new(Instant::now(), s(2), s(30), s(2)), Arc::default());
        let due = tally.timing().storm_begin();
        for stream in [Stream::LookLogin, Stream::WakeLogin] {
            for latency in [Some(1), Some(11), None] {
                tally.on_offered(stream, due);
                let Some(latency) = latency.map(s) else { continue };
                tally.on_outcome(stream, due, due + latency, Outcome::Done(latency));
            }
        }
        let looked = tally.counts(Stream::LookLogin, Phase::Storm);
        assert_eq!((looked.done, looked.late, looked.failed, looked.never()), (1, 1, 1, 1));
        let woken = tally.counts(Stream::WakeLogin, Phase::Storm);
        assert_eq!((woken.done, woken.late, woken.failed, woken.never()), (2, 0, 0, 1));
        for stream in [Stream::LookLogin, Stream::WakeLogin] {
            assert_eq!(tally.latencies(stream, Phase::Storm).unwrap().len(), 2);
            assert_eq!(tally.tracks()[&stream].slices[13].served, 1, "served, if too late");
        }
        tally.on_offered(Stream::Talk, due);
        tally.on_outcome(Stream::Talk, due, due + s(9), Outcome::Never(s(9)));
        let talk = tally.counts(Stream::Talk, Phase::Storm);
        assert_eq!((talk.failed, talk.never()), (1, 1));
        assert!(tally.tracks()[&Stream::Talk].slices.iter().all(|slice| slice.served == 0));
    }
}
