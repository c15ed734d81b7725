//! What a person sees while a storm goes on: the phase, the posture, how conversations fare and what is turned away.
//!
//! On a terminal three lines that change twice a second, elsewhere a line every five seconds, with `--json` nothing. Figures
//! are means of the last three seconds, so that they can be read. Below them, for whoever wants to see that people talk on, a few of
//! their messages.

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::{Duration, Instant};

use buslane_loadtest::storm::live::{Heard, Live, StreamCounts};
use buslane_loadtest::storm::run::Progress;
use buslane_loadtest::storm::tally::Stream;
use buslane_loadtest::storm::timing::{Phase, Timing};
use buslane_shared::wire::Posture;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

use crate::output::{Output, printable};

/// Between two pictures on a terminal.
const EVERY: Duration = Duration::from_millis(500);

/// Between two lines elsewhere.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Pictures over which a figure is a mean.
const MEAN_OF: usize = 6;

/// Messages that are shown at a time, and new ones in each picture: as many as can be read.
const MESSAGES: usize = 5;
const MESSAGES_NEW: usize = 1;

/// What is shown of a storm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// How it goes.
    Figures,
    /// What people say to each other as well, on a terminal.
    Conversation,
}

/// The picture of one run. It disappears with the value.
pub struct Screen {
    output: Output,
    sight: Sight,
    ticker: Option<JoinHandle<()>>,
}

impl Screen {
    /// An empty one.
    pub fn new(output: Output, sight: Sight) -> Self {
        Self { output, sight, ticker: None }
    }

    /// Shows how far a run is.
    pub fn on(&mut self, progress: Progress) {
        match progress {
            Progress::Step(step) => {
                self.clear();
                self.output.talk(&format!("{step} ..."));
            }
            Progress::Calibrated(capacity) => {
                let full = capacity.messages_full_per_s.map(|full| format!(" ({full:.0} where it is full)"));
                self.output.talk(&format!(
                    "this server can do {:.0} logins/s or {:.0} messages/s{}",
                    capacity.logins_per_s,
                    capacity.messages_per_s,
                    full.unwrap_or_default()
                ));
            }
            Progress::Begun(timing, live) => {
                self.clear();
                if !self.output.json {
                    self.ticker = Some(tokio::spawn(show(timing, live, self.output, self.sight)));
                }
            }
        }
    }

    fn clear(&mut self) {
        if let Some(ticker) = self.ticker.take() {
            ticker.abort();
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.clear();
    }
}

async fn show(timing: Timing, live: Arc<Live>, output: Output, sight: Sight) {
    let mut view = View::new(timing, live);
    if !io::stderr().is_terminal() {
        loop {
            tokio::time::sleep(EVERY).await;
            let now = Instant::now();
            view.look(now);
            if view.is_time_for_a_line(now) {
                output.talk(&view.lines(now).join(" | "));
            }
        }
    }
    let bars = Bars::new(sight);
    loop {
        tokio::time::sleep(EVERY).await;
        let now = Instant::now();
        view.look(now);
        if sight == Sight::Conversation {
            view.listen();
        }
        bars.draw(&view, now);
    }
}

/// The lines on a terminal; they are cleared with the value.
struct Bars {
    all: MultiProgress,
    phase: ProgressBar,
    lines: Vec<ProgressBar>,
    messages: Vec<ProgressBar>,
}

impl Bars {
    fn new(sight: Sight) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let phase = all.add(ProgressBar::new(1));
        // The templates are constants; were one wrong, the default style would do.
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar}") {
            phase.set_style(style);
        }
        let line = |_| {
            let line = all.add(ProgressBar::new(1));
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                line.set_style(style);
            }
            line
        };
        let lines = (0..2).map(line).collect();
        let messages = if sight == Sight::Conversation { MESSAGES } else { 0 };
        let messages = (0..messages).map(line).collect();
        Self { all, phase, lines, messages }
    }

    fn draw(&self, view: &View, now: Instant) {
        let (done, whole) = view.passed(now);
        self.phase.set_length(whole);
        self.phase.set_position(done);
        let [phase, others @ ..] = view.lines(now);
        self.phase.set_message(phase);
        for (line, text) in self.lines.iter().zip(others) {
            line.set_message(text);
        }
        for (line, message) in self.messages.iter().zip(&view.messages) {
            line.set_message(message.clone());
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        // A terminal that is gone needs no clearing.
        let _ = self.all.clear();
    }
}

/// What is seen, apart from how it is drawn.
struct View {
    timing: Timing,
    live: Arc<Live>,
    looks: VecDeque<(Instant, [StreamCounts; Stream::COUNT])>,
    line_at: Instant,
    /// The newest last.
    messages: VecDeque<String>,
}

impl View {
    fn new(timing: Timing, live: Arc<Live>) -> Self {
        let (looks, messages) =
            (VecDeque::with_capacity(MEAN_OF + 1), VecDeque::with_capacity(MESSAGES + MESSAGES_NEW));
        Self { timing, live, looks, line_at: timing.begin(), messages }
    }

    /// Takes what was said, and asks for more.
    fn listen(&mut self) {
        self.messages.extend(self.live.swap_heard(MESSAGES_NEW).iter().map(message));
        while self.messages.len() > MESSAGES {
            self.messages.pop_front();
        }
    }

    fn look(&mut self, now: Instant) {
        self.looks.push_back((now, Stream::ALL.map(|stream| self.live.counts(stream))));
        while self.looks.len() > MEAN_OF + 1 {
            self.looks.pop_front();
        }
    }

    fn is_time_for_a_line(&mut self, now: Instant) -> bool {
        let is_time = now >= self.line_at + LINE_EVERY;
        if is_time {
            self.line_at = now;
        }
        is_time
    }

    /// Of the whole run, in milliseconds: what has passed, and all of it.
    fn passed(&self, now: Instant) -> (u64, u64) {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (begin, end) = (self.timing.begin(), self.timing.end());
        (ms(now.min(end).saturating_duration_since(begin)), ms(end.saturating_duration_since(begin)))
    }

    fn lines(&self, now: Instant) -> [String; 3] {
        [self.phase(now), self.conversations(), self.arrivals()]
    }

    fn phase(&self, now: Instant) -> String {
        let phase = self.timing.phase(now);
        let end = match phase {
            Phase::Quiet => self.timing.storm_begin(),
            Phase::Storm => self.timing.storm_end(),
            Phase::After => self.timing.end(),
        };
        let left = end.saturating_duration_since(now).as_secs();
        format!("{:<6} {left:>4} s left   {:<9}", phase.name(), posture(self.live.posture()))
    }

    /// How messages between people fared.
    fn conversations(&self) -> String {
        let (seconds, talk) = self.recent(&[Stream::Talk]);
        if talk.done == 0 {
            return "conversations: nothing arrived in the last seconds".to_owned();
        }
        let mean_ms = talk.latency_us as f64 / talk.done as f64 / 1e3;
        format!(
            "conversations: {:.0} messages/s arrive, after {mean_ms:.1} ms in the mean; late or lost: {}",
            talk.done as f64 / seconds,
            self.live.counts(Stream::Talk).failed,
        )
    }

    /// What everybody else wanted, and what came of it.
    fn arrivals(&self) -> String {
        let others: Vec<Stream> = Stream::ALL
            .into_iter()
            .filter(|stream| !matches!(stream, Stream::Talk | Stream::Receipt))
            .collect();
        let (seconds, of) = self.recent(&others);
        let per_s = |count: u64| format!("{:.0}", count as f64 / seconds);
        format!(
            "storm: {}/s wanted, {}/s served, {}/s put off, {}/s refused, {}/s failed",
            per_s(of.offered),
            per_s(of.done),
            per_s(of.put_off),
            per_s(of.refused),
            per_s(of.failed),
        )
    }

    /// What these streams came to in the last seconds, and how many those were.
    fn recent(&self, streams: &[Stream]) -> (f64, StreamCounts) {
        let mut sum = StreamCounts::default();
        let (Some((first_at, first)), Some((last_at, last))) = (self.looks.front(), self.looks.back()) else {
            return (1.0, sum);
        };
        for (stream, (before, now)) in Stream::ALL.iter().zip(first.iter().zip(last)) {
            if streams.contains(stream) {
                sum.offered += now.offered.saturating_sub(before.offered);
                sum.done += now.done.saturating_sub(before.done);
                sum.put_off += now.put_off.saturating_sub(before.put_off);
                sum.refused += now.refused.saturating_sub(before.refused);
                sum.failed += now.failed.saturating_sub(before.failed);
                sum.latency_us += now.latency_us.saturating_sub(before.latency_us);
            }
        }
        let seconds = last_at.saturating_duration_since(*first_at).as_secs_f64();
        (if seconds > 0.0 { seconds } else { 1.0 }, sum)
    }
}

/// What somebody said. It came over the network.
fn message(heard: &Heard) -> String {
    let ms = heard.took.as_secs_f64() * 1e3;
    format!(
        "  {} to {}: {}  ({ms:.1} ms)",
        printable(&heard.from),
        printable(&heard.to),
        printable(&heard.text)
    )
}

/// As operators see it.
fn posture(posture: Posture) -> &'static str {
    match posture {
        Posture::Normal => "NORMAL",
        Posture::Guard => "GUARD",
        Posture::Emergency => "EMERGENCY",
        Posture::Recovery => "RECOVERY",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use buslane_loadtest::storm::tally::Outcome;

    #[test]
    fn figures_are_those_of_the_last_seconds() {
        let begin = Instant::now();
        let s = Duration::from_secs;
        let live = Arc::new(Live::default());
        let mut view = View::new(Timing::new(begin, s(10), s(20), s(30)), live.clone());
        view.look(begin);
        for _ in 0..10 {
            live.on_offered(Stream::Talk);
            live.on_outcome(Stream::Talk, &Outcome::Done(Duration::from_millis(4)));
            live.on_offered(Stream::WakeLogin);
            live.on_outcome(Stream::WakeLogin, &Outcome::PutOff);
        }
        live.set_posture(Posture::Emergency);
        view.look(begin + s(2));
        let [phase, talk, storm] = view.lines(begin + s(12));
        assert!(
            phase.contains("storm") && phase.contains("18 s left") && phase.contains("EMERGENCY"),
            "{phase}"
        );
        assert!(talk.contains("5 messages/s") && talk.contains("4.0 ms"), "{talk}");
        assert!(storm.contains("5/s wanted") && storm.contains("5/s put off"), "{storm}");
        assert_eq!(view.passed(begin + s(90)), (60_000, 60_000));
        for n in 0..2 * MEAN_OF as u64 {
            view.look(begin + s(3 + n));
        }
        assert!(view.lines(begin + s(12)).iter().any(|line| line.contains("nothing arrived")));
        assert_eq!(view.looks.len(), MEAN_OF + 1);
    }

    #[test]
    fn people_are_heard_and_the_oldest_goes() {
        let live = Arc::new(Live::default());
        let s = Duration::from_secs;
        let mut view = View::new(Timing::new(Instant::now(), s(1), s(1), s(1)), live.clone());
        view.listen();
        assert!(view.messages.is_empty());
        for n in 0..MESSAGES + 2 {
            let text = format!("{n}: all right?\u{1b}[2J");
            let took = Duration::from_micros(2_340);
            live.on_heard(|| Heard { from: "mina".to_owned(), to: "jun".to_owned(), text, took });
            view.listen();
        }
        let last = view.messages.back().unwrap();
        assert_eq!(last, "  mina to jun: 6: all right?\\u{1b}[2J  (2.3 ms)");
        assert_eq!(view.messages.len(), MESSAGES);
        assert!(view.messages[0].contains("2: all right"), "{:?}", view.messages);
    }
}
