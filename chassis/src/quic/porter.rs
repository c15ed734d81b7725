//! The porter of a port: tells the filter in the kernel who is to be heard, and how many of them.
//!
//! Why it exists: what a port may spend on looking at first packets is bounded, whatever is sent to it; the bound is kept by
//! [`Thinning`] and obeyed in the kernel. It must never wait for anything but its timer, and a filter that cannot be set is no reason to stop.

use std::time::Duration;

use buslane_shared::mark::Knock;
use buslane_shared::overload::thinning::Thinning;
use metrics::{Gauge, gauge};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Hearing, Knocks};

/// First packets a second of those who knock that a port looks at, for each processor: twice as many as it completes logins, so that
/// nobody is dropped by chance before it is full, and less than a tenth of it for those that are thrown away.
const KNOWN_PER_S: u32 = 8_000;

/// The same of strangers, who are dearer: asking one to prove his address takes some 25 us.
const STRANGERS_PER_S: u32 = 2_000;

/// How often it is measured what came.
const STEP: Duration = Duration::from_millis(50);

/// A share is only set anew when it differs by this factor: each time costs a call into the kernel.
const CHANGE: f64 = 1.2;

/// Whom a port wants to hear at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// With this its own connection ids begin.
    pub announced: Option<Knock>,
    /// How those knock who were here before.
    pub knocks: Vec<Knock>,
    /// Whether those are heard who do not.
    pub strangers: bool,
}

/// Watches over one port.
pub struct Porter {
    knocks: Knocks,
    known: Thinning,
    strangers: Thinning,
    set: Hearing,
    /// When it was looked at last what has come.
    looked: Option<Instant>,
    shares: [Gauge; 2],
}

impl Porter {
    /// Of this port; its name is for the metrics.
    pub fn new(knocks: Knocks, port: &'static str) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        let share = |who| gauge!("buslane_first_packets_share", "port" => port, "who" => who);
        Self {
            knocks,
            known: Thinning::new(KNOWN_PER_S.saturating_mul(processors)),
            strangers: Thinning::new(STRANGERS_PER_S.saturating_mul(processors)),
            set: Hearing { knocks: Vec::new(), known: 1.0, strangers: 1.0 },
            looked: None,
            shares: [share("known"), share("stranger")],
        }
    }

    /// Goes on for ever; its owner stops it. `wanted` is asked once a second at most.
    pub async fn run(mut self, mut wanted: impl FnMut() -> Wanted + Send) {
        let mut timer = interval(STEP);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked = None::<Instant>;
        let mut who = Wanted::default();
        loop {
            timer.tick().await;
            let now = Instant::now();
            if asked.is_none_or(|at| now.duration_since(at) >= Duration::from_secs(1)) {
                (who, asked) = (wanted(), Some(now));
                self.knocks.announce(who.announced);
            }
            self.step(&who, now);
        }
    }

    fn step(&mut self, who: &Wanted, now: Instant) {
        // What has come before the first look has come in a time that nobody knows: it is no rate.
        let elapsed =
            self.looked.replace(now).map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let elapsed = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let (known, strangers) = self.knocks.take_heard();
        let known = self.known.step(known, elapsed);
        let strangers = self.strangers.step(strangers, elapsed);
        let next = Hearing {
            knocks: who.knocks.clone(),
            known,
            strangers: if who.strangers { strangers } else { 0.0 },
        };
        if !differs(&self.set, &next) {
            return;
        }
        match self.knocks.hear(&next) {
            Ok(()) => {
                let [of_known, of_strangers] = &self.shares;
                of_known.set(next.known);
                of_strangers.set(next.strangers);
            }
            Err(error) => {
                tracing::warn!(%error, "no filter in the kernel; the process looks at every packet itself");
            }
        }
        self.set = next;
    }
}

/// Whether the kernel has to be told.
fn differs(set: &Hearing, next: &Hearing) -> bool {
    let is_other = |a: f64, b: f64| {
        let (low, high) = (a.min(b), a.max(b));
        // The ends are always told: all of them, and none.
        high > low * CHANGE || (low < high && (high >= 1.0 || low <= 0.0))
    };
    set.knocks != next.knocks || is_other(set.known, next.known) || is_other(set.strangers, next.strangers)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_came_before_the_first_look_is_no_flood() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let heard = Arc::<crate::quic::knocks::Heard>::default();
        let (socket, current) = (socket.into(), Arc::default());
        let mut porter = Porter::new(Knocks { socket, current, heard: Arc::clone(&heard) }, "test");
        let everybody = Wanted { strangers: true, ..Wanted::default() };
        let came = |count| (0..count).for_each(|_| heard.on_first(&[0, 9, 9, 9]));
        let begun = Instant::now();
        came(1_000);
        porter.step(&everybody, begun);
        assert_eq!(porter.set.strangers, 1.0, "nobody knows in what time");
        came(1_000_000);
        porter.step(&everybody, begun + STEP);
        assert!(porter.set.strangers < 0.1, "{}: a flood is one", porter.set.strangers);
    }

    #[test]
    fn the_kernel_is_told_of_what_matters() {
        let hearing = |known, strangers| Hearing { knocks: vec![[1, 2, 3]], known, strangers };
        let rows = [
            (hearing(1.0, 1.0), hearing(1.0, 1.0), false),
            (hearing(1.0, 0.5), hearing(1.0, 0.55), false),
            (hearing(1.0, 0.5), hearing(1.0, 0.61), true),
            (hearing(1.0, 0.95), hearing(1.0, 1.0), true),
            (hearing(1.0, 1.0), hearing(1.0, 0.0), true),
            (hearing(0.2, 0.0), hearing(0.3, 0.0), true),
        ];
        for (set, next, told) in rows {
            assert_eq!(differs(&set, &next), told, "{set:?} {next:?}");
        }
        assert!(differs(&hearing(1.0, 1.0), &Hearing { knocks: vec![], ..hearing(1.0, 1.0) }));
    }
}
