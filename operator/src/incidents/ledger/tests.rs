use super::*;
use crate::happening::What;
use crate::incidents::incident::{ENTRIES_MAX, WORDS_MAX};
use crate::incidents::testing::{alert, happened, mark};
use crate::view::{Alert, IncidentState};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;

/// A ledger and its clock.
struct Night {
    ledger: Ledger,
    now_ms: UnixMs,
    told: Vec<(u64, Occasion)>,
}

impl Night {
    fn new() -> Self {
        Self::with(Vec::new(), 1_000_000)
    }

    fn with(read: Vec<Incident>, now_ms: UnixMs) -> Self {
        let me = Me { node: "n1".into(), channels: BTreeSet::new(), has_peers: false, begun_ms: now_ms };
        Self::of(me, read, now_ms)
    }

    fn of(me: Me, read: Vec<Incident>, now_ms: UnixMs) -> Self {
        Self { ledger: Ledger::new(me, None, read), now_ms, told: Vec::new() }
    }

    fn take(&mut self, effects: Effects) {
        let heard = effects.notices.iter().filter(|notice| notice.audience.has("pager"));
        self.told.extend(heard.map(|notice| (notice.incident.no, notice.occasion)));
        // The disk is fast.
        for no in effects.changed {
            self.ledger.on_kept(no, ENTRIES_MAX);
        }
    }

    fn happens(&mut self, what: What) {
        let effects = self.ledger.on_happening(&happened(self.now_ms, what), self.now_ms);
        self.take(effects);
    }

    fn raise(&mut self, key: &str, severity: Severity) {
        self.happens(What::AlertRaised(alert(key, severity)));
    }

    fn clear(&mut self, key: &str) {
        self.happens(What::AlertCleared(alert(key, Severity::High)));
    }

    fn pass(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        while self.now_ms < end_ms {
            self.now_ms += SECOND;
            let effects = self.ledger.on_tick(self.now_ms);
            self.take(effects);
        }
    }

    fn say(&mut self, no: u64, word: Word) -> Result<(), WordError> {
        let effects = self.ledger.say(no, "mina", word, self.now_ms)?;
        self.take(effects);
        Ok(())
    }

    fn state(&self, no: u64) -> IncidentState {
        self.ledger.view(no).unwrap().state
    }

    fn texts(&self, no: u64) -> Vec<String> {
        let whole = self.ledger.warm(no).unwrap().whole();
        whole.timeline.into_iter().map(|entry| format!("{} {}", entry.kind, entry.text)).collect()
    }

    fn told(&mut self) -> Vec<(u64, Occasion)> {
        std::mem::take(&mut self.told)
    }
}

fn state_word(to: IncidentState) -> Word {
    Word::State { to, reason: "so".to_owned() }
}

#[test]
fn a_storm_writes_its_story_and_ends_by_itself() {
    let mut night = Night::new();
    night.happens(mark("deploy", "v2"));
    night.pass(5 * MINUTE);
    night.raise("session-managers/emergency", Severity::High);
    night.happens(What::Posture { from: "normal".into(), to: "emergency".into(), why: "logins".into() });
    night.pass(3 * MINUTE);
    night.clear("session-managers/emergency");
    night.pass(2 * MINUTE);
    let wanted = [
        "mark deploy: v2",
        "opened session-managers/emergency is wrong. 3 of 5 failed",
        "posture sm1: normal → emergency (logins)",
        "state Declared: it has lasted for two minutes",
        "alert Cleared: session-managers/emergency is wrong.",
        "state Resolved: its cause has been gone for a minute",
    ];
    assert_eq!(night.texts(1), wanted);
    assert_eq!(night.told(), [(1, Occasion::Opened), (1, Occasion::Resolved)]);
    let view = night.ledger.view(1).unwrap();
    assert_eq!((view.severity, view.grade, view.opened_by.as_str()), (Severity::High, 2, "buslane"));
    assert_eq!(view.runbook, "#the-runbook");
    assert_eq!(view.resolved_ms.unwrap() - view.recovered_ms.unwrap(), MINUTE);
}

#[test]
fn one_cause_is_one_incident_and_others_are_told_in_its_story() {
    let mut night = Night::new();
    night.raise("store/down", Severity::Critical);
    night.raise("store/down", Severity::Critical);
    night.raise("probe/failing", Severity::High);
    assert_eq!(night.ledger.list().iter().map(|view| view.no).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(
        night.texts(1),
        [
            "opened store/down is wrong. 3 of 5 failed",
            "alert Raised (high): probe/failing is wrong. 3 of 5 failed"
        ]
    );
    // What was there before is how the second one begins.
    assert_eq!(night.texts(2).len(), 3);
}

#[test]
fn what_comes_back_within_a_minute_was_never_over() {
    let mut night = Night::new();
    night.raise("store/down", Severity::High);
    for _ in 0..5 {
        night.clear("store/down");
        night.pass(50 * SECOND);
        night.raise("store/down", Severity::High);
        night.pass(10 * SECOND);
    }
    assert_eq!(night.told(), [(1, Occasion::Opened)]);
    assert!(night.ledger.warm(1).unwrap().is_open());
}

#[test]
fn what_comes_back_within_ten_minutes_is_reopened_and_later_it_is_another_one() {
    let mut night = Night::new();
    night.raise("store/down", Severity::High);
    night.say(1, Word::Acknowledge { reason: String::new() }).unwrap();
    night.clear("store/down");
    night.pass(9 * MINUTE);
    assert_eq!(night.state(1), IncidentState::Resolved);
    night.raise("store/down", Severity::Critical);
    let view = night.ledger.view(1).unwrap();
    assert_eq!((view.state, view.severity), (IncidentState::Declared, Severity::Critical));
    assert_eq!((view.acknowledged_by.clone(), view.resolved_ms), (None, None));
    let told = [(1, Occasion::Opened), (1, Occasion::Resolved), (1, Occasion::Reopened)];
    assert_eq!(night.told(), told);
    night.clear("store/down");
    night.pass(12 * MINUTE);
    night.raise("store/down", Severity::High);
    assert_eq!(night.told(), [(1, Occasion::Resolved), (2, Occasion::Opened)]);
}

#[test]
fn what_was_reviewed_is_not_reopened() {
    let mut night = Night::new();
    night.raise("store/down", Severity::High);
    night.clear("store/down");
    night.pass(2 * MINUTE);
    night.say(1, state_word(IncidentState::Reviewed)).unwrap();
    night.raise("store/down", Severity::High);
    assert_eq!(night.state(1), IncidentState::Reviewed);
    assert_eq!(night.state(2), IncidentState::Detected);
}

#[test]
fn it_escalates_when_recovery_takes_too_long_and_only_then() {
    let mut night = Night::new();
    night.raise("store/down", Severity::Medium);
    night.pass(59 * MINUTE);
    assert_eq!(night.told(), [(1, Occasion::Opened)]);
    night.pass(MINUTE);
    assert_eq!(night.told(), [(1, Occasion::Escalated)]);
    assert_eq!(night.ledger.view(1).unwrap().grade, 2);
    night.pass(30 * MINUTE);
    assert_eq!(night.ledger.view(1).unwrap().grade, 1);
    // At the worst it is only repeated.
    night.pass(30 * MINUTE);
    assert_eq!(night.told(), [(1, Occasion::Escalated); 3]);
    night.clear("store/down");
    night.pass(60 * MINUTE);
    assert_eq!(night.told(), [(1, Occasion::Resolved)]);
}

#[test]
fn it_escalates_when_its_alert_gets_worse() {
    let mut night = Night::new();
    night.raise("store/down", Severity::Medium);
    night.raise("store/down", Severity::Critical);
    assert_eq!(night.told(), [(1, Occasion::Opened), (1, Occasion::Escalated)]);
    night.raise("store/down", Severity::Low);
    assert_eq!(night.ledger.view(1).unwrap().severity, Severity::Critical);
}

#[test]
fn trends_open_nothing_and_are_told_where_something_is_open() {
    let mut night = Night::new();
    let trend = Alert { pages: false, ..alert("logins/unusual", Severity::Low) };
    night.happens(What::AlertRaised(trend.clone()));
    assert!(night.ledger.list().is_empty());
    night.raise("store/down", Severity::High);
    night.happens(What::AlertCleared(trend));
    assert_eq!(night.texts(1).len(), 3);
}

#[test]
fn people_may_say_what_makes_sense() {
    let mut night = Night::new();
    night.raise("store/down", Severity::High);
    let note = || Word::Note { text: "the disk\nis full".to_owned() };
    night.say(1, note()).unwrap();
    night.say(1, Word::Severity { to: Severity::Critical, reason: "all".to_owned() }).unwrap();
    assert_eq!(
        night.say(1, state_word(IncidentState::Reviewed)).unwrap_err().to_string(),
        "the incident is detected; from there it can become: declared, handling, resolved"
    );
    night.say(1, Word::Acknowledge { reason: "on it".to_owned() }).unwrap();
    night.say(1, state_word(IncidentState::Resolved)).unwrap();
    assert_eq!(night.say(1, Word::Acknowledge { reason: String::new() }), Err(WordError::Over));
    let silence = Word::Silence { until_ms: Some(night.now_ms + 1), reason: "so".to_owned() };
    assert_eq!(night.say(1, silence), Err(WordError::Over));
    night.say(1, note()).unwrap();
    night.say(1, state_word(IncidentState::Declared)).unwrap();
    assert_eq!(night.say(9, note()), Err(WordError::Absent(9)));
    let wanted = [
        "opened store/down is wrong. 3 of 5 failed",
        "note the disk is full",
        "severity Severity critical: all",
        "acknowledged Sees to it: on it",
        "state Resolved (its alert still holds): so",
        "note the disk is full",
        "state Declared: so",
    ];
    assert_eq!(night.texts(1), wanted);
    let told = [Occasion::Opened, Occasion::Escalated, Occasion::Resolved, Occasion::Reopened];
    assert_eq!(night.told(), told.map(|occasion| (1, occasion)));
}

#[test]
fn a_silence_ends_and_says_so() {
    let mut night = Night::new();
    night.raise("store/down", Severity::Low);
    let until_ms = Some(night.now_ms + 10 * MINUTE);
    night.say(1, Word::Silence { until_ms, reason: "known".to_owned() }).unwrap();
    let silenced = night.ledger.known(night.now_ms);
    assert!(silenced[0].is_silenced);
    night.pass(10 * MINUTE);
    assert_eq!(night.told(), [(1, Occasion::Opened), (1, Occasion::Silenced), (1, Occasion::Goes)]);
    assert_eq!(night.ledger.view(1).unwrap().silenced_until_ms, None);
}

#[test]
fn the_end_of_a_silenced_incident_is_silent() {
    let mut night = Night::new();
    night.raise("store/down", Severity::Low);
    let until_ms = Some(night.now_ms + 60 * MINUTE);
    night.say(1, Word::Silence { until_ms, reason: "known".to_owned() }).unwrap();
    let resolved = night.ledger.say(1, "mina", state_word(IncidentState::Resolved), night.now_ms).unwrap();
    assert!(resolved.notices[0].is_silenced);
}

#[test]
fn what_a_person_opened_only_people_resolve() {
    let mut night = Night::new();
    let (no, effects) =
        night.ledger.open_by_hand("mina", "Phones\nare hot", Severity::Low, "calls", night.now_ms).unwrap();
    night.take(effects);
    night.pass(3 * MINUTE);
    let view = night.ledger.view(no).unwrap();
    assert_eq!((view.state, view.key.as_str()), (IncidentState::Declared, MANUAL));
    assert_eq!((view.title.as_str(), view.opened_by.as_str()), ("Phones are hot", "mina"));
    // An alert cannot be called that.
    night.raise(MANUAL, Severity::High);
    night.clear(MANUAL);
    night.pass(2 * MINUTE);
    assert_eq!(night.state(no), IncidentState::Declared);
    night.say(no, state_word(IncidentState::Resolved)).unwrap();
    assert_eq!(night.state(no), IncidentState::Resolved);
}

#[test]
fn after_a_restart_what_still_holds_goes_on_and_the_rest_ends() {
    let mut before = Night::new();
    before.raise("store/down", Severity::High);
    before.raise("gateways/down", Severity::High);
    let read = [1, 2].map(|no| {
        let mut incident = before.ledger.warm(no).unwrap().clone();
        incident.is_seen = false;
        incident
    });
    let mut night = Night::with(read.to_vec(), before.now_ms + MINUTE);
    assert_eq!(night.ledger.known(night.now_ms).len(), 2);
    night.pass(10 * SECOND);
    night.raise("store/down", Severity::High);
    night.pass(5 * MINUTE);
    assert_eq!((night.state(1), night.state(2)), (IncidentState::Declared, IncidentState::Resolved));
    assert_eq!(night.told(), [(2, Occasion::Resolved)]);
    night.raise("probe/failing", Severity::High);
    assert_eq!(night.ledger.list()[0].no, 3);
}

#[test]
fn what_is_over_leaves_memory_when_it_is_on_the_disk() {
    let mut night = Night::new();
    night.raise("store/down", Severity::High);
    night.clear("store/down");
    night.pass(12 * MINUTE);
    assert!(night.ledger.is_cold(1) && night.ledger.warm(1).is_none());
    assert_eq!(night.ledger.list().len(), 1);
    assert_eq!(night.say(1, Word::Note { text: "x".into() }), Err(WordError::Absent(1)));
    let mut back = Incident::unknown(1, 0);
    back.is_seen = true;
    night.ledger.warm_up(back);
    assert!(night.ledger.warm(1).is_some());
    // What is not on the disk stays.
    let effects = night.ledger.on_happening(
        &happened(night.now_ms, What::AlertRaised(alert("probe/failing", Severity::Low))),
        night.now_ms,
    );
    assert_eq!(effects.changed.into_iter().collect::<Vec<_>>(), [2]);
    let resolved = night.ledger.say(2, "mina", state_word(IncidentState::Resolved), night.now_ms);
    assert!(resolved.is_ok());
    night.pass(20 * MINUTE);
    assert!(night.ledger.warm(2).is_some());
}

#[test]
fn everything_is_bounded() {
    let mut night = Night::new();
    for no in 0..OPEN_MAX + 10 {
        night.raise(&format!("service{no}/down"), Severity::Low);
    }
    assert_eq!(night.ledger.list().len(), OPEN_MAX);
    let refused = night.ledger.open_by_hand("mina", "x", Severity::Low, "x", night.now_ms).unwrap_err();
    assert_eq!(refused, WordError::TooManyOpen(OPEN_MAX));
    for at in 0..ENTRIES_MAX {
        night.happens(mark("note", &at.to_string()));
    }
    assert_eq!(night.ledger.warm(1).unwrap().len(), HAPPENINGS_MAX + 1);
    assert!(night.texts(1).last().unwrap().contains("left out from here on"));
    while night.say(1, Word::Note { text: "still".into() }).is_ok() {}
    assert_eq!(night.ledger.warm(1).unwrap().len(), WORDS_MAX);
    // How it ends is written still.
    night.clear("service0/down");
    night.pass(2 * MINUTE);
    assert_eq!(night.texts(1).last().unwrap(), "state Resolved: its cause has been gone for a minute");
}

#[test]
fn the_oldest_that_are_over_are_forgotten() {
    let mut night = Night::new();
    let mut forgotten = BTreeSet::new();
    for round in 1..=INCIDENTS_MAX as u64 + 20 {
        let raised = What::AlertRaised(alert("store/down", Severity::Low));
        let effects = night.ledger.on_happening(&happened(night.now_ms, raised), night.now_ms);
        forgotten.extend(effects.forgotten.iter().copied());
        night.take(effects);
        night.say(round, state_word(IncidentState::Resolved)).unwrap();
        night.say(round, state_word(IncidentState::Reviewed)).unwrap();
        night.pass(SECOND);
    }
    assert_eq!(night.ledger.list().len(), INCIDENTS_MAX);
    assert_eq!(forgotten, (1..=20).collect());
    assert_eq!(night.ledger.list().last().unwrap().no, 21);
}

#[test]
fn a_hole_in_the_story_is_said() {
    let mut night = Night::new();
    night.raise("store/down", Severity::Low);
    let effects = night.ledger.on_missed(12, night.now_ms);
    night.take(effects);
    assert!(night.texts(1)[1].starts_with("note 12 happenings came faster"));
}

/// Processes of one system, which hear of each other every two seconds unless they are cut off.
struct System {
    nights: Vec<(&'static str, Night)>,
    cut_off: Option<&'static str>,
}

impl System {
    fn new(names: &[&'static str]) -> Self {
        let night = |name: &&'static str| {
            let channels = BTreeSet::from(["pager".to_owned()]);
            let me = Me { node: (*name).to_owned(), channels, has_peers: true, begun_ms: 0 };
            (*name, Night::of(me, Vec::new(), 1_000_000))
        };
        let mut system = Self { nights: names.iter().map(night).collect(), cut_off: None };
        system.pass(10);
        system
    }

    fn of(&mut self, name: &str) -> &mut Night {
        &mut self.nights.iter_mut().find(|(one, _)| *one == name).unwrap().1
    }

    fn raise(&mut self, names: &[&str]) {
        for name in names {
            self.of(name).raise("session-managers/emergency", Severity::High);
        }
    }

    fn pass(&mut self, seconds: u64) {
        for second in 0..seconds {
            for (_, night) in &mut self.nights {
                night.pass(SECOND);
            }
            if second % 2 == 0 {
                self.talk();
            }
        }
    }

    fn talk(&mut self) {
        let heard: Vec<_> = self.nights.iter().map(|(name, night)| (*name, night.ledger.claims())).collect();
        for (to, night) in &mut self.nights {
            for (from, claims) in &heard {
                if ![Some(*from), Some(*to)].contains(&self.cut_off) {
                    night.ledger.on_said(from, claims.clone(), night.now_ms);
                }
            }
        }
    }

    fn told(&mut self) -> Vec<(&'static str, Occasion)> {
        let told = self.nights.iter_mut().map(|(name, night)| (*name, night.told()));
        told.flat_map(|(name, told)| told.into_iter().map(move |(_, occasion)| (name, occasion))).collect()
    }

    fn told_by(&mut self, name: &str) -> Option<String> {
        self.of(name).ledger.view(1).unwrap().told_by.clone().map(|other| other.node)
    }
}

#[test]
fn one_storm_that_three_processes_see_is_told_by_one_of_them() {
    for order in [["a", "b", "c"], ["c", "b", "a"], ["b", "a", "c"]] {
        let mut system = System::new(&["a", "b", "c"]);
        for name in order {
            system.raise(&[name]);
            system.pass(1);
        }
        system.pass(3 * 60);
        assert_eq!(system.told(), [("a", Occasion::Opened)], "{order:?}");
        assert_eq!((system.told_by("b"), system.told_by("c")), (Some("a".into()), Some("a".into())));
        // Each has its story, also of what others would be told: nobody else counts it as open.
        let open = |system: &mut System, name| system.of(name).ledger.open_counts().values().sum::<u32>();
        assert_eq!((open(&mut system, "a"), open(&mut system, "b")), (1, 0));
        for name in order {
            system.of(name).clear("session-managers/emergency");
        }
        system.pass(2 * 60);
        assert_eq!(system.told(), [("a", Occasion::Resolved)], "{order:?}");
        assert_eq!(system.of("c").state(1), IncidentState::Resolved);
    }
}

#[test]
fn who_alone_sees_it_tells_it_and_who_sees_it_later_joins() {
    let mut system = System::new(&["a", "b"]);
    system.raise(&["b"]);
    system.pass(10);
    assert_eq!(system.told(), [("b", Occasion::Opened)]);
    system.raise(&["a"]);
    system.pass(60);
    assert_eq!((system.told(), system.told_by("a")), (vec![], Some("b".into())));
}

#[test]
fn whoever_speaks_and_falls_silent_is_followed_by_another_and_two_are_one_again() {
    let mut system = System::new(&["a", "b", "c"]);
    system.raise(&["a", "b", "c"]);
    system.pass(10);
    assert_eq!(system.told(), [("a", Occasion::Opened)]);
    system.cut_off = Some("a");
    system.pass(30);
    assert_eq!(system.told(), [("b", Occasion::Goes)]);
    assert_eq!((system.told_by("b"), system.told_by("c")), (None, Some("b".into())));
    // Both halves have told it. Together again, one goes on.
    system.cut_off = None;
    system.pass(10);
    assert_eq!(system.told(), [("b", Occasion::Joined)]);
    assert_eq!((system.told_by("a"), system.told_by("b")), (None, Some("a".into())));
}

#[test]
fn who_is_cut_off_from_the_beginning_tells_it_too() {
    let mut system = System::new(&["a", "b"]);
    system.cut_off = Some("a");
    system.pass(10);
    system.raise(&["a", "b"]);
    assert_eq!(system.told(), [("a", Occasion::Opened), ("b", Occasion::Opened)]);
}

#[test]
fn where_it_holds_longer_than_for_whoever_spoke_it_is_told_on() {
    let mut system = System::new(&["a", "b"]);
    system.raise(&["a", "b"]);
    system.pass(10);
    system.of("a").clear("session-managers/emergency");
    system.pass(90);
    let told = [("a", Occasion::Opened), ("a", Occasion::Resolved), ("b", Occasion::Goes)];
    assert_eq!(system.told(), told);
}

#[test]
fn an_incident_of_one_process_is_told_by_it() {
    let mut system = System::new(&["a", "b"]);
    for name in ["a", "b"] {
        system.of(name).raise("process/memory", Severity::High);
    }
    system.pass(30);
    assert_eq!(system.told(), [("a", Occasion::Opened), ("b", Occasion::Opened)]);
}

#[test]
fn a_process_tells_whom_the_other_cannot_tell() {
    let mut system = System::new(&["a", "b"]);
    let me = system.of("b").ledger.claims().channels;
    system.of("b").ledger.me.channels.insert("mail".into());
    system.of("a").raise("store/down", Severity::High);
    system.talk();
    let night = system.of("b");
    let effects = night.ledger.on_happening(
        &happened(night.now_ms, What::AlertRaised(alert("store/down", Severity::High))),
        night.now_ms,
    );
    let audience = &effects.notices[0].audience;
    assert_eq!(*audience, Audience::AllBut(me));
    assert!(audience.has("mail") && !audience.has("pager"));
}

#[test]
fn what_a_person_says_at_one_process_holds_at_all() {
    let mut system = System::new(&["a", "b"]);
    system.raise(&["a", "b"]);
    system.pass(10);
    let words = [
        Word::Acknowledge { reason: String::new() },
        Word::Silence { until_ms: Some(9_000_000), reason: "known".into() },
        state_word(IncidentState::Resolved),
    ];
    for word in words {
        let incident = system.of("b").ledger.view(1).unwrap().clone();
        system.of("b").say(1, word.clone()).unwrap();
        let said = for_others(&incident, "mina", &word).unwrap();
        // As it comes from the other process.
        let told = serde_json::to_string(&happened(1, What::IncidentSaid(said.clone()))).unwrap();
        let heard: Happening = serde_json::from_str(&told).unwrap();
        assert_eq!(heard.what, What::IncidentSaid(said.clone()), "{told}");
        for name in ["a", "b"] {
            let now_ms = system.of(name).now_ms;
            let happening =
                Happening { node: "b".into(), ..happened(now_ms, What::IncidentSaid(said.clone())) };
            let effects = system.of(name).ledger.on_happening(&happening, now_ms);
            system.of(name).take(effects);
        }
    }
    let [a, b] = ["a", "b"].map(|name| system.of(name).ledger.view(1).unwrap().clone());
    assert_eq!((a.acknowledged_by.as_deref(), a.state), (Some("mina"), IncidentState::Resolved));
    assert_eq!((a.entries, b.entries), (4, 5), "b also says who tells people");
    assert!(system.of("a").texts(1).contains(&"acknowledged Sees to it: (said on b)".to_owned()));
    let told = [("a", Occasion::Opened), ("a", Occasion::Silenced), ("a", Occasion::Resolved)];
    assert_eq!(system.told(), told);
}

#[test]
fn who_tells_people_is_known_after_a_restart() {
    let mut system = System::new(&["a", "b"]);
    system.raise(&["a", "b"]);
    system.pass(10);
    let night = system.of("b");
    let mut again = Incident::unknown(1, 0);
    let lines: Vec<Line> = night.ledger.warm(1).unwrap().clone().all_lines().to_vec();
    lines.into_iter().for_each(|line| again.push_kept(line));
    assert!(matches!(again.voice, Voice::Other(_)));
    let me = Me { begun_ms: night.now_ms, ..night.ledger.me.clone() };
    let ledger = Ledger::new(me, None, [again]);
    assert!(ledger.known(night.now_ms).is_empty(), "the other one repeats it");
}
